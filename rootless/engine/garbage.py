"""Freeing what no image and no container needs any more: blobs, layers, and what crashes left."""

from __future__ import annotations

import os

from rootless.oci.digest import chain_id
from rootless.plan.idmap import SINGLE
from rootless.store import gc, trash

from . import cgroups, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.store.images import ImageRecord

    from .context import Context


def collect(ctx: Context) -> int:
    """Free unused blobs and layers; the bytes of blobs freed."""
    images: set[str] = set()
    layers: set[str] = set()
    for container, _ in ctx.containers.scan():
        images.add(container.record.get("image_id") or "")
        layers.update(container.record.get("layers") or ())
        layers.add(chain_id(container.record.get("layers") or ()))
        for mounted in (container.record.get("image_mounts") or {}).values():
            images.add(mounted["image_id"])
            layers.update(mounted["layers"])
            layers.add(chain_id(mounted["layers"]))
    found = gc.collect(ctx.paths, images, layers)
    ctx.remove_trees(found.trashed)
    sweep(ctx)
    return int(found.freed)


def drop_maps(ctx: Context) -> None:
    """Remove layers made for an ID map that no container has; who wants it next makes them anew."""
    used = {
        str(container.record.get("layer_map", container.record.get("map_key") or ""))
        for container, _ in ctx.containers.scan()
    }
    if ctx.facts.id_rung == "single":
        used.add(SINGLE)
    ctx.remove_trees(gc.sweep_maps(ctx.paths, used))


def sweep(ctx: Context) -> None:
    """Remove what crashes left: half-made containers, claims without owners, full trash."""
    ctx.remove_trees(ctx.containers.gc())
    trash.empty(ctx.paths, ctx.remove_trees)
    if ctx.volumes.exists():
        from . import volumes

        volumes.sweep(ctx)
    _sweep_run_dirs(ctx)
    cgroups.sweep(ctx)


def _sweep_run_dirs(ctx: Context) -> None:
    """Remove run directories whose container is gone; a monitor that was killed could not."""
    try:
        names = os.listdir(ctx.paths.run_containers)
    except FileNotFoundError:
        return
    known = {container_id[:32] for container_id in ctx.containers.list_ids()}
    for name in names:
        if name not in known:
            start.drop_run_dir(f"{ctx.paths.run_containers}/{name}")


def after_removal(ctx: Context) -> None:
    """What the removal of containers may have freed: images kept for them alone, old trash."""
    if _hidden(ctx):
        collect(ctx)
    else:
        sweep(ctx)


def _hidden(ctx: Context) -> list[ImageRecord]:
    shown = {record.id for record in ctx.images.list()}
    return [record for record in ctx.images.list(removed=True) if record.id not in shown]
