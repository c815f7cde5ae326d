"""The resource limits of `run`, `create` and `update`: flags to values, in Docker's shapes.

Loaded only where one of them is given.  The keys are those of Docker's HostConfig, and only what was
asked is there: zero and "" are Docker's "not set".  What the values may be together, and on this machine,
is the business of plan/resources.py.
"""

from __future__ import annotations

from rootless.errors import UsageError

from . import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .parse import Parsed

_NANO = 1_000_000_000
_INTEGERS = (
    ("cpu_shares", "CpuShares"),
    ("cpu_quota", "CpuQuota"),
    ("cpu_period", "CpuPeriod"),
    ("cpu_rt_period", "CpuRealtimePeriod"),
    ("cpu_rt_runtime", "CpuRealtimeRuntime"),
    ("blkio_weight", "BlkioWeight"),
    ("pids_limit", "PidsLimit"),
)
_BYTES = (
    ("memory", "Memory"),
    ("memory_reservation", "MemoryReservation"),
    ("kernel_memory", "KernelMemory"),
)
_RATES = (
    ("device_read_bps", "BlkioDeviceReadBps"),
    ("device_write_bps", "BlkioDeviceWriteBps"),
    ("device_read_iops", "BlkioDeviceReadIOps"),
    ("device_write_iops", "BlkioDeviceWriteIOps"),
)


def limits(args: Parsed) -> dict[str, Any]:
    """The limits that were asked for, by Docker's names; raises UsageError."""
    found: dict[str, Any] = {}
    for flag, name in _BYTES:
        text = args.get(flag)
        if text is not None:
            found[name] = values.size(flag, text)
    both = args.get("memory_swap")
    if both is not None:
        found["MemorySwap"] = -1 if both == "-1" else values.size("memory-swap", both)
    for flag, name in _INTEGERS:
        found[name] = args.get(flag) or 0
    swappiness = args.get("memory_swappiness")
    if swappiness is not None and swappiness != -1:
        if not 0 <= swappiness <= 100:
            raise UsageError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
        found["MemorySwappiness"] = swappiness
    if args.get("cpus") is not None:
        found["NanoCpus"] = nano_cpus(args.get("cpus"))
    found["CpusetCpus"] = args.get("cpuset_cpus") or ""
    found["CpusetMems"] = args.get("cpuset_mems") or ""
    found["CgroupParent"] = args.get("cgroup_parent") or ""
    found["OomKillDisable"] = bool(args.get("oom_kill_disable"))
    found["BlkioWeightDevice"] = [_weight(text) for text in args.get("blkio_weight_device") or ()]
    for flag, name in _RATES:
        found[name] = [_rate(flag, text) for text in args.get(flag) or ()]
    found["Unified"] = dict(_unified(text) for text in args.get("cgroup_conf") or ())
    return {name: value for name, value in found.items() if value or name == "MemorySwappiness"}


def nano_cpus(text: str) -> int:
    """CPUs as billionths of one; raises UsageError for digits beyond that."""
    sign = -1 if text[0] == "-" else 1
    whole, _, part = text.lstrip("+-").partition(".")
    if part[9:].strip("0"):
        raise UsageError(f'invalid argument "{text}" for "--cpus" flag: value is too precise')
    return sign * (int(whole or "0") * _NANO + int(part[:9].ljust(9, "0") or "0"))


def _device(flag: str, text: str) -> tuple[str, str]:
    path, colon, value = text.partition(":")
    if not colon or not path:
        raise _bad(flag, text, f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise _bad(flag, text, f"bad format for device path: {text}")
    return path, value


def _bad(flag: str, text: str, why: str) -> UsageError:
    return UsageError(f'invalid argument "{text}" for "--{flag.replace("_", "-")}" flag: {why}')


def _weight(text: str) -> dict[str, Any]:
    path, value = _device("blkio_weight_device", text)
    if not (value.isascii() and value.isdigit()) or not (value == "0" or 10 <= int(value) <= 1000):
        raise _bad("blkio_weight_device", text, f"invalid weight for device: {text}")
    return {"Path": path, "Weight": int(value)}


def _rate(flag: str, text: str) -> dict[str, Any]:
    path, value = _device(flag, text)
    if flag.endswith("iops"):
        if not (value.isascii() and value.isdigit()) or int(value) >= 1 << 64:
            raise _bad(
                flag,
                text,
                f"invalid rate for device: {text}. The correct format is <device-path>:<number>. "
                "Number must be a positive integer",
            )
        return {"Path": path, "Rate": int(value)}
    try:
        return {"Path": path, "Rate": values.size(flag, value)}
    except UsageError:
        raise _bad(
            flag,
            text,
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. "
            "Number must be a positive integer. Unit is optional and can be kb, mb, or gb",
        ) from None


def _unified(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key or not value:
        raise _bad("cgroup_conf", text, f"bad format: {text}: key=value is known")
    return key, value
