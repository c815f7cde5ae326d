"""What running containers use at a moment: processor time, memory, network and block devices, tasks.

A sample is what counters say; a figure needs two.  The counters are those of the container's control group;
what it does not count (a controller is missing, or there is no group) is summed over the container's processes,
to which the kernel adds their ended children.  What nobody counts is None, and never 0.

cpu       nanoseconds of processor time: cpu.stat, or the ticks of processes and of the children they waited for
memory    memory.current without inactive_file, or the processes' proportional shares of what they map
limit     memory.max, at most what the machine has
received, sent    bytes on the interfaces of the container's network namespace but lo; 0 on the host's network
read, written     bytes of io.stat, or of /proc/PID/io
pids      tasks: pids.current, or the processes' threads
"""

from __future__ import annotations

import os
import time

from rootless import jsonc
from rootless.linux import proc
from rootless.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from .processes import Snapshot

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Sample:
    """The counters of one container; None for what is not known."""

    __slots__ = ("at", "cpu", "limit", "memory", "pids", "read", "received", "sent", "written")

    def __init__(self) -> None:
        self.at = time.monotonic_ns()
        self.cpu: int | None = None
        self.memory: int | None = None
        self.limit: int | None = None
        self.received: int | None = None
        self.sent: int | None = None
        self.read: int | None = None
        self.written: int | None = None
        self.pids: int | None = None


def nothing() -> Sample:
    """The sample of a container that does not run: it uses nothing."""
    found = Sample()
    for name in found.__slots__[1:]:
        setattr(found, name, 0)
    return found


def cpu_percent(before: Sample | None, after: Sample) -> float | None:
    """The share of one processor between two samples, in percent; 0 where there is only one."""
    if after.cpu is None:
        return None
    if before is None or before.cpu is None or after.at <= before.at:
        return 0.0
    # Of the system's time, which is that of all processors, times their number.
    return max(0.0, (after.cpu - before.cpu) * 100.0 / (after.at - before.at))


def memory_percent(sample: Sample) -> float | None:
    """How much of its limit a container uses."""
    if sample.memory is None or sample.limit is None:
        return None
    return sample.memory * 100.0 / sample.limit if sample.limit else 0.0


def restore(values: Any) -> Sample | None:
    """The sample that (time, processor time) stands for, of which only percentages are made."""
    try:
        at, cpu = map(int, values)
    except (TypeError, ValueError):
        return None
    found = Sample()
    found.at, found.cpu = at, cpu
    return found


class History:
    """Samples of calls before this one, in a file of this boot: who asks again need not wait.

    A sample is of use while it is OLD_ENOUGH for the ticks that are counted, and not TOO_OLD to be "now".
    Of each container the last is kept, and the one before it, for when the last is too young.
    """

    OLD_ENOUGH = 100_000_000
    TOO_OLD = 60_000_000_000

    def __init__(self, path: str) -> None:
        self._path = path
        self._kept: dict[str, Any] = {}
        try:
            kept = jsonc.loads(_read(path) or b"")
            self._kept = kept if isinstance(kept, dict) else {}
        except ValueError:
            pass

    def before(self, container_id: str, born: int, now: Sample) -> Sample | None:
        """The latest sample that is of use, of the life that began at BORN (clock ticks)."""
        kept = self._kept.get(container_id)
        if not isinstance(kept, list) or len(kept) != 3 or kept[0] != born:
            return None
        for values in kept[1:]:
            found = restore(values)
            if found is not None and self.OLD_ENOUGH <= now.at - found.at <= self.TOO_OLD:
                return found
        return None

    def keep(self, samples: Mapping[str, Sample], states: Mapping[str, Mapping[str, Any]]) -> None:
        """Put samples in place of those that they are later than; others are forgotten with their time."""
        now = time.monotonic_ns()
        kept = {}
        for container_id, values in self._kept.items():
            last = restore(values[1]) if isinstance(values, list) and len(values) == 3 else None
            if last is not None and 0 <= now - last.at <= self.TOO_OLD:
                kept[container_id] = values
        for container_id, sample in samples.items():
            if sample.cpu is None:
                continue
            born = states[container_id]["pidStart"]
            old = kept.get(container_id)
            latest = [sample.at, sample.cpu]
            if not old or old[0] != born:
                kept[container_id] = [born, latest, None]
            elif sample.at - old[1][0] >= self.OLD_ENOUGH:
                kept[container_id] = [born, latest, old[1]]
        try:
            files.replace(self._path, jsonc.dumps(kept).encode(), durable=False)
        except OSError:
            pass


