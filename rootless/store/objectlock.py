"""The lock of an object that is a directory with a file ``lock``: volumes, networks.

Whoever waited for it may find that the object was removed meanwhile, and perhaps made anew: what was locked is
then another file than the one that is there, and the wait begins again.  Knows nothing of what an object is.
"""

from __future__ import annotations

import fcntl
import os
import time

from rootless.errors import ConflictError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def shared(directory: str, open_lock: Callable[[], int]) -> int:
    """The lock of the object in DIRECTORY, shared; the caller closes the descriptor.

    OPEN_LOCK opens the file, or raises what says that there is no such object.
    """
    while True:
        fd = open_lock()
        fcntl.flock(fd, fcntl.LOCK_SH)
        if same(fd, f"{directory}/lock"):
            return fd
        os.close(fd)  # removed, and perhaps made anew, while we waited


def alone(directory: str, open_lock: Callable[[], int], patience: float, refusal: str) -> int:
    """The lock of the object in DIRECTORY, alone; the caller closes the descriptor.

    Raises ConflictError with the text REFUSAL if others have it for longer than PATIENCE (seconds).
    """
    deadline = time.monotonic() + patience
    while True:
        fd = open_lock()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if same(fd, f"{directory}/lock"):
                return fd
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(fd)
                raise ConflictError(refusal) from None
            time.sleep(0.005)
        os.close(fd)


def same(fd: int, path: str) -> bool:
    """Whether the file at PATH still is the one that FD has open."""
    try:
        there = os.stat(path)
    except OSError:
        return False
    mine = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)
