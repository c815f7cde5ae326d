"""When an inode was made: the part of statx(2) (Linux 4.11) that Python has no word for."""

from __future__ import annotations

import ctypes

_SYMLINK_NOFOLLOW, _BTIME, _SIZE = 0x100, 0x800, 256


def birth(directory: int, name: bytes) -> str:
    """``SECONDS.NANOSECONDS`` of the entry NAME; 0.0 where the filesystem or libc cannot tell."""
    buffer = ctypes.create_string_buffer(_SIZE)
    try:
        statx = ctypes.CDLL(None).statx
    except AttributeError:
        return "0.0"
    if statx(directory, name, _SYMLINK_NOFOLLOW, _BTIME, buffer) != 0:
        return "0.0"
    raw = buffer.raw
    if not int.from_bytes(raw[:4], "little") & _BTIME:
        return "0.0"
    seconds = int.from_bytes(raw[80:88], "little", signed=True)
    return f"{seconds}.{int.from_bytes(raw[88:92], 'little')}"
