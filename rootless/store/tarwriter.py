"""A streaming tar writer: pax where a field does not fit, ustar else.

Owns the archive's syntax.  What is written is the same bytes for the same entries, in any process and at any
time.  Extended attributes go as ``SCHILY.xattr.`` records, as every container tool reads them.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Callable

BLOCK = 512
_ZERO = bytes(BLOCK)
_PIECE = 1 << 20
_TYPES = {
    stat.S_IFREG: b"0",
    stat.S_IFDIR: b"5",
    stat.S_IFLNK: b"2",
    stat.S_IFIFO: b"6",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
}
_NODES = {b"c": b"3", b"b": b"4"}


class TarWriter:
    """Writes entries by WRITE(bytes); hard links are found by device and inode, as long as one writer lives.

    NANOSECONDS keeps fractions of times in pax records; image layers have whole seconds.
    """

    def __init__(self, write: Callable[[bytes], object], *, nanoseconds: bool = False) -> None:
        self._write = write
        self._nanoseconds = nanoseconds
        self._links: dict[tuple[int, int], bytes] = {}
        self.entries = 0

    def header(
        self,
        name: bytes,
        kind: bytes,
        *,
        mode: int = 0,
        uid: int = 0,
        gid: int = 0,
        size: int = 0,
        time_ns: int = 0,
        link: bytes = b"",
        device: tuple[int, int] = (0, 0),
        xattrs: Mapping[bytes, bytes] | None = None,
    ) -> None:
        """One header, preceded by a pax header where ustar cannot say it all."""
        pax: dict[bytes, bytes] = {}
        seconds, fraction = divmod(time_ns, 1_000_000_000)
        for key, value in sorted((xattrs or {}).items()):
            pax[b"SCHILY.xattr." + key] = value
        if len(name) > 100 or not name.isascii():
            pax[b"path"] = name
        if len(link) > 100 or not link.isascii():
            pax[b"linkpath"] = link
        if fraction and self._nanoseconds:
            pax[b"mtime"] = b"%d.%09d" % (seconds, fraction)
        elif not 0 <= seconds < 8**11:
            pax[b"mtime"] = b"%d" % seconds
        for key, number, most in (
            (b"uid", uid, 8**7),
            (b"gid", gid, 8**7),
            (b"size", size, 8**11),
        ):
            if number >= most:
                pax[key] = b"%d" % number
        if pax:
            data = b"".join(_record(key, value) for key, value in pax.items())
            base = name.rstrip(b"/").rpartition(b"/")[2][:80].decode("ascii", "replace")
            self._block(b"PaxHeaders/" + base.replace("�", "_").encode(), b"x", 0o644, len(data))
            self._write(data + bytes(-len(data) % BLOCK))
        self._block(name, kind, mode, size, uid, gid, seconds, link, device)
        self.entries += 1

    def _block(
        self,
        name: bytes,
        kind: bytes,
        mode: int,
        size: int,
        uid: int = 0,
        gid: int = 0,
        seconds: int = 0,
        link: bytes = b"",
        device: tuple[int, int] = (0, 0),
    ) -> None:
        head = b"".join(
            (
                name[:100].ljust(100, b"\0"),
                _octal(mode & 0o7777, 8),
                _octal(uid, 8),
                _octal(gid, 8),
                _octal(size, 12),
                _octal(max(0, seconds), 12),
                b" " * 8,
                kind,
                link[:100].ljust(100, b"\0"),
                b"ustar\00000",
                bytes(64),
                _octal(device[0], 8),
                _octal(device[1], 8),
                bytes(167),
            )
        )
        self._write(head[:148] + b"%06o\0 " % sum(head) + head[156:])

    def inode(
        self,
        name: bytes,
        info: os.stat_result,
        directory: int,
        base: bytes,
        *,
        owner: tuple[int, int] | None = None,
        node: tuple[bytes, int, int] | None = None,
        xattrs: Mapping[bytes, bytes] | None = None,
    ) -> None:
        """The entry BASE of the open DIRECTORY under NAME; sockets are left out.

        OWNER, where given, stands in for the inode's own; with NODE (b"c" or b"b", major, minor) it is a
        device.  A file that shrinks meanwhile is filled up with zeros, one that grows is cut.
        """
        kind = _TYPES.get(stat.S_IFMT(info.st_mode))
        if kind is None:
            return
        uid, gid = owner or (info.st_uid, info.st_gid)
        common: dict[str, Any] = {
            "mode": info.st_mode,
            "uid": uid,
            "gid": gid,
            "time_ns": info.st_mtime_ns,
        }
        if info.st_nlink > 1 and kind != b"5":
            key = (info.st_dev, info.st_ino)
            first = self._links.get(key)
            if first is not None:
                self.header(name, b"1", link=first, **common)
                return
            self._links[key] = name
        if node is not None:
            self.header(name, _NODES[node[0]], device=node[1:], **common)
        elif kind == b"0":
            fd = os.open(
                base,
                os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK,
                dir_fd=directory,
            )
            try:
                self.header(name, kind, size=info.st_size, xattrs=xattrs, **common)
                self._content(fd, info.st_size)
            finally:
                os.close(fd)
        elif kind == b"2":
            self.header(name, kind, link=os.readlink(base, dir_fd=directory), **common)
        elif kind == b"5":
            self.header(name + b"/", kind, xattrs=xattrs, **common)
        else:
            device = (os.major(info.st_rdev), os.minor(info.st_rdev))
            self.header(name, kind, device=device if kind in b"34" else (0, 0), **common)

    def opened(
        self,
        name: bytes,
        info: os.stat_result,
        fd: int,
        link: bytes = b"",
        owner: tuple[int, int] | None = None,
    ) -> None:
        """The inode that FD (O_PATH) names under NAME, no directory; LINK is a symbolic link's target.

        OWNER, where given, stands in for the inode's own.
        """
        uid, gid = owner or (info.st_uid, info.st_gid)
        kind = _TYPES.get(stat.S_IFMT(info.st_mode))
        if kind is None:
            return
        size = info.st_size if kind == b"0" else 0
        self.header(
            name,
            kind,
            mode=info.st_mode,
            uid=uid,
            gid=gid,
            size=size,
            time_ns=info.st_mtime_ns,
            link=link,
            device=(os.major(info.st_rdev), os.minor(info.st_rdev)) if kind in b"34" else (0, 0),
        )
        if size:
            # Through /proc the descriptor stands for the inode itself, not for a name to look up.
            content = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                self._content(content, size)
            finally:
                os.close(content)

    def empty(self, name: bytes) -> None:
        """An empty regular file: a whiteout."""
        self.header(name, b"0", mode=0o600)

    def _content(self, fd: int, size: int) -> None:
        left = size
        while left:
            data = os.read(fd, min(left, _PIECE))
            if not data:
                data = bytes(min(left, _PIECE))
            self._write(data)
            left -= len(data)
        if size % BLOCK:
            self._write(bytes(-size % BLOCK))

    def data(self, name: bytes, content: bytes, *, mode: int = 0o644) -> None:
        """A regular file of which the content is at hand."""
        self.header(name, b"0", mode=mode, size=len(content))
        self._write(content + bytes(-len(content) % BLOCK))

    def close(self) -> None:
        """The end of the archive."""
        self._write(_ZERO * 2)


def _octal(number: int, width: int) -> bytes:
    """NUMBER in octal; zero where it does not fit (a pax record has it then)."""
    text = b"%0*o" % (width - 1, number)
    return (text if len(text) < width else b"0" * (width - 1)) + b"\0"


def _record(key: bytes, value: bytes) -> bytes:
    """A pax record: its own length in decimal, which counts itself."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest
