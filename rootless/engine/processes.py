"""The processes of a container, found from the host through /proc.

A process belongs to a container if it is in the PID namespace of the container's first process, or
descends from one that is (a nested namespace).  With --pid host only descent tells.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any


def _stat(pid: str) -> list[str] | None:
    """Fields of /proc/PID/stat from the third on (state, ppid ...), the name put before them."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(fd, 4096).decode("utf-8", "replace")
        finally:
            os.close(fd)
    except OSError:
        return None
    start, end = text.find("("), text.rfind(")")
    return [text[start + 1 : end], *text[end + 2 :].split()]


def namespace(pid: str) -> str:
    """The PID namespace of a process, "" where we may not know."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


class Snapshot:
    """Who is whose child, and in which PID namespace, at one moment.

    ``table`` has the fields of /proc/PID/stat from the third on by pid, the name put before them.  INSIDE
    are PID namespaces other than ours: then those of ours are left out, and those inside have no fields.
    """

    def __init__(self, *, inside: Collection[str] | None = None) -> None:
        self.table: dict[int, list[str]] = {}
        self._children: dict[int, list[int]] = {}
        self._spaces: dict[str, list[int]] = {}
        self._own = namespace("self")
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            space = namespace(name)  # "" of a process of somebody else
            if inside is not None and space in ("", self._own):
                continue
            self._spaces.setdefault(space, []).append(int(name))
            # Those of a container are found by its namespace, but in namespaces of their own making by descent.
            if inside is not None and space in inside:
                continue
            fields = _stat(name)
            if fields is not None:
                self.table[int(name)] = fields
                self._children.setdefault(int(fields[2]), []).append(int(name))

    def of(self, pid: int, *, extra: tuple[int, ...] = (), alone: bool = False) -> list[int]:
        """Pids of the container whose first process is PID, sorted.

        EXTRA are further roots (exec sessions under --pid host); ALONE: only PID and who descends from it.
        """
        space = "" if alone else namespace(str(pid))
        mine = {pid, *extra}
        if space and space != self._own:
            mine.update(self._spaces.get(space, ()))
        pending = list(mine)
        while pending:
            for child in self._children.get(pending.pop(), ()):
                if child not in mine:
                    mine.add(child)
                    pending.append(child)
        return sorted(mine)


def of_container(pid: int, *, extra: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    """The processes of the container whose first process is PID, in the order of their pids.

    Keys: pid, ppid, uid, name, tty, cpu (clock ticks), start (clock ticks since boot), command.
    """
    now = Snapshot()
    return [_process(one, now.table[one]) for one in now.of(pid, extra=extra) if one in now.table]


def _process(pid: int, fields: list[str]) -> dict[str, Any]:
    try:
        uid = os.stat(f"/proc/{pid}").st_uid
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0").split(b"\0")
    except OSError:
        uid, words = 0, [b""]
    command = b" ".join(words).decode("utf-8", "replace").strip()
    return {
        "pid": pid,
        "ppid": int(fields[2]),
        "uid": uid,
        "name": fields[0],
        "tty": int(fields[5]),
        "cpu": int(fields[12]) + int(fields[13]),
        "start": int(fields[20]),
        "command": command or f"[{fields[0]}]",
    }
