"""Caches of builds at registries, in directories and in images: read before a build, written after it.

A record that a build wants is taken only when its layer's blob was fetched, has its digest, and unpacks to
the diff ID that the record promises; then it is a record of this store like any other.  What cannot be read
is told and costs only the steps.  Trust in what a layer holds is trust in who wrote the cache.
"""

from __future__ import annotations

import os
import threading

from rootless import jsonc
from rootless.builder import caches
from rootless.errors import ImageError, NoSpaceError, RootlessError
from rootless.oci import descriptor as descriptors
from rootless.oci import manifest as manifests
from rootless.oci import media_types
from rootless.oci import platform as platforms
from rootless.oci import reference as references
from rootless.store.blobs import hasher, split_digest

from . import layers
from .progress import ProgressSink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from rootless.builder.caches import Found, Place

    from .buildimage import Made
    from .buildprogress import Display
    from .context import Context

    Record = dict[str, Any]

_PIECE = 256 << 10


class Source:
    """A cache that was opened: its records, and where their blobs come from."""

    def __init__(self, found: Found) -> None:
        self.found = found

    def blob(self, layer: Mapping[str, Any]) -> Iterator[bytes]:
        """A layer's bytes, which the caller verifies."""
        raise NotImplementedError

    def close(self) -> None:
        """Close connections."""


class _Local(Source):
    """A cache in a directory in the OCI layout."""

    def __init__(self, place: Place) -> None:
        from . import archivefile

        self._archive = archivefile.DirectoryArchive(place.where)
        what = f"cache {place.where}"
        try:
            index = jsonc.loads(self._small("index.json", manifests.MAX_SIZE, what))
        except ValueError:
            raise ImageError(f"cannot use {what}: index.json is not JSON") from None
        listed = index.get("manifests") if isinstance(index, dict) else None
        entries = [descriptors.check(one, what) for one in listed or () if isinstance(one, dict)]
        wanted = [one for one in entries if _is(one, place)]
        if not wanted:
            raise ImageError(f"cannot use {what}: it has no {place.digest or place.tag}")
        data = self._verified(wanted[-1]["digest"], manifests.MAX_SIZE, what)
        _, document = manifests.parse(data, what, str(wanted[-1].get("mediaType", "")))
        super().__init__(
            _records(document, lambda one: self._verified(one, caches.MAX_CONFIG, what), what)
        )

    def _small(self, name: str, limit: int, what: str) -> bytes:
        if not self._archive.has(name):
            raise ImageError(f"cannot use {what}: {name} is missing")
        with self._archive.open(name) as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise ImageError(f"cannot use {what}: {name} is too large")
        return data

    def _verified(self, digest: str, limit: int, what: str) -> bytes:
        return _checked(self._small(_blob_name(digest), limit, what), digest, what)

    def blob(self, layer: Mapping[str, Any]) -> Iterator[bytes]:
        name = _blob_name(layer["digest"])
        if not self._archive.has(name):
            raise ImageError(f"cannot use a cache: blob {layer['digest']} is missing")
        with self._archive.open(name) as stream:
            yield from iter(lambda: stream.read(_PIECE), b"")


class _Registry(Source):
    """A cache at a registry: a manifest of its own, or inline in an image."""

    def __init__(self, ctx: Context, place: Place, platform: str) -> None:
        from . import pull

        here = platforms.parse(platform)
        ref = references.parse(place.where).with_default_tag()
        what = f"cache {ref.familiar()}"
        self._repository, top = pull.look_up(ctx, ref)
        try:
            document = top.document
            if top.is_index:
                document = pull.for_platform(self._repository, top, here, ref).document
            super().__init__(
                _records(document, lambda one: self._config(document, one, what), what)
            )
        except BaseException:
            self._repository.close()
            raise

    def _config(self, document: Mapping[str, Any], digest: str, what: str) -> bytes:
        size = int(document["config"]["size"])
        if size > caches.MAX_CONFIG:
            raise ImageError(f"cannot use {what}: its config is too large")
        return _checked(b"".join(self._repository.blob(document["config"])), digest, what)

    def blob(self, layer: Mapping[str, Any]) -> Iterator[bytes]:
        return self._repository.blob(layer)

    def close(self) -> None:
        self._repository.close()


def _is(entry: Mapping[str, Any], place: Place) -> bool:
    if place.digest:
        return bool(entry["digest"] == place.digest)
    notes = entry.get("annotations")
    name = notes.get("org.opencontainers.image.ref.name") if isinstance(notes, dict) else None
    return name == place.tag


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _checked(data: bytes, digest: str, what: str) -> bytes:
    algorithm, wanted = split_digest(digest)
    running = hasher(algorithm)
    running.update(data)
    if running.hexdigest() != wanted:
        raise ImageError(f"cannot use {what}: blob {digest} has another digest")
    return data