class Sampler:
    """Takes samples of many containers at once."""

    def __init__(self) -> None:
        self._machine = machine_memory()
        self._own_net = _inode("self")

    def take(self, states: Mapping[str, Mapping[str, Any]]) -> dict[str, Sample]:
        """A sample by ID of those of STATES (the state files, by ID) whose first process lives."""
        found: dict[str, Sample] = {}
        poor: dict[str, Sample] = {}
        for container_id, state in states.items():
            pid = int(state["pid"])
            if pid <= 0:
                continue
            sample = Sample()
            self._group(sample, str(state.get("cgroup") or ""))
            self._network(sample, pid)
            found[container_id] = sample
            if None in (sample.cpu, sample.memory, sample.read, sample.pids):
                poor[container_id] = sample
        if poor:
            self._sum(poor, states)
        # Looked at after all was read: where a first process has ended, that may have been another's.
        return {one: sample for one, sample in found.items() if _lives(states[one])}

    def _group(self, sample: Sample, directory: str) -> None:
        sample.limit = self._machine
        if not directory:
            return
        usage = _keyed(f"{directory}/cpu.stat").get("usage_usec")
        sample.cpu = None if usage is None else usage * 1000
        sample.at = time.monotonic_ns()
        current = _number(f"{directory}/memory.current")
        if current is not None:
            inactive = _keyed(f"{directory}/memory.stat").get("inactive_file", 0)
            sample.memory = current - inactive if inactive < current else current
            limit = _number(f"{directory}/memory.max")
            if limit is not None and limit < self._machine:
                sample.limit = limit
        sample.pids = _number(f"{directory}/pids.current")
        sample.read, sample.written = devices(_read(f"{directory}/io.stat"))

    def _network(self, sample: Sample, pid: int) -> None:
        there = _inode(str(pid))
        if there == self._own_net:
            sample.received = sample.sent = 0
        elif there:
            sample.received, sample.sent = interfaces(_read(f"/proc/{pid}/net/dev"))

    def _sum(self, poor: Mapping[str, Sample], states: Mapping[str, Mapping[str, Any]]) -> None:
        from .processes import Snapshot, namespace

        spaces: dict[str, list[int]] = {}
        for container_id in poor:
            pid = int(states[container_id]["pid"])
            spaces.setdefault(namespace(str(pid)), []).append(pid)
        now = Snapshot(inside="" not in spaces and namespace("self") not in spaces)
        at = time.monotonic_ns()
        joined = _joined(spaces)
        for container_id, sample in poor.items():
            pid = int(states[container_id]["pid"])
            pids = now.of(pid, alone=pid in joined)
            if sample.cpu is None:
                sample.at = at
                sample.cpu = sum(_ticks(now, one) for one in pids) * _TICK
            if sample.memory is None:
                sample.memory = sum(_memory(now, one) for one in pids)
            if sample.pids is None:
                sample.pids = sum(int(now.table[one][18]) for one in pids)
            if sample.read is None:
                sample.read, sample.written = _transferred(pids)


def _lives(state: Mapping[str, Any]) -> bool:
    return proc.pid_alive(int(state["pid"]), int(state["pidStart"]))


def _joined(spaces: Mapping[str, list[int]]) -> set[int]:
    """Those of the first processes that live in the PID namespace of another container."""
    found: set[int] = set()
    for members in spaces.values():
        if len(members) > 1:
            found.update(pid for pid in members if not _leads(pid))
    return found


def _leads(pid: int) -> bool:
    """Whether a process is the first of its PID namespace."""
    for line in (_read(f"/proc/{pid}/status") or b"").splitlines():
        if line.startswith(b"NSpid:"):
            return line.split()[-1] == b"1"
    return False


def _ticks(now: Snapshot, pid: int) -> int:
    return sum(map(int, now.table[pid][12:16]))  # of itself, and of the children it has waited for


def _memory(now: Snapshot, pid: int) -> int:
    for line in (_read(f"/proc/{pid}/smaps_rollup") or b"").splitlines():  # since 4.14
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return int(now.table[pid][22]) * _PAGE  # what others share is counted again, there is no better


def _transferred(pids: Iterable[int]) -> tuple[int | None, int | None]:
    read = written = 0
    for pid in pids:
        data = _read(f"/proc/{pid}/io")
        if data is None:
            if os.path.exists(f"/proc/{pid}"):
                return None, None  # we may not know
            continue
        fields = dict(line.split(b": ") for line in data.splitlines())
        read += int(fields.get(b"read_bytes", 0))
        written += int(fields.get(b"write_bytes", 0))
    return read, written


def interfaces(text: bytes | None) -> tuple[int | None, int | None]:
    """(bytes received, bytes sent) on all interfaces of a /proc/net/dev but lo."""
    if text is None:
        return None, None
    received = sent = 0
    for line in text.splitlines()[2:]:
        name, _, figures = line.partition(b":")
        fields = figures.split()
        if name.strip() != b"lo" and len(fields) >= 9:
            received += int(fields[0])
            sent += int(fields[8])
    return received, sent


def devices(text: bytes | None) -> tuple[int | None, int | None]:
    """(bytes read, bytes written) on all devices of an io.stat."""
    if text is None:
        return None, None
    read = written = 0
    for line in text.splitlines():
        for word in line.split()[1:]:
            key, _, value = word.partition(b"=")
            if key == b"rbytes":
                read += int(value)
            elif key == b"wbytes":
                written += int(value)
    return read, written


def machine_memory() -> int:
    """Bytes of memory that this machine has."""
    return _keyed("/proc/meminfo").get("MemTotal:", 0) * 1024


def _inode(pid: str) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return 0


def _read(path: str) -> bytes | None:
    """The beginning of a file of the kernel's, or all of a small one."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 1 << 20)
    except OSError:
        return None
    finally:
        os.close(fd)


def _number(path: str) -> int | None:
    text = _read(path) or b""
    return int(text) if text.strip().isdigit() else None


def _keyed(path: str) -> dict[str, int]:
    """A file of lines KEY NUMBER."""
    found = {}
    for line in (_read(path) or b"").splitlines():
        words = line.split()
        if len(words) > 1 and words[1].isdigit():
            found[words[0].decode("ascii", "replace")] = int(words[1])
    return found
