"""Whether a container started now outlives the caller's session, found on this machine."""

from __future__ import annotations

import os

from rootless.plan import sessions as plans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.facts import HostFacts
    from rootless.store.containers import Container

    from .context import Context

_CONF_DIRS = ("/etc", "/run", "/usr/local/lib", "/usr/lib")
MARK = "logout-told"  # in the runtime directory: once for each boot, or login


def user_name() -> str:
    """The caller's name; "" where there is none."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


def lingers(root: str = "") -> bool:
    """Whether the caller's systemd stays without a session."""
    name = user_name()
    return bool(name) and os.path.exists(f"{root}/var/lib/systemd/linger/{name}")


def logind_files(root: str = "") -> Iterator[str]:
    """The texts of logind.conf and its drop-ins, in the order that systemd reads them."""
    for directory in _CONF_DIRS:
        text = _text(f"{root}{directory}/systemd/logind.conf")
        if text is not None:
            yield text
            break
    drop_ins: dict[str, str] = {}
    for directory in reversed(
        _CONF_DIRS
    ):  # the first of these takes the place of others of its name
        path = f"{root}{directory}/systemd/logind.conf.d"
        try:
            names = os.listdir(path)
        except OSError:
            continue
        drop_ins.update({name: f"{path}/{name}" for name in names if name.endswith(".conf")})
    for name in sorted(drop_ins):
        yield _text(drop_ins[name]) or ""


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None


def warning(pid: int, root: str = "") -> str:
    """What will end the process PID when the caller logs out, and what helps; "" where nothing does."""
    if not os.path.isdir(f"{root}/run/systemd/sessions"):
        return ""  # no logind
    cgroup = plans.own_cgroup(_text(f"/proc/{pid}/cgroup") or "")
    uid, user, stays = os.getuid(), user_name(), lingers(root)
    reason = plans.at_logout(cgroup, uid, user, plans.settings(logind_files(root)), lingers=stays)
    if not reason:
        return ""
    return (
        f"this container ends when you log out: {reason}; "
        f"{plans.remedy(cgroup, uid, user, lingers=stays)} (this is said once)"
    )


def outlook(facts: HostFacts, root: str = "") -> tuple[bool, str, str]:
    """Whether containers outlive the caller's logout from here: (do they, why, what helps)."""
    if not os.path.isdir(f"{root}/run/systemd/sessions"):
        return True, "nothing ends what a session leaves running", ""
    uid, user, stays = os.getuid(), user_name(), lingers(root)
    cgroup = f"/user.slice/user-{uid}.slice/user@{uid}.service/app.slice"
    if facts.cgroup_rung != "systemd":
        cgroup = plans.own_cgroup(_text("/proc/self/cgroup") or "")
    reason = plans.at_logout(cgroup, uid, user, plans.settings(logind_files(root)), lingers=stays)
    if reason:
        remedy = plans.remedy(cgroup, uid, user, lingers=stays)
        return (
            False,
            f"containers end when you log out: {reason}",
            f"for containers that outlive a logout: {remedy}",
        )
    return True, "you linger" if stays else "systemd-logind keeps what a session leaves", ""


def warn(ctx: Context, container: Container) -> str:
    """What `run -d` says of a container that will not outlive the session; "" where it will, or it was said."""
    monitor = int(ctx.containers.read_state(container.id).get("monitorPid") or 0)
    said = warning(monitor) if monitor else ""
    if not said:
        return ""
    mark = f"{ctx.paths.runtime_root}/{MARK}"
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError:
        return ""
    return said
