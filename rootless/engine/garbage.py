"""Freeing what no image and no container needs any more: blobs, layers, and what crashes left."""

from __future__ import annotations

from rootless.store import gc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context


def collect(ctx: Context) -> int:
    """Free unused blobs and layers; the bytes of blobs freed."""
    images: set[str] = set()
    layers: set[str] = set()
    for container, _ in ctx.containers.scan():
        images.add(container.record.get("image_id") or "")
        layers.update(container.record.get("layers") or ())
    found = gc.collect(ctx.paths, images, layers)
    ctx.remove_trees(found.trashed)
    return int(found.freed)
