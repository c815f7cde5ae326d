"""The program that compresses a rotated log: descriptor 0 to descriptor 1, as gzip.

Started by the monitor (helpers/log_pack.c).  The header's extra field says which file this was, so that a
reader that follows the log finds its place: ``RL``, inode and time of the last change.
"""

from __future__ import annotations

import os
import sys
import zlib

BLOCK = 1 << 18
HEADER = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff"  # deflate, an extra field, no time
MARK = b"RL"


def identity(inode: int, changed_ns: int) -> bytes:
    """The extra field of a file with this inode and time."""
    payload = inode.to_bytes(8, "little") + changed_ns.to_bytes(8, "little", signed=True)
    field = MARK + len(payload).to_bytes(2, "little") + payload
    return len(field).to_bytes(2, "little") + field


def pack(source: int, target: int) -> None:
    """Compress what can be read from SOURCE into TARGET."""
    info = os.fstat(source)
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    check = size = 0
    _write(target, HEADER + identity(info.st_ino, info.st_mtime_ns))
    while True:
        block = os.read(source, BLOCK)
        if not block:
            break
        check = zlib.crc32(block, check)
        size += len(block)
        _write(target, packer.compress(block))
    trailer = check.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")
    _write(target, packer.flush() + trailer)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def main() -> int:
    """0, or 1 where the disk is full and the file stays as it is."""
    os.nice(10)
    try:
        pack(0, 1)
    except OSError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
