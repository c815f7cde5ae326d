"""What a case is, the objects it finds, and how it says what it expects.

A case is a function without arguments that runs in a directory of its own and raises AssertionError (or
OSError) if the tree does not behave.  It names the objects it wants to find there; the runner calls it once for
each ORIGIN of these objects.  Only the standard library is known here: cases run inside the container's
namespaces, by the host's Python.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import stat
import time
from typing import Any, Callable, NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Where the objects of a case come from: made just now; unpacked in one lower layer; in two of them, the upper
# hiding (or, for directories, completing) what the lower has; from a layer, removed and made again.
ORIGINS = ("fresh", "lower", "both", "remade")
USER, STRANGER, GROUP = 1000, 1001, 2000
TEXT = b"0123456789"
MANY, CROWD = 5000, 800


class Entry(NamedTuple):
    """One file of a tree; KIND is "file", "dir", "symlink", "fifo" or "hardlink"."""

    kind: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    data: bytes = b""  # content, or where a link leads
    xattrs: tuple[tuple[str, bytes], ...] = ()


_BIG = bytes(range(256)) * 1024
_DIR = Entry("dir", 0o755)
# name -> what is there, by path; the first is the object itself
OBJECTS: dict[str, dict[str, Entry]] = {
    "file": {"file": Entry("file", data=TEXT)},
    "other": {"other": Entry("file", 0o600, data=b"other")},
    "empty": {"empty": Entry("file")},
    "big": {"big": Entry("file", data=_BIG)},
    "dir": {"dir": _DIR},
    "void": {"void": _DIR},
    "full": {"full": _DIR, "full/child": Entry("file", data=b"child"), "full/sub": _DIR},
    "deep": {"deep": _DIR, "deep/a": _DIR, "deep/a/b": _DIR, "deep/a/b/leaf": Entry("file", data=TEXT)},
    "link": {"link": Entry("symlink", 0o777, data=b"file")},
    "dangling": {"dangling": Entry("symlink", 0o777, data=b"nowhere")},
    "loop": {"loop": Entry("symlink", 0o777, data=b"loop")},
    "dirlink": {"dirlink": Entry("symlink", 0o777, data=b"dir")},
    "fifo": {"fifo": Entry("fifo", 0o640)},
    "twin": {"twin": Entry("file", data=TEXT), "twin2": Entry("hardlink", data=b"twin")},
    "mine": {"mine": Entry("file", 0o644, USER, USER, TEXT)},
    "suid": {"suid": Entry("file", 0o6755, USER, USER, TEXT)},
    "secret": {"secret": Entry("file", 0o600, data=TEXT)},
    "closed": {"closed": Entry("dir", 0o700), "closed/inner": Entry("file", data=TEXT)},
    "home": {"home": Entry("dir", 0o755, USER, USER), "home/own": Entry("file", 0o644, USER, USER, TEXT),
             "home/roots": Entry("file", 0o644, data=TEXT)},
    "sticky": {"sticky": Entry("dir", 0o1777), "sticky/mine": Entry("file", 0o666, USER, USER, TEXT),
               "sticky/theirs": Entry("file", 0o666, STRANGER, STRANGER, TEXT)},
    "shared": {"shared": Entry("dir", 0o2777, 0, GROUP)},
    "tagged": {"tagged": Entry("file", data=TEXT, xattrs=(("user.note", b"of the layer"),))},
    "script": {"script": Entry("file", 0o755, data=b"#!/bin/sh\nexit 7\n")},
    "many": {"many": _DIR, **{f"many/entry-{n:05}": Entry("file") for n in range(MANY)}},
    "crowd": {"crowd": _DIR, **{f"crowd/entry-{n:05}": Entry("file") for n in range(CROWD)}},
}  # fmt: skip


class Case(NamedTuple):
    """A check, and the objects that it finds."""

    name: str
    run: Callable[..., None]
    needs: tuple[str, ...]
    arguments: tuple[Any, ...] = ()


CASES: dict[str, Case] = {}


def case(*needs: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Make a function a case that finds the objects NEEDS (see OBJECTS)."""

    def register(function: Callable[[], None]) -> Callable[[], None]:
        _add(Case(function.__name__, function, needs))
        return function

    return register


