"""Reading json-file logs: across rotated files, from the end, within a time, and as they grow.

Knows the file format (one JSON object per line: log, stream, time, perhaps attrs) and rotation
(PATH is the newest, PATH.1 or PATH.1.gz the one before ...), not how a line is shown.  A line that is not
JSON, as a power loss leaves one at the end, is left out.

Files are opened the newest first: one that gets its next name meanwhile is then met twice and not missed.
What tells files apart is their inode, which a compressed one keeps in its header.
"""

from __future__ import annotations

import os
import time

from rootless import jsonc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Entry = dict[str, Any]

BLOCK = 1 << 20
_ATTEMPTS = 10  # to see all files between two rotations
COARSE = (
    1_000_000_000  # nanoseconds: a tick is at most ten million, network filesystems count in more
)
POLL = 0.05  # seconds between looks at a growing file
_HEADER = 12 + 4 + 16  # of what drivers/log/packer.py writes


class File:
    """One of a log's files, open; PACKED: compressed."""

    __slots__ = ("_origin", "fd", "packed")

    def __init__(self, fd: int, *, packed: bool) -> None:
        self.fd = fd
        self.packed = packed
        self._origin = _origin(fd) if packed else None

    def is_same(self, other: File) -> bool:
        """Whether this and OTHER are or were one file."""
        if self.packed and other.packed:
            return self._origin is not None and self._origin == other._origin
        if self.packed:
            return other.is_same(self)
        mine = os.fstat(self.fd)
        if other.packed:
            return (mine.st_ino, mine.st_mtime_ns) == other._origin
        theirs = os.fstat(other.fd)
        return (mine.st_dev, mine.st_ino) == (theirs.st_dev, theirs.st_ino)

    def changed(self) -> int:
        """When something was last written to it, in nanoseconds since 1970."""
        return self._origin[1] if self._origin else os.fstat(self.fd).st_mtime_ns

    def blocks(self, offset: int = 0) -> Iterator[bytes]:
        """What it holds from OFFSET on, in pieces."""
        if self.packed:
            yield from _unpacked(self.fd, offset)
            return
        while True:
            block = os.pread(self.fd, BLOCK, offset)
            if not block:
                return
            offset += len(block)
            yield block

    def tail_offset(self, count: int) -> tuple[int, int]:
        """Where its last COUNT lines begin, and how many there are."""
        return _packed_tail(self.fd, count) if self.packed else _tail_offset(self.fd, count)

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)


def _origin(fd: int) -> tuple[int, int] | None:
    """(inode, time of the last change) of the file that was compressed."""
    head = os.pread(fd, _HEADER, 0)
    if len(head) < _HEADER or not head[3] & 4 or head[12:14] != b"RL":
        return None
    return int.from_bytes(head[16:24], "little"), int.from_bytes(head[24:32], "little", signed=True)


def _unpacked(fd: int, skip: int) -> Iterator[bytes]:
    """The content of a compressed file without its first SKIP bytes; up to where it is damaged."""
    import zlib

    unpacker = zlib.decompressobj(31)
    at = 0
    while not unpacker.eof:
        packed = unpacker.unconsumed_tail
        if not packed:
            packed = os.pread(fd, 1 << 16, at)
            at += len(packed)
            if not packed:
                return
        try:
            block = unpacker.decompress(packed, BLOCK)
        except zlib.error:
            return
        if skip:
            block, skip = block[skip:], max(0, skip - len(block))
        if block:
            yield block


def _packed_tail(fd: int, count: int) -> tuple[int, int]:
    if count <= 0:
        return 1 << 62, 0
    starts: list[int] = []  # where the lines begin
    at, begins = 0, True
    for block in _unpacked(fd, 0):
        if begins:
            starts.append(at)
        begins = block.endswith(b"\n")
        found = block.find(b"\n")
        while 0 <= found < len(block) - 1:
            starts.append(at + found + 1)
            found = block.find(b"\n", found + 1)
        at += len(block)
        if len(starts) > 2 * count:
            del starts[:-count]
    kept = starts[-count:]
    return (kept[0], len(kept)) if kept else (0, 0)


def _opened(name: str) -> File | None:
    for packed in (False, True):
        try:
            fd = os.open(name + ".gz" * packed, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        return File(fd, packed=packed)
    return None


def open_all(path: str) -> list[File]:
    """The log's files, the oldest first, none twice though they be rotated meanwhile."""
    for _ in range(_ATTEMPTS):
        found = _open_once(path)
        if not found or not _rotated_since(path, found[0]):
            break
        for file in found:
            file.close()
    else:
        found = _open_once(path)
    return found[::-1]


def _rotated_since(path: str, newest: File) -> bool:
    try:
        now = os.stat(path)
    except FileNotFoundError:
        return False
    mine = os.fstat(newest.fd)
    return not newest.packed and (now.st_dev, now.st_ino) != (mine.st_dev, mine.st_ino)


def _open_once(path: str) -> list[File]:
    """The newest first.  While files get their next names, one number is missing."""
    found: list[File] = []
    number = missing = 0
    while missing < 2:
        file = _opened(path if not number else f"{path}.{number}")
        number += 1
        if file is None:
            missing += 1
            continue
        missing = 0
        if any(file.is_same(one) for one in found):
            file.close()
        else:
            found.append(file)
    return found


def parse(block: bytes) -> list[Entry]:
    """The entries in a block of whole lines."""
    text = block.decode("utf-8", "replace")
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    try:
        found = jsonc.loads(f"[{','.join(lines)}]")
        if len(found) == len(lines) and all("log" in entry for entry in found):
            return list(found)
    except (ValueError, TypeError):
        pass
    return [entry for entry in map(_one, lines) if entry is not None]


def _one(line: str) -> Entry | None:
    try:
        entry = jsonc.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("log"), str) else None