def _records(document: Mapping[str, Any], read: Any, what: str) -> Found:
    """The records that a manifest leads to."""
    config = descriptors.check(document.get("config"), what)
    data = read(config["digest"])
    if config.get("mediaType") == caches.CONFIG:
        return caches.read(data, document["layers"], what)
    manifests.check_image(dict(document), what)
    known = manifests.check_config(data, len(document["layers"]), what)
    return caches.read_inline(known, document["layers"], manifests.diff_ids(known), what)


class Imports:
    """All caches of one build."""

    def __init__(
        self, ctx: Context, places: Sequence[Place], platform: str, display: Display
    ) -> None:
        self._ctx = ctx
        self._display = display
        self._sources: list[Source] = []
        self._bad: set[str] = set()
        self._mutex = threading.Lock()
        for place in places:
            self._open(place, platform)

    def _open(self, place: Place, platform: str) -> None:
        vertex = self._display.begin(f"importing cache manifest from {place.shown}")
        try:
            local = place.kind == "local"
            source = _Local(place) if local else _Registry(self._ctx, place, platform)
        except (RootlessError, OSError) as error:
            shown = error.message if isinstance(error, RootlessError) else str(error)
            self._display.end(vertex, error=shown)
            return
        self._sources.append(source)
        self._display.end(vertex)

    def content(self, key: str) -> str:
        """The digest of what a step chose, "" where no cache knows it."""
        for source in self._sources:
            if key in source.found.contents:
                return source.found.contents[key]
        return ""

    def step(self, key: str) -> Record | None:
        """The record of a step, its layer fetched, verified and unpacked; None for none that is sound."""
        for source in self._sources:
            record = source.found.steps.get(key)
            if record is None:
                continue
            try:
                self._bring(source, record)
                return dict(record)
            except NoSpaceError:
                raise
            except RootlessError as error:
                self._warn(f"cannot use the cache for {key[:12]}: {error.message}")
        return None

    def _warn(self, text: str) -> None:
        with self._mutex:
            if text in self._bad:
                return
            self._bad.add(text)
        self._display.warning(text)

    def _bring(self, source: Source, record: Record) -> None:
        if not record["diff_id"]:
            return
        layer, blobs = record["layer"], self._ctx.blobs
        if not blobs.has(layer["digest"], layer["size"]):
            with blobs.writer(layer["digest"], layer["size"]) as writer:
                for data in source.blob(layer):
                    writer.write(data)
                writer.commit()
        if not self._ctx.layers().present(record["diff_id"]):
            wanted = [layers.Layer(layer, record["diff_id"])]
            layers.unpack_all(self._ctx, wanted, ProgressSink())

    def close(self) -> None:
        """Close connections."""
        for source in self._sources:
            source.close()


class Recorder:
    """What a build, of one platform or several, puts into caches."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: dict[str, Record] = {}
        self._own: dict[str, Record] = {}
        self._contents: dict[str, str] = {}

    def chose(self, key: str, digest: str) -> None:
        """A step chose what has this digest."""
        with self._lock:
            self._contents[key] = digest

    def add(self, steps: Mapping[str, Record], made: Made) -> dict[str, Record]:
        """Take the steps of a finished build; those of the image's own layers."""
        mine = {id(ref.record) for ref in made.refs}
        own = {key: record for key, record in steps.items() if id(record) in mine}
        self._all.update(steps)
        self._own.update(own)
        return own

    def export(self, ctx: Context, places: Sequence[Place], display: Display) -> None:
        """Write every cache that was asked for; raises what writing raises, unless that is to be ignored."""
        for place in places:
            if place.kind == "inline":
                continue  # the image has it
            vertex = display.begin(f"exporting cache to {place.shown}")
            try:
                lines = self._export(ctx, place)
            except RootlessError as error:
                display.end(vertex, error=error.message)
                if not place.ignore:
                    raise
                continue
            display.output(vertex, "".join(f"{line}\n" for line in lines).encode())
            display.end(vertex)

    def _export(self, ctx: Context, place: Place) -> list[str]:
        steps = self._all if place.all else self._own
        data, listed = caches.write(steps, self._contents if place.all else {})
        lease = ctx.blobs.lease()
        try:
            digest, size = ctx.blobs.ingest(data)
            manifest = {
                "schemaVersion": 2,
                "mediaType": media_types.OCI_MANIFEST,
                "artifactType": caches.CONFIG,
                "config": descriptors.make(caches.CONFIG, digest, size),
                "layers": listed,
            }
            digest, size = ctx.blobs.ingest(jsonc.dumps(manifest).encode())
            top = descriptors.make(media_types.OCI_MANIFEST, digest, size)
            return self._put(ctx, place, top)
        finally:
            if lease is not None:
                os.close(lease)

    @staticmethod
    def _put(ctx: Context, place: Place, top: dict[str, Any]) -> list[str]:
        lines: list[str] = []
        if place.kind == "local":
            from . import layoutwriter

            name = references.parse(f"buildcache:{place.tag}").full()
            contents = layoutwriter.Contents(ctx.blobs, top, [name])
            layoutwriter.directory(contents, place.where)
        else:
            from . import push

            push.push(ctx, top, place.where, lines.append, insecure=place.insecure)
        return [*lines, f"writing cache manifest {top['digest']}"]
