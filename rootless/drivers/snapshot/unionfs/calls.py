"""System calls that the os module lacks, or that would cost too much through it.

Pure adaptation of libc: no knowledge of layers.  The library is called with the interpreter lock held, as
there is no other thread to give it to.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

NOFOLLOW, EMPTY_PATH = 0x100, 0x1000
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
_RENAMEAT2 = {"x86_64": 316, "armv7l": 382, "ppc64le": 357, "s390x": 347}  # 276 elsewhere

libc = ctypes.PyDLL(None, use_errno=True)
get_errno = ctypes.get_errno


class Timespec(ctypes.Structure):
    """struct timespec."""

    _fields_ = [("sec", ctypes.c_long), ("nsec", ctypes.c_long)]


def failure(name: bytes = b"") -> OSError:
    """The error that the last call left."""
    number = get_errno() or errno.EIO
    return OSError(number, os.strerror(number), os.fsdecode(name))


def _fstatat() -> Callable[..., int]:
    """fstatat(directory, name, struct stat *, flags): into the caller's buffer, 0 or -1."""
    arguments: list[Any] = [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int]
    try:
        function = libc.fstatat
    except AttributeError:  # glibc before 2.33 has it inline, over a function with a version
        old = libc["__fxstatat"]
        old.argtypes = [ctypes.c_int, *arguments]
        version = 1 if platform.machine() in ("x86_64", "ppc64le", "s390x") else 0
        return lambda fd, name, buffer, flags: int(old(version, fd, name, buffer, flags))
    function.argtypes = arguments
    return function


def _declared(name: str, result: Any, *arguments: Any) -> Callable[..., int]:
    function = libc[name]
    function.restype = result
    function.argtypes = arguments
    return function


fstatat = _fstatat()
pread = _declared(
    "pread64", ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
)
pwrite = _declared(
    "pwrite64", ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
)
fstatvfs = _declared("fstatvfs", ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
_fallocate = _declared(
    "fallocate64", ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64
)
_utimensat = _declared(
    "utimensat", ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int
)
_syscall = libc["syscall"]


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2)."""
    if _fallocate(fd, mode, offset, length):
        raise failure()


def utimens(fd: int, name: bytes, times: Any, *, follow: bool) -> None:
    """utimensat(2); TIMES is an array of two Timespec."""
    if _utimensat(fd, name, ctypes.addressof(times), 0 if follow else NOFOLLOW):
        raise failure(name)


def rename(old_fd: int, old: bytes, new_fd: int, new: bytes, flags: int = 0) -> None:
    """renameat2(2); without FLAGS renameat(2)."""
    if not flags:
        os.rename(old, new, src_dir_fd=old_fd, dst_dir_fd=new_fd)
        return
    number = ctypes.c_long(_RENAMEAT2.get(platform.machine(), 276))
    if _syscall(number, old_fd, old, new_fd, new, ctypes.c_uint(flags)):
        raise failure(old)