def tail_offsets(files: list[File], count: int) -> list[int]:
    """Where to begin in each file so that COUNT lines are left; the end for files not needed."""
    offsets = [0] * len(files)
    for at in range(len(files) - 1, -1, -1):
        offsets[at], found = files[at].tail_offset(count)
        count -= found
    return offsets


def _tail_offset(fd: int, count: int) -> tuple[int, int]:
    """(offset, lines from there on); COUNT lines at most."""
    size = os.fstat(fd).st_size
    if count <= 0 or not size:
        return size, 0
    found = 0
    end = size - 1 if os.pread(fd, 1, size - 1) == b"\n" else size
    while end > 0:
        start = max(0, end - (1 << 16))
        block = os.pread(fd, end - start, start)
        at = len(block)
        while True:
            at = block.rfind(b"\n", 0, at)
            if at < 0:
                break
            found += 1
            if found == count:
                return start + at + 1, count
        end = start
    return 0, found + 1


class Reader:
    """Whole entries of one file from an offset on, again and again while it grows."""

    def __init__(self, file: File, offset: int = 0) -> None:
        self.file = file
        self.offset = offset
        self.rest = b""

    def read(self) -> Iterator[list[Entry]]:
        """The entries that are there now, in blocks."""
        for block in self.file.blocks(self.offset):
            self.offset += len(block)
            end = block.rfind(b"\n") + 1
            if not end:
                self.rest += block
                continue
            whole = self.rest + block[:end] if self.rest else block[:end]
            self.rest = block[end:]
            found = parse(whole)
            if found:
                yield found

    def last(self) -> list[Entry]:
        """The entry of a last line without its newline, if it is whole."""
        rest, self.rest = self.rest, b""
        return parse(rest) if rest else []


def _wanted(file: File, since: int) -> bool:
    """Whether FILE can have anything that was logged after SINCE (nanoseconds).

    A filesystem stamps files by the kernel's coarse clock, which is behind the one that lines are stamped by.
    """
    return not since or file.changed() + COARSE >= since


def read(path: str, *, tail: int = -1, since: int = 0) -> Iterator[list[Entry]]:
    """Everything logged so far, in blocks; TAIL lines from the end, -1 for all.

    Files that end before SINCE (nanoseconds since 1970) are left out.
    """
    files = open_all(path)
    try:
        offsets = [0] * len(files) if tail < 0 else tail_offsets(files, tail)
        for file, offset in zip(files, offsets):
            if not _wanted(file, since):
                continue
            reader = Reader(file, offset)
            yield from reader.read()
            last = reader.last()
            if last:
                yield last
    finally:
        for file in files:
            file.close()


def follow(
    path: str, alive: Callable[[], bool], *, tail: int = -1, since: int = 0, deadline: int = 0
) -> Iterator[list[Entry]]:
    """What read() gives, then what is logged until ALIVE() is false and all of it was read.

    DEADLINE in nanoseconds since 1970 ends the following earlier; 0 for none.
    """
    files = open_all(path)
    try:
        offsets = [0] * len(files) if tail < 0 else tail_offsets(files, tail)
        while len(files) > 1:
            if _wanted(files[0], since):
                yield from Reader(files[0], offsets[0]).read()
            files.pop(0).close()
            offsets.pop(0)
        reader = Reader(files[0], offsets[0]) if files else None
        while True:
            going = alive() and not (deadline and time.time_ns() > deadline)
            newer = open_all(path) if reader is None else _newer(path, reader.file)
            if reader is not None:
                yield from reader.read()  # also what came between the last look and a rotation
            if newer:
                files.extend(newer)
                while len(files) > 1:
                    if reader is None or files[0] is not reader.file:
                        yield from Reader(files[0]).read()
                    files.pop(0).close()
                reader = Reader(files[0])
                continue
            if not going:
                break
            time.sleep(POLL)
        if reader is not None:
            last = reader.last()
            if last:
                yield last
    finally:
        for file in files:
            file.close()


def _newer(path: str, file: File) -> list[File]:
    """Files newer than FILE, oldest first; none where FILE is the newest."""
    try:
        now = os.stat(path)
    except FileNotFoundError:
        return []
    mine = os.fstat(file.fd)
    if not file.packed and (now.st_dev, now.st_ino) == (mine.st_dev, mine.st_ino):
        return []
    found = open_all(path)
    for at in range(len(found) - 1, -1, -1):  # an inode may have had an earlier life
        if found[at].is_same(file):
            for old in found[: at + 1]:
                old.close()
            return found[at + 1 :]
    return found
