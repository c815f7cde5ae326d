"""Freeing room: stopped containers, unused images and volumes, all of it.

Everything here works on a full filesystem: things are renamed into the trash and emptied there, and
nothing is written first.  The bytes told are those that were there before and are not afterwards.
"""

from __future__ import annotations

import os

from rootless.errors import ConflictError, NotFoundError, RootlessError

from . import events, garbage, lifecycle, listing, usage
from . import images as pictures
from . import volumes as uses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.store.volumes import Volume

    from .context import Context

    Row = dict[str, Any]
    Wanted = Callable[[Row], bool]

WORKING = "io.rootless.working"  # the label of containers that a script makes an image in
STOPPED = ("created", "exited", "dead")


def containers(ctx: Context, wanted: Wanted) -> tuple[list[str], int]:
    """Remove stopped containers that WANTED(row) takes: (their IDs, bytes they had written)."""
    gone: list[str] = []
    freed = 0
    for row in listing.ps_rows(ctx, all=True):
        if row["status"] not in STOPPED or not wanted(row):
            continue
        try:
            container = ctx.containers.get(row["id"])
            if WORKING in container.record["request"].get("labels", {}):
                continue  # it is never started, and not done with
            size = usage.writable(ctx, [container])[0]
            lifecycle.remove(ctx, container)
        except (NotFoundError, ConflictError):
            continue  # it went, or was started, meanwhile
        gone.append(row["id"])
        freed += size
    if gone:
        garbage.after_removal(ctx)
    events.pruned(ctx, "container", freed)
    return gone, freed


def images(ctx: Context, wanted: Wanted, *, all: bool) -> tuple[list[str], int]:  # noqa: A002
    """Remove images that no container uses, without ALL only those without a name, and trees of unused ID maps.

    (Lines as `rmi` tells them, bytes of blobs and unpacked layers that went).
    """
    users = listing.users_of_images(ctx)
    lines: list[str] = []
    for row in listing.image_rows(ctx):
        if row["id"] in users or (row["repo_tags"] and not all) or not wanted(row):
            continue
        try:
            untagged, deleted = pictures.remove(ctx, row["id"], force=True, users=users)
        except RootlessError:
            continue
        lines += [f"untagged: {name}" for name in untagged]
        lines += [f"deleted: {digest}" for digest in deleted]
    before = _stored(ctx)
    garbage.collect(ctx)
    garbage.drop_maps(ctx)
    freed = max(0, before - _stored(ctx))
    events.pruned(ctx, "image", freed)
    return lines, freed


def _stored(ctx: Context) -> int:
    return sum(size for size, _ in usage.measure(ctx, [ctx.paths.images, ctx.paths.layers]))


def volumes(
    ctx: Context,
    wanted: Callable[[Volume], bool],
    *,
    all: bool = False,  # noqa: A002
) -> tuple[list[str], int]:
    """Remove volumes that no container uses, without ALL only anonymous ones: (names, bytes they held)."""
    using = uses.users(ctx)
    gone: list[str] = []
    freed = 0
    for volume in ctx.volumes.all():
        if volume.name in using or not (all or volume.anonymous) or not wanted(volume):
            continue
        size = usage.measure(ctx, [volume.data_dir])[0][0]
        if uses.drop(ctx, [volume.name]):
            gone.append(volume.name)
            freed += size
    uses.sweep(ctx)
    events.pruned(ctx, "volume", freed)
    return gone, freed


def reset(ctx: Context) -> None:
    """Remove everything: containers (killed first), images, volumes, networks, caches, service and realm.

    Each step goes on where the one before failed on a single object; raises the last such error.
    """
    failed: RootlessError | None = None
    for container_id in ctx.containers.list_ids():
        try:
            lifecycle.remove(ctx, ctx.containers.get(container_id), force=True)
        except RootlessError as error:
            failed = error
    roots = dict.fromkeys((ctx.paths.data_root, ctx.paths.local_root))
    trees = [f"{root}/{name}" for root in roots for name in os.listdir(root)]
    try:
        ctx.remove_trees(trees)
    except RootlessError as error:
        failed = error
    from rootless.runtime import network, realm

    network.stop(ctx.paths, ctx.facts)
    realm.end(ctx.paths, ctx.facts)
    left = [path for path in trees if os.path.lexists(path)]
    if left and failed is not None:
        raise failed
