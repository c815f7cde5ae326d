"""Control groups of containers: which driver, what is planned, where a container's is, and freezing it.

Whoever reads or writes files of a container's group (stats, top, update, pause) asks here where it is.
"""

from __future__ import annotations

import os
import time

from rootless.errors import ConflictError, HostError, RootlessError
from rootless.linux import cgroup as groups
from rootless.plan import groups as plans

from . import events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.drivers.cgroup.base import CgroupDriver, CgroupPlan
    from rootless.facts import HostFacts
    from rootless.plan.request import Placement, RunRequest
    from rootless.plan.tape import Op
    from rootless.store.containers import Container

    from .context import Context

FREEZE_WAIT = 10.0  # seconds: a process in the kernel freezes when it comes back from there


def settle(ctx: Context, facts: HostFacts) -> None:
    """Fill in what this session has of control groups, and which driver that makes."""
    from rootless.drivers import cgroup

    groups.look(facts, ctx.env)
    try:
        driver = cgroup.choose(str(ctx.settings.get("cgroup.driver")), facts)
    except RootlessError:
        return  # told by whoever starts a container
    facts.cgroup_rung = driver.name
    if driver.name != "none":
        facts.cgroup_controllers = driver.controllers(facts)


def driver_of(ctx: Context) -> CgroupDriver | None:
    """The driver for new containers, None for none; raises HostError where the one that is named fails."""
    wanted = str(ctx.settings.get("cgroup.driver"))
    if wanted in ("", "auto") and ctx.facts.cgroup_mode != "unified":
        return None
    from rootless.drivers import cgroup

    found = cgroup.choose(wanted, ctx.facts)
    return None if found.name == "none" else found


def plan(
    ctx: Context, record: dict[str, Any], request: RunRequest, place: Placement, name: str = ""
) -> None:
    """Put into PLACE what makes the container's group; raises UsageError for a parent that cannot be."""
    driver = driver_of(ctx)
    if driver is not None:
        place.cgroup = _plan(ctx, driver, record, request, name, ctx.facts)


def plan_again(
    ctx: Context, record: dict[str, Any], request: RunRequest, place: Placement, name: str = ""
) -> None:
    """The same for a container that runs: its restarts make the group where it is, not in our session."""
    path = str(ctx.containers.read_state(record["id"]).get("cgroup") or "")
    if not path:
        return
    from rootless.drivers import cgroup

    facts = ctx.facts
    if path.endswith(f"/rootless-{record['id']}"):
        parent = str(request.limits.get("CgroupParent") or "").strip("/")
        top = path[: -len(f"/rootless-{record['id']}")].removesuffix(f"/{parent}" if parent else "")
        driver, facts = cgroup.driver("cgroupfs"), facts.replace(cgroup_delegated=top)
    else:
        driver = cgroup.driver("systemd")
    place.cgroup = _plan(ctx, driver, record, request, name, facts)


def _plan(
    ctx: Context,
    driver: CgroupDriver,
    record: dict[str, Any],
    request: RunRequest,
    name: str,
    facts: HostFacts,
) -> CgroupPlan | None:
    from rootless.drivers.cgroup.base import Wanted

    from . import start

    settings = values(request)
    wanted = Wanted(
        record["id"],
        name=name,
        parent=str(request.limits.get("CgroupParent") or ""),
        settings=settings,
        optional=not settings and str(ctx.settings.get("cgroup.driver")) in ("", "auto"),
        stop_timeout=start.stop_timeout(ctx, request),
    )
    return driver.plan(wanted, facts)


def values(request: RunRequest) -> list[tuple[str, str, bool]]:
    """What is written to files of the container's group for the limits of a request: file, text, needed."""
    if not request.limits:
        return []
    from rootless.plan import resources

    from . import limits

    found = resources.cgroup_values(request.limits, limits.devices(request.limits))
    strict = request.strict_limits
    return [(one[1], one[2], resources.required(one, strict=strict)) for one in found]


def enter(
    ctx: Context, state: dict[str, Any], record: dict[str, Any], request: RunRequest
) -> tuple[list[Op], list[Op]]:
    """Operations that put a further process into a running container's group: as the caller, and as itself."""
    path = str(state.get("cgroup") or "")
    if not path:
        return [], []
    from rootless.drivers import cgroup

    name = "cgroupfs" if path.endswith(f"/rootless-{record['id']}") else "systemd"
    made = cgroup.driver(name).enter(
        path, record["id"], int(state["pid"]), ctx.facts, optional=not request.limits
    )
    return (made.before, made.enter) if made is not None else ([], [])


