"""Events: one line of JSON for each thing that has happened, at the end of a file.

Owns writing ``events/events.jsonl``; eventlog.py reads it.  helpers/monitor_events.c writes the same file by
the same rules:

- a line is written by one write() that appends, so that writers need no lock and lines never mix;
- a line that a full disk or a power loss has torn is closed by a newline of whoever writes next;
- a file that has reached its limit is renamed to ``events.jsonl.1`` (and that one to ``.2``), under a lock that
  nobody waits for; who had it open meanwhile still writes to the renamed one;
- what cannot be written is left out: an event is told after the thing is so, and its loss undoes nothing.

A line is Docker's message without the old fields ``status``, ``id`` and ``from``, which repeat others.
"""

from __future__ import annotations

import fcntl
import os
import time

from rootless import jsonc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Event = tuple[str, str, str, Mapping[str, str]]

NAME = "events.jsonl"
KEPT = 2  # older files
LONGEST = 100_000  # bytes of an event; what is longer goes without its labels

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def prefix(kind: str, action: str, object_id: str, attributes: Mapping[str, str]) -> str:
    """An event up to its time, which is all that is missing, with the last brace."""
    actor = {"ID": object_id, "Attributes": attributes}
    text = jsonc.dumps({"Type": kind, "Action": action, "Actor": actor, "scope": "local"})
    return text[:-1]


class EventLog:
    """Where one user's events are written; a file is renamed once it has MAX_SIZE bytes."""

    __slots__ = ("directory", "max_size")

    def __init__(self, directory: str, max_size: int = 0) -> None:
        self.directory = directory
        self.max_size = max_size

    @property
    def path(self) -> str:
        """The file that is written to."""
        return f"{self.directory}/{NAME}"

    def append(self, *events: Event) -> None:
        """Write (type, action, ID, attributes) of each event; never raises for what the disk refuses."""
        lines = []
        for kind, action, object_id, attributes in events:
            now = time.time_ns()
            head = prefix(kind, action, object_id, attributes)
            if len(head) > LONGEST:
                head = prefix(kind, action[:1000], object_id, essential(attributes))
            lines.append(f'{head},"time":{now // 1_000_000_000},"timeNano":{now}}}\n')
        try:
            self._write("".join(lines).encode())
        except OSError:
            pass

    def _write(self, data: bytes) -> None:
        fd, size = self._open()
        try:
            if self.max_size and size >= self.max_size:
                self._rotate()
                os.close(fd)
                fd, size = self._open()
            if size and os.pread(fd, 1, size - 1) != b"\n":
                data = b"\n" + data
            os.write(fd, data)
        finally:
            os.close(fd)

    def _open(self) -> tuple[int, int]:
        try:
            fd = os.open(self.path, _FLAGS, 0o600)
        except FileNotFoundError:
            os.makedirs(self.directory, 0o700, exist_ok=True)
            fd = os.open(self.path, _FLAGS, 0o600)
        return fd, os.fstat(fd).st_size

    def _rotate(self) -> None:
        """Give each file its next name, unless somebody else does or has."""
        lock = os.open(f"{self.directory}/lock", _LOCK_FLAGS, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(self.path).st_size < self.max_size:
                return
            for number in range(KEPT, 0, -1):
                older = f"{self.path}.{number}"
                newer = f"{self.path}.{number - 1}" if number > 1 else self.path
                try:
                    os.rename(newer, older)
                except FileNotFoundError:
                    continue
        except OSError:
            pass
        finally:
            os.close(lock)


def essential(attributes: Mapping[str, str]) -> dict[str, str]:
    """The attributes that tell what an event is about, for labels that are too long."""
    names = ("image", "name", "execID", "exitCode", "oldName", "driver", "type", "container")
    return {key: attributes[key][:4096] for key in names if key in attributes}
