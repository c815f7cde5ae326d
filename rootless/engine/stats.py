"""What running containers use at a moment: processor time, memory, network and block devices, tasks.

A sample is what counters say; a figure needs two.  The counters are those of the container's control group;
what it does not count (a controller is missing, or there is no group) is summed over the container's processes,
to which the kernel adds their ended children.  What nobody counts is None, and never 0.

cpu       nanoseconds of processor time: cpu.stat, or the ticks of processes and of the children they waited for
memory    memory.current without inactive_file, or the processes' anonymous memory, what they share counted once
limit     memory.max, at most what the machine has
received, sent    bytes on the interfaces of the container's network namespace but lo; 0 on the host's network
read, written     bytes of io.stat, or of /proc/PID/io
pids      tasks: pids.current, or the processes' threads
"""

from __future__ import annotations

import os
import time

from rootless import jsonc
from rootless.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Sample:
    """The counters of one container; None for what is not known."""

    __slots__ = (
        "at",
        "cpu",
        "group",
        "limit",
        "memory",
        "pids",
        "read",
        "received",
        "sent",
        "written",
    )

    def __init__(self) -> None:
        self.at = time.monotonic_ns()
        self.group = ""  # the control group's directory
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
    found.cpu = found.limit = found.memory = found.pids = 0
    found.read = found.received = found.sent = found.written = 0
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

    A sample is of use while it is OLD_ENOUGH for the ticks that are counted and the periods of a limit, and
    not TOO_OLD to be "now".  Of each container the last is kept, and one before it, for when it is too young.
    """

    OLD_ENOUGH = 500_000_000
    TOO_OLD = 60_000_000_000

    def __init__(self, path: str) -> None:
        self._path = path
        self._kept: dict[str, Any] = {}
        try:
            kept = jsonc.loads(files.read(path))
            self._kept = kept if isinstance(kept, dict) else {}
        except (OSError, ValueError):
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

    def keep(
        self,
        samples: Mapping[str, Sample],
        states: Mapping[str, Mapping[str, Any]],
        earlier: Mapping[str, Sample | None],
    ) -> None:
        """Put samples, of which there may be EARLIER ones, in place of those kept; the old are forgotten."""
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
                first = earlier.get(container_id)
                before = None if first is None or first.cpu is None else [first.at, first.cpu]
                kept[container_id] = [born, latest, before]
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
        self._own_net = os.stat("/proc/self/ns/net").st_ino

    def take(self, states: Mapping[str, Mapping[str, Any]]) -> dict[str, Sample]:
        """A sample by ID of those of STATES (the state files, by ID) whose first process lives."""
        found: dict[str, Sample] = {}
        poor: dict[str, tuple[_Process, Sample]] = {}
        try:
            for container_id, state in states.items():
                first = _Process(int(state["pid"]))
                sample = self._sample(first, state)
                if sample is not None:
                    found[container_id] = sample
                if sample is not None and None in (
                    sample.cpu,
                    sample.memory,
                    sample.pids,
                    sample.read,
                ):
                    poor[container_id] = first, sample
                else:
                    first.close()
            if poor:
                _sum(list(poor.values()))
        finally:
            for first, _ in poor.values():
                first.close()
        return found

    def _sample(self, first: _Process, state: Mapping[str, Any]) -> Sample | None:
        """What is counted for the container of a process; None where that is not its own any more."""
        if first.born() != int(state["pidStart"]):
            return None
        sample = Sample()
        self._group(sample, str(state.get("cgroup") or ""))
        there = first.inode("ns/net")
        if there == self._own_net:
            sample.received = sample.sent = 0
        else:
            sample.received, sample.sent = interfaces(first.read("net/dev"))
        return sample

    def _group(self, sample: Sample, directory: str) -> None:
        sample.limit, sample.group = self._machine, directory
        if not directory:
            return
        usage = _keyed(_read(f"{directory}/cpu.stat")).get(b"usage_usec")
        sample.cpu = None if usage is None else usage * 1000
        sample.at = time.monotonic_ns()
        current = _number(f"{directory}/memory.current")
        if current is not None:
            inactive = _keyed(_read(f"{directory}/memory.stat")).get(b"inactive_file", 0)
            sample.memory = current - inactive if inactive < current else current
            limit = _number(f"{directory}/memory.max")
            if limit is not None and limit < self._machine:
                sample.limit = limit
        sample.pids = _number(f"{directory}/pids.current")
        sample.read, sample.written = devices(_read(f"{directory}/io.stat"))


class _Process:
    """A process by its directory in /proc: once that is open, nothing read is another's with the same pid."""

    __slots__ = ("_fd", "fields", "pid")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.fields: list[bytes] = []  # of its stat, from the third on
        try:
            self._fd = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, name: str) -> bytes | None:
        return _read(name, self._fd) if self._fd >= 0 else None

    def inode(self, name: str) -> int:
        try:
            return os.stat(name, dir_fd=self._fd).st_ino
        except OSError:
            return 0

    def born(self) -> int:
        """When it was started, in clock ticks; -1 where it is gone, or a zombie."""
        self.fields = (self.read("stat") or b"").rpartition(b")")[2].split()
        if not self.fields or self.fields[0] in (b"Z", b"X"):
            return -1
        return int(self.fields[19])

    def leads(self) -> bool:
        """Whether it is the first of its PID namespace."""
        for line in (self.read("status") or b"").splitlines():
            if line.startswith(b"NSpid:"):
                return line.split()[-1] == b"1"
        return False

    def memory(self, *, shared: bool) -> int:
        """Its anonymous memory, where it is SHARED with others of the container its proportional part of it."""
        found = 0
        for line in (self.read("smaps_rollup") or b"").splitlines() if shared else ():  # since 4.14
            if line.startswith((b"Pss_Anon:", b"Pss_Shmem:")):  # since 5.4
                found += int(line.split()[1]) * 1024
        if found:
            return found
        words = (self.read("statm") or b"0 0 0").split()
        return (int(words[1]) - int(words[2])) * _PAGE

    def transferred(self) -> tuple[int | None, int | None]:
        """Bytes that it has read from and written to devices; None where we may not know."""
        data = self.read("io")
        if data is None:
            return (None, None) if self.inode("stat") else (0, 0)
        fields = dict(line.split(b": ") for line in data.splitlines())
        return int(fields.get(b"read_bytes", 0)), int(fields.get(b"write_bytes", 0))


