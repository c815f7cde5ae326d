"""Resource limits on this machine: checked at create, told where nothing enforces them, reported by inspect.

plan/resources.py knows what a limit means.  Here is what it needs to know: which CPUs, memory nodes, block
devices and controllers there are, and what the files of a running container's control group say.
"""

from __future__ import annotations

import os
import stat

from rootless.errors import HostError, UsageError
from rootless.plan import resourcecheck, resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rootless.plan.request import Placement, RunRequest

    from .context import Context


def machine() -> resourcecheck.Machine:
    """The CPUs and memory nodes that we may use, which a batch system may have made fewer than there are."""
    mems = frozenset({0})
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("Mems_allowed_list:"):
                mems = resources.number_list(line.partition(":")[2].strip()) or mems
    return resourcecheck.Machine(frozenset(os.sched_getaffinity(0)), mems)


def devices(limits: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """The numbers of the block devices that limits name; raises UsageError for what is none."""
    found = {}
    for path in resources.block_devices(limits):
        try:
            info = os.stat(path)
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            raise UsageError(f"cannot limit {path}: {why}") from None
        if not stat.S_ISBLK(info.st_mode):
            raise UsageError(f"cannot limit {path}: it is not a block device")
        number = os.major(info.st_rdev), os.minor(info.st_rdev)
        if os.path.exists(f"/sys/dev/block/{number[0]}:{number[1]}/partition"):
            raise UsageError(
                f"cannot limit {path}: it is a partition", hint="limit the disk that it is part of"
            )
        found[path] = number
    return found


def check(ctx: Context, request: RunRequest) -> None:
    """Refuse limits that cannot be, and where that is asked those that nothing enforces (HostError)."""
    resourcecheck.check(request.limits, machine())
    devices(request.limits)
    if request.strict_limits:
        missing = unenforced(ctx, request.limits)
        if missing:
            raise HostError(
                f"cannot enforce {resources.flags(missing)}: {reason(ctx)}",
                hint="rootless doctor tells more; without --strict-limits it is a warning",
            )


def warnings(ctx: Context, request: RunRequest) -> list[str]:
    """What is to be said of a request's limits: Docker's words of what v2 has not, and one line of the rest."""
    found = resourcecheck.discarded(request.limits)
    missing = unenforced(ctx, request.limits)
    if missing:
        found.append(f"not enforced: {resources.flags(missing)}: {reason(ctx)}")
    return found


def controllers(ctx: Context) -> tuple[str, ...]:
    """The controllers that a container's control group will have, "cgroup" among them where it has a group."""
    return tuple(getattr(ctx.facts, "cgroup_controllers", ()))


def reason(ctx: Context) -> str:
    """Why not all controllers are there."""
    return f"control groups are {ctx.facts.cgroup_mode} here"


def stand_ins(ctx: Context, limits: Mapping[str, Any]) -> dict[str, str]:
    """Limits that something else than a control group enforces: name -> what."""
    if limits.get("CpusetCpus") and "cpuset" not in controllers(ctx):
        return {"CpusetCpus": resources.AFFINITY}
    return {}


def unenforced(ctx: Context, limits: Mapping[str, Any]) -> list[str]:
    """Names of the limits that nothing enforces on this machine."""
    return resources.unenforced(limits, controllers(ctx), stand_ins(ctx, limits))


def place(ctx: Context, request: RunRequest, placement: Placement) -> None:
    """Put into PLACEMENT what the plan has to know of this machine to limit a container."""
    placement.block_devices = devices(request.limits)
    if "CpusetCpus" in stand_ins(ctx, request.limits):
        placement.affinity = request.limits["CpusetCpus"]
