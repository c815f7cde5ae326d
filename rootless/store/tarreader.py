"""A streaming tar reader: ustar, pax, GNU long names and base-256 numbers, GNU and pax sparse files.

Owns the archive's syntax, and refuses what breaks it or would exhaust memory; every error names the
entry.  It does not judge names: where an entry may go is layerwriter's business.

Formats: POSIX.1-2017 pax "pax Interchange Format", GNU tar manual "Basic Tar Format" and "Storing Sparse
Files".
"""

from __future__ import annotations

import os
import struct

from rootless.errors import LayerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

BLOCK = 512
MAX_EXTENDED = 1 << 20
MAX_SPARSE = 1 << 16
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s")
_ZERO = bytes(BLOCK)
_NO_DATA = frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))
REGULAR = frozenset((b"0", b"\0", b"7", b"S"))


class Entry:
    """One member: NAME and LINK as bytes as they stand in the archive, TIME in ns, XATTRS by name."""

    __slots__ = (
        "gid",
        "link",
        "major",
        "minor",
        "mode",
        "name",
        "size",
        "sparse",
        "time",
        "type",
        "uid",
        "xattrs",
    )

    def __init__(self) -> None:
        self.name = b""
        self.link = b""
        self.type = b"0"
        self.mode = self.uid = self.gid = self.size = self.time = self.major = self.minor = 0
        self.xattrs: dict[bytes, bytes] | None = None
        self.sparse: tuple[int, list[tuple[int, int]]] | None = None


def shown(name: bytes) -> str:
    """A member's name for a message."""
    return '"' + name.decode("utf-8", "backslashreplace") + '"'


