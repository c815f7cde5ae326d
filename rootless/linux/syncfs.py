"""syncfs(2): everything that one filesystem has not written yet (Linux 2.6.39)."""

from __future__ import annotations

import ctypes
import os


def syncfs(fd: int) -> None:
    """Write the filesystem of the open file FD; raises OSError (since 5.8 for write errors, too)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
