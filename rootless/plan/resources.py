"""Resource limits: what they mean in files of cgroup v2 and in the runtime spec, and what is in force.

Limits are a mapping by the names of Docker's HostConfig (RunRequest.limits); resourcecheck.py says which of
them can be.  Docker's units are those of cgroup v1, so most are converted:

    Memory                memory.max, and memory.swap.max: as much swap again unless MemorySwap says otherwise
    MemorySwap            memory.swap.max, without the memory that v1 counts in; -1 is no limit
    MemoryReservation     memory.low
    NanoCpus              cpu.max, of a period of 100 ms
    CpuQuota, CpuPeriod   cpu.max; a quota of -1 is no limit
    CpuShares             cpu.weight, see weight()
    CpusetCpus/Mems       cpuset.cpus, cpuset.mems
    PidsLimit             pids.max; -1 is no limit
    BlkioWeight[Device]   io.bfq.weight as it is, and io.weight from 1 to 10000: a host has one, both or none
    BlkioDevice*          io.max, a line for each device
    Unified               the file of that name, the text as it is

What has no file in v2 (swappiness, kernel memory, the OOM killer's switch, real-time periods) is never
enforced.  Pure: device numbers come in as a value, and so does what the kernel's files say.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    Limits = Mapping[str, Any]
    Devices = Mapping[str, tuple[int, int]]
    # controller, file, text to write, the limit that asked for it ("" where it only goes with another)
    Setting = tuple[str, str, str, str]

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
    "OomScoreAdj": "--oom-score-adj",
}
RATES = {
    "BlkioDeviceReadBps": "rbps",
    "BlkioDeviceWriteBps": "wbps",
    "BlkioDeviceReadIOps": "riops",
    "BlkioDeviceWriteIOps": "wiops",
}
# One file of several is enough for these.
ANY = ("BlkioWeight", "BlkioWeightDevice")
AFFINITY = "sched_setaffinity"
MAX_CPUS = 8192
_PERIOD = 100_000
_NANO = 1_000_000_000


def weight(shares: int) -> int:
    """cpu.weight (1 to 10000) of Docker's CPU shares (2 to 262144).

    A quadratic in the logarithm that passes through the ends of both ranges and through both defaults, 1024
    shares and weight 100, as crun since 1.23 and runc since 1.3.2 have it.  The older straight line made 39
    of 1024, so that asking for the default gave less than not asking.
    """
    from math import ceil, log2

    if shares <= 2:
        return 1
    if shares >= 262_144:
        return 10_000
    log = log2(shares)
    # Rounded first: the exact 100 of 1024 shares must not become 101 by the last bit of a float.
    return ceil(round(10 ** ((log * log + 125 * log) / 612 - 7 / 34), 9))


def io_weight(blkio: int) -> int:
    """io.weight (1 to 10000) of Docker's block I/O weight (10 to 1000)."""
    return 1 + (blkio - 10) * 9999 // 990


def swap(limits: Limits) -> int:
    """Docker's MemorySwap: what was asked, else twice the memory; -1 is no limit, 0 nothing said."""
    return int(limits.get("MemorySwap") or 2 * limits.get("Memory", 0))


def cgroup_values(limits: Limits, devices: Devices) -> list[Setting]:
    """What to write into a container's control group, in order.

    DEVICES gives the numbers of the block devices that the limits name.
    """
    found: list[Setting] = []
    _memory(found, limits)
    _cpu(found, limits)
    for name, file in (("CpusetCpus", "cpuset.cpus"), ("CpusetMems", "cpuset.mems")):
        if limits.get(name):
            found.append(("cpuset", file, limits[name], name))
    if limits.get("PidsLimit"):
        found.append(("pids", "pids.max", _or_max(limits["PidsLimit"]), "PidsLimit"))
    _io(found, limits, devices)
    for key, text in (limits.get("Unified") or {}).items():
        found.append((controller(key), key, text, "Unified"))
    return found