def _sum(poor: Sequence[tuple[_Process, Sample]]) -> None:
    """Complete samples from the processes of their containers, of which the first ones are given."""
    alone = []
    for first, sample in poor:
        pids = members(sample.group) if sample.group else []
        if first.pid in pids:
            _complete(sample, first, pids)
        else:
            alone.append((first, sample))
    if alone:
        _sum_by_namespace(alone)


def members(group: str) -> list[int]:
    """Pids in a control group and in those below it."""
    found = []
    try:
        below = os.stat(group).st_nlink > 2  # a directory has one for each below it
        for directory in [top for top, _, _ in os.walk(group)] if below else (group,):
            found += [int(word) for word in (_read(f"{directory}/cgroup.procs") or b"").split()]
    except OSError:
        pass
    return found


def _sum_by_namespace(poor: Sequence[tuple[_Process, Sample]]) -> None:
    from .processes import Snapshot, namespace

    spaces: dict[str, list[_Process]] = {}
    for first, _ in poor:
        spaces.setdefault(namespace(str(first.pid)), []).append(first)
    all_ours = "" not in spaces and namespace("self") not in spaces
    now = Snapshot(inside=spaces if all_ours else None)
    # Who lives in the PID namespace of another container has what descends from it, and no more.
    joined = {
        one.pid
        for members in spaces.values()
        for one in members
        if len(members) > 1 and not one.leads()
    }
    for first, sample in poor:
        _complete(sample, first, now.of(first.pid, alone=first.pid in joined))


def _complete(sample: Sample, first: _Process, pids: Sequence[int]) -> None:
    others = [_Process(pid) for pid in pids if pid != first.pid]
    for one in others:
        one.born()
    _add_up(sample, [first, *(one for one in others if one.fields)])
    for one in others:
        one.close()


def _add_up(sample: Sample, processes: Sequence[_Process]) -> None:
    if sample.cpu is None:
        sample.at = time.monotonic_ns()
        # Of each itself, and of the children that it has waited for.
        sample.cpu = sum(sum(map(int, one.fields[11:15])) for one in processes) * _TICK
    if sample.pids is None:
        sample.pids = sum(int(one.fields[17]) for one in processes)
    if sample.memory is None:
        shared = len(processes) > 1
        sample.memory = sum(one.memory(shared=shared) for one in processes)
    if sample.read is None:
        found = [one.transferred() for one in processes]
        if all(read is not None for read, _ in found):
            sample.read = sum(read or 0 for read, _ in found)
            sample.written = sum(written or 0 for _, written in found)


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
    return _keyed(_read("/proc/meminfo")).get(b"MemTotal:", 0) * 1024


def _read(path: str, directory: int | None = None) -> bytes | None:
    """The beginning of a file of the kernel's, or all of a small one."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return None
    try:
        return os.read(fd, 65536)
    except OSError:
        return None
    finally:
        os.close(fd)


def _number(path: str) -> int | None:
    text = _read(path) or b""
    return int(text) if text.strip().isdigit() else None


def _keyed(text: bytes | None) -> dict[bytes, int]:
    """What lines KEY NUMBER say."""
    found = {}
    for line in (text or b"").splitlines():
        words = line.split(None, 2)
        if len(words) > 1 and words[1].isdigit():
            found[words[0]] = int(words[1])
    return found
