"""Started by real root: become the service user first, so that nothing ever runs as root.

Root's containers belong to an ordinary system account, ``rootless`` by default, with subordinate IDs of its
own; install.sh makes it when root runs it.  Its home, /var/lib/rootless, holds the data.  Everything is
given up here for good: after become() not even a bug in this program can act as root.
"""

from __future__ import annotations

import os
import stat

from rootless.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_NAME = "rootless"
RUNTIME_DIR = "/run/rootless"


def become(env: Mapping[str, str]) -> dict[str, str]:
    """Drop to the service user and give the environment to go on with; raises HostError.

    Called only by uid 0 of the initial user namespace.
    """
    import pwd

    name = env.get("ROOTLESS_SERVICE_USER") or DEFAULT_NAME
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise HostError(
            f"cannot run as root: there is no service user {name!r} to become",
            hint="run install.sh as root once, or use rootless as an ordinary user",
        ) from None
    if entry.pw_uid == 0:
        raise HostError(f"cannot run as root: the service user {name!r} has uid 0")
    for path in (entry.pw_dir, RUNTIME_DIR):
        _own(path, entry.pw_uid, entry.pw_gid)
    os.setgroups([])
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    return {
        **{key: value for key, value in env.items() if not key.startswith("XDG_")},
        "HOME": entry.pw_dir,
        "USER": name,
        "LOGNAME": name,
        "XDG_RUNTIME_DIR": RUNTIME_DIR,
    }


def _own(path: str, uid: int, gid: int) -> None:
    """Make PATH a directory of the user's own with mode 0700; raises HostError."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise HostError(f"cannot make {path}: {os.strerror(error.errno or 0).lower()}") from None
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        info = os.fstat(fd)
        if info.st_uid not in (0, uid):
            raise HostError(f"cannot use {path}: it belongs to uid {info.st_uid}")
        if info.st_uid != uid:
            os.fchown(fd, uid, gid)
        if stat.S_IMODE(info.st_mode) & 0o077:
            os.fchmod(fd, 0o700)
    finally:
        os.close(fd)
