"""Loading images from archives: docker-archive, oci-archive, or a directory in the OCI layout.

An archive is hostile: it is read by an index of its members made once, links in it are followed only
to other members, and each blob is verified by the digest that leads to it (a docker-archive's layers by
their diff IDs) before it is recorded.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import posixpath
import shutil
import tarfile
import tempfile

from rootless import jsonc
from rootless.errors import DigestMismatchError, ImageError, NoSpaceError, UsageError
from rootless.oci import digest as digests
from rootless.oci import manifest as manifests
from rootless.oci import media_types
from rootless.oci import reference as references
from rootless.store import unpack as unpacker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Union

    from .context import Context
    from .progress import ProgressSink

    Source = Union[str, IO[bytes]]

MAX_DOCUMENT = 8 << 20
_MAGIC = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
)
_ZSTD = b"\x28\xb5\x2f\xfd"
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


def load(ctx: Context, source: Source, sink: ProgressSink | None = None) -> list[str]:
    """Load every image of an archive; one line for each, as docker prints it.

    Raises UsageError, ImageError, DigestMismatchError, NoSpaceError.
    """
    what = source if isinstance(source, str) else "stdin"
    lease = ctx.blobs.lease()
    try:
        if isinstance(source, str) and os.path.isdir(source):
            return _load(ctx, _Directory(source), what, sink)
        with (
            tempfile.TemporaryDirectory(dir=_scratch(ctx), prefix="load-") as scratch,
            _open(source, scratch, what) as file,
        ):
            return _load(ctx, _Archive(file, what), what, sink)
    except OSError as error:
        if error.errno in (28, 122):
            raise NoSpaceError(f"cannot load {what}: ENOSPC (no space left on device)") from None
        raise ImageError(f"cannot load {what}: {error}") from None
    finally:
        if lease is not None:
            os.close(lease)


def _scratch(ctx: Context) -> str:
    os.makedirs(ctx.paths.cache, 0o700, exist_ok=True)
    return ctx.paths.cache


def _open(source: Source, scratch: str, what: str) -> IO[bytes]:
    """A seekable, uncompressed file of the archive."""
    if isinstance(source, str):
        try:
            raw: IO[bytes] = open(source, "rb")
        except OSError as error:
            raise UsageError(
                f"cannot open {source}: {os.strerror(error.errno or 0).lower()}", exit_code=1
            ) from None
    else:
        raw = open(f"{scratch}/stream", "w+b")
        shutil.copyfileobj(source, raw, 1 << 20)
        raw.seek(0)
    head = raw.read(6)
    raw.seek(0)
    for magic, opener in _MAGIC:
        if head.startswith(magic):
            return _inflate(opener(raw), scratch, what)
    if head.startswith(_ZSTD):
        try:
            import zstandard
        except ImportError:
            raise ImageError(
                f"cannot load {what}: it is compressed with zstd",
                hint="install the zstandard package, or recompress the archive with gzip",
            ) from None
        return _inflate(zstandard.ZstdDecompressor().stream_reader(raw), scratch, what)
    return raw


def _inflate(stream: Any, scratch: str, what: str) -> IO[bytes]:
    plain = open(f"{scratch}/plain", "w+b")
    try:
        shutil.copyfileobj(stream, plain, 1 << 20)
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, ValueError) as error:
        raise ImageError(f"cannot load {what}: it is truncated or damaged ({error})") from None
    plain.seek(0)
    return plain


class _Directory:
    """An OCI layout as a directory."""

    def __init__(self, path: str) -> None:
        self._path = os.path.realpath(path)

    def has(self, name: str) -> bool:
        return os.path.isfile(self._resolve(name))

    def open(self, name: str) -> IO[bytes]:
        return open(self._resolve(name), "rb")

    def _resolve(self, name: str) -> str:
        path = os.path.realpath(f"{self._path}/{name}")
        return path if path.startswith(self._path + "/") else "/nonexistent"


class _Archive:
    """A tar archive by member name; links lead to other members only."""

    def __init__(self, file: IO[bytes], what: str) -> None:
        try:
            self._tar = tarfile.open(fileobj=file, mode="r:")
            self._members = {posixpath.normpath(m.name): m for m in self._tar}
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise ImageError(f"cannot load {what}: it is not a tar archive ({error})") from None

    def _find(self, name: str) -> tarfile.TarInfo | None:
        for _ in range(8):
            member = self._members.get(posixpath.normpath(name))
            if member is None or member.isreg():
                return member
            if member.issym():
                name = posixpath.join(posixpath.dirname(member.name), member.linkname)
            elif member.islnk():
                name = member.linkname
            else:
                return None
        return None

    def has(self, name: str) -> bool:
        return self._find(name) is not None

    def open(self, name: str) -> IO[bytes]:
        member = self._find(name)
        stream = self._tar.extractfile(member) if member else None
        if stream is None:
            raise ImageError(f"cannot read member {name!r} of the archive: it is missing")
        return stream


def _document(archive: Any, name: str, what: str) -> Any:
    if not archive.has(name):
        raise ImageError(f"cannot load {what}: {name} is missing")
    with archive.open(name) as stream:
        data = stream.read(MAX_DOCUMENT + 1)
    if len(data) > MAX_DOCUMENT:
        raise ImageError(f"cannot load {what}: {name} is too large")
    try:
        return jsonc.loads(data)
    except (ValueError, UnicodeDecodeError):
        raise ImageError(f"cannot load {what}: {name} is not JSON") from None


def _load(ctx: Context, archive: Any, what: str, sink: ProgressSink | None) -> list[str]:
    if archive.has("manifest.json"):
        return _load_docker(ctx, archive, what, sink)
    if archive.has("index.json"):
        return _load_oci(ctx, archive, what, sink)
    raise ImageError(f"cannot load {what}: it holds neither manifest.json nor index.json")


def _finish(
    ctx: Context,
    descriptor: dict[str, Any],
    names: list[str],
    sink: ProgressSink | None,
) -> list[str]:
    record = ctx.images.put(descriptor, names[0] if names else "")
    for name in names[1:]:
        ctx.images.put(descriptor, name)
    unpacker.unpack_layers(ctx, record, record.diff_ids)
    if sink is not None:
        sink.line(f"Loaded {record.id}")
    if not names:
        return [f"Loaded image ID: {record.id}"]
    return [f"Loaded image: {references.parse(name).familiar()}" for name in names]


def _copy_blob(ctx: Context, archive: Any, name: str, digest: str, size: int | None) -> int:
    if ctx.blobs.has(digest, -1 if size is None else size):
        return ctx.blobs.size(digest)
    with archive.open(name) as stream:
        return ctx.blobs.ingest(stream, digest, size)[1]


# docker-archive


def _load_docker(ctx: Context, archive: Any, what: str, sink: ProgressSink | None) -> list[str]:
    entries = _document(archive, "manifest.json", what)
    if not isinstance(entries, list):
        raise ImageError(f"cannot load {what}: manifest.json is not a list")
    lines: list[str] = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("Config"), str):
            raise ImageError(f"cannot load {what}: an entry of manifest.json names no config")
        paths = entry.get("Layers") or []
        tags = [references.parse(str(tag)).full() for tag in entry.get("RepoTags") or []]
        lines += _load_docker_image(ctx, archive, what, entry["Config"], paths, tags, sink)
    return lines


def _load_docker_image(
    ctx: Context,
    archive: Any,
    what: str,
    config_name: str,
    paths: list[str],
    tags: list[str],
    sink: ProgressSink | None,
) -> list[str]:
    if not archive.has(config_name):
        raise ImageError(f"cannot load {what}: config {config_name} is missing")
    with archive.open(config_name) as stream:
        data = stream.read(MAX_DOCUMENT)
    config = manifests.check_config(data, len(paths), f"{what} ({config_name})")
    layers = []
    for path, diff_id in zip(paths, (config.get("rootfs") or {}).get("diff_ids") or []):
        if not archive.has(path):
            raise ImageError(f"cannot load {what}: layer {path} is missing")
        layers.append(_docker_layer(ctx, archive, path, diff_id))
    digest, size = ctx.blobs.ingest(data)
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": {"mediaType": media_types.OCI_CONFIG, "digest": digest, "size": size},
        "layers": layers,
    }
    digest, size = ctx.blobs.ingest(jsonc.dumps(manifest).encode())
    descriptor = {"mediaType": media_types.OCI_MANIFEST, "digest": digest, "size": size}
    return _finish(ctx, descriptor, tags, sink)


def _docker_layer(ctx: Context, archive: Any, path: str, diff_id: str) -> dict[str, Any]:
    """Store a layer; nearly always a plain tar whose digest is the diff ID, sometimes compressed."""
    with archive.open(path) as stream:
        head = stream.read(4)
        if head[:2] != b"\x1f\x8b" and head != _ZSTD:
            stream.seek(0)
            _, size = ctx.blobs.ingest(stream, diff_id)
            return {"mediaType": media_types.OCI_LAYER, "digest": diff_id, "size": size}
        stream.seek(0)
        digest, size = ctx.blobs.ingest(stream)
    kind = media_types.OCI_LAYER_ZSTD if head == _ZSTD else media_types.OCI_LAYER_GZIP
    return {"mediaType": kind, "digest": digest, "size": size}


# OCI layout


def _load_oci(ctx: Context, archive: Any, what: str, sink: ProgressSink | None) -> list[str]:
    index = _document(archive, "index.json", what)
    entries = index.get("manifests") if isinstance(index, dict) else None
    if not isinstance(entries, list):
        raise ImageError(f"cannot load {what}: index.json lists no manifests")
    lines: list[str] = []
    for entry in entries:
        names = _oci_names(entry, what)
        descriptor = _oci_manifest(ctx, archive, entry, what, 0)
        lines += _finish(ctx, descriptor, names, sink)
    return lines


def _oci_names(entry: Any, what: str) -> list[str]:
    if not isinstance(entry, dict) or not isinstance(entry.get("digest"), str):
        raise ImageError(f"cannot load {what}: index.json holds what is no descriptor")
    notes = entry.get("annotations")
    for key in _NAMES:
        name = notes.get(key) if isinstance(notes, dict) else None
        if isinstance(name, str) and name and ("/" in name or ":" in name):
            return [references.parse(name).full()]
    return []


def _oci_manifest(
    ctx: Context, archive: Any, entry: dict[str, Any], what: str, depth: int
) -> dict[str, Any]:
    """Store a manifest with all it names and give its descriptor; of an index, this platform's."""
    from rootless.oci import platform

    digests.check(entry["digest"], what)
    data = _blob(archive, entry["digest"], what)
    kind, document = manifests.parse(data, what, str(entry.get("mediaType", "")))
    if kind in media_types.INDEXES:
        here = platform.Platform("linux", ctx.facts.arch)
        chosen = platform.choose(here, document["manifests"])
        if chosen is None and len(document["manifests"]) == 1:
            chosen = document["manifests"][0]
        if chosen is None or depth > 1:
            raise ImageError(f"cannot load {what}: it has no image for {here}")
        return _oci_manifest(ctx, archive, dict(chosen), what, depth + 1)
    config = document["config"]
    manifests.check_config(_blob(archive, config["digest"], what), len(document["layers"]), what)
    for part in (config, *document["layers"]):
        name = _blob_name(part["digest"])
        if not archive.has(name):
            raise ImageError(f"cannot load {what}: blob {part['digest']} is missing")
        _copy_blob(ctx, archive, name, part["digest"], part["size"])
    ctx.blobs.ingest(data, entry["digest"], len(data))
    return {"mediaType": kind, "digest": entry["digest"], "size": len(data)}


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _blob(archive: Any, digest: str, what: str) -> bytes:
    """A small blob of the archive, verified."""
    name = _blob_name(digest)
    if not archive.has(name):
        raise ImageError(f"cannot load {what}: blob {digest} is missing")
    with archive.open(name) as stream:
        data: bytes = stream.read(MAX_DOCUMENT + 1)
    if len(data) > MAX_DOCUMENT:
        raise ImageError(f"cannot load {what}: blob {digest} is too large")
    algorithm, _, value = digest.partition(":")
    if hashlib.new(algorithm, data).hexdigest() != value:
        raise DigestMismatchError(f"cannot load {what}: blob {digest} has another digest")
    return data
