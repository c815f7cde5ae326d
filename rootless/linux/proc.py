"""What /proc says of processes, of this boot and of our own user namespace."""

from __future__ import annotations

import _signal
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import Extent

_ALL_IDS = 4294967295


def _read(path: str) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 65536).decode("utf-8", "replace")
    except OSError:
        return None
    finally:
        os.close(fd)


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (state) on, or None where there is no such process."""
    text = _read(f"/proc/{pid}/stat")
    return text.rpartition(")")[2].split() if text else None


def starttime(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot (field 22); None if gone or a zombie."""
    fields = stat_fields(pid)
    if not fields or fields[0] in ("Z", "X", "x"):
        return None
    return int(fields[19])


def pid_alive(pid: int, start: int) -> bool:
    """Whether the process PID that was started at START (clock ticks) still lives."""
    return pid > 0 and starttime(pid) == start


def send_signal(pid: int, start: int, number: int) -> bool:
    """Send signal NUMBER to the process PID that was started at START; False where it is gone.

    By a pidfd, which means the process that was looked at and no later one of its number; before Linux 5.3
    there is an instant between the look and the signal.
    """
    if pid <= 0:
        return False
    try:
        fd = os.pidfd_open(pid)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            return False
        fd = -1
    except AttributeError:
        fd = -1
    try:
        if not pid_alive(pid, start):
            return False
        if fd >= 0:
            _signal.pidfd_send_signal(fd, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError:
        return False
    finally:
        if fd >= 0:
            os.close(fd)
    return True


_boot_id = ""


def boot_id() -> str:
    """The kernel's random ID of this boot, or "" where /proc hides it."""
    global _boot_id
    if not _boot_id:
        _boot_id = (_read("/proc/sys/kernel/random/boot_id") or "").strip()
    return _boot_id


def id_map(kind: str = "uid") -> tuple[Extent, ...]:
    """This process's own ``uid`` or ``gid`` map: (inside, outside, count) per extent."""
    text = _read(f"/proc/self/{kind}_map") or ""
    found = []
    for line in text.splitlines():
        inside, outside, count = map(int, line.split())
        found.append((inside, outside, count))
    return tuple(found)


def in_initial_userns() -> bool:
    """Whether this process is in the machine's initial user namespace, by its map of all IDs."""
    return id_map() == ((0, 0, _ALL_IDS),)
