"""Pulling an image: resolve, choose the platform, fetch and unpack layers in parallel, record.

Blobs are verified while they stream into the store and stay there when a pull is interrupted, so the
next one takes up where this one ended.  Each layer is unpacked as soon as its blob is whole, while others
still download.  The image appears in the index only when all of it is there.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from rootless.errors import ImageError, ImageNotFoundError
from rootless.oci import manifest as manifests
from rootless.oci import media_types, platform
from rootless.oci import reference as references
from rootless.registry.client import Manifest, Repository
from rootless.store import unpack as unpacker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.oci.platform import Platform
    from rootless.oci.reference import Reference

    from .context import Context
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

    Raises ReferenceError_, ImageNotFoundError, RegistryError, DigestMismatchError, LayerError,
    NoSpaceError; what was not whole is then removed.
    """
    ref = references.parse(text).with_default_tag()
    here = (
        platform.parse(wanted, ctx.facts.arch)
        if wanted
        else platform.Platform("linux", ctx.facts.arch)
    )
    repository = Repository(ref, ctx.env, _insecure(ctx))
    name = ref.digest or ref.tag
    sink.line(f"{ref.tag or ref.digest}: Pulling from {ref.path}")
    lease = ctx.blobs.lease()
    try:
        top = repository.manifest(name)
        chosen = _for_platform(repository, top, here, bool(wanted), ref)
        new = _fetch(ctx, repository, chosen, ref, sink)
        record = _record(ctx, chosen, top, ref)
    finally:
        if lease is not None:
            os.close(lease)
    sink.line(f"Digest: {top.digest}")
    what = "Downloaded newer image for" if new else "Image is up to date for"
    sink.line(f"Status: {what} {ref.familiar()}")
    return PullResult(ref.full(), record, top.digest, new)


def _insecure(ctx: Context) -> list[str]:
    value = ctx.settings.get("registry.insecure")
    return value if isinstance(value, list) else []


def _for_platform(
    repository: Repository, top: Manifest, wanted: Platform, asked: bool, ref: Reference
) -> Manifest:
    """The manifest for a platform, through at most MAX_NESTING indexes."""
    current = top
    for _ in range(MAX_NESTING + 1):
        if not current.is_index:
            return current
        descriptor = platform.choose(wanted, current.document["manifests"])
        if descriptor is None and not asked and len(current.document["manifests"]) == 1:
            descriptor = current.document["manifests"][0]
        if descriptor is None:
            raise ImageNotFoundError(
                f"no matching manifest for {wanted} in the manifest list entries of "
                f"{ref.familiar()}"
            )
        current = repository.manifest(str(descriptor["digest"]))
    raise ImageError(f"cannot use {ref.familiar()}: its indexes are nested too deeply")


def _record(ctx: Context, chosen: Manifest, top: Manifest, ref: Reference) -> str:
    for manifest in {chosen.digest: chosen, top.digest: top}.values():
        if not ctx.blobs.has(manifest.digest):
            ctx.blobs.ingest(manifest.data, manifest.digest, len(manifest.data))
    descriptor = {
        "mediaType": chosen.media_type,
        "digest": chosen.digest,
        "size": len(chosen.data),
    }
    name = f"{ref.repository}:{ref.tag}" if ref.tag else ""
    return ctx.images.put(descriptor, name, f"{ref.repository}@{top.digest}").id


def _fetch(
    ctx: Context, repository: Repository, chosen: Manifest, ref: Reference, sink: ProgressSink
) -> bool:
    """Everything of a manifest into the store; whether anything was missing."""
    layers = chosen.document["layers"]
    for layer in layers:
        if media_types.is_foreign(str(layer.get("mediaType", ""))):
            raise ImageError(
                f"cannot pull {ref.familiar()}: layer {layer['digest']} may not be distributed"
            )
    descriptor = chosen.document["config"]
    if descriptor["size"] > MAX_CONFIG:
        raise ImageError(f"cannot pull {ref.familiar()}: its config has {descriptor['size']} bytes")
    known = ctx.blobs.has(chosen.digest)
    if not ctx.blobs.has(descriptor["digest"], descriptor["size"]):
        _download(ctx, repository, descriptor, None)
    data = ctx.blobs.read_small(descriptor["digest"])
    config = manifests.check_config(data, len(layers), ref.familiar())
    diff_ids = (config.get("rootfs") or {}).get("diff_ids") or []
    _fetch_layers(ctx, repository, layers, diff_ids, sink)
    return not known


def _fetch_layers(
    ctx: Context,
    repository: Repository,
    layers: list[dict[str, Any]],
    diff_ids: list[str],
    sink: ProgressSink,
) -> None:
    store = ctx.layers()
    ctx.realm  # noqa: B018  (made once, before the threads want it)
    stop = threading.Event()
    downloads = ThreadPoolExecutor(max(1, int(str(ctx.settings.get("pull.parallel")))))
    unpacks = ThreadPoolExecutor(max(1, os.cpu_count() or 1))
    pending: list[Future[None]] = []
    seen: set[str] = set()

    def unpack_one(layer: dict[str, Any], diff_id: str) -> None:
        short = layer["digest"].partition(":")[2][:12]
        if not stop.is_set() and not store.present(diff_id):
            sink.event(short, "Extracting", 0, layer["size"])
            blob = os.open(ctx.blobs.path(layer["digest"]), os.O_RDONLY | os.O_CLOEXEC)
            try:
                unpacker.unpack(
                    store, diff_id, blob, ctx.run_in_realm, digest=layer["digest"],
                    size=layer["size"],
                )  # fmt: skip
            finally:
                os.close(blob)
        sink.event(short, "Pull complete")

    def download_one(layer: dict[str, Any]) -> None:
        short = layer["digest"].partition(":")[2][:12]
        if not stop.is_set() and not ctx.blobs.has(layer["digest"], layer["size"]):
            _download(ctx, repository, layer, sink, stop)
        sink.event(short, "Download complete")

    def both(layer: dict[str, Any], diff_id: str) -> None:
        download_one(layer)
        unpacks.submit(unpack_one, layer, diff_id).result()

    try:
        for layer, diff_id in zip(layers, diff_ids):
            short = layer["digest"].partition(":")[2][:12]
            if layer["digest"] in seen:
                continue
            seen.add(layer["digest"])
            if ctx.blobs.has(layer["digest"], layer["size"]) and store.present(diff_id):
                sink.event(short, "Already exists")
                continue
            sink.event(short, "Pulling fs layer")
            pending.append(downloads.submit(both, layer, diff_id))
        for future in pending:
            future.result()
    except BaseException:
        stop.set()
        raise
    finally:
        downloads.shutdown(wait=True, cancel_futures=True)
        unpacks.shutdown(wait=True)


def _download(
    ctx: Context,
    repository: Repository,
    descriptor: dict[str, Any],
    sink: ProgressSink | None,
    stop: threading.Event | None = None,
) -> None:
    """Stream one blob into the store; it gets its name only when digest and size were right."""
    digest, size = descriptor["digest"], descriptor["size"]
    short = digest.partition(":")[2][:12]
    with ctx.blobs.writer(digest, size) as writer:
        for chunk in repository.blob(descriptor):
            if stop is not None and stop.is_set():
                return
            writer.write(chunk)
            if sink is not None:
                sink.event(short, "Downloading", writer.written, size)
        if sink is not None:
            sink.event(short, "Verifying Checksum")
        writer.commit()