def controller(file: str) -> str:
    """The controller that FILE of a control group belongs to; "" for the core's own."""
    name = file.partition(".")[0]
    return "" if name == "cgroup" else name


def _or_max(number: int) -> str:
    return "max" if number < 0 else str(number)


def _memory(found: list[Setting], limits: Limits) -> None:
    memory = limits.get("Memory") or 0
    if memory:
        found.append(("memory", "memory.max", str(memory), "Memory"))
    both = swap(limits)
    if both:
        text = "max" if both < 0 else str(both - memory)
        asked = "MemorySwap" if limits.get("MemorySwap") else ""
        found.append(("memory", "memory.swap.max", text, asked))
    if limits.get("MemoryReservation"):
        text = str(limits["MemoryReservation"])
        found.append(("memory", "memory.low", text, "MemoryReservation"))


def _cpu(found: list[Setting], limits: Limits) -> None:
    if limits.get("CpuShares"):
        found.append(("cpu", "cpu.weight", str(weight(limits["CpuShares"])), "CpuShares"))
    if limits.get("NanoCpus"):
        quota = limits["NanoCpus"] * _PERIOD // _NANO
        found.append(("cpu", "cpu.max", f"{quota} {_PERIOD}", "NanoCpus"))
    elif limits.get("CpuQuota") or limits.get("CpuPeriod"):
        text = f"{_or_max(limits.get('CpuQuota') or -1)} {limits.get('CpuPeriod') or _PERIOD}"
        found += [("cpu", "cpu.max", text, n) for n in ("CpuQuota", "CpuPeriod") if limits.get(n)]


def _io(found: list[Setting], limits: Limits, devices: Devices) -> None:
    blkio = limits.get("BlkioWeight")
    if blkio:
        found.append(("io", "io.bfq.weight", str(blkio), "BlkioWeight"))
        found.append(("io", "io.weight", str(io_weight(blkio)), "BlkioWeight"))
    for one in limits.get("BlkioWeightDevice") or ():
        number, blkio = _number(one, devices), one["Weight"]
        plain, wide = (str(blkio), str(io_weight(blkio))) if blkio else ("default", "default")
        found.append(("io", "io.bfq.weight", f"{number} {plain}", "BlkioWeightDevice"))
        found.append(("io", "io.weight", f"{number} {wide}", "BlkioWeightDevice"))
    for name, key in RATES.items():
        for one in limits.get(name) or ():
            rate = one["Rate"] or "max"
            found.append(("io", "io.max", f"{_number(one, devices)} {key}={rate}", name))


def _number(one: Mapping[str, Any], devices: Devices) -> str:
    major, minor = devices.get(one["Path"], (0, 0))
    return f"{major}:{minor}"


def block_devices(limits: Limits) -> list[str]:
    """The paths of the block devices that the limits name."""
    return [one["Path"] for name in ("BlkioWeightDevice", *RATES) for one in limits.get(name) or ()]


def required(setting: Setting, *, strict: bool) -> bool:
    """Whether a start must fail where the kernel refuses this setting."""
    return strict and setting[3] not in ("", *ANY)


# the runtime spec


def spec(limits: Limits, devices: Devices) -> dict[str, Any]:
    """linux.resources of the OCI runtime spec; empty where nothing is asked."""
    found: dict[str, Any] = {}
    for section, names in _SPEC.items():
        values = {word: limits[name] for name, word in names if limits.get(name)}
        if values:
            found[section] = values
    if limits.get("Memory") and "swap" not in found["memory"]:
        found["memory"]["swap"] = swap(limits)
    if limits.get("NanoCpus"):
        quota = limits["NanoCpus"] * _PERIOD // _NANO
        found.setdefault("cpu", {}).update(quota=quota, period=_PERIOD)
    block = _spec_block(limits, devices)
    if block:
        found["blockIO"] = block
    if limits.get("Unified"):
        found["unified"] = dict(limits["Unified"])
    return found


