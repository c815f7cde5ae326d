"""Resource limits on this machine: checked at create, told where nothing enforces them, reported by inspect.

plan/resources.py knows what a limit means.  Here is what it needs to know: which CPUs, memory nodes, block
devices and controllers there are, and what the files of a running container's control group say.
"""

from __future__ import annotations

import os
import stat

from rootless.errors import HostError, NotFoundError, UsageError
from rootless.linux import cgroup as groups
from rootless.plan import resourcecheck, resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from rootless.plan.request import Placement, RunRequest
    from rootless.store.containers import Container

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
        refuse_unenforced(ctx, request.limits, unenforced(ctx, request))


def refuse_unenforced(ctx: Context, limits: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise HostError where there are NAMES of limits that nothing enforces."""
    if names:
        raise HostError(
            f"cannot enforce {resources.flags(names)}: {reason(ctx, limits, names)}",
            hint="rootless doctor tells more; without --strict-limits it is a warning",
        )


def warnings(ctx: Context, request: RunRequest) -> list[str]:
    """What is to be said of a request's limits."""
    return told(ctx, request.limits, unenforced(ctx, request))


def told(ctx: Context, limits: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """What is to be said of LIMITS: Docker's words of what v2 has not, one line of the rest of NAMES."""
    found = resourcecheck.discarded(limits)
    return found + not_enforced(ctx, limits, [name for name in names if name not in NOT_IN_V2])


def not_enforced(ctx: Context, limits: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The one line about the limits NAMES that nothing enforces; none for none."""
    if not names:
        return []
    return [f"not enforced: {resources.flags(names)}: {reason(ctx, limits, names)}"]


NOT_IN_V2 = ("MemorySwappiness", "KernelMemory", "OomKillDisable")


def controllers(ctx: Context) -> tuple[str, ...]:
    """The controllers that a container's control group will have, "cgroup" among them where it has a group."""
    if ctx.facts.cgroup_rung == "none":
        return ()
    return ("cgroup", *ctx.facts.cgroup_controllers)


def reason(ctx: Context, limits: Mapping[str, Any], names: Sequence[str]) -> str:
    """Why those of LIMITS that are called NAMES are not enforced here."""
    if list(names) == ["OomScoreAdj"]:
        return "only root may lower the score"
    if "cgroup" in controllers(ctx):
        asked = {name: limits[name] for name in names if name in limits}
        if not resources.unenforced(asked, controllers(ctx), {}):
            return "the kernel has no file for it in a control group"
        have = ", ".join(sorted(controllers(ctx)[1:])) or "none"
        return f"no controller for it is delegated to you (there are: {have})"
    from . import cgroups

    return f"containers have no control group here: {cgroups.why_none(ctx)}"


def stand_ins(ctx: Context, limits: Mapping[str, Any]) -> dict[str, str]:
    """Limits that something else than a control group enforces: name -> what."""
    if limits.get("CpusetCpus") and "cpuset" not in controllers(ctx):
        return {"CpusetCpus": resources.AFFINITY}
    return {}


def missing(ctx: Context, limits: Mapping[str, Any]) -> list[str]:
    """Names of those limits that nothing enforces on this machine."""
    files = lacking(ctx, limits)
    return resources.unenforced(limits, controllers(ctx), stand_ins(ctx, limits), files)


# A file that a group has if it has the controller; only the root of all has not.
_SURE = {
    "": "cgroup.procs",
    "memory": "memory.max",
    "cpu": "cpu.weight",
    "cpuset": "cpuset.cpus",
    "pids": "pids.max",
    "io": "io.max",
}


def lacking(ctx: Context, limits: Mapping[str, Any]) -> set[str]:
    """The files that limits need and this kernel does not have, as the group above the container's shows it."""
    found: set[str] = set()
    facts = ctx.facts
    top = (
        groups.manager_group(facts.uid)
        if facts.cgroup_rung == "systemd"
        else facts.cgroup_delegated
    )
    for own, file, _, _ in resources.cgroup_values(limits, {}) if limits and top else ():
        sure = _SURE.get(own)
        if sure and not os.path.exists(f"{top}/{file}") and os.path.exists(f"{top}/{sure}"):
            found.add(file)
    return found


def unenforced(ctx: Context, request: RunRequest) -> list[str]:
    """Names of a request's limits that nothing enforces on this machine."""
    found = missing(ctx, request.limits)
    if request.oom_score_adj is not None and not _may_score(request.oom_score_adj):
        found.append("OomScoreAdj")
    return found


def _may_score(value: int) -> bool:
    """Whether our processes can have this oom_score_adj: tried, since how low we may go is nowhere to read."""
    path = "/proc/self/oom_score_adj"
    try:
        with open(path, "r+", encoding="ascii") as file:
            before = int(file.read())
            if value >= before:
                return True
            file.seek(0)
            file.write(str(value))
            file.flush()
            file.seek(0)
            file.write(str(before))
        return True
    except OSError:
        return False


def place(ctx: Context, request: RunRequest, placement: Placement) -> None:
    """Put into PLACEMENT what the plan has to know of this machine to limit a container."""
    placement.block_devices = devices(request.limits)
    if "CpusetCpus" in stand_ins(ctx, request.limits):
        placement.affinity = request.limits["CpusetCpus"]


def refused(ctx: Context, container: Container) -> list[str]:
    """One line about limits of a container that runs, with a controller, which the kernel refused."""
    request: dict[str, Any] = container.record["request"]
    asked = request.get("limits") or {}
    if not asked or "cgroup" not in controllers(ctx):
        return []
    try:
        state = ctx.containers.read_state(container.id)
    except NotFoundError:
        return []  # it has ended, and was removed
    if state["status"] != "running" or not state.get("cgroup"):
        return []
    told, have = missing(ctx, asked), {"", *controllers(ctx)}
    found = entries(ctx, {"limits": asked}, state)
    names = [one["Name"] for one in found if one["Enforced"] != one["Requested"]]
    known = lacking(ctx, asked)
    names = [
        n
        for n in names
        if n not in told and n not in known and ("." not in n or resources.controller(n) in have)
    ]
    if not names:
        return []
    return [
        f"not enforced: {resources.flags(names)}: the kernel refused it (rootless inspect tells more)"
    ]


# What inspect says.


def entries(
    ctx: Context, request: Mapping[str, Any], state: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Docker's HostConfig says what was asked; here is what is in force, of each limit, and by what.

    Of a running container it is read from the kernel, of another it is what a start would try.
    """
    limits = request.get("limits") or {}
    pid = int(state.get("pid") or 0)
    found = []
    if limits:
        numbers = _numbers(limits)
        contents = _contents(limits, numbers, state) if pid else _expected(ctx, limits, numbers)
        found = resources.report(limits, numbers, contents, _stands_in(ctx, limits, state, pid))
    for name, soft, hard in request.get("ulimits") or ():
        asked = {"Name": name, "Hard": hard, "Soft": soft}
        found.append({"Name": "Ulimits", "Requested": asked, "Enforced": asked, "By": "setrlimit"})
    score = request.get("oom_score_adj")
    if score is not None:
        have = _score(pid, score)
        by = "oom_score_adj" if have is not None else ""
        found.append({"Name": "OomScoreAdj", "Requested": score, "Enforced": have, "By": by})
    return found


def _numbers(limits: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """The devices' numbers; those of a disk that is gone by now are 0:0, where nothing is in force."""
    try:
        return devices(limits)
    except UsageError:
        return {}


def _contents(
    limits: Mapping[str, Any],
    numbers: Mapping[str, tuple[int, int]],
    state: Mapping[str, Any],
) -> dict[str, str]:
    """What the kernel has, of the files that matter."""
    directory = state.get("cgroup")
    found = {}
    for _, file, _, _ in resources.cgroup_values(limits, numbers) if directory else ():
        text = read(f"{directory}/{file}")
        if text is not None:
            found[file] = text
    return found


def read(path: str) -> str | None:
    """A file of a control group; None where there is none."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(65536)
    except OSError:
        return None


def _expected(
    ctx: Context, limits: Mapping[str, Any], numbers: Mapping[str, tuple[int, int]]
) -> dict[str, str]:
    have, without = {"", *controllers(ctx)}, lacking(ctx, limits)
    found: dict[str, str] = {}
    for own, file, text, _ in resources.cgroup_values(limits, numbers):
        if own in have and "cgroup" in have and file not in without:
            found[file] = f"{found[file]}\n{text}" if file in found else text
    return found


def _stands_in(
    ctx: Context, limits: Mapping[str, Any], state: Mapping[str, Any], pid: int
) -> dict[str, tuple[str, Any]]:
    found: dict[str, tuple[str, Any]] = {}
    asked = limits.get("CpusetCpus")
    if asked and pid:
        cpus = _bound(pid)
        if cpus == resources.number_list(asked):
            found["CpusetCpus"] = (resources.AFFINITY, asked)
    elif "CpusetCpus" in stand_ins(ctx, limits):
        found["CpusetCpus"] = (resources.AFFINITY, asked)
    parent = limits.get("CgroupParent")
    if parent:
        grouped = state.get("cgroup") if pid else "cgroup" in controllers(ctx)
        if grouped:
            found["CgroupParent"] = ("cgroup", parent)
    return found


def _bound(pid: int) -> frozenset[int]:
    try:
        return frozenset(os.sched_getaffinity(pid))
    except OSError:
        return frozenset()


def _score(pid: int, asked: int) -> int | None:
    """The oom_score_adj that a process has, or would get."""
    if not pid:
        return asked if _may_score(asked) else None
    text = read(f"/proc/{pid}/oom_score_adj")
    return int(text) if text is not None and text.strip().lstrip("-").isdigit() else None
