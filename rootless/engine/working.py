"""Working containers: an image made step by step from a script instead of from a Dockerfile.

A working container is a container that is never started.  Commands run over its writable layer, files are
copied into it, its future config lies beside it in ``working.json``, and committing makes one layer of all
of that.  While it is mounted a process of its own holds the mount, in its own namespace: others reach it
through /proc/PID/root, and nothing is left when that process ends.
"""

from __future__ import annotations

import os
import signal
import time

from rootless import jsonc
from rootless.builder import evaluate, keys
from rootless.builder.copying import CONTEXT
from rootless.errors import (
    BuildError,
    CommandNotFoundError,
    CommandNotInvokedError,
    ConflictError,
    NotExecutedError,
    ReferenceError_,
)
from rootless.linux import proc
from rootless.oci import platform
from rootless.oci import reference as references
from rootless.plan import launch
from rootless.plan import spec as specs
from rootless.plan.image import ImageConfig
from rootless.plan.request import RunRequest
from rootless.store import files

from . import attach, buildimage, buildsteps, commit, create, lifecycle, present, rootfs, start
from .buildimage import Made
from .buildlayers import Workspace
from .prune import WORKING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from rootless.store.containers import Container

    from .context import Context

LABEL = WORKING
SCRATCH = "scratch"
_PATIENCE = 10.0
# FUSE keeps out whoever is in no user namespace of the mount's.
_CLOSED = ("fuse-overlayfs", "fusepy")


def directory(ctx: Context, container: Container) -> str:
    """Where the container's parts lie."""
    return f"{ctx.paths.containers}/{container.id}"


def every(ctx: Context) -> list[Container]:
    """All working containers, oldest first."""
    found = [ctx.containers.get(one) for one in ctx.containers.list_ids()]
    mine = [one for one in found if LABEL in one.record["request"].get("labels", {})]
    return sorted(mine, key=lambda one: float(one.record["created"]))


def resolve(ctx: Context, name: str) -> Container:
    """The working container called NAME; raises NotFoundError, ConflictError for an ordinary container."""
    container = ctx.containers.resolve(name)
    if LABEL not in container.record["request"].get("labels", {}):
        raise ConflictError(
            f"cannot work on container {name}: it is not a working container",
            hint="make one with rootless working from IMAGE",
        )
    return container


def begin(
    ctx: Context, image: str, name: str, policy: str, pull: Callable[[str, str], None]
) -> Container:
    """Make a working container on IMAGE ("scratch": on nothing), called NAME or after the image."""
    lease = ctx.blobs.lease()
    try:
        base = _empty(ctx) if image == SCRATCH else image
        name = name or _free_name(ctx, image)
        request = RunRequest(image=base, name=name, labels={LABEL: image})
        request.entrypoint, request.args, request.network = [], ["/bin/sh"], "none"
        return create.create(ctx, request, policy=policy, pull=pull)
    finally:
        if lease is not None:
            os.close(lease)


def _empty(ctx: Context) -> str:
    """An image with nothing in it; its ID."""
    own = platform.parse(f"linux/{ctx.facts.arch}")
    document = {"os": own.os, "architecture": own.architecture, "history": []}
    made = Made(document, evaluate.empty_config(), [], keys.EMPTY)
    return buildimage.store(ctx, made, 0)


def _free_name(ctx: Context, image: str) -> str:
    try:
        name = str(references.parse(image).familiar())
    except ReferenceError_:  # create() tells
        name = image
    stem = name.rpartition("/")[2].partition("@")[0].partition(":")[0] + "-working"
    taken = {one.name for one in map(ctx.containers.get, ctx.containers.list_ids())}
    number = 0
    while (found := f"{stem}-{number}" if number else stem) in taken:
        number += 1
    return found


# the config of the image to be


def read(ctx: Context, container: Container) -> dict[str, Any]:
    """{"config", "author"}: what the image will have; begins as its base's."""
    try:
        found = jsonc.loads(files.read(f"{directory(ctx, container)}/working.json"))
    except FileNotFoundError:
        base = ctx.images.resolve(container.record["image_id"]).config
        found = {"config": dict(base.get("config") or {}), "author": str(base.get("author") or "")}
    return dict(found)


def write(ctx: Context, container: Container, state: dict[str, Any]) -> None:
    """Keep what read() gives; raises NoSpaceError, StorageError."""
    path = f"{directory(ctx, container)}/working.json"
    try:
        files.replace(path, jsonc.dumps(state).encode(), durable=True)
    except OSError as error:
        raise files.failure(f"write {path}", error) from None


# commands and files


def run(ctx: Context, container: Container, request: RunRequest, tell: Any = None) -> int:
    """Run a command over the container's layer with our own stdin, stdout and stderr; its exit code.

    REQUEST has the command and what is mounted and so on for it alone.
    """
    _refuse_mounted(ctx, container)
    record = dict(container.record)
    request.userns = record["request"].get("userns") or ""
    attach.settle(ctx, request, tell)
    lock = ctx.containers.lock(container.id)
    try:
        if record["layers"]:
            present.ensure_layers(ctx, record)
        place = start.placement(ctx, record, request)
        attach.plan(ctx, container.name, record, request, place)
        image = ImageConfig.from_dict({"config": read(ctx, container)["config"]})
        spec = specs.build_spec(request, image, ctx.facts, place)
        ops = launch.build_tape(spec, place, ctx.facts)
        start.prepare(place, request, spec)
        rootfs.up(ctx, record, rootfs.tree(ctx, record, request, place))
        if place.trees:
            from . import mounted

            mounted.up(ctx, record, place)
        if place.attach is not None:
            attach.ready(ctx)
        try:
            pid = ctx.play(ops, f"run {request.args[0]}", {0: 0, 1: 1, 2: 2})
        except NotExecutedError as error:
            kind = CommandNotFoundError if error.status == 127 else CommandNotInvokedError
            raise kind(error.message) from None
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(lock)
    return status if status >= 0 else 128 - status