_SPEC = {
    "memory": (
        ("Memory", "limit"),
        ("MemoryReservation", "reservation"),
        ("MemorySwap", "swap"),
        ("KernelMemory", "kernel"),
        ("MemorySwappiness", "swappiness"),
        ("OomKillDisable", "disableOOMKiller"),
    ),
    "cpu": (
        ("CpuShares", "shares"),
        ("CpuQuota", "quota"),
        ("CpuPeriod", "period"),
        ("CpuRealtimePeriod", "realtimePeriod"),
        ("CpuRealtimeRuntime", "realtimeRuntime"),
        ("CpusetCpus", "cpus"),
        ("CpusetMems", "mems"),
    ),
    "pids": (("PidsLimit", "limit"),),
}


def _spec_block(limits: Limits, devices: Devices) -> dict[str, Any]:
    block: dict[str, Any] = {}
    if limits.get("BlkioWeight"):
        block["weight"] = limits["BlkioWeight"]
    for name, word, value in (
        ("BlkioWeightDevice", "weightDevice", "Weight"),
        ("BlkioDeviceReadBps", "throttleReadBpsDevice", "Rate"),
        ("BlkioDeviceWriteBps", "throttleWriteBpsDevice", "Rate"),
        ("BlkioDeviceReadIOps", "throttleReadIOPSDevice", "Rate"),
        ("BlkioDeviceWriteIOps", "throttleWriteIOPSDevice", "Rate"),
    ):
        for one in limits.get(name) or ():
            major, minor = devices.get(one["Path"], (0, 0))
            entry = {"major": major, "minor": minor, value.lower(): one[value]}
            block.setdefault(word, []).append(entry)
    return block


# what is in force


def unenforced(
    limits: Limits,
    controllers: Iterable[str],
    stand_ins: Mapping[str, str],
    lacking: Iterable[str] = (),
) -> list[str]:
    """Names of the limits that nothing will enforce where a container's group has these CONTROLLERS.

    "cgroup" among them says that it has a group at all.  STAND_INS: name of a limit -> what else enforces it;
    LACKING: files that the kernel does not have though it has their controller.
    """
    have, without = set(controllers), set(lacking)
    if "cgroup" in have:
        have.add("")
    kept: dict[str, list[bool]] = {}
    for own, file, _, asked in cgroup_values(limits, {}):
        kept.setdefault(asked, []).append(own in have and file not in without)
    held = {name for name, each in kept.items() if (any if name in ANY else all)(each)}
    if "cgroup" in have:
        held.add("CgroupParent")
    held.update(name for name in limits if asks_for_none(name, limits[name]))
    return [n for n in FLAGS if n in limits and n not in held and n not in stand_ins]


def asks_for_none(name: str, value: Any) -> bool:
    """Whether that is no limit at all, which holds wherever nothing limits."""
    return name in ("PidsLimit", "MemorySwap", "CpuQuota") and bool(value < 0)


def flags(names: Iterable[str]) -> str:
    """Those limits, or files of a group, as the flags that ask for them."""
    return ", ".join(FLAGS.get(name, f"--cgroup-conf {name}") for name in names)


def report(
    limits: Limits,
    devices: Devices,
    contents: Mapping[str, str],
    stand_ins: Mapping[str, tuple[str, Any]],
) -> list[dict[str, Any]]:
    """What was asked, what is in force, and by what: an entry for each limit.

    CONTENTS are the files of the container's control group, those that there are.  STAND_INS: name of a
    limit -> (what enforces it, the value).  Enforced is what was asked where the kernel has just that, the
    kernel's own text where it has something else, and None where nothing is in force.
    """
    settings = cgroup_values(limits, devices)
    found = []
    for name, asked in limits.items():
        if name == "Unified":
            for key, text in asked.items():
                found.append(_entry(key, text, [("", key, text, "")], contents, None))
            continue
        own = [setting for setting in settings if setting[3] == name]
        found.append(_entry(name, asked, own, contents, stand_ins.get(name)))
    return found


