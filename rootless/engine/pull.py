"""Pulling an image: resolve, choose the platform, fetch and unpack layers in parallel, record.

Blobs are verified while they stream into the store and stay there when a pull is interrupted, so the
next one takes up where this one ended.  Each layer is unpacked as soon as its blob is whole, while others
still download.  The image appears in the index only when all of it is there.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from rootless.errors import (
    DigestMismatchError,
    ImageError,
    ImageNotFoundError,
    LayerError,
    RegistryError,
    RootlessError,
)
from rootless.oci import descriptor as descriptors
from rootless.oci import manifest as manifests
from rootless.oci import platform
from rootless.oci import reference as references
from rootless.registry import places
from rootless.registry.client import Manifest, Repository
from rootless.store import files

from . import events, layers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.oci.platform import Platform
    from rootless.oci.reference import Reference

    from .context import Context
    from .layers import Layer
    from .progress import ProgressSink

MAX_CONFIG = 8 << 20
MAX_NESTING = 2


class PullResult:
    """What was pulled: full reference, image ID, digest of the manifest or index, and whether it is new."""

    __slots__ = ("digest", "image_id", "new", "reference")

    def __init__(self, reference: str, image_id: str, digest: str, new: bool) -> None:
        self.reference = reference
        self.image_id = image_id
        self.digest = digest
        self.new = new


def pull(ctx: Context, text: str, wanted: str | None, sink: ProgressSink) -> PullResult:
    """Fetch the image TEXT for the platform WANTED (None: this machine's) and unpack it.

    Raises ReferenceError_, ImageNotFoundError, RegistryError, RegistryAuthError, ImageError,
    DigestMismatchError, LayerError, NoSpaceError; what was not whole is then removed.
    """
    ref = references.parse(text).with_default_tag()
    if ref.tag and ref.digest:
        ref = references.Reference(ref.domain, ref.path, "", ref.digest)
    here = platform.parse(wanted or "linux/" + ctx.facts.arch, ctx.facts.arch)
    lease = ctx.blobs.lease()
    try:
        repository, top = look_up(ctx, ref)
        try:
            sink.line(f"{ref.tag or ref.digest}: Pulling from {ref.path}")
            chosen = for_platform(repository, top, here, ref)
            before = _present(ctx, ref)
            new = _fetch(ctx, repository, chosen, _Wanted(ref, here, bool(wanted)), sink)
        finally:
            repository.close()
        record = _record(ctx, chosen, top, ref)
    finally:
        if lease is not None:
            os.close(lease)
    new = new or before != chosen.digest
    events.image(ctx, "pull", ref.familiar(), ref.familiar_name, known=record)
    sink.line(f"Digest: {top.digest}")
    what = "Downloaded newer image for" if new else "Image is up to date for"
    sink.line(f"Status: {what} {ref.familiar()}")
    return PullResult(ref.full(), record, top.digest, new)


class _Wanted:
    """What is pulled for whom: ``asked`` tells a platform that somebody typed from this machine's own."""

    __slots__ = ("asked", "platform", "reference")

    def __init__(self, reference: Reference, wanted: Platform, asked: bool) -> None:
        self.reference = reference
        self.platform = wanted
        self.asked = asked


# resolving


def look_up(ctx: Context, ref: Reference) -> tuple[Repository, Manifest]:
    """The manifest or index, from the first of the repository's places that has it."""
    entries = places.load(places.files(ctx.env, ctx.paths.conf))
    candidates = places.places(
        ref, entries, _texts(ctx, "registry.insecure"), _texts(ctx, "registry.mirrors")
    )
    for place in candidates:
        repository = Repository(ref, ctx.env, place)
        try:
            return repository, repository.manifest(ref.digest or ref.tag)
        except (RegistryError, ImageNotFoundError, ImageError):
            repository.close()
            if place is candidates[-1]:  # a mirror may lack what the registry has
                raise
    raise AssertionError  # there is always one place


def _texts(ctx: Context, key: str) -> list[str]:
    value = ctx.settings.get(key)
    return value if isinstance(value, list) else []


def for_platform(
    repository: Repository, top: Manifest, wanted: Platform, ref: Reference
) -> Manifest:
    """The manifest for a platform, through at most MAX_NESTING indexes."""
    current = top
    for _ in range(MAX_NESTING + 1):
        if not current.is_index:
            manifests.check_image(current.document, ref.familiar())
            return current
        entries = current.document["manifests"]
        descriptor = platform.choose(wanted, entries)
        if descriptor is None:
            unsaid = [entry for entry in entries if not entry.get("platform")]
            descriptor = unsaid[0] if len(unsaid) == 1 else None
        if descriptor is None:
            raise ImageNotFoundError(
                f"no matching manifest for {wanted} in the manifest list entries of {ref.familiar()}"
            )
        current = repository.manifest(str(descriptor["digest"]))
    raise ImageError(f"cannot use {ref.familiar()}: its indexes are nested too deeply")


# recording


def _present(ctx: Context, ref: Reference) -> str:
    """Digest of the manifest that REF leads to here, "" if none."""
    try:
        return str(ctx.images.resolve(ref.full()).descriptor["digest"])
    except RootlessError:
        return ""


def _record(ctx: Context, chosen: Manifest, top: Manifest, ref: Reference) -> str:
    ctx.blobs.ingest(chosen.data, chosen.digest, len(chosen.data))
    entry = descriptors.make(chosen.media_type, chosen.digest, len(chosen.data))
    name = f"{ref.repository}:{ref.tag}" if ref.tag else ""
    return ctx.images.put(entry, name, f"{ref.repository}@{top.digest}").id


# fetching


def _fetch(
    ctx: Context, repository: Repository, chosen: Manifest, wanted: _Wanted, sink: ProgressSink
) -> bool:
    """Everything of a manifest into the store; whether a blob was missing."""
    what = wanted.reference.familiar()
    listed = chosen.document["layers"]
    descriptor = chosen.document["config"]
    if descriptor["size"] > MAX_CONFIG:
        raise ImageError(f"cannot pull {what}: its config has {descriptor['size']} bytes")
    new, data = _fetch_config(ctx, repository, descriptor)
    config = manifests.check_config(data, len(listed), what)
    _check_platform(config, wanted)
    fetch = _LayerFetch(ctx, repository, sink)
    return fetch.run(layers.pair(listed, manifests.diff_ids(config))) or new


def _fetch_config(
    ctx: Context, repository: Repository, descriptor: dict[str, Any]
) -> tuple[bool, bytes]:
    digest = descriptor["digest"]
    if ctx.blobs.has(digest, descriptor["size"]):
        try:
            return False, ctx.blobs.read_small(digest)
        except DigestMismatchError:  # damaged on our disk
            files.unlink(ctx.blobs.path(digest))
    with ctx.blobs.writer(digest, descriptor["size"]) as writer:
        for chunk in repository.blob(descriptor):
            writer.write(chunk)
        writer.commit()
    return True, ctx.blobs.read_small(digest)


def _check_platform(config: dict[str, Any], wanted: _Wanted) -> None:
    have = platform.of(config)
    name = wanted.reference.familiar()
    if have.os != "linux":
        raise ImageError(f"cannot use {name}: it is an image for {have.os}")
    if wanted.asked and have.architecture and not platform.matches(wanted.platform, have):
        raise ImageNotFoundError(
            f"image with reference {name} was found but does not match the specified platform: "
            f"wanted {wanted.platform}, actual: {have}"
        )


class _LayerFetch:
    """The layers of one pull: some download while others unpack; at the first error all give up."""

    def __init__(self, ctx: Context, repository: Repository, sink: ProgressSink) -> None:
        self._ctx = ctx
        self._repository = repository
        self._sink = sink
        self._store = ctx.layers()
        self._stop = threading.Event()
        self._downloads = max(1, int(str(ctx.settings.get("pull.parallel"))))

    def run(self, wanted: list[Layer]) -> bool:
        """Fetch and unpack what is missing; whether a blob was."""
        missing = [layer for layer in wanted if not self._exists(layer)]
        for layer in wanted:
            self._sink.event(
                layer.short, "Pulling fs layer" if layer in missing else "Already exists"
            )
        for layer in missing[self._downloads :]:
            self._sink.event(layer.short, "Waiting")
        if not missing:
            return False
        new = any(not self._has_blob(layer) for layer in missing)
        self._ctx.realm  # noqa: B018  (made once, before the threads want it)
        done: list[Future[None]] = [Future() for _ in missing]
        # Left in reverse order: who downloads may still hand over to who unpacks.
        with (
            ThreadPoolExecutor(layers.workers()) as unpackers,
            ThreadPoolExecutor(self._downloads) as downloaders,
        ):
            for layer, result in zip(missing, done):
                downloaders.submit(self._download_then, layer, result, unpackers)
            layers.first_error(done, self._give_up)
        return new

    def _exists(self, layer: Layer) -> bool:
        return self._has_blob(layer) and self._store.present(layer.diff_id)

    def _has_blob(self, layer: Layer) -> bool:
        return self._ctx.blobs.has(layer.digest, layer.size)

    def _give_up(self) -> None:
        self._stop.set()
        self._repository.abort()

    def _download_then(
        self, layer: Layer, result: Future[None], unpackers: ThreadPoolExecutor
    ) -> None:
        """Download a layer and hand it to UNPACKERS; RESULT ends with what comes last."""
        if not result.set_running_or_notify_cancel():
            return
        try:
            fresh = not self._has_blob(layer)
            if fresh:
                self._download(layer)
            unpackers.submit(self._unpack_then, layer, result, fresh)
        except BaseException as error:
            result.set_exception(error)

    def _unpack_then(self, layer: Layer, result: Future[None], fresh: bool) -> None:
        try:
            if not self._stop.is_set():
                self._unpack(layer, fresh)
            result.set_result(None)
        except BaseException as error:
            result.set_exception(error)

    def _unpack(self, layer: Layer, fresh: bool) -> None:
        try:
            layers.unpack(self._ctx, self._store, layer, self._sink)
        except (DigestMismatchError, LayerError):
            if fresh:
                raise
            files.unlink(self._ctx.blobs.path(layer.digest))  # damaged on our disk: once again
            self._download(layer)
            layers.unpack(self._ctx, self._store, layer, self._sink)
        self._sink.event(layer.short, "Pull complete")

    def _download(self, layer: Layer) -> None:
        """Stream a blob into the store; it gets its name only when digest and size were right."""
        descriptor = {"digest": layer.digest, "size": layer.size}
        self._sink.event(layer.short, "Downloading", 0, layer.size)
        with self._ctx.blobs.writer(layer.digest, layer.size) as writer:
            for chunk in self._repository.blob(descriptor):
                if self._stop.is_set():
                    raise RegistryError(f"cannot fetch blob {layer.digest}: given up")
                writer.write(chunk)
                self._sink.event(layer.short, "Downloading", writer.written, layer.size)
            self._sink.event(layer.short, "Verifying Checksum")
            writer.commit()
        self._sink.event(layer.short, "Download complete")