def each(
    variants: Iterable[tuple[Any, ...]], *needs: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function one case for each tuple of arguments; words among them that name objects are needed."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        for arguments in variants:
            words = [str(getattr(word, "__name__", word)) for word in arguments]
            found = [word for word in words if word in OBJECTS]
            name = "-".join([function.__name__, *words])
            _add(Case(name, function, tuple(dict.fromkeys([*needs, *found])), arguments))
        return function

    return register


def _add(one: Case) -> None:
    assert one.name not in CASES, one.name
    CASES[one.name] = one


def entries_of(one: Case) -> dict[str, Entry]:
    """All that is in a case's directory."""
    return {path: entry for name in one.needs for path, entry in OBJECTS[name].items()}


def make(path: str, entry: Entry) -> None:
    """Make one object, as an unpacked layer has it but for the time."""
    if entry.kind == "dir":
        os.mkdir(path)
    elif entry.kind == "symlink":
        os.symlink(entry.data, path)
    elif entry.kind == "hardlink":
        os.link(os.path.join(os.path.dirname(path), os.fsdecode(entry.data)), path)
        return
    elif entry.kind == "fifo":
        os.mkfifo(path)
    else:
        write(path, entry.data)
    os.lchown(path, entry.uid, entry.gid)
    if entry.kind != "symlink":
        os.chmod(path, entry.mode)
    for name, value in entry.xattrs:
        os.setxattr(path, name, value)


# What cases do again and again.


def write(path: str, data: bytes, flags: int = os.O_WRONLY | os.O_CREAT) -> None:
    """Open PATH, write DATA in one go, close."""
    fd = os.open(path, flags, 0o666)
    try:
        assert os.write(fd, data) == len(data)
    finally:
        os.close(fd)


def read(path: str) -> bytes:
    """What is in the file PATH."""
    with open(path, "rb", buffering=0) as file:
        return file.read()


def fails(
    expected: int | tuple[int, ...], call: Callable[..., Any], *words: Any, **options: Any
) -> None:
    """CALL has to fail with that errno, or one of these."""
    allowed = expected if isinstance(expected, tuple) else (expected,)
    wanted = " or ".join(errno.errorcode[number] for number in allowed)
    try:
        result = call(*words, **options)
    except OSError as error:
        number = error.errno or 0
        assert number in allowed, f"{errno.errorcode.get(number, number)} instead of {wanted}"
        return
    raise AssertionError(f"it worked ({result!r}) instead of {wanted}")


def same(found: Any, expected: Any) -> None:
    """FOUND has to be EXPECTED."""
    assert found == expected, f"{_short(found)} instead of {_short(expected)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 300 else text[:300] + "…"


def mode(path: str) -> int:
    """Permission bits of PATH itself."""
    return stat.S_IMODE(os.lstat(path).st_mode)


def inode(path: str) -> int:
    """Inode number of PATH itself."""
    return os.lstat(path).st_ino


def missing(path: str) -> None:
    """Nothing may be at PATH, nor listed there."""
    fails(errno.ENOENT, os.lstat, path)
    parent, name = os.path.split(path)
    assert name not in os.listdir(parent or "."), f"{name} is listed"


def tick() -> None:
    """Wait until the coarse clock, which stamps inodes and is late by up to a tick, has passed this moment."""
    start = time.time_ns()
    while time.clock_gettime_ns(CLOCK_REALTIME_COARSE) <= start:
        time.sleep(0.001)


class Changed:
    """Afterwards ``mtime`` and ``ctime`` tell which of PATH's times have moved."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.mtime = self.ctime = False

    def __enter__(self) -> Changed:
        self._before = os.lstat(self._path)
        tick()
        return self

    def __exit__(self, *_exception: object) -> None:
        after = os.lstat(self._path)
        self.mtime = after.st_mtime_ns > self._before.st_mtime_ns
        self.ctime = after.st_ctime_ns > self._before.st_ctime_ns

    @property
    def both(self) -> tuple[bool, bool]:
        return self.mtime, self.ctime


def in_child(function: Callable[..., Any], *words: Any) -> Any:
    """Run FUNCTION in a process of its own; what it returns or raises."""
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                answer = (True, function(*words))
            except Exception as error:
                number = error.errno if isinstance(error, OSError) else None
                answer = (False, (number, str(error) or type(error).__name__))
            os.write(send, pickle.dumps(answer))
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as stream:
        data = stream.read()
    os.waitpid(pid, 0)
    assert data, "the process ended"
    worked, value = pickle.loads(data)
    if worked:
        return value
    number, text = value
    if number is not None:
        raise OSError(number, text)
    raise AssertionError(text)


def as_user(
    function: Callable[..., Any], *words: Any, uid: int = USER, groups: tuple[int, ...] = ()
) -> Any:
    """Run FUNCTION as UID (and the group of that number) without any capability."""

    def child() -> Any:
        os.setgroups(list(groups))
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        return function(*words)

    return in_child(child)


# System calls that Python has no name for.

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
CLOCK_REALTIME_COARSE = 5
AT_SYMLINK_FOLLOW = 0x400
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2


def checked(result: int) -> int:
    """RESULT, or the error that the last call of libc left."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def renameat2(source: str, target: str, flags: int) -> None:
    """rename with flags."""
    checked(libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags))


def linkat(source: str, target: str, flags: int) -> None:
    """link with flags, which os.link does not pass on."""
    checked(libc.linkat(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags))


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


def utimensat(path: str, atime: tuple[int, int], mtime: tuple[int, int]) -> None:
    """Set times as (seconds, nanoseconds), where the latter may be UTIME_NOW or UTIME_OMIT."""
    times = (_Timespec * 2)(atime, mtime)
    checked(libc.utimensat(AT_FDCWD, os.fsencode(path), times, 0))


class Dirent(NamedTuple):
    """An entry as readdir gives it."""

    name: str
    inode: int
    kind: int


class _Dirent(ctypes.Structure):
    _fields_ = [
        ("d_ino", ctypes.c_uint64),
        ("d_off", ctypes.c_int64),
        ("d_reclen", ctypes.c_ushort),
        ("d_type", ctypes.c_ubyte),
        ("d_name", ctypes.c_char * 256),
    ]


libc.fdopendir.restype = ctypes.c_void_p
libc.readdir64.restype = ctypes.POINTER(_Dirent)
libc.telldir.restype = ctypes.c_long
for _name in ("readdir64", "rewinddir", "closedir", "telldir"):
    getattr(libc, _name).argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]


class Directory:
    """A directory stream of the C library."""

    def __init__(self, path: str) -> None:
        self._stream = libc.fdopendir(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        assert self._stream

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *_exception: object) -> None:
        libc.closedir(self._stream)

    def __iter__(self) -> Iterator[Dirent]:
        while True:
            ctypes.set_errno(0)
            found = libc.readdir64(self._stream)
            if not found:
                checked(-1 if ctypes.get_errno() else 0)
                return
            entry = found.contents
            yield Dirent(os.fsdecode(entry.d_name), entry.d_ino, entry.d_type)

    def rewind(self) -> None:
        libc.rewinddir(self._stream)

    def tell(self) -> int:
        return int(libc.telldir(self._stream))

    def seek(self, position: int) -> None:
        libc.seekdir(self._stream, position)
