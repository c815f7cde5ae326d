"""Resource limits: what may be asked, what that means in files of cgroup v2, and what is enforced in the end.

Limits are a mapping by the names of Docker's HostConfig (RunRequest.limits).  Pure: what there is on this
machine comes in as a value.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Docker's name of a limit -> the flag that asks for it
FLAGS = {
    "Memory": "--memory",
    "MemorySwap": "--memory-swap",
    "MemoryReservation": "--memory-reservation",
    "MemorySwappiness": "--memory-swappiness",
    "KernelMemory": "--kernel-memory",
    "OomKillDisable": "--oom-kill-disable",
    "NanoCpus": "--cpus",
    "CpuShares": "--cpu-shares",
    "CpuQuota": "--cpu-quota",
    "CpuPeriod": "--cpu-period",
    "CpuRealtimePeriod": "--cpu-rt-period",
    "CpuRealtimeRuntime": "--cpu-rt-runtime",
    "CpusetCpus": "--cpuset-cpus",
    "CpusetMems": "--cpuset-mems",
    "PidsLimit": "--pids-limit",
    "BlkioWeight": "--blkio-weight",
    "BlkioWeightDevice": "--blkio-weight-device",
    "BlkioDeviceReadBps": "--device-read-bps",
    "BlkioDeviceWriteBps": "--device-write-bps",
    "BlkioDeviceReadIOps": "--device-read-iops",
    "BlkioDeviceWriteIOps": "--device-write-iops",
    "CgroupParent": "--cgroup-parent",
    "Unified": "--cgroup-conf",
}


def unenforced(limits: Iterable[str]) -> list[str]:
    """The flags of those limits that nothing enforces."""
    return [FLAGS[name] for name in limits]