def copy(ctx: Context, container: Container, wanted: dict[str, Any], origin: str = "") -> None:
    """Copy into the container what WANTED says (see sources()), from ORIGIN: an image, or the host ("")."""
    _refuse_mounted(ctx, container)
    record = dict(container.record)
    lock = ctx.containers.lock(container.id)
    work = Workspace(ctx)
    try:
        if record["layers"]:
            present.ensure_layers(ctx, record)
        lowers = rootfs.lowers(ctx, record, RunRequest())
        os.makedirs(f"{directory(ctx, container)}/rootfs", 0o700, exist_ok=True)
        views = []
        if origin:
            from .buildlayers import Ref

            image = ctx.images.resolve(origin)
            pairs = zip(image.diff_ids, image.layers)
            refs = [Ref({"diff_id": diff, "layer": layer, "created": ""}) for diff, layer in pairs]
            views = [(wanted["sources"][0]["root"], work.lowers(refs))]
        buildsteps.beside(work, directory(ctx, container), lowers, wanted, views)
    finally:
        os.close(lock)
        work.close()


def sources(
    ctx: Context, container: Container, paths: Sequence[str], dest: str, origin: str = ""
) -> dict[str, Any]:
    """The request for PATHS of the host, or of the image ORIGIN, to DEST, below the working directory."""
    at = str(read(ctx, container)["config"].get("WorkingDir") or "/")
    where = os.path.normpath(os.path.join("/", at, dest))
    if (dest.endswith(("/", "/.")) or dest in ("", ".")) and where != "/":
        where += "/"
    root = f"{directory(ctx, container)}/source" if origin else "/"
    names = list(paths) if origin else [os.path.abspath(path) for path in paths]
    if not origin:
        for path in names:
            if not os.path.lexists(path) and not any(c in path for c in "*?["):
                raise BuildError(f"cannot copy {path}: ENOENT (no such file or directory)")
    one = {"root": root, "title": origin or CONTEXT, "paths": names, "ignored": []}
    return {
        "sources": [one],
        "inline": [],
        "dest": where,
        "chown": "",
        "chmod": "",
        "excludes": [],
        "parents": False,
        "unpack": False,
    }


def finish(ctx: Context, container: Container, name: str, *, message: str = "") -> str:
    """Make an image of the container, called NAME if given; its ID."""
    state = read(ctx, container)
    author = state["author"]
    return commit.commit(
        ctx, container, name, author=author, message=message, config=state["config"]
    )


# mounting


def mounted_at(ctx: Context, container: Container) -> str:
    """Where the container's root is mounted; "" for nowhere."""
    pid = _holder(ctx, container)
    return f"/proc/{pid}/root{directory(ctx, container)}/rootfs" if pid else ""


def _holder(ctx: Context, container: Container) -> int:
    try:
        text = files.read(f"{directory(ctx, container)}/mounted").decode("ascii")
        boot, pid, born = text.split()
    except (OSError, ValueError):
        return 0
    return int(pid) if boot == proc.boot_id() and proc.pid_alive(int(pid), int(born)) else 0


def mount(ctx: Context, container: Container) -> str:
    """Mount the container's root until umount(); the path, which the user's own programs can use."""
    found = mounted_at(ctx, container)
    if found:
        return found
    if ctx.driver_of(container.record).name in _CLOSED:
        raise BuildError(
            f"cannot mount container {container.name} for programs of the host: its storage driver "
            f"{container.record['driver']} shows files only in the container's user namespace",
            hint="use rootless working run and rootless working copy",
        )
    lock = ctx.containers.lock(container.id)
    try:
        program = [f"{ctx.paths.libexec}/realm"]
        pid, _ = rootfs.run_with_root(ctx, container.record, program, {}, stays=True)
        born = proc.starttime(pid)
        if born is None:
            raise BuildError(f"cannot mount container {container.name}: its holder ended at once")
        marker = f"{proc.boot_id()} {pid} {born}\n".encode()
        files.replace(f"{directory(ctx, container)}/mounted", marker, durable=False)
    finally:
        os.close(lock)
    return mounted_at(ctx, container)


def umount(ctx: Context, container: Container) -> bool:
    """End the mount; whether there was one."""
    pid = _holder(ctx, container)
    if pid:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE
        while _holder(ctx, container) and time.monotonic() < deadline:
            time.sleep(0.005)
    files.unlink(f"{directory(ctx, container)}/mounted")
    return bool(pid)


def _refuse_mounted(ctx: Context, container: Container) -> None:
    """A writable layer can be mounted once only."""
    if _holder(ctx, container):
        raise ConflictError(
            f"cannot work on container {container.name}: it is mounted",
            hint=f"unmount it with rootless working umount {container.name}",
        )


def remove(ctx: Context, container: Container) -> None:
    """Remove a working container, mounted or not."""
    lifecycle.remove(ctx, container, force=True)
