"""The processes of a container, found from the host through /proc.

A process belongs to a container if it is in the PID namespace of the container's first process, or
descends from one that is (a nested namespace).  With --pid host only descent tells.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _stat(pid: str) -> list[str] | None:
    """Fields of /proc/PID/stat from the third on (state, ppid ...), the name put before them."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return None
    start, end = text.find("("), text.rfind(")")
    return [text[start + 1 : end], *text[end + 2 :].split()]


def _namespace(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def of_container(pid: int, *, extra: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    """The processes of the container whose first process is PID, in the order of their pids.

    EXTRA are further roots (exec sessions under --pid host).  Keys: pid, ppid, uid, name, tty, cpu
    (clock ticks), start (clock ticks since boot), command.
    """
    table: dict[int, list[str]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(name)
            if fields is not None:
                table[int(name)] = fields
    space = _namespace(str(pid))
    shared = not space or space == _namespace("self")
    mine = {pid, *extra}
    if not shared:
        mine |= {one for one in table if _namespace(str(one)) == space}
    children: dict[int, list[int]] = {}
    for one, fields in table.items():
        children.setdefault(int(fields[2]), []).append(one)
    pending = list(mine)
    while pending:
        for child in children.get(pending.pop(), ()):
            if child not in mine:
                mine.add(child)
                pending.append(child)
    return [_process(one, table[one]) for one in sorted(mine) if one in table]


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
