"""Reading json-file logs: across rotated files, from the end, within a time, and as they grow.

Knows the file format (one JSON object per line: log, stream, time, perhaps attrs) and rotation
(PATH is the newest, PATH.1 the one before ...), not how a line is shown.  A line that is not JSON, as a
power loss leaves one at the end, is left out.
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
POLL = 0.05  # seconds between looks at a growing file


def files(path: str) -> list[str]:
    """The log's files that exist, the oldest first."""
    found = [path] if os.path.exists(path) else []
    number = 1
    while os.path.exists(f"{path}.{number}"):
        found.append(f"{path}.{number}")
        number += 1
    return found[::-1]


def open_all(path: str) -> list[int]:
    """Descriptors of the log's files, the oldest first, none twice though they be rotated meanwhile."""
    opened: dict[tuple[int, int], int] = {}
    for name in files(path):
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        info = os.fstat(fd)
        key = (info.st_dev, info.st_ino)
        if key in opened:
            os.close(fd)
        else:
            opened[key] = fd
    return list(opened.values())


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


def tail_offsets(fds: list[int], count: int) -> list[int]:
    """Where to begin in each file so that COUNT lines are left; the end for files not needed."""
    offsets = [0] * len(fds)
    for at in range(len(fds) - 1, -1, -1):
        offsets[at], found = _tail_offset(fds[at], count)
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

    def __init__(self, fd: int, offset: int = 0) -> None:
        self.fd = fd
        self.offset = offset
        self.rest = b""

    def read(self) -> Iterator[list[Entry]]:
        """The entries that are there now, in blocks."""
        while True:
            block = os.pread(self.fd, BLOCK, self.offset)
            if not block:
                return
            self.offset += len(block)
            end = block.rfind(b"\n") + 1
            if not end:
                self.rest += block
                continue
            whole = self.rest + block[:end]
            self.rest = block[end:]
            found = parse(whole)
            if found:
                yield found

    def last(self) -> list[Entry]:
        """The entry of a last line without its newline, if it is whole."""
        rest, self.rest = self.rest, b""
        return parse(rest) if rest else []


def read(path: str, *, tail: int = -1) -> Iterator[list[Entry]]:
    """Everything logged so far, in blocks; TAIL lines from the end, -1 for all."""
    fds = open_all(path)
    try:
        offsets = [0] * len(fds) if tail < 0 else tail_offsets(fds, tail)
        for fd, offset in zip(fds, offsets):
            reader = Reader(fd, offset)
            yield from reader.read()
            last = reader.last()
            if last:
                yield last
    finally:
        for fd in fds:
            os.close(fd)


def follow(
    path: str, alive: Callable[[], bool], *, tail: int = -1, deadline: int = 0
) -> Iterator[list[Entry]]:
    """What read() gives, then what is logged until ALIVE() is false and all of it was read.

    DEADLINE in nanoseconds since 1970 ends the following earlier; 0 for none.
    """
    fds = open_all(path)
    try:
        offsets = [0] * len(fds) if tail < 0 else tail_offsets(fds, tail)
        for fd, offset in zip(fds[:-1], offsets):
            yield from Reader(fd, offset).read()
        for fd in fds[:-1]:
            os.close(fd)
        del fds[:-1]
        reader = Reader(fds[0], offsets[-1]) if fds else None
        while True:
            going = alive() and not (deadline and time.time_ns() > deadline)
            if reader is None:
                fds[:] = open_all(path)[:1]
                reader = Reader(fds[0]) if fds else None
            if reader is not None:
                yield from reader.read()
                newer = _newer(path, reader.fd)
                if newer is not None:
                    yield from reader.read()  # what came between the last look and the rotation
                    os.close(fds.pop(0))
                    yield from _catch_up(newer, fds)
                    reader = Reader(fds[0]) if fds else None
                    continue
            if not going:
                break
            time.sleep(POLL)
        if reader is not None:
            last = reader.last()
            if last:
                yield last
    finally:
        for fd in fds:
            os.close(fd)


def _newer(path: str, fd: int) -> list[int] | None:
    """Descriptors of files newer than FD's, oldest first; None where FD's is the newest."""
    mine = os.fstat(fd)
    try:
        now = os.stat(path)
    except FileNotFoundError:
        return None
    if (now.st_dev, now.st_ino) == (mine.st_dev, mine.st_ino):
        return None
    found = open_all(path)
    for at, one in enumerate(found):
        info = os.fstat(one)
        if (info.st_dev, info.st_ino) == (mine.st_dev, mine.st_ino):
            for old in found[: at + 1]:
                os.close(old)
            return found[at + 1 :] or None
    return found or None


def _catch_up(newer: list[int], fds: list[int]) -> Iterator[list[Entry]]:
    """Read files that were rotated away while we slept; the newest is left open in FDS."""
    fds[:] = newer[-1:]
    for fd in newer[:-1]:
        try:
            yield from Reader(fd).read()
        finally:
            os.close(fd)
