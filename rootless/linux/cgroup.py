"""Control groups (version 2) as this process finds them now: where it is, and what it could use.

Not cached with the other facts: two sessions of one user can differ, a job of a batch system from a login.
What follows from it is for drivers/cgroup to say.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless.facts import HostFacts

ROOT = "/sys/fs/cgroup"
INNER = "rootless-inner"  # the leaf for processes that are in the way; see helpers/launch_cgroup.c
_SMALL = 4096


def read(path: str) -> str:
    """What a small file of a control group says, without the last newline; "" if it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, _SMALL).decode("utf-8", "surrogateescape").rstrip("\n")
    except OSError:
        return ""
    finally:
        os.close(fd)


def own(pid: str = "self") -> str:
    """The directory of the group that a process is in, or "" where it has none that we see."""
    for line in read(f"/proc/{pid}/cgroup").splitlines():
        if line.startswith("0::/") and not line.startswith("0::/.."):
            return ROOT + line[3:].rstrip("/")
    return ""


def look(facts: HostFacts, env: Mapping[str, str]) -> None:
    """Fill in the facts about control groups that are this session's own."""
    if facts.cgroup_mode != "unified":
        return
    facts.cgroup_path = own()
    facts.cgroup_delegated, facts.cgroup_error = _delegated(facts.cgroup_path)
    facts.cgroup_buses, facts.cgroup_bus_error = _buses(facts.uid, env)


def _delegated(path: str) -> tuple[str, str]:
    """The directory that groups can be made in, or why there is none."""
    if not path:
        return "", "this process is in no control group that can be seen"
    if path.endswith(f"/{INNER}"):  # moved there by an earlier start
        path = path[: -len(INNER) - 1]
    for name in (path, f"{path}/cgroup.procs"):
        if not os.access(name, os.W_OK):
            return "", f"{name} is not writable"
    kind = read(f"{path}/cgroup.type")
    if kind not in ("", "domain"):
        return "", f"{path} is a {kind} group"
    return path, ""


def _buses(uid: int, env: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """Where the user's systemd can be reached, best first, or why nowhere."""
    runtime = env.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    private = f"{runtime}/systemd/private"
    if not _is_socket(private):
        return (), f"no systemd of user {uid} is running (there is no {private})"
    from . import dbus

    buses = dbus.addresses(env.get("DBUS_SESSION_BUS_ADDRESS") or "") or [f"{runtime}/bus"]
    found = [f"bus:{path}" for path in buses if _is_socket(path)]
    return (*found, f"peer:{private}"), ""


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def controllers(directory: str) -> tuple[str, ...]:
    """The controllers that a group has."""
    return tuple(read(f"{directory}/cgroup.controllers").split())


def manager_group(uid: int) -> str:
    """The group of a user's systemd, by the name that it has everywhere."""
    return f"{ROOT}/user.slice/user-{uid}.slice/user@{uid}.service"
