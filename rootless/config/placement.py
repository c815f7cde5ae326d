"""Where layers and containers lie if storage.root is on a filesystem that several machines share, or behind a
FUSE server that cannot keep them.

There, owners and attributes are often refused, whiteouts cannot be made, and another machine's containers
are none of ours; blobs do not mind.  So a directory on a local disk is used for what is derived or belongs to
this machine.  Which one is kept in ``.local-HOST`` below storage.root, so that the next command, and the
next boot, find the same.  Not on the path of a command that finds its answer cached (paths.py).
"""

from __future__ import annotations

import errno
import os
import stat

from rootless.errors import HostError, UsageError
from rootless.linux import filesystems

# Survives a reboot, mostly; /tmp may not.
CANDIDATES = ("/var/tmp", "/scratch", "/local", "/tmp")


def find(data_root: str, wanted: str, uid: int) -> tuple[str, str]:
    """(local root, why it is another than DATA_ROOT, if that is new).

    WANTED is storage.local: "auto", "none" or a directory.  Raises UsageError, HostError.
    """
    if wanted == "none":
        return data_root, ""
    if wanted != "auto":
        if not wanted.startswith("/"):
            raise UsageError(
                f"cannot use storage.local {wanted!r}: it is not auto, none or an absolute path"
            )
        return _made(f"{wanted}/{_key(data_root)}", uid), ""
    kind = filesystems.kind(data_root)
    if not filesystems.is_network(kind) and not _is_poor(kind, data_root):
        return data_root, ""
    link = f"{data_root}/.local-{os.uname().nodename}"
    try:
        known = os.readlink(link)
    except OSError:
        known = ""
    if known and _ours(known, uid):
        return known, ""
    for base in CANDIDATES:
        if _local_disk(base):
            place = _made(f"{base}/rootless-{uid}/{_key(data_root)}", uid)
            _remember(link, place)
            return place, f"{data_root} is on {kind}: layers and containers are kept in {place}"
    return data_root, ""


def _is_poor(kind: str, data_root: str) -> bool:
    """Whether this is a FUSE filesystem of some type or other that refuses attributes: likely owners, too."""
    if kind != "fuse" and not kind.startswith("fuse."):
        return False
    path = f"{data_root}/.placement-{os.getpid()}"
    try:
        os.mkdir(path, 0o700)
        try:
            os.setxattr(path, "user.rootless", b"y")
        finally:
            os.rmdir(path)
    except OSError as error:
        return error.errno in (errno.ENOTSUP, errno.EPERM, errno.ENOSYS)
    return False


def _key(data_root: str) -> str:
    """Twelve hex digits that name a data root (FNV-1a; a file name, not a secret)."""
    value = 0xCBF29CE484222325
    for byte in data_root.encode("utf-8", "surrogateescape"):
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"[:12]


def _local_disk(base: str) -> bool:
    """Whether BASE takes new directories and programs can be executed there."""
    if not os.path.isdir(base) or not os.access(base, os.W_OK | os.X_OK):
        return False
    if filesystems.is_network(filesystems.kind(base)):
        return False
    return not os.statvfs(base).f_flag & os.ST_NOEXEC


def _ours(path: str, uid: int) -> bool:
    try:
        info = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == uid and not info.st_mode & 0o022


def _made(path: str, uid: int) -> str:
    """PATH and its parent as directories of ours alone; raises HostError where others could write."""
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        os.makedirs(path, 0o700, exist_ok=True)
    except OSError as error:
        raise HostError(
            f"cannot make {path}: {os.strerror(error.errno or 0).lower()}",
            hint="set storage.local to a directory on a local disk that you can write",
        ) from None
    if not _ours(path, uid) or not _ours(os.path.dirname(path), uid):
        raise HostError(
            f"cannot use {path}: it is not a directory that only you can write",
            hint="set storage.local to another directory",
        )
    return path


def _remember(link: str, place: str) -> None:
    temporary = f"{link}.{os.getpid()}"
    try:
        os.symlink(place, temporary)
        os.rename(temporary, link)
    except OSError:
        pass  # found again by the same rule
