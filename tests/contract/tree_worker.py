"""Does the same in two trees and compares: ``tree_worker.py MERGED PLAIN``.

Runs as root of a container's namespaces.  Descriptor 3 brings one request a line, a JSON list of a name and
arguments, and takes one answer.  An operation (see Side) answers with its results in both trees, where an error
is ["error", name of the errno].
"""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import socket
import stat
import sys
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from posix_cases import harness

FLAGS = {"noreplace": harness.RENAME_NOREPLACE, "exchange": harness.RENAME_EXCHANGE, "": 0}
RENAMES = ("rename", "exchange")
CHANGED = "changed"


class Side:
    """One of the trees; each public method is an operation, on paths below its root.

    Nothing blocks (FIFOs are opened with O_NONBLOCK), and every result is something that JSON has.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._held: dict[int, int] = {}

    def do(self, name: str, *arguments: Any) -> Any:
        """Run the operation NAME; its result or ["error", errno]."""
        os.chdir(self.root)
        try:
            return getattr(self, name)(*arguments)
        except OSError as error:
            number = errno.EEXIST if error.errno == errno.ENOTEMPTY else error.errno or 0
            return ["error", errno.errorcode.get(number, str(number))]

    def release(self) -> None:
        """Close all that is held."""
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()

    # What is made and removed.

    def create(self, path: str, mode: int, exclusive: bool) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | (os.O_EXCL if exclusive else 0)
        os.close(os.open(path, flags, mode))

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(path, mode)

    def mkfifo(self, path: str) -> None:
        os.mkfifo(path, 0o644)

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, path)

    def link(self, source: str, target: str) -> None:
        os.link(source, target, follow_symlinks=False)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def rename(self, source: str, target: str, flags: str) -> None:
        harness.renameat2(source, target, FLAGS[flags])

    # Content.

    def write(self, path: str, at: int, text: str) -> int:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            return os.pwrite(fd, text.encode("latin-1"), at)
        finally:
            os.close(fd)

    def append(self, path: str, text: str) -> int:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
        try:
            return os.write(fd, text.encode("latin-1"))
        finally:
            os.close(fd)

    def replace(self, path: str, text: str) -> int:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, 0o644)
        try:
            return os.write(fd, text.encode("latin-1"))
        finally:
            os.close(fd)

    def truncate(self, path: str, size: int) -> None:
        os.truncate(path, size)
        os.utime(path)  # whether the same size moves the time is the filesystem's affair

    def map(self, path: str, at: int, text: str) -> int:
        """Write through a shared mapping, as far as the file goes."""
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        try:
            size = os.fstat(fd).st_size
            data = text.encode("latin-1")[: max(0, size - at)]
            if data:
                with mmap.mmap(fd, size) as view:
                    view[at : at + len(data)] = data
            return len(data)
        finally:
            os.close(fd)

    def read(self, path: str) -> str:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return _content(fd)
        finally:
            os.close(fd)

    # Metadata.

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(path, mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(path, uid, gid, follow_symlinks=False)

    def utimens(self, path: str, atime: int, mtime: int) -> None:
        os.utime(path, ns=(atime, mtime), follow_symlinks=False)

    def setxattr(self, path: str, name: str, text: str, flags: int) -> None:
        os.setxattr(path, name, text.encode("latin-1"), flags)

    def removexattr(self, path: str, name: str) -> None:
        os.removexattr(path, name)

    # Looking.

    def stat(self, path: str) -> Any:
        return _looks(os.lstat(path))

    def follow(self, path: str) -> Any:
        return _looks(os.stat(path))

    def readlink(self, path: str) -> str:
        return os.readlink(path)

    def readdir(self, path: str) -> list[str]:
        return sorted(os.listdir(path or "."))

    def xattrs(self, path: str) -> Any:
        return _xattrs(path)

    # Files held open, whatever becomes of their names.

    def hold(self, slot: int, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        if slot in self._held:
            os.close(self._held.pop(slot))
        self._held[slot] = fd

    def held_write(self, slot: int, at: int, text: str) -> int:
        return os.pwrite(self._fd(slot), text.encode("latin-1"), at)

    def held_truncate(self, slot: int, size: int) -> None:
        os.ftruncate(self._fd(slot), size)
        os.utime(self._fd(slot))

    def held_chmod(self, slot: int, mode: int) -> None:
        os.fchmod(self._fd(slot), mode)

    def held_look(self, slot: int) -> Any:
        fd = self._fd(slot)
        info = os.fstat(fd)
        return [*_looks(info), _content(fd) if stat.S_ISREG(info.st_mode) else ""]

    def _fd(self, slot: int) -> int:
        if slot not in self._held:
            raise OSError(errno.EBADF, "nothing is held there")
        return self._held[slot]


def _content(fd: int) -> str:
    """All of an open file, from its start if it has one."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return os.read(fd, 100).decode("latin-1")
    parts = []
    at = 0
    while True:
        part = os.pread(fd, 1 << 20, at)
        if not part:
            return b"".join(parts).decode("latin-1")
        parts.append(part)
        at += len(part)


