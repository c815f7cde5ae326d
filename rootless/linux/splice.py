"""splice(2), and the sizes of the pipes it goes through.

``splice`` moves bytes between a pipe and a socket and never waits.  Python has it since 3.10; before, it is
called through ctypes.  A pipe's size counts against what its user may have (fs.pipe-user-pages-soft).
"""

from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

F_SETPIPE_SZ = 1031  # linux/fcntl.h; in Python's fcntl since 3.10
F_GETPIPE_SZ = 1032
FLAGS = 1 | 2  # SPLICE_F_MOVE | SPLICE_F_NONBLOCK


def through_ctypes() -> Callable[[int, int, int], int]:
    """``splice`` for a Python that lacks os.splice."""
    import ctypes

    function = ctypes.CDLL(None, use_errno=True).splice
    function.restype = ctypes.c_ssize_t
    end = (ctypes.c_int, ctypes.c_void_p)
    function.argtypes = (*end, *end, ctypes.c_size_t, ctypes.c_uint)

    def splice(source: int, sink: int, count: int) -> int:
        moved: int = function(source, None, sink, None, count, FLAGS)
        if moved < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return moved

    return splice


def of_python() -> Callable[[int, int, int], int]:
    """``splice`` of Python itself; raises AttributeError where it has none."""
    function = os.splice

    def splice(source: int, sink: int, count: int) -> int:
        return function(source, sink, count, flags=FLAGS)

    return splice


splice = of_python() if hasattr(os, "splice") else through_ctypes()
splice.__doc__ = (
    "Move at most COUNT bytes from SOURCE to SINK; 0 is the end, BlockingIOError: not now."
)


def pipe_size(fd: int) -> int:
    """How many bytes the pipe FD holds at most."""
    return fcntl.fcntl(fd, F_GETPIPE_SZ)


def resize_pipe(fd: int, size: int) -> int:
    """Let the pipe FD hold SIZE bytes and give back what it holds; PermissionError beyond the user's share."""
    return fcntl.fcntl(fd, F_SETPIPE_SZ, size)
