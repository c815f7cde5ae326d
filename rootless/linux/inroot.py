"""Opening paths inside a directory as if it were the root: no link leads out, whoever changes it meanwhile.

By openat2 with RESOLVE_IN_ROOT (Linux 5.6), where the kernel resolves and rename races are its own affair
(it says EAGAIN, we ask again).  Before that by walking one component at a time with O_NOFOLLOW,
following links by hand and never using "..".
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

_OPENAT2 = 437
_IN_ROOT, _NO_MAGIC = 0x10, 0x02
_MAX_LINKS = 40
_O_PATH = 0o10000000
_state = {"openat2": True}


def open_path(root: int, path: bytes, flags: int = _O_PATH, *, follow: bool = True) -> int:
    """Open PATH below the directory ROOT; the caller closes it.  FOLLOW: also a link at its end.

    Raises OSError, EAGAIN never.
    """
    flags |= os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    if b"\0" in path:
        raise OSError(errno.EINVAL, "the path holds a NUL")
    if _state["openat2"]:
        try:
            return _openat2(root, path or b".", flags)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM) or not _missing():
                raise
            _state["openat2"] = False
    return _walk(root, path, flags, follow)


def _openat2(root: int, path: bytes, flags: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    how = struct.pack("QQQ", flags, 0, _IN_ROOT | _NO_MAGIC)
    for _ in range(100):
        fd = libc.syscall(ctypes.c_long(_OPENAT2), root, path, how, ctypes.c_size_t(len(how)))
        if fd >= 0:
            return int(fd)
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            raise OSError(number, os.strerror(number), os.fsdecode(path))
    raise OSError(errno.EBUSY, "the tree keeps changing", os.fsdecode(path))


def _missing() -> bool:
    """Whether the kernel (or an outer seccomp filter) has no openat2 at all."""
    try:
        os.close(_openat2(os.open("/", _O_PATH | os.O_CLOEXEC), b".", _O_PATH))
    except OSError:
        return True
    return False


def _walk(root: int, path: bytes, flags: int, follow: bool) -> int:
    """The same without openat2; the stack of open directories stands in for ".."."""
    stack = [os.dup(root)]
    todo = [part for part in path.split(b"/")[::-1] if part not in (b"", b".")]
    must_be_dir = path.endswith((b"/", b"/."))
    links = 0
    try:
        while todo:
            part = todo.pop()
            if part == b"..":
                if len(stack) > 1:
                    os.close(stack.pop())
                continue
            info = os.stat(part, dir_fd=stack[-1], follow_symlinks=False)
            last = not todo
            if stat.S_ISLNK(info.st_mode) and (not last or follow or must_be_dir):
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fsdecode(path))
                target = os.readlink(part, dir_fd=stack[-1])
                if target[:1] == b"/":
                    while len(stack) > 1:
                        os.close(stack.pop())
                todo += [one for one in target.split(b"/")[::-1] if one not in (b"", b".")]
                continue
            if last and not must_be_dir:
                return os.open(part, flags | os.O_NOFOLLOW, dir_fd=stack[-1])
            stack.append(
                os.open(
                    part,
                    _O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
                    dir_fd=stack[-1],
                )
            )
        return os.open(b".", flags & ~os.O_NOFOLLOW, dir_fd=stack[-1])
    finally:
        for fd in stack:
            os.close(fd)