def _looks(info: os.stat_result) -> list[Any]:
    """What a stat has to say; sizes and link counts of directories are the filesystem's affair."""
    plain = not stat.S_ISDIR(info.st_mode)
    own = [info.st_size, info.st_nlink] if plain else []
    return [stat.filemode(info.st_mode), info.st_uid, info.st_gid, *own]


def _xattrs(path: str) -> dict[str, str]:
    names = os.listxattr(path, follow_symlinks=False)
    return {
        name: os.getxattr(path, name, follow_symlinks=False).decode("latin-1") for name in names
    }


def _fail(error: OSError) -> None:
    raise error


class Found(NamedTuple):
    """One object of a tree, as far as both trees have to agree."""

    looks: list[Any]
    mtime: str
    content: str
    xattrs: dict[str, str]
    links: list[str]  # the first of the names that share its inode


def survey(root: str, when: int) -> dict[str, Found]:
    """Everything below ROOT, but not ROOT; times after WHEN (in seconds) are all the same."""
    found: dict[str, Found] = {}
    first: dict[tuple[int, int], str] = {}
    names: list[str] = []
    for where, dirs, files in os.walk(root, onerror=_fail):
        names += [os.path.relpath(os.path.join(where, name), root) for name in dirs + files]
    for name in sorted(names):
        path = os.path.join(root, name)
        info = os.lstat(path)
        content = ""
        if stat.S_ISREG(info.st_mode):
            fd = os.open(path, os.O_RDONLY)
            content = _content(fd)
            os.close(fd)
        elif stat.S_ISLNK(info.st_mode):
            content = os.readlink(path)
        mtime = CHANGED if info.st_mtime > when else str(info.st_mtime_ns)
        one = first.setdefault((info.st_dev, info.st_ino), name)
        found[name] = Found(_looks(info), mtime, content, _xattrs(path), [one])
    return found


def differences(merged: str, plain: str, when: int, ignored: list[str]) -> list[str]:
    """Where the trees differ, in sentences; fields of Found in IGNORED do not count."""
    ours, theirs = survey(merged, when), survey(plain, when)
    said = [f"{name!r} is missing" for name in theirs if name not in ours]
    said += [f"{name!r} should not be" for name in ours if name not in theirs]
    for name in ours.keys() & theirs.keys():
        for field in Found._fields:
            one, two = getattr(ours[name], field), getattr(theirs[name], field)
            if one != two and field not in ignored:
                said.append(f"{field} of {name!r} is {one!r} instead of {two!r}")
    return sorted(said)


def build(root: str, entries: list[list[Any]], when: int) -> None:
    """Make the plain tree from (path, fields of harness.Entry), parents first, all of the time WHEN."""
    os.mkdir(root, 0o755)
    for path, kind, mode, uid, gid, data, xattrs in entries:
        values = tuple((name, value.encode("latin-1")) for name, value in xattrs)
        entry = harness.Entry(kind, mode, uid, gid, data.encode("latin-1"), values)
        harness.make(os.path.join(root, path), entry)
    for path, *_ in reversed(entries):
        os.utime(os.path.join(root, path), (when, when), follow_symlinks=False)


def fingerprint(paths: list[str]) -> str:
    """A digest of all that the trees PATHS hold, times of access aside."""
    total = hashlib.sha256()
    for path in paths:
        for where, dirs, files in os.walk(path, onerror=_fail):
            dirs.sort()
            for name in sorted(dirs + files):
                full = os.path.join(where, name)
                info = os.lstat(full)
                said = [full, info.st_mode, info.st_uid, info.st_gid, info.st_rdev, info.st_nlink]
                said += [
                    info.st_mtime_ns,
                    info.st_ctime_ns,
                    info.st_ino,
                    sorted(_xattrs(full).items()),
                ]
                total.update(repr(said).encode())
                if stat.S_ISREG(info.st_mode):
                    total.update(harness.read(full))
    return total.hexdigest()


def serve(merged: str, plain: str) -> None:
    """Answer requests until there are no more."""
    os.umask(0o022)
    sides = Side(merged), Side(plain)
    with socket.socket(fileno=3) as connection, connection.makefile("rwb") as stream:
        for line in stream:
            name, *arguments = json.loads(line)
            answer: Any
            if name == "build":
                answer = build(plain, *arguments)
            elif name == "differences":
                answer = differences(merged, plain, *arguments)
            elif name == "fingerprint":
                answer = fingerprint(*arguments)
            elif name == "release":
                answer = [side.release() for side in sides]
            else:
                answer = [sides[0].do(name, *arguments)]
                # What the driver refuses with EXDEV is refused in both: whoever moves will copy instead.
                skipped = name == "rename" and answer[0] == ["error", "EXDEV"]
                answer.append(answer[0] if skipped else sides[1].do(name, *arguments))
            stream.write(json.dumps(answer).encode() + b"\n")
            stream.flush()


if __name__ == "__main__":
    serve(*sys.argv[1:])
