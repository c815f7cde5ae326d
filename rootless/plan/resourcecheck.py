"""Which resource limits there can be: refused in Docker's words, and merged for `update`.

Everything is checked before anything is made.  What this machine has comes in as a value, so that any
machine can be described in a test.
"""

from __future__ import annotations

from rootless.errors import ConflictError, UsageError

from . import resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .resources import Limits

_LEAST_MEMORY = 6 << 20
_NANO = 1_000_000_000
# Files that hold the group together, or move processes: ours to write.
_OURS = ("procs", "threads", "type", "subtree_control", "kill", "freeze")
_KEY = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.")


class Machine:
    """What there is to be limited: the CPUs and memory nodes that this user may use."""

    __slots__ = ("cpus", "mems")

    def __init__(self, cpus: frozenset[int], mems: frozenset[int]) -> None:
        self.cpus = cpus
        self.mems = mems


def check(limits: Limits, machine: Machine, *, update: bool = False) -> None:
    """Raise UsageError for limits that cannot be; UPDATE: of a change, which need not be complete."""
    _memory(limits, update=update)
    _cpu(limits, machine)
    _cpuset(limits, machine)
    if limits.get("BlkioWeight") and not 10 <= limits["BlkioWeight"] <= 1000:
        raise UsageError("range of blkio weight is from 10 to 1000")
    for key, text in (limits.get("Unified") or {}).items():
        _unified(key, text)


def _memory(limits: Limits, *, update: bool) -> None:
    memory, both = limits.get("Memory") or 0, limits.get("MemorySwap") or 0
    kept = limits.get("MemoryReservation") or 0
    if memory and memory < _LEAST_MEMORY:
        raise UsageError("minimum memory limit allowed is 6MB")
    if 0 < both < memory:
        raise UsageError("minimum memoryswap limit should be larger than memory limit, see usage")
    if both > 0 and not memory and not update:
        raise UsageError(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if kept and kept < _LEAST_MEMORY:
        raise UsageError("minimum memory reservation allowed is 6MB")
    if memory and memory < kept:
        raise UsageError(
            "minimum memory limit can not be less than memory reservation limit, see usage"
        )
    if 0 < (limits.get("KernelMemory") or 0) < _LEAST_MEMORY:
        raise UsageError("minimum kernel memory limit allowed is 6MB")


def _cpu(limits: Limits, machine: Machine) -> None:
    if limits.get("CpuRealtimePeriod") or limits.get("CpuRealtimeRuntime"):
        raise UsageError("kernel does not support CPU real-time scheduler")
    nano, period = limits.get("NanoCpus") or 0, limits.get("CpuPeriod") or 0
    quota = limits.get("CpuQuota") or 0
    if nano > 0 and period > 0:
        raise UsageError("conflicting options: Nano CPUs and CPU Period cannot both be set")
    if nano > 0 and quota > 0:
        raise UsageError("conflicting options: Nano CPUs and CPU Quota cannot both be set")
    count = len(machine.cpus)
    # The kernel takes a quota of 1 ms and more, a hundredth of the period of 100 ms.
    if nano and not _NANO // 100 <= nano <= count * _NANO:
        raise UsageError(
            f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
        )
    if period and not 1000 <= period <= 1_000_000:
        raise UsageError(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if quota < -1 or 0 < quota < 1000:
        raise UsageError("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if (limits.get("CpuShares") or 0) < 0:
        raise UsageError(f"invalid CPU shares {limits['CpuShares']}: shares: invalid argument")


def _cpuset(limits: Limits, machine: Machine) -> None:
    for name, word, what, have in (
        ("CpusetCpus", "cpus", "CPUs", machine.cpus),
        ("CpusetMems", "mems", "memory nodes", machine.mems),
    ):
        text = limits.get(name)
        if not text:
            continue
        wanted = resources.number_list(text)
        if wanted is None:
            raise UsageError(f"invalid value {text} for cpuset {word}: invalid format: {text}")
        if not wanted <= have:
            raise UsageError(
                f"requested {what} are not available - requested {text}, available: {ranges(have)}"
            )


def _unified(key: str, text: str) -> None:
    first, _, rest = key.partition(".")
    why = ""
    if not first or not rest or not _KEY.issuperset(key) or ".." in key or key[-1] == ".":
        why = "not the name of a file of a control group, such as memory.high"
    elif first == "cgroup" and rest.partition(".")[0] in _OURS:
        why = f"{key} is not for a container to say"
    elif not text.strip() or not text.isprintable() or len(text) > 4000:
        why = f"the value of {key} must be one line of text"
    if why:
        raise UsageError(f"invalid cgroup-conf {key}={text!r}: {why}")


def ranges(numbers: frozenset[int]) -> str:
    """Numbers as the kernel lists them: ``0-3,8``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{low}-{high}" if low != high else str(low) for low, high in parts)


# update


def merge(old: Limits, change: Limits) -> dict[str, Any]:
    """OLD limits with a CHANGE of `update` in place; raises ConflictError for what Docker refuses.

    Other than Docker we let a container get its first memory limit, or one beside unlimited swap, alone.
    """
    for new, has, what, why in (
        ("NanoCpus", "CpuPeriod", "Nano CPUs", "CPU Period"),
        ("NanoCpus", "CpuQuota", "Nano CPUs", "CPU Quota"),
        ("CpuPeriod", "NanoCpus", "CPU Period", "NanoCPUs"),
        ("CpuQuota", "NanoCpus", "CPU Quota", "NanoCPUs"),
    ):
        if (change.get(new) or 0) > 0 and (old.get(has) or 0) > 0:
            raise ConflictError(
                f"conflicting options: {what} cannot be updated as {why} has already been set"
            )
    found = {**old, **change}
    if change.get("Unified"):
        found["Unified"] = {**(old.get("Unified") or {}), **change["Unified"]}
    if change.get("Memory") and not change.get("MemorySwap"):
        both = resources.swap(old)
        if 0 < both < change["Memory"]:
            raise ConflictError(
                "memory limit should be smaller than already set memoryswap limit, "
                "update the memoryswap at the same time"
            )
        if both:
            found["MemorySwap"] = both
    return _checked(found)


def _checked(found: dict[str, Any]) -> dict[str, Any]:
    """What a change and what was there are together."""
    if 0 < (found.get("MemorySwap") or 0) < (found.get("Memory") or 0):
        raise ConflictError(
            "minimum memoryswap limit should be larger than memory limit, see usage"
        )
    if 0 < (found.get("Memory") or 0) < (found.get("MemoryReservation") or 0):
        raise ConflictError(
            "minimum memory limit can not be less than memory reservation limit, see usage"
        )
    if (found.get("MemorySwap") or 0) > 0 and not found.get("Memory"):
        raise ConflictError(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    return found


def discarded(limits: Mapping[str, Any]) -> list[str]:
    """Docker's warnings of limits that cgroup v2 has not."""
    return [text for name, text in _DISCARDED.items() if limits.get(name) is not None]


_DISCARDED = {
    "MemorySwappiness": "Your kernel does not support memory swappiness capabilities or the cgroup is not "
    "mounted. Memory swappiness discarded.",
    "KernelMemory": "Your kernel does not support kernel memory limit capabilities or the cgroup is not "
    "mounted. Limitation discarded.",
    "OomKillDisable": "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
}
