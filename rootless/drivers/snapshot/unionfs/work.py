"""The work directory: where things are made before they appear in the upper layer by one rename.

On the filesystem of the upper layer and for one server alone; what a killed server left is swept at the
start.
"""

from __future__ import annotations

import os
import stat

from . import calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Made:
    """Something in the work directory, until it is renamed; removed at the end of a ``with`` otherwise."""

    __slots__ = ("fd", "name", "there")

    def __init__(self, fd: int, name: bytes) -> None:
        self.fd = fd
        self.name = name
        self.there = True

    def rename(self, fd: int, name: bytes) -> None:
        """To its place, taking that of an entry there."""
        calls.rename(self.fd, self.name, fd, name)
        self.there = False

    def exchange(self, fd: int, name: bytes) -> None:
        """Change places with an entry, which then is what has to be removed here."""
        try:
            calls.rename(self.fd, self.name, fd, name, calls.RENAME_EXCHANGE)
        except OSError:  # a filesystem that cannot: one after the other
            away = self.name + b"-old"
            calls.rename(fd, name, self.fd, away)
            try:
                calls.rename(self.fd, self.name, fd, name)
            except OSError:
                calls.rename(self.fd, away, fd, name)
                raise
            self.name = away

    def __enter__(self) -> Made:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.there:
            remove(self.fd, self.name)


class Work:
    """The open work directory FD."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._count = 0

    def sweep(self) -> None:
        """Remove what an earlier server was in the middle of."""
        for name in os.listdir(self.fd):
            remove(self.fd, os.fsencode(name))

    def made(self, make: Callable[[int, bytes], None]) -> Made:
        """What MAKE(directory, name) makes, under a name that nothing else has."""
        self._count += 1
        name = b"#%x" % self._count
        try:
            make(self.fd, name)
        except BaseException:
            remove(self.fd, name)
            raise
        return Made(self.fd, name)

    def take(self, fd: int, name: bytes) -> None:
        """Move the directory NAME here and remove it with all below it."""
        self._count += 1
        away = b"#%x" % self._count
        calls.rename(fd, name, self.fd, away)
        remove(self.fd, away)


def remove(fd: int, name: bytes) -> None:
    """Remove NAME in FD, if it is there, with all below it; links are not followed."""
    try:
        info = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(info.st_mode):
        os.unlink(name, dir_fd=fd)
        return
    inside = os.open(name, _DIRECTORY, dir_fd=fd)
    try:
        for child in os.listdir(inside):
            remove(inside, os.fsencode(child))
    finally:
        os.close(inside)
    os.rmdir(name, dir_fd=fd)
