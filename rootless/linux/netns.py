"""Moving a thread between namespaces: setns(2) for Python before 3.12.

Knows no policy: which thread may move, and when, is the caller's to know.  A thread that left the network
namespace of the host cannot come back, for that takes CAP_SYS_ADMIN over it.
"""

from __future__ import annotations

import ctypes
import os

NEWUSER = 0x10000000  # linux/sched.h
NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def setns(fd: int, kind: int) -> None:
    """Move the calling thread into the namespace that FD names; KIND is NEWUSER or NEWNET.

    NEWUSER is refused (EINVAL) to a process of several threads.  Raises OSError.
    """
    if _libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def unshare(kind: int) -> None:
    """Give the calling thread namespaces of its own of KIND, flags or-ed together; raises OSError."""
    if _libc.unshare(ctypes.c_int(kind)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
