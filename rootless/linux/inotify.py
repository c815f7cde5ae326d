"""Changes of files as the kernel tells them: inotify(7), through ctypes.

Knows no policy: what is watched, and what a change means, is the caller's to know.
"""

from __future__ import annotations

import ctypes
import os
import struct

IN_MODIFY = 0x2  # linux/inotify.h
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000

_event = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_LARGEST = _event.size + 256  # NAME_MAX and a zero
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class Inotify:
    """A queue of changes; its descriptor ``fd`` is readable when there are some."""

    def __init__(self) -> None:
        """Raises OSError: EMFILE where the user has as many as are allowed (fs.inotify.max_user_instances)."""
        self.fd = _checked(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))

    def add(self, path: str, mask: int) -> int:
        """Watch PATH for what MASK says; gives the watch, the same one for the same file.

        Raises OSError, ENOSPC for too many watches (fs.inotify.max_user_watches).
        """
        return _checked(_libc.inotify_add_watch(self.fd, os.fsencode(path), ctypes.c_uint32(mask)))

    def remove(self, watch: int) -> None:
        """Take a watch back; one that the kernel took back already is fine."""
        _libc.inotify_rm_watch(self.fd, watch)

    def read(self) -> list[tuple[int, int, str]]:
        """All changes that wait: watch, mask, name in the directory that is watched, or ""."""
        changes: list[tuple[int, int, str]] = []
        while True:
            try:
                data = os.read(self.fd, 64 * _LARGEST)
            except BlockingIOError:
                return changes
            offset = 0
            while offset < len(data):
                watch, mask, _, length = _event.unpack_from(data, offset)
                offset += _event.size
                name = data[offset : offset + length].rstrip(b"\0")
                changes.append((watch, mask, os.fsdecode(name)))
                offset += length

    def close(self) -> None:
        """Forget everything."""
        os.close(self.fd)
