"""Reading directories, small and large, still and changing; and locks."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

from .harness import (
    CROWD,
    MANY,
    Directory,
    case,
    each,
    fails,
    in_child,
    inode,
    missing,
    same,
    write,
)

_TYPES = {stat.S_IFREG: 8, stat.S_IFDIR: 4, stat.S_IFLNK: 10, stat.S_IFIFO: 1}
NAMES = [f"entry-{number:05}" for number in range(MANY)]
SOME = NAMES[:CROWD]


def names(directory: Directory) -> list[str]:
    return sorted(entry.name for entry in directory if entry.name not in (".", ".."))


@case("dir", "full")
def dots_are_listed() -> None:
    with Directory("dir") as directory:
        same(sorted(entry.name for entry in directory), [".", ".."])
    with Directory("full") as directory:
        same(sorted(entry.name for entry in directory), [".", "..", "child", "sub"])


@case("file", "dir", "full", "link", "fifo", "dangling")
def types_are_listed() -> None:
    write("new", b"")
    with Directory(".") as directory:
        for entry in directory:
            wanted = _TYPES[stat.S_IFMT(os.lstat(entry.name).st_mode)]
            assert entry.kind in (wanted, 0), (entry, wanted)


@case("file", "dir", "full", "link", "fifo")
def inodes_are_listed() -> None:
    os.chmod("file", 0o600)
    write("new", b"")
    with Directory(".") as directory:
        found = {entry.name: entry.inode for entry in directory if entry.name not in (".", "..")}
    same(found, {name: inode(name) for name in found})


@case("full")
def inodes_of_the_dots() -> None:
    with Directory("full") as directory:
        found = {entry.name: entry.inode for entry in directory}
    same((found["."], found[".."]), (inode("full"), inode(".")))


@case("full", "file")
def changes_are_listed_at_once() -> None:
    write("full/new", b"")
    same(sorted(os.listdir("full")), ["child", "new", "sub"])
    os.unlink("full/child")
    same(sorted(os.listdir("full")), ["new", "sub"])
    os.rename("file", "full/file")
    same(sorted(os.listdir("full")), ["file", "new", "sub"])
    os.rename("full/file", "full/sub/file")
    same((sorted(os.listdir("full")), os.listdir("full/sub")), (["new", "sub"], ["file"]))
    os.symlink("x", "full/child")
    same(sorted(os.listdir("full")), ["child", "new", "sub"])


@case("many")
def a_large_directory_is_listed_whole() -> None:
    with Directory("many") as directory:
        same(names(directory) == NAMES, True)
        directory.rewind()
        same(names(directory) == NAMES, True)


@case("crowd")
def a_large_directory_with_changes() -> None:
    for name in SOME[::500]:
        os.unlink(f"crowd/{name}")
    for number in range(10):
        write(f"crowd/new-{number}", b"")
    with Directory("crowd") as directory:
        found = names(directory)
    same(found == sorted(set(SOME) - set(SOME[::500]) | {f"new-{n}" for n in range(10)}), True)


@case("crowd")
def removing_while_reading() -> None:
    with Directory("crowd") as directory:
        for entry in directory:
            if entry.name not in (".", ".."):
                os.unlink(f"crowd/{entry.name}")
    same(os.listdir("crowd"), [])
    os.rmdir("crowd")


@case("crowd")
def making_while_reading() -> None:
    """What was there from the first to the last is listed once; what was made may be, once."""
    seen: list[str] = []
    with Directory("crowd") as directory:
        for number, entry in enumerate(directory):
            seen.append(entry.name)
            if number % 250 == 0:
                write(f"crowd/new-{number}", b"")
    same(len(seen), len(set(seen)))
    same(set(SOME) <= set(seen), True)


@case("crowd")
def places_are_returned_to() -> None:
    with Directory("crowd") as directory:
        stream = iter(directory)
        for _ in range(400):
            next(stream)
        place = directory.tell()
        after = [next(stream).name for _ in range(200)]
        end = [entry.name for entry in directory]
        directory.seek(place)
        same([next(stream).name for _ in range(200)] == after, True)
        same([entry.name for entry in directory] == end, True)


@case("full")
def a_stream_rewound_shows_what_is_new() -> None:
    with Directory("full") as directory:
        same(names(directory), ["child", "sub"])
        write("full/new", b"")
        os.unlink("full/child")
        directory.rewind()
        same(names(directory), ["new", "sub"])


@case("full")
def two_streams_of_one_directory() -> None:
    with Directory("full") as one, Directory("full") as two:
        first = next(iter(one)).name
        same(names(two), ["child", "sub"])
        same(sorted([first, *(entry.name for entry in one)]), [".", "..", "child", "sub"])


@case("dir")
def a_removed_directory_is_empty() -> None:
    fd = os.open("dir", os.O_RDONLY)
    os.rmdir("dir")
    same(os.listdir(fd), [])
    fails(errno.ENOENT, os.open, "new", os.O_CREAT, dir_fd=fd)
    os.close(fd)
    missing("dir")


@case("deep")
def relative_to_a_descriptor() -> None:
    fd = os.open("deep/a", os.O_RDONLY | os.O_DIRECTORY)
    same(os.listdir(fd), ["b"])
    os.mkdir("new", dir_fd=fd)
    os.rename("b/leaf", "new/leaf", src_dir_fd=fd, dst_dir_fd=fd)
    os.symlink("new/leaf", "link", dir_fd=fd)
    same(os.stat("link", dir_fd=fd).st_size, 10)
    os.fchdir(fd)
    same(sorted(os.listdir()), ["b", "link", "new"])
    os.close(fd)
    os.chdir("new")
    same(os.getcwd().endswith("/deep/a/new"), True)


@case()
def a_directory_that_grows_and_shrinks() -> None:
    for number in range(300):
        write(f"f{number}", b"")
    same(len(os.listdir()), 300)
    for number in range(0, 300, 2):
        os.unlink(f"f{number}")
    same(sorted(os.listdir()), sorted(f"f{number}" for number in range(1, 300, 2)))


@case()
def a_deep_tree() -> None:
    here = os.getcwd()
    for number in range(60):
        os.mkdir(f"d{number}")
        os.chdir(f"d{number}")
    write("leaf", b"")
    os.chdir(here)
    path = "/".join(f"d{number}" for number in range(60))
    same(os.listdir(path), ["leaf"])
    os.unlink(f"{path}/leaf")
    os.removedirs(path)
    same(os.path.exists("d0"), False)


# Locks: another process asks.


def _flock(path: str, how: int) -> bool:
    """Whether another process gets that lock at once."""

    def child() -> bool:
        fd = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    return bool(in_child(child))


@case("file", "dir")
def flock_excludes() -> None:
    for path in ("file", "dir"):
        fd = os.open(path, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        same((_flock(path, fcntl.LOCK_EX), _flock(path, fcntl.LOCK_SH)), (False, False))
        fcntl.flock(fd, fcntl.LOCK_SH)
        same((_flock(path, fcntl.LOCK_EX), _flock(path, fcntl.LOCK_SH)), (False, True))
        os.close(fd)
        same(_flock(path, fcntl.LOCK_EX), True)


@case("file")
def flock_holds_through_a_write() -> None:
    fd = os.open("file", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.write(fd, b"x")
    os.chmod("file", 0o600)
    same(_flock("file", fcntl.LOCK_SH), False)
    os.rename("file", "new")
    same(_flock("new", fcntl.LOCK_SH), False)
    os.close(fd)


def _range(path: str, start: int, length: int, how: int = fcntl.LOCK_EX) -> bool:
    """Whether another process gets a lock on these bytes at once."""

    def child() -> bool:
        fd = os.open(path, os.O_RDWR)
        try:
            fcntl.lockf(fd, how | fcntl.LOCK_NB, length, start)
        except OSError as error:
            assert error.errno in (errno.EAGAIN, errno.EACCES)
            return False
        return True

    return bool(in_child(child))


@case("file")
def ranges_are_locked() -> None:
    fd = os.open("file", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX, 5, 0)
    same((_range("file", 0, 1), _range("file", 4, 10), _range("file", 5, 5)), (False, False, True))
    fcntl.lockf(fd, fcntl.LOCK_UN, 2, 0)
    same((_range("file", 0, 2), _range("file", 2, 1)), (True, False))
    fcntl.lockf(fd, fcntl.LOCK_SH, 5, 0)
    same((_range("file", 0, 5, fcntl.LOCK_SH), _range("file", 0, 5)), (True, False))
    os.close(fd)
    same(_range("file", 0, 0), True)


@case("file")
def the_holder_of_a_lock_is_told() -> None:
    fd = os.open("file", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX, 5, 2)

    def ask() -> tuple[int, int, int, int]:
        mine = os.open("file", os.O_RDWR)
        request = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, start, length, pid = struct.unpack(
            "hhqqi4x", fcntl.fcntl(mine, fcntl.F_GETLK, request)
        )
        return kind, start, length, pid

    same(in_child(ask), (fcntl.F_WRLCK, 2, 5, os.getpid()))
    os.close(fd)


@case("twin")
def both_names_are_locked() -> None:
    fd = os.open("twin", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    same((_flock("twin2", fcntl.LOCK_EX), _range("twin2", 0, 1)), (False, False))
    os.close(fd)


@each([("open",), ("ofd",)], "file")
def locks_of_descriptors_exclude_each_other(how: str) -> None:
    one, two = os.open("file", os.O_RDWR), os.open("file", os.O_RDWR)
    if how == "open":
        fcntl.flock(one, fcntl.LOCK_EX)
        fails(errno.EAGAIN, fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        set_lock = 37  # F_OFD_SETLK
        fcntl.fcntl(one, set_lock, wanted)
        fails((errno.EAGAIN, errno.EACCES), fcntl.fcntl, two, set_lock, wanted)
    os.close(one)
    os.close(two)
