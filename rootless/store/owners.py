"""Owners by name: users of a container's own files, and giving a tree to one (``:U``).

Used in a worker that is root of the container's user namespace.  passwd and group are hostile: read inside
the root, up to a size, and what is malformed in them is skipped.
"""

from __future__ import annotations

import errno
import os
import stat

from rootless.errors import UsageError
from rootless.linux import inroot

from . import treecopy

_MAX_FILE = 4 << 20


def lookup(root: int, user: str) -> tuple[int, int]:
    """(uid, gid) of "user[:group]", names or numbers, in the container's files; raises UsageError."""
    name, _, group = user.partition(":")
    uid, gid = 0, 0
    if name:
        line = _find(root, b"etc/passwd", name, 4)
        if line is None and not _number(name):
            raise UsageError(f"unable to find user {name}: no matching entries in passwd file")
        uid, gid = (int(line[2]), int(line[3])) if line else (int(name), 0)
    if group:
        line = _find(root, b"etc/group", group, 3)
        if line is None and not _number(group):
            raise UsageError(f"unable to find group {group}: no matching entries in group file")
        gid = int(line[2]) if line else int(group)
    return uid, gid


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _find(root: int, path: bytes, wanted: str, fields: int) -> list[str] | None:
    """The first line of a passwd or group file for a name or an ID."""
    try:
        fd = inroot.open_path(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        text = file.read(_MAX_FILE).decode("utf-8", "surrogateescape")
    for line in text.split("\n"):
        words = line.split(":")
        numbers = words[2:fields]
        if len(words) < fields or not all(_number(word) for word in numbers):
            continue
        if words[0] == wanted or (_number(wanted) and words[2] == wanted):
            return words
    return None


def change(path: str, uid: int, gid: int) -> int:
    """Give PATH and all below it to UID:GID, links themselves and no other filesystem; how many changed.

    Raises OSError.
    """
    top = os.lstat(path)
    if not stat.S_ISDIR(top.st_mode):
        return _own(path.encode("utf-8", "surrogateescape"), None, top, uid, gid)
    fd = os.open(path, treecopy.DIRECTORY)
    try:
        return _own(b".", fd, top, uid, gid) + _below(fd, top.st_dev, uid, gid)
    finally:
        os.close(fd)


def _below(directory: int, device: int, uid: int, gid: int) -> int:
    count = 0
    for text in os.listdir(directory):
        name = os.fsencode(text)
        try:
            info = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if info.st_dev != device:
            continue
        count += _own(name, directory, info, uid, gid)
        if stat.S_ISDIR(info.st_mode):
            try:
                here = os.open(name, treecopy.DIRECTORY, dir_fd=directory)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    continue  # it was replaced meanwhile
                raise
            try:
                count += _below(here, device, uid, gid)
            finally:
                os.close(here)
    return count


def _own(name: bytes, directory: int | None, info: os.stat_result, uid: int, gid: int) -> int:
    if (info.st_uid, info.st_gid) == (uid, gid):
        return 0
    os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
    mode = stat.S_IMODE(info.st_mode)
    if mode & 0o6000 and stat.S_ISREG(info.st_mode):  # chown has cleared set-user-ID bits
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            if os.path.samestat(os.fstat(fd), info):
                os.chmod(f"/proc/self/fd/{fd}", mode)
        finally:
            os.close(fd)
    return 1
