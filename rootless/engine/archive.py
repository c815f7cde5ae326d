"""Loading images from archives: docker-archive, oci-archive, or a directory in the OCI layout.

An archive is hostile: each blob is verified by the digest that leads to it (a docker-archive's layers by
their diff IDs), and an image is recorded only when all its layers were unpacked.
"""

from __future__ import annotations

import os

from rootless import jsonc
from rootless.errors import (
    DigestMismatchError,
    ImageError,
    NoSpaceError,
    ReferenceError_,
    UsageError,
)
from rootless.oci import descriptor as descriptors
from rootless.oci import digest as digests
from rootless.oci import manifest as manifests
from rootless.oci import media_types, platform
from rootless.oci import reference as references
from rootless.store import files
from rootless.store.blobs import hasher, split_digest

from . import archivefile, events, layers
from .progress import ProgressSink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

    from rootless.store.images import ImageRecord

    from .archivefile import Archive, Source
    from .context import Context

MAX_DOCUMENT = 8 << 20
MAX_IMAGES = 4096
MAX_NESTING = 2
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_ATTESTATION = "vnd.docker.reference.type"


def load(ctx: Context, source: Source, sink: ProgressSink | None = None) -> list[str]:
    """Load every image of an archive; a line for each name, as docker prints it.

    Raises UsageError, ImageError, DigestMismatchError, LayerError, NoSpaceError, HostError.
    """
    what = source if isinstance(source, str) else "stdin"
    lease = ctx.blobs.lease()
    archive: Archive | None = None
    try:
        files.ensure_dir(ctx.paths.cache)
        archive = archivefile.open_archive(source, what, ctx.paths.cache)
        return _Load(ctx, archive, what, sink or ProgressSink()).all()
    except OSError as error:
        failed = files.failure(f"load {what}", error)
        if isinstance(failed, NoSpaceError):
            raise failed from None
        raise ImageError(failed.message) from None
    finally:
        if archive is not None:
            archive.close()
        if lease is not None:
            os.close(lease)


def layout_image(ctx: Context, where: str, wanted: str) -> ImageRecord:
    """The image PATH[:TAG] or PATH@DIGEST of a directory in the OCI layout for a platform, without a name.

    Raises UsageError, ImageError, DigestMismatchError, LayerError, NoSpaceError.
    """
    path, tag, digest = split_layout(where)
    if not os.path.isdir(path):
        raise UsageError(f"cannot use oci-layout {path}: it is no directory", exit_code=1)
    lease = ctx.blobs.lease()
    try:
        loading = _Load(ctx, archivefile.DirectoryArchive(path), path, ProgressSink())
        return loading.one(tag, digest, platform.parse(wanted))
    except OSError as error:
        raise files.failure(f"load {path}", error) from None
    finally:
        if lease is not None:
            os.close(lease)


def split_layout(where: str) -> tuple[str, str, str]:
    """(path, tag, digest) of PATH[:TAG] or PATH@DIGEST."""
    path, at, digest = where.partition("@")
    if at:
        return path, "", digest
    head, _, name = where.rpartition("/")
    name, _, tag = name.partition(":")
    return f"{head}/{name}" if head or where.startswith("/") else name, tag, ""