def _number(field: bytes, what: str, name: bytes) -> int:
    """A numeric field: octal, or base-256 with the top bit set; raises LayerError."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big")
        if field[0] & 0x40:  # two's complement: negative
            raise LayerError(f"cannot unpack entry {shown(name)}: its {what} is negative")
        return value & ~(0x80 << (8 * len(field) - 8))
    digits = field.partition(b"\0")[0].strip(b" ")
    if not digits:
        return 0
    if digits.isdigit():
        try:
            return int(digits, 8)
        except ValueError:
            pass
    problem = "negative" if digits[:1] == b"-" else "no number"
    raise LayerError(f"cannot unpack entry {shown(name)}: its {what} is {problem}")


def _int(text: bytes) -> int:
    """A decimal number of sane length; raises ValueError."""
    if len(text) > 20:
        raise ValueError("too long")
    return int(text)


def _seconds(text: bytes) -> int:
    """Nanoseconds of a pax time such as ``1700000000.25``; raises ValueError."""
    whole, _, fraction = text.partition(b".")
    negative = whole[:1] == b"-"
    value = _int(whole) * 10**9
    part = _int((fraction + b"000000000")[:9]) if fraction else 0
    return value - part if negative else value + part


class TarReader:
    """Members one after the other: next(), then read_all(), copy() or skip() for the data."""

    def __init__(self, next_chunk: Callable[[], bytes]) -> None:
        self._next_chunk = next_chunk
        self._chunk = b""
        self._at = 0
        self._left = 0  # data of the current member that was not consumed
        self._pad = 0
        self._global: dict[bytes, bytes] = {}
        self._entry = Entry()
        self.entries = 0

    # bytes

    def _take(self, size: int) -> bytes:
        """SIZE bytes, or fewer at the end of the stream."""
        at = self._at
        chunk = self._chunk
        if len(chunk) - at >= size:
            self._at = at + size
            return chunk[at : at + size]
        parts = [chunk[at:]]
        size -= len(chunk) - at
        while size:
            chunk = self._next_chunk()
            if not chunk:
                self._chunk, self._at = b"", 0
                break
            parts.append(chunk[:size])
            self._chunk, self._at = chunk, min(size, len(chunk))
            size -= len(parts[-1])
        return b"".join(parts)

    def _exact(self, size: int) -> bytes:
        data = self._take(size)
        if len(data) != size:
            raise self._truncated()
        return data

    def _truncated(self) -> LayerError:
        name = self._entry.name
        where = f"in the middle of entry {shown(name)}" if name else "in the middle of a header"
        return LayerError(f"cannot unpack layer: the archive ends {where}")

    def _consume(self, size: int, fd: int) -> None:
        """Write SIZE bytes to FD, or drop them where FD is -1."""
        while size:
            available = len(self._chunk) - self._at
            if not available:
                self._chunk, self._at = self._next_chunk(), 0
                if not self._chunk:
                    raise self._truncated()
                continue
            count = min(size, available)
            if fd >= 0:
                view = memoryview(self._chunk)[self._at : self._at + count]
                while view:
                    view = view[os.write(fd, view) :]
            self._at += count
            size -= count

    def copy(self, fd: int) -> None:
        """Write the current member's data to FD; OSError is the descriptor's."""
        size = self._left
        at = self._at
        if size and len(self._chunk) - at >= size:
            written = os.write(fd, memoryview(self._chunk)[at : at + size])
            self._at = at + written
            size -= written
        self._consume(size, fd)
        self._left = 0

    def read_all(self) -> bytes:
        """The current member's data, of which the caller has seen the size."""
        data = self._exact(self._left)
        self._left = 0
        return data

    def copy_sparse(self, fd: int) -> None:
        """Write the current member's data to where its map says, and set the size."""
        assert self._entry.sparse is not None
        real, extents = self._entry.sparse
        for offset, size in extents:
            if size > self._left:
                raise LayerError(
                    f"cannot unpack entry {shown(self._entry.name)}: its sparse map does not fit"
                )
            os.lseek(fd, offset, os.SEEK_SET)
            self._consume(size, fd)
            self._left -= size
        os.ftruncate(fd, real)

    def skip(self) -> None:
        """Drop what is left of the current member's data."""
        self._consume(self._left, -1)
        self._left = 0

    def drain(self) -> None:
        """Read the stream to its end, for the digests."""
        while self._next_chunk():
            pass
        self._chunk, self._at = b"", 0

    # members

    def next(self) -> Entry | None:
        """The next member, valid until the call after; None at the end of the archive."""
        if self._left:
            self.skip()
        if self._pad:
            self._exact(self._pad)
            self._pad = 0
        pax: dict[bytes, bytes] | None = None
        long_name = long_link = None
        while True:
            fields = self._header()
            if fields is None:
                if pax is not None or long_name is not None or long_link is not None:
                    raise LayerError("cannot unpack layer: the archive ends after an extension")
                return None
            kind = fields[7]
            if kind in REGULAR or kind in _NO_DATA:
                break
            data = self._extension(fields)
            if kind == b"x":
                pax = _records(data, {} if pax is None else pax)
            elif kind == b"g":
                self._global = _records(data, self._global)
            elif kind == b"L":
                long_name = data.partition(b"\0")[0]
            elif kind == b"K":
                long_link = data.partition(b"\0")[0]
            else:
                raise LayerError(
                    f"cannot unpack entry {shown(fields[0].partition(NUL)[0])}: "
                    f"its type {kind.decode('latin-1')!r} is not known"
                )
        return self._member(fields, pax, long_name, long_link)

    def _header(self) -> tuple[bytes, ...] | None:
        block = self._take(BLOCK)
        if not block or block == _ZERO:
            return None
        if len(block) != BLOCK:
            self._entry.name = b""
            raise self._truncated()
        try:
            expected = int(block[148:156].strip(b" \0") or b"x", 8)
        except ValueError:
            expected = -1
        actual = sum(block) - sum(block[148:156]) + 256
        if expected != actual:
            raise LayerError(
                f"cannot unpack layer: the header after entry {shown(self._entry.name)} is damaged"
            )
        return _HEADER.unpack(block)

    def _extension(self, fields: tuple[bytes, ...]) -> bytes:
        name = fields[0].partition(NUL)[0]
        size = _number(fields[4], "size", name)
        if size > MAX_EXTENDED:
            raise LayerError(
                f"cannot unpack entry {shown(name)}: an extended header of {size} bytes is too large"
            )
        self._entry.name = name
        data = self._exact(size)
        self._exact(-size % BLOCK)
        return data

    def _member(
        self,
        fields: tuple[bytes, ...],
        pax: dict[bytes, bytes] | None,
        long_name: bytes | None,
        long_link: bytes | None,
    ) -> Entry:
        entry = self._entry
        name = fields[0].partition(NUL)[0]
        if fields[9][:6] == b"ustar\0" and fields[14][0]:
            name = fields[14].partition(NUL)[0] + b"/" + name
        entry.name = name if long_name is None else long_name
        entry.link = fields[8].partition(NUL)[0] if long_link is None else long_link
        kind = fields[7]
        entry.type = kind
        entry.xattrs = entry.sparse = None
        number = _number
        entry.mode = number(fields[1], "mode", name) & 0o7777
        entry.uid = number(fields[2], "owner", name)
        entry.gid = number(fields[3], "group", name)
        size = number(fields[4], "size", name)
        entry.time = number(fields[5], "time", name) * 10**9 if fields[5][0] < 0xFF else 0
        if kind in (b"3", b"4"):
            entry.major = number(fields[12], "device number", name)
            entry.minor = number(fields[13], "device number", name)
        if pax or self._global:
            size = self._apply({**self._global, **(pax or {})}, size)
        if kind in _NO_DATA:
            size = 0
        elif size >= 1 << 62:
            raise LayerError(f"cannot unpack entry {shown(entry.name)}: its size is absurd")
        entry.size = self._left = size
        self._pad = -size % BLOCK
        self.entries += 1
        if kind == b"S":
            self._gnu_sparse(fields)
        elif pax and b"GNU.sparse.major" in pax:
            self._pax_sparse(pax)
        elif pax and (b"GNU.sparse.map" in pax or b"GNU.sparse.size" in pax):
            raise LayerError(
                f"cannot unpack entry {shown(entry.name)}: "
                "sparse files of pax format 0.x are not supported"
            )
        return entry

    def _apply(self, pax: dict[bytes, bytes], size: int) -> int:
        """Let extended headers win over the ustar ones; the member's size."""
        entry = self._entry
        entry.name = pax.get(b"path", entry.name)
        entry.link = pax.get(b"linkpath", entry.link)
        try:
            if b"size" in pax:
                size = _int(pax[b"size"])
            if b"uid" in pax:
                entry.uid = _int(pax[b"uid"])
            if b"gid" in pax:
                entry.gid = _int(pax[b"gid"])
            if b"mtime" in pax:
                entry.time = _seconds(pax[b"mtime"])
        except ValueError:
            raise LayerError(
                f"cannot unpack entry {shown(entry.name)}: its extended header holds no number"
            ) from None
        if size < 0 or entry.uid < 0 or entry.gid < 0:
            raise LayerError(f"cannot unpack entry {shown(entry.name)}: a negative size or owner")
        for key, value in pax.items():
            if key[:13] == b"SCHILY.xattr.":
                if entry.xattrs is None:
                    entry.xattrs = {}
                entry.xattrs[key[13:]] = value
        return size

    def _bad_sparse(self) -> LayerError:
        return LayerError(f"cannot unpack entry {shown(self._entry.name)}: its sparse map is bad")

    def _checked_map(self, real: int, numbers: list[int]) -> None:
        extents = list(zip(numbers[::2], numbers[1::2]))
        end = 0
        for offset, size in extents:
            if offset < end or size < 0:
                raise self._bad_sparse()
            end = offset + size
        if end > real or real >= 1 << 62:
            raise self._bad_sparse()
        self._entry.sparse = (real, extents)

    def _gnu_sparse(self, fields: tuple[bytes, ...]) -> None:
        """Old GNU format: four extents in the header at 386, more in blocks of 21."""
        name = self._entry.name
        tail = fields[14] + fields[15]  # offsets 345..512
        numbers: list[int] = []
        area, more = tail[41:137], tail[137]
        real = _number(tail[138:150], "size", name)
        while True:
            for at in range(0, len(area) - 23, 24):
                if area[at] == 0:
                    break
                numbers.append(_number(area[at : at + 12], "sparse map", name))
                numbers.append(_number(area[at + 12 : at + 24], "sparse map", name))
            if not more:
                break
            if len(numbers) > 2 * MAX_SPARSE:
                raise self._bad_sparse()
            block = self._exact(BLOCK)
            area, more = block[:504], block[504]
        self._checked_map(real, numbers)

    def _pax_sparse(self, pax: dict[bytes, bytes]) -> None:
        """Pax format 1.0: the map is decimal lines in front of the data, padded to a block."""
        if pax[b"GNU.sparse.major"] != b"1" or pax.get(b"GNU.sparse.minor") != b"0":
            raise self._bad_sparse()
        self._entry.name = pax.get(b"GNU.sparse.name", self._entry.name)
        data = b""
        wanted = 1
        try:
            real = _int(pax[b"GNU.sparse.realsize"])
            while data.count(b"\n") < wanted:
                if self._left < BLOCK or len(data) > MAX_EXTENDED:
                    raise self._bad_sparse()
                data += self._exact(BLOCK)
                self._left -= BLOCK
                if wanted == 1 and b"\n" in data:
                    wanted = 1 + 2 * _int(data.partition(b"\n")[0])
                    if wanted < 1:
                        raise self._bad_sparse()
            self._checked_map(real, [_int(line) for line in data.split(b"\n")[1:wanted]])
        except (ValueError, KeyError):
            raise self._bad_sparse() from None


NUL = b"\0"


def _records(data: bytes, into: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Parse pax records ("<length> <key>=<value>\\n") over a copy of INTO; raises LayerError.

    A key without a value takes back what a header before said; an extended attribute may be empty.
    """
    out = dict(into)
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        digits = data[at:space] if space > 0 else b""
        length = int(digits) if digits.isdigit() else 0
        record = data[space + 1 : at + length]
        key, equals, value = record[:-1].partition(b"=")
        if length < 5 or at + length > len(data) or record[-1:] != b"\n" or not (equals and key):
            raise LayerError("cannot unpack layer: an extended header is malformed")
        if value or key.startswith(b"SCHILY.xattr."):
            out[key] = value
        else:
            out.pop(key, None)
        at += length
    return out