def directory(ctx: Context, container: Container) -> str:
    """The directory of a running container's control group; raises HostError where it has none."""
    path = str(ctx.containers.read_state(container.id).get("cgroup") or "")
    if path and os.path.isdir(path):
        return path
    raise HostError(
        f"container {container.name} has no control group: {why_none(ctx)}",
        hint="rootless doctor tells what would give it one",
    )


def why_none(ctx: Context) -> str:
    """Why containers have no control group here."""
    if ctx.facts.cgroup_rung != "none":
        return "it was started where it could have none"
    from rootless.drivers import cgroup

    if str(ctx.settings.get("cgroup.driver")) == "none":
        return "cgroup driver none is in use"
    reason = cgroup.driver("systemd").probe(ctx.facts).reason
    return f"cgroup driver none is in use{f', as {reason}' if reason else ''}"


# Freezing.


def pause(ctx: Context, container: Container) -> None:
    """Freeze all processes of a running container; raises ConflictError in Docker's words, HostError."""
    status = ctx.containers.read_state(container.id)["status"]
    if status == "paused":
        raise ConflictError(f"container {container.id} is already paused")
    if status == "restarting":
        raise ConflictError(
            f"container {container.id} is restarting, wait until the container is running"
        )
    if status != "running":
        raise ConflictError(f"container {container.id} is not running")
    freeze(directory(ctx, container), frozen=True)
    events.container(ctx, container, "pause")


def unpause(ctx: Context, container: Container) -> None:
    """Let the processes of a paused container go on; raises ConflictError."""
    if ctx.containers.read_state(container.id)["status"] != "paused":
        raise ConflictError(f"container {container.id} is not paused")
    freeze(directory(ctx, container), frozen=False)
    events.container(ctx, container, "unpause")


class Paused:
    """Keeps a container frozen for a while, as far as it runs and can be; one that was paused stays so."""

    def __init__(self, ctx: Context, container: Container) -> None:
        state = ctx.containers.read_state(container.id)
        self._path = str(state.get("cgroup") or "") if state["status"] == "running" else ""

    def __enter__(self) -> None:
        if self._path:
            freeze(self._path, frozen=True)

    def __exit__(self, *_: object) -> None:
        if self._path:
            try:
                freeze(self._path, frozen=False)
            except HostError:
                pass  # it has ended meanwhile


def freeze(path: str, *, frozen: bool) -> None:
    """Freeze or thaw the group at PATH and wait until it is so; raises HostError, undoes what fails."""
    word = "1" if frozen else "0"
    try:
        _write(f"{path}/cgroup.freeze", word)
        deadline = time.monotonic() + FREEZE_WAIT
        while f"frozen {word}" not in groups.read(f"{path}/cgroup.events") and os.path.isdir(path):
            if time.monotonic() > deadline:
                if frozen:
                    _write(f"{path}/cgroup.freeze", "0")
                raise HostError(
                    f"cannot freeze {path}: a process in it does not come back from the kernel"
                )
            time.sleep(0.002)
    except FileNotFoundError:
        raise HostError(
            f"cannot freeze {path}: this kernel cannot, or it is gone (Linux 5.2 has it)"
        ) from None
    except OSError as error:
        raise HostError(f"cannot freeze {path}: {os.strerror(error.errno or 0).lower()}") from None


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


# What a killed monitor has left.


def left_by(ctx: Context, container_id: str) -> list[str]:
    """The group that a container without a monitor still has in our subtree; systemd removes its own."""
    top = ctx.facts.cgroup_delegated
    path = f"{top}/rootless-{container_id}"
    return [path] if top and os.path.isdir(path) else []


def drop(ctx: Context, paths: list[str]) -> None:
    """Remove groups; one with processes in it stays."""
    if paths:
        # As root of the realm: what a container made below its group may belong to subordinate IDs.
        pid = ctx.play(plans.remove_tape(paths), f"remove control group {paths[0]}", {})
        os.waitpid(pid, 0)


def sweep(ctx: Context) -> None:
    """Remove the groups of containers that nobody runs or starts."""
    if ctx.facts.cgroup_mode != "unified" or not ctx.facts.cgroup_delegated:
        return
    from rootless.store.claims import is_locked

    found = []
    for container_id in ctx.containers.list_ids():
        # Who starts a container has its lock from before its group is made.
        paths = left_by(ctx, container_id)
        if paths and not is_locked(f"{ctx.paths.containers}/{container_id}/lock"):
            found += paths
    drop(ctx, found)
