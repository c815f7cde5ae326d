"""Layers in another compression than they are stored with.  What was made once is remembered like a step.

A layer of this build is packed in the compression that is wanted, so this is for those from the cache and,
where that is asked for, for base images.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

from rootless.errors import DigestMismatchError
from rootless.oci import descriptor as descriptors
from rootless.oci import media_types
from rootless.store import compress
from rootless.store.buildcache import BuildCache
from rootless.store.decompress import Source

from .commit import _as_oci
from .layers import workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from rootless.builder.outputs import Compression

    from .context import Context


def layers(
    ctx: Context, records: Sequence[dict[str, Any]], wanted: Compression
) -> list[dict[str, Any]]:
    """Descriptors of layers, compressed as WANTED; raises HostError, DigestMismatchError, NoSpaceError."""
    with ThreadPoolExecutor(workers()) as pool:
        return list(pool.map(lambda record: _layer(ctx, record, wanted), records))


def _layer(ctx: Context, record: dict[str, Any], wanted: Compression) -> dict[str, Any]:
    layer = _as_oci(record["layer"])
    spec = compress.spec(wanted.kind, wanted.level)
    if record.get("base"):
        same = layer["mediaType"] == media_types.of_layer(wanted.kind) and wanted.level < 0
        if same or not wanted.forced:
            return layer
    elif record.get("compression", "gzip:1") == spec:
        return layer
    return _converted(ctx, layer, str(record["diff_id"]), spec)


def _converted(ctx: Context, layer: dict[str, Any], diff_id: str, spec: str) -> dict[str, Any]:
    cache = BuildCache(ctx.paths)
    key = hashlib.sha256(f"compressed {diff_id} {spec}".encode()).hexdigest()
    lock = cache.lock(key)
    try:
        known = cache.get(key)
        if known is not None and known["diff_id"] == diff_id:
            return dict(known["layer"])
        found = _compressed(ctx, layer, diff_id, spec)
        cache.put(key, {"diff_id": diff_id, "layer": found, "compression": spec})
        return found
    finally:
        cache.unlock(key, lock)


def _compressed(ctx: Context, layer: dict[str, Any], diff_id: str, spec: str) -> dict[str, Any]:
    packer = compress.compressor(spec)
    with ctx.blobs.open_verified(layer["digest"], layer["size"]) as reader:
        source = Source(reader.read)
        try:
            with ctx.blobs.writer() as writer:
                while True:
                    data = source.next_chunk()
                    if not data:
                        break
                    writer.write(packer.compress(bytes(data)))
                writer.write(packer.flush())
                if source.diff_id != diff_id:
                    raise DigestMismatchError(
                        f"cannot verify layer {diff_id}: its digest is {source.diff_id}"
                    )
                size = writer.written
                digest = writer.commit()
        finally:
            source.close()
    kind = media_types.of_layer(spec.partition(":")[0])
    return descriptors.make(kind, digest, size)
