"""Whether what is started here ends when its user logs out; pure.

systemd-logind ends two things: at the end of a session the scope of that session, where KillUserProcesses says
so for this user; and at the end of the user's last session the user's own manager (user@UID.service) with
everything in it, unless the user lingers.  Where a process belongs is told by its control group.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SESSION, MANAGER = "session", "manager"
_LISTS = ("KillOnlyUsers", "KillExcludeUsers")


def place(cgroup: str, uid: int) -> str:
    """What of logind's a control group belongs to: SESSION, MANAGER or ""."""
    parts = cgroup.strip("/").split("/")
    if f"user@{uid}.service" in parts:
        return MANAGER
    for part in parts:
        if part.startswith("session-") and part.endswith(".scope"):
            return SESSION
    return ""


def own_cgroup(text: str) -> str:
    """systemd's control group of a process by its /proc/PID/cgroup: of cgroup v2, or v1's name=systemd."""
    unified = ""
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "name=systemd":
            return path
        if number == "0" and not controllers:
            unified = path
    return unified


def settings(files: Iterable[str]) -> dict[str, str]:
    """The [Login] section of logind.conf and its drop-ins, given as texts in their order; the last word counts.

    A comment ``#KillUserProcesses=no`` in the packaged file tells the default it was built with.
    """
    found: dict[str, str] = {}
    defaults: dict[str, str] = {}
    for text in files:
        section = ""
        for raw in text.splitlines():
            line = raw.strip()
            if line.startswith("["):
                section = line
                continue
            commented = line[:1] in ("#", ";")
            key, equals, value = line.lstrip("#; ").partition("=")
            key, value = key.strip(), value.strip()
            if section != "[Login]" or not equals or " " in key:
                continue
            if commented:
                defaults.setdefault(key, value)
            elif key in _LISTS and value and found.get(key):
                found[key] += f" {value}"
            else:
                found[key] = value
    return {**defaults, **found}


def kills(login: Mapping[str, str], user: str) -> bool:
    """Whether logind kills what USER leaves in a session."""
    only, excluded = ((login.get(key) or "").split() for key in _LISTS)
    word = (login.get("KillUserProcesses") or "yes").lower()
    if word not in ("yes", "true", "on", "1", "y", "t"):
        return False
    if only:
        return user in only
    return user not in (excluded or ["root"])


def at_logout(cgroup: str, uid: int, user: str, login: Mapping[str, str], *, lingers: bool) -> str:
    """Why a process in CGROUP ends when USER logs out, as the end of a sentence; "" where it does not."""
    where = place(cgroup, uid)
    if where == MANAGER and not lingers:
        return "your systemd, which ends with your last session, is above it"
    if where == SESSION and kills(login, user):
        return "systemd-logind kills what a session leaves (KillUserProcesses)"
    return ""


def remedy(cgroup: str, uid: int, user: str, *, lingers: bool) -> str:
    """What the user can do about it."""
    linger = f"loginctl enable-linger {user}".rstrip()
    if place(cgroup, uid) == MANAGER:
        return f"`{linger}` keeps it running"
    scope = "systemd-run --user --scope rootless run -d ..."
    return (
        f"`{scope}` keeps it running"
        if lingers
        else f"`{linger}`, and then `{scope}`, keep it running"
    )
