"""What stands behind a container's volumes, image mounts and O mounts on this host, at each start.

Fills a Placement: ``volumes`` (what is bound), and for trees of their own (an image's layers, a writable
layer over a bind or a volume) the storage driver's operations, played before the container's root is
assembled.  Such a tree appears at ``containers/<id>/mounts/<n>/merged`` in the container's mount namespace
only, and is bound from there.
"""

from __future__ import annotations

import os
import stat

from rootless.drivers import volume as drivers
from rootless.drivers.snapshot.base import Tree
from rootless.errors import NotFoundError, UsageError
from rootless.plan import idmap
from rootless.plan.request import Placement, RunRequest

from . import present, rootfs, volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.plan.request import MountRequest

    from .context import Context


def wanted(request: RunRequest) -> bool:
    """Whether there is anything to do; most containers have at most binds."""
    return any(mount.type in ("volume", "image") or "O" in mount.flags for mount in request.mounts)


def attach(
    ctx: Context,
    record: dict[str, Any],
    request: RunRequest,
    place: Placement,
    *,
    suppose: bool = False,
) -> None:
    """Complete PLACE; raises NotFoundError where a volume is gone, unless we SUPPOSE that it will be."""
    for number, mount in enumerate(request.mounts):
        base = f"{place.container_dir}/mounts/{number}"
        if mount.type == "image":
            place.volumes[mount.destination] = _image(ctx, record, place, mount, base)
            continue
        backing = _backing(ctx, mount, suppose=suppose)
        if "O" in mount.flags and backing["type"] == "bind":
            backing["source"] = _overlaid(ctx, record, place, backing["source"], base)
        elif mount.type != "volume":
            continue
        place.volumes[mount.destination] = backing


def _supposed(ctx: Context, mount: MountRequest) -> dict[str, Any]:
    options = dict(text.partition("=")[::2] for text in mount.given("volume-opt"))
    driver = drivers.driver(mount.value("volume-driver") or "local")
    found = driver.backing(options, f"{ctx.paths.volumes}/{mount.source}/_data")
    return {"type": found.type, "source": found.source, "options": found.options}


def _backing(ctx: Context, mount: MountRequest, *, suppose: bool) -> dict[str, Any]:
    if mount.type != "volume":
        return {"type": mount.type, "source": mount.source, "options": []}
    try:
        volume = ctx.volumes.get(mount.source)
    except NotFoundError:
        if suppose:
            return _supposed(ctx, mount)
        raise NotFoundError(
            f"cannot mount volume {mount.source} at {mount.destination}: no such volume",
            hint="create the container anew; what was in the volume is gone",
        ) from None
    volumes.settle(ctx, volume)
    found = drivers.driver(volume.driver).backing(volume.options, volume.data_dir)
    return {"type": found.type, "source": found.source, "options": found.options}


def _plan(ctx: Context, record: dict[str, Any], place: Placement, tree: Tree) -> str:
    """Let the storage driver assemble a further tree; where it will appear."""
    assembly = ctx.driver_of(record).plan(tree, ctx.facts)
    place.outer = [*assembly.outer, *place.outer]
    place.beside += assembly.inner
    place.trees.append(tree)
    return tree.merged


def _like(ctx: Context, source: str, upper: str) -> list[Any]:
    """Operations that make UPPER with owner and mode of SOURCE: a union shows its upper's."""
    try:
        info = os.stat(source)
    except OSError:
        return []  # the launcher will say why
    uid, gid = idmap.realm_maps(ctx.facts)
    owner = idmap.inside(uid, info.st_uid), idmap.inside(gid, info.st_gid)
    ops: list[Any] = [("mkdir_host", (upper, stat.S_IMODE(info.st_mode)))]
    if owner != (0, 0) and -1 not in owner:
        ops.append(("chown_host", (upper, *owner)))
    return ops


def _overlaid(
    ctx: Context, record: dict[str, Any], place: Placement, source: str, base: str
) -> str:
    """A writable layer over a directory of the host, as new at each start; where it appears."""
    if os.path.lexists(source) and not os.path.isdir(source):
        raise UsageError(f"cannot lay changes over {source} (O): it is not a directory")
    driver = ctx.driver_of(record)
    tree = Tree(
        [source],
        f"{base}/upper",
        f"{base}/work",
        f"{base}/merged",
        layer_format=record["layer_format"] or driver.layer_format(ctx.facts),
        log=f"{place.container_dir}/storage.log",
    )
    if driver.fills_upper:
        if f"{os.path.realpath(base)}/".startswith(
            f"{os.path.realpath(source)}/".replace("//", "/")
        ):
            raise UsageError(
                f"cannot lay changes over {source} (O): the storage driver {driver.name} would copy it, "
                "and the container's own files are in it"
            )
        place.stale.append(tree.upper)
    else:
        place.early += [("rmtree", (tree.upper,)), ("rmtree", (tree.work,))]
        place.early += _like(ctx, source, tree.upper)
    return _plan(ctx, record, place, tree)


def _as_image(ctx: Context, record: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """RECORD as if the container were made from the image that it mounts."""
    driver = ctx.driver_of(record)
    form = record["layer_format"] or driver.layer_format(ctx.facts)
    return {**record, **found, "driver": driver.name, "layer_format": form}


def _image(
    ctx: Context, record: dict[str, Any], place: Placement, mount: MountRequest, base: str
) -> dict[str, Any]:
    found = record["image_mounts"][mount.destination]
    merged = f"{base}/merged"
    if not found["layers"]:
        place.trees.append(Tree([], "", "", merged))
        return {"type": "bind", "source": merged, "options": []}
    image = _as_image(ctx, record, found)
    nothing = RunRequest()
    upper = ctx.driver_of(record).fills_upper
    part = Placement(
        container_dir=place.container_dir,
        lowers=rootfs.lowers(ctx, image, nothing),
        upper=f"{base}/upper" if upper else "",
        work=f"{base}/work" if upper else "",
        merged=merged,
    )
    tree = rootfs.tree(ctx, image, nothing, part)
    return {"type": "bind", "source": _plan(ctx, record, place, tree), "options": []}


def up(ctx: Context, record: dict[str, Any], place: Placement) -> None:
    """What has to be on disk before the tape is played; raises StorageError, NoSpaceError."""
    for found in (record.get("image_mounts") or {}).values():
        present.ensure_layers(ctx, _as_image(ctx, record, found))
    stale = [path for path in place.stale if os.path.lexists(path)]
    if stale:
        ctx.remove_trees(stale)
    driver = ctx.driver_of(record) if place.trees else None
    for tree in place.trees:
        os.makedirs(tree.merged, 0o700, exist_ok=True)
        if driver is not None and tree.lowers:
            driver.up(tree, ctx.run_in_realm)


def leftovers(request: RunRequest, container_dir: str) -> list[str]:
    """Directories that hold what was written over O mounts, of no use once the container has ended."""
    return [
        f"{container_dir}/mounts/{number}/{name}"
        for number, mount in enumerate(request.mounts)
        if "O" in mount.flags
        for name in ("upper", "work")
    ]