def _entry(
    name: str,
    asked: Any,
    settings: Sequence[Setting],
    contents: Mapping[str, str],
    stand_in: tuple[str, Any] | None,
) -> dict[str, Any]:
    entry = {"Name": name, "Requested": asked, "Enforced": None, "By": ""}
    there = [(file, text) for _, file, text, _ in settings if file in contents]
    held = [(file, text) for file, text in there if in_force(file, text, contents[file])]
    if held and (name in ANY or len(held) == len(settings)):
        entry["Enforced"], entry["By"] = asked, held[0][0]
    elif not there and asks_for_none(name, asked):
        entry["Enforced"] = asked
    elif stand_in is not None:
        entry["By"], entry["Enforced"] = stand_in
    elif there and name not in (*ANY, *RATES):
        file = there[0][0]
        entry["Enforced"], entry["By"] = contents[file].strip(), file
    elif held:
        entry["Enforced"] = [
            one for one, (file, text) in zip(asked, there) if in_force(file, text, contents[file])
        ]
        entry["By"] = held[0][0]
    return entry


def in_force(file: str, text: str, content: str) -> bool:
    """Whether a file of a control group that reads CONTENT holds what was written as TEXT."""
    if not file.startswith("io."):
        return same(file, text.strip(), content.strip())
    lines = [line.split() for line in content.splitlines()]
    words = text.split()
    if len(words) == 1:
        return words in lines or ["default", *words] in lines
    kept = [line[1:] for line in lines if line[:1] == words[:1]]
    if not kept:  # the kernel leaves out a device without limits
        return all(word == "default" or word.endswith("=max") for word in words[1:])
    return set(words[1:]) <= set(kept[0])


def line_before(text: str, content: str) -> str:
    """What undoes TEXT in a file of lines that read CONTENT before."""
    words = text.split()
    number = words[0] if len(words) > 1 else "default"
    line = next((one for one in content.splitlines() if one.split()[:1] == [number]), "")
    if line:
        return line
    return f"{number} " + " ".join(
        f"{word.partition('=')[0]}=max" if "=" in word else "default" for word in words[1:]
    )


def same(file: str, text: str, content: str) -> bool:
    """Whether TEXT and CONTENT are the same value of FILE, in the different spellings of both sides."""
    if text == content:
        return True
    if file.startswith("cpuset."):
        return number_list(text) == number_list(content)
    if file == "cpu.max":
        return [*text.split(), str(_PERIOD)][:2] == content.split()
    asked, have = _bytes(text), _bytes(content)
    if asked is None or have is None:
        return False
    step = _step(file)
    return have <= asked < have + step


def _step(file: str) -> int:
    """The unit to which the kernel rounds a number in FILE down (pages are up to 64 KiB)."""
    parts = file.split(".")
    if parts[0] == "hugetlb" and len(parts) > 1:
        return _bytes(parts[1].removesuffix("B")) or 1
    return 65536 if parts[0] == "memory" else 1


def _bytes(text: str) -> int | None:
    """A number as the kernel reads it: 65536, 64K, 1g."""
    shift = {"K": 10, "M": 20, "G": 30, "T": 40}.get(text[-1:].upper(), 0)
    digits = text[:-1] if shift else text
    return int(digits) << shift if digits.isascii() and digits.isdigit() else None


def number_list(text: str) -> frozenset[int] | None:
    """The numbers of a list such as ``0-3,8``; None where it is not one."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not _is_number(first) or (dash and not _is_number(last)):
            return None
        low, high = int(first), int(last if dash else first)
        if low > high or high >= MAX_CPUS:
            return None
        found.update(range(low, high + 1))
    return frozenset(found)


def cpu_bits(text: str) -> bytes:
    """The CPUs of a list such as ``0-2`` as the bits that sched_setaffinity takes."""
    cpus = number_list(text) or frozenset()
    return sum(1 << cpu for cpu in cpus).to_bytes(max(cpus, default=0) // 64 * 8 + 8, "little")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
