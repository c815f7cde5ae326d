"""Owners that are shown otherwise than they are on disk: ``--userns keep-id`` without a copy of the layers.

Two ID maps, as extents (on disk, shown, size).  Knows numbers only.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Extent = tuple[int, int, int]

NOBODY = 65534


class IdMap:
    """One of the two maps; what has been asked is remembered, as a tree has few owners."""

    __slots__ = ("_extents", "_shown", "_stored")

    def __init__(self, extents: Sequence[Extent]) -> None:
        self._extents = tuple(extents)
        self._shown: dict[int, int] = {}
        self._stored: dict[int, int] = {-1: -1}

    def shown(self, number: int) -> int:
        """The ID that is shown for one on disk; nobody's for one that the map does not have."""
        found = self._shown.get(number)
        if found is None:
            found = NOBODY if self._extents else number
            for disk, shown, size in self._extents:
                if disk <= number < disk + size:
                    found = shown + number - disk
            self._shown[number] = found
        return found

    def stored(self, number: int) -> int:
        """The ID on disk for one that was given, -1 for -1; EINVAL for one that the map does not have."""
        found = self._stored.get(number)
        if found is None:
            found = -1 if self._extents else number
            for disk, shown, size in self._extents:
                if shown <= number < shown + size:
                    found = disk + number - shown
            if found < 0:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            self._stored[number] = found
        return found


class Owners:
    """The map of users and that of groups; false where both are as they are on disk."""

    __slots__ = ("_any", "gid", "uid")

    def __init__(self, uid: Sequence[Extent] = (), gid: Sequence[Extent] = ()) -> None:
        self.uid = IdMap(uid)
        self.gid = IdMap(gid)
        self._any = bool(uid or gid)

    def __bool__(self) -> bool:
        return self._any

    def stored(self, uid: int, gid: int) -> tuple[int, int]:
        """What an owner is on disk."""
        return self.uid.stored(uid), self.gid.stored(gid)


def extents(text: str) -> list[Extent]:
    """A map of a command line, ``0:1:1000,1000:0:1``; raises ValueError."""
    found = []
    for word in text.split(",") if text else ():
        disk, shown, size = map(int, word.split(":"))
        found.append((disk, shown, size))
    return found
