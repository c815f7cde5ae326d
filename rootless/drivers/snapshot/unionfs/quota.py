"""How many bytes the upper layer may hold: counted as ``ps --size`` counts, each inode once.

Only keeps the sum; who writes asks first.  Without a limit nothing is counted.
"""

from __future__ import annotations

import errno
import os
import stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Quota:
    """LIMIT in bytes, 0 for none; ``used`` are the bytes of all regular files of the upper layer."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int, used: int = 0) -> None:
        self.limit = limit
        self.used = used

    def __bool__(self) -> bool:
        return self.limit > 0

    def check(self, growth: int) -> None:
        """Raise ENOSPC where GROWTH more bytes would be too many; what is there may always shrink."""
        if growth > 0 and self.limit and self.used + growth > self.limit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def add(self, growth: int) -> None:
        """GROWTH bytes came, or went."""
        self.used = max(0, self.used + growth)

    @property
    def free(self) -> int:
        """Bytes that may still come."""
        return max(0, self.limit - self.used)


def measure(directory: int) -> int:
    """The bytes of all regular files below the open DIRECTORY; hard links once."""
    seen: set[int] = set()
    total = 0
    todo = [os.open(".", _DIRECTORY, dir_fd=directory)]
    while todo:
        fd = todo.pop()
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    info = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(info.st_mode):
                        todo.append(os.open(entry.name, _DIRECTORY, dir_fd=fd))
                    elif stat.S_ISREG(info.st_mode) and info.st_ino not in seen:
                        total += info.st_size
                        if info.st_nlink > 1:
                            seen.add(info.st_ino)
        finally:
            os.close(fd)
    return total