class _Load:
    """One archive being loaded; WHAT names it in messages."""

    def __init__(self, ctx: Context, archive: Archive, what: str, sink: ProgressSink) -> None:
        self._ctx = ctx
        self._archive = archive
        self._what = what
        self._sink = sink

    def all(self) -> list[str]:
        """Load what is there; docker's form first, which archives of both forms have too."""
        if self._archive.has("manifest.json"):
            return self._docker()
        if self._archive.has("index.json"):
            return self._oci()
        raise self._bad("it holds neither manifest.json nor index.json")

    def one(self, tag: str, digest: str, here: platform.Platform) -> ImageRecord:
        """The image of an OCI layout that has a tag (else "latest", else the only one) or digest."""
        listed = [
            descriptors.check(entry, f"index.json of {self._what}")
            for entry in self._list("index.json", "manifests")
        ]
        plain = [entry for entry in listed if not _is_attachment(entry)]
        if digest:
            found = [entry for entry in plain if entry["digest"] == digest]
        else:
            found = [entry for entry in plain if _ref_name(entry) == (tag or "latest")]
            found = found or ([] if tag or len(plain) != 1 else plain)
        if not found:
            raise self._bad(f"it has no image {digest or tag or 'latest'}")
        entry = platform.choose(here, found) or found[0]
        descriptor = self._oci_manifest(dict(entry), here, 0)
        self._unpack(descriptor)
        return self._ctx.images.put(descriptor, "")

    def _bad(self, reason: str) -> ImageError:
        return ImageError(f"cannot load {self._what}: {reason}")

    # reading

    def _small(self, name: str) -> bytes:
        """A whole document; raises ImageError where it is missing or too large."""
        if not self._archive.has(name):
            raise self._bad(f"{name[:200]} is missing")
        with self._archive.open(name) as stream:
            data = stream.read(MAX_DOCUMENT + 1)
        if len(data) > MAX_DOCUMENT:
            raise self._bad(f"{name[:200]} is too large")
        return data

    def _list(self, name: str, key: str) -> list[Any]:
        """The list that the document NAME is, or has under KEY."""
        try:
            value = jsonc.loads(self._small(name))
        except ValueError:
            raise self._bad(f"{name} is not JSON") from None
        if key:
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, list) or len(value) > MAX_IMAGES:
            raise self._bad(f"{name} holds no list of images")
        return value

    def _blob(self, digest: str) -> bytes:
        """A manifest or config by its digest, verified."""
        data = self._small(_blob_name(digest))
        algorithm, wanted = split_digest(digest)
        running = hasher(algorithm)
        running.update(data)
        if running.hexdigest() != wanted:
            raise DigestMismatchError(
                f"cannot load {self._what}: the digest of blob {digest} "
                f"is {algorithm}:{running.hexdigest()}"
            )
        return data

    # recording

    def _finish(self, descriptor: dict[str, Any], names: list[str]) -> list[str]:
        """Unpack, then record; so a layer that cannot be unpacked leaves no image."""
        self._unpack(descriptor)
        record = self._ctx.images.put(descriptor, names[0] if names else "")
        for name in names[1:]:
            self._ctx.images.put(descriptor, name)
        events.image(self._ctx, "load", record.id)
        if not names:
            return [f"Loaded image ID: {record.id}"]
        return [f"Loaded image: {references.parse(name).familiar()}" for name in names]

    def _unpack(self, descriptor: dict[str, Any]) -> None:
        document = manifests.load(self._ctx.blobs.read_small(descriptor["digest"]), self._what)
        config = manifests.load(
            self._ctx.blobs.read_small(document["config"]["digest"]), self._what
        )
        wanted = layers.pair(document["layers"], manifests.diff_ids(config))
        layers.unpack_all(self._ctx, wanted, self._sink)

    def _tag(self, text: object) -> str:
        try:
            found = references.parse(str(text)).with_default_tag()
        except ReferenceError_ as error:
            raise self._bad(error.message) from None
        return f"{found.repository}:{found.tag or 'latest'}"

    # docker-archive

    def _docker(self) -> list[str]:
        lines: list[str] = []
        for entry in self._list("manifest.json", ""):
            config = entry.get("Config") if isinstance(entry, dict) else None
            if not isinstance(config, str):
                raise self._bad("an entry of manifest.json names no config")
            paths = self._texts(entry, "Layers")
            names = [self._tag(text) for text in self._texts(entry, "RepoTags")]
            lines += self._finish(self._docker_image(config, paths), names)
        return lines

    def _texts(self, entry: dict[str, Any], key: str) -> list[str]:
        value = entry.get(key) or []
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise self._bad(f"{key} in manifest.json is no list of names")
        if len(value) > manifests.MAX_LAYERS:
            raise self._bad(f"{key} in manifest.json is too long")
        return value

    def _docker_image(self, config_name: str, paths: list[str]) -> dict[str, Any]:
        """Store one image and make the manifest that a docker-archive does not have."""
        data = self._small(config_name)
        config = manifests.check_config(data, len(paths), f"{self._what} ({config_name[:200]})")
        listed = [
            self._docker_layer(path, diff_id)
            for path, diff_id in zip(paths, manifests.diff_ids(config))
        ]
        digest, size = self._ctx.blobs.ingest(data)
        manifest = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": descriptors.make(media_types.OCI_CONFIG, digest, size),
            "layers": listed,
        }
        digest, size = self._ctx.blobs.ingest(jsonc.dumps(manifest).encode())
        return descriptors.make(media_types.OCI_MANIFEST, digest, size)

    def _docker_layer(self, path: str, diff_id: str) -> dict[str, Any]:
        """Store a layer: nearly always a plain tar whose digest is the diff ID, sometimes compressed."""
        if not self._archive.has(path):
            raise self._bad(f"layer {path[:200]} is missing")
        with self._archive.open(path) as stream:
            head = stream.read(4)
            stream.seek(0)
            kind = _compression(head)
            # Of a compressed layer the diff ID is checked when it is unpacked.
            digest, size = self._ingest(stream, "" if kind else diff_id)
        return descriptors.make(kind or media_types.OCI_LAYER, digest, size)

    def _ingest(self, stream: IO[bytes], digest: str, size: int | None = None) -> tuple[str, int]:
        """Copy a layer into the store unless it is there with its tree, which proves it whole."""
        blobs = self._ctx.blobs
        if digest and blobs.has(digest) and self._ctx.layers().present(digest):
            return digest, blobs.size(digest)
        self._sink.event(digests.short(digest) or "layer", "Loading layer")
        return blobs.ingest(stream, digest or None, size)

    # OCI layout

    def _oci(self) -> list[str]:
        lines: list[str] = []
        here = platform.Platform("linux", self._ctx.facts.arch)
        for name, entry in self._choices(here):
            descriptor = self._oci_manifest(entry, here, 0)
            lines += self._finish(descriptor, [name] if name else [])
        if not lines:
            raise self._bad("index.json lists no image")
        return lines

    def _choices(self, here: platform.Platform) -> list[tuple[str, dict[str, Any]]]:
        """(name or "", descriptor) of the images to load: of one name, the one that runs here best."""
        groups: dict[str, list[dict[str, Any]]] = {}
        for entry in self._list("index.json", "manifests"):
            found = descriptors.check(entry, f"index.json of {self._what}")
            if not _is_attachment(found):
                groups.setdefault(self._oci_name(found), []).append(found)
        chosen: list[tuple[str, dict[str, Any]]] = []
        for name, group in groups.items():
            best = platform.choose(here, group)
            if name and len(group) > 1:
                chosen.append((name, dict(best or group[-1])))
                continue
            chosen += [
                (name, entry)
                for entry in group
                if best is None or platform.choose(here, [entry]) or not entry.get("platform")
            ]
        return chosen

    def _oci_name(self, entry: dict[str, Any]) -> str:
        notes = entry.get("annotations")
        for key in _NAMES:
            name = notes.get(key) if isinstance(notes, dict) else None
            # The image spec's own name is often a tag alone, which names no repository.
            if isinstance(name, str) and ("/" in name or ":" in name):
                return self._tag(name)
        return ""

    def _oci_manifest(
        self, entry: dict[str, Any], here: platform.Platform, depth: int
    ) -> dict[str, Any]:
        """Store a manifest with all it names and give its descriptor; of an index, this platform's."""
        data = self._blob(entry["digest"])
        kind, document = manifests.parse(data, self._what, str(entry.get("mediaType", "")))
        if kind in media_types.INDEXES:
            listed = document["manifests"]
            plain = [one for one in listed if not _is_attachment(one)]
            chosen = platform.choose(here, plain) or (plain[0] if len(plain) == 1 else None)
            if chosen is None or depth >= MAX_NESTING:
                raise self._bad(f"it has no image for {here}")
            return self._oci_manifest(dict(chosen), here, depth + 1)
        manifests.check_image(document, self._what)
        config = document["config"]
        config_data = self._blob(config["digest"])
        manifests.check_config(config_data, len(document["layers"]), self._what)
        for layer in document["layers"]:
            name = _blob_name(layer["digest"])
            if not self._archive.has(name):
                raise self._bad(f"blob {layer['digest']} is missing")
            with self._archive.open(name) as stream:
                self._ingest(stream, layer["digest"], layer["size"])
        for digest, part in ((config["digest"], config_data), (entry["digest"], data)):
            self._ctx.blobs.ingest(part, digest, len(part))
        return descriptors.make(kind, entry["digest"], len(data))


def _ref_name(entry: dict[str, Any]) -> str:
    """The tag of an entry of index.json: the spec's name, which may be all of a reference."""
    notes = entry.get("annotations")
    name = notes.get(_NAMES[1]) if isinstance(notes, dict) else None
    return name.rpartition("/")[2].rpartition(":")[2] if isinstance(name, str) else ""


def _compression(head: bytes) -> str:
    """The media type of a compressed layer, "" of a plain one."""
    if head[:2] == b"\x1f\x8b":
        return media_types.OCI_LAYER_GZIP
    return media_types.OCI_LAYER_ZSTD if head == b"\x28\xb5\x2f\xfd" else ""


def _is_attachment(entry: dict[str, Any]) -> bool:
    """Whether a descriptor is of something about an image: a signature, a list of parts."""
    notes = entry.get("annotations")
    if isinstance(notes, dict) and notes.get(_ATTESTATION):
        return True
    where = entry.get("platform")
    unknown = isinstance(where, dict) and where.get("os") == "unknown"
    return unknown or bool(entry.get("artifactType"))


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
