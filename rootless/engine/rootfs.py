"""A container's root filesystem: what it is assembled from, and working on it while nothing runs.

Joins the storage drivers with the stores.  tree() is on the path of every start; mounted() runs a
program of the host beside the assembled root, in namespaces of its own, so that nothing stays mounted.
"""

from __future__ import annotations

import os

from rootless.drivers.snapshot.base import Tree
from rootless.errors import NoSpaceError
from rootless.oci import digest
from rootless.plan import idmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from rootless.drivers.snapshot.base import Owners
    from rootless.plan.request import Placement, RunRequest
    from rootless.plan.tape import Op
    from rootless.store.containers import Container

    from .context import Context


def lowers(ctx: Context, record: Mapping[str, Any], request: RunRequest) -> list[str]:
    """The read-only directories below a container's own, topmost first."""
    if request.rootfs:
        return [os.path.abspath(request.rootfs)]
    if not record["layers"]:
        return []
    shared = ctx.shared_of(record)
    if shared is not None:
        return [shared.path(digest.chain_id(record["layers"]))]
    layers = ctx.layers_of(record)
    return [layers.path(diff_id) for diff_id in reversed(record["layers"])]


def tree(ctx: Context, record: Mapping[str, Any], request: RunRequest, place: Placement) -> Tree:
    """What the storage driver is to assemble for a container."""
    owner: tuple[int, int] = (0, 0)
    owners: Owners = ((), ())
    layer_map = ctx.layer_map(record)
    if record["map_key"]:
        ids = idmap.from_key(record["map_key"], ctx.facts)
        if layer_map:
            owner = idmap.outside(ids.uid, 0), idmap.outside(ids.gid, 0)
        elif ctx.facts.id_rung != "single":
            owners = ids.uid, ids.gid
    shared = ctx.shared_of(record)
    return Tree(
        place.lowers,
        place.upper,
        place.work,
        place.merged,
        owner=owner,
        owners=owners,
        data=[shared.base.directory] if shared is not None and shared.base is not None else [],
        layer_format=record["layer_format"],
        map_key=layer_map,
        log=f"{place.container_dir}/storage.log",
        limit=size_limit(request),
    )


def ids_of(
    ctx: Context, record: Mapping[str, Any], request: RunRequest, slot: int = 0
) -> idmap.IdMap:
    """A container's ID map, which is that of another where it joins one."""
    if record["map_key"]:
        return idmap.from_key(record["map_key"], ctx.facts)
    return idmap.for_request(request, ctx.facts, slot)


def up(ctx: Context, record: Mapping[str, Any], wanted: Tree) -> None:
    """What the driver needs on disk before the root can be assembled; raises StorageError."""
    ctx.driver_of(record).up(wanted, ctx.run_in_realm)


def size_limit(request: RunRequest) -> int:
    """Bytes of --storage-opt size=; 0 where none was asked for."""
    return int(request.storage_size)


def make_upper(ctx: Context, record: Mapping[str, Any]) -> None:
    """The writable layer of a container that was never started."""
    pid, _ = run_with_root(ctx, record, ["/bin/sh", "-c", ":"], {})
    os.waitpid(pid, 0)


def _binds(
    ctx: Context, record: Mapping[str, Any], request: RunRequest, place: Placement
) -> list[Op]:
    """Operations that mount the directories of the host that the user asked for, in their order."""
    from rootless.plan import launch
    from rootless.plan import spec as specs
    from rootless.plan.image import ImageConfig

    wanted = {mount.destination for mount in request.mounts if mount.type != "tmpfs"}
    image = ImageConfig.from_dict(record["image_config"])
    spec = specs.build_spec(request, image, ctx.facts, place)
    ops: list[Op] = []
    for mount in spec["mounts"]:
        if mount["destination"] in wanted and mount.get("type") == "bind":
            ops += launch.mount_ops(mount)
    return ops


def check_size(ctx: Context, container: Container, request: RunRequest) -> None:
    """Refuse to start a container whose writable layer is larger than it may be; raises NoSpaceError."""
    from . import usage

    used = usage.writable(ctx, [container])[0]
    if used > request.storage_size:
        raise NoSpaceError(
            f"cannot start container {container.name}: its writable layer holds {used} bytes, "
            f"more than the {request.storage_size} of --storage-opt size",
            hint="remove files with rootless cp or commit it, or make it anew with a larger size",
        )


def run_with_root(
    ctx: Context,
    record: Mapping[str, Any],
    argv: Sequence[str],
    fds: Mapping[int, int],
    *,
    volumes: bool = False,
    directory: str = "",
    stays: bool = False,
) -> tuple[int, str]:
    """Start ARGV as the container's root beside its assembled root: (pid, path of that root).

    For a container that does not run: its writable layer can be mounted once only.  The program is one
    of the host, ``{root}`` in ARGV stands for the path; FDS as in Context.run_in_realm; VOLUMES: what
    the user mounted from the host is there, too.  DIRECTORY is the container's while it is
    being created.  The caller reaps; it dies with us unless it STAYS, in a session of its own.
    """
    from rootless.plan import launch
    from rootless.plan.request import RunRequest

    from . import present, start

    request = RunRequest.from_dict(record["request"])
    if record["layers"]:
        present.ensure_layers(ctx, dict(record))
    place = start.placement(ctx, dict(record), request, directory=directory, volumes=volumes)
    os.makedirs(place.merged, 0o700, exist_ok=True)
    root = place.root
    if record["driver"]:
        up(ctx, record, tree(ctx, record, request, place))
    if not root:
        root = [("root_bind", (os.path.abspath(request.rootfs), place.merged))]
    outer = place.outer
    if volumes:
        root = [*place.beside, *root, *_binds(ctx, record, request, place)]
        outer = [*place.early, *outer]
    if place.trees:
        from . import mounted

        mounted.up(ctx, dict(record), place)
    ids = ids_of(ctx, record, request, place.auto_slot)
    words = [word.replace("{root}", place.merged) for word in argv]
    ops = launch.rootfs_tape(outer, root, words, ids)
    if stays:
        ops = [op for op in ops if op[0] != "pdeathsig"]
        ops.insert(-1, ("setsid", ()))
    what = f"assemble the root filesystem of container {record['id'][:12]}"
    return ctx.play(ops, what, fds), place.merged
