"""open and creat: flags, what is made, and what they refuse."""

from __future__ import annotations

import errno
import os
import stat

from .harness import (
    AT_SYMLINK_FOLLOW,
    TEXT,
    Changed,
    case,
    each,
    fails,
    in_child,
    linkat,
    missing,
    mode,
    read,
    same,
    write,
)

CREAT = os.O_WRONLY | os.O_CREAT
TYPES = ("file", "dir", "full", "link", "dangling", "fifo")


def opened(path: str, flags: int, bits: int = 0o666) -> int:
    """Open and close; 0, so that a success is no descriptor left open."""
    os.close(os.open(path, flags, bits))
    return 0


@case()
def creat_makes_an_empty_file() -> None:
    os.umask(0)
    opened("new", CREAT, 0o640)
    info = os.lstat("new")
    same(stat.S_ISREG(info.st_mode), True)
    same((info.st_size, info.st_nlink, info.st_uid, info.st_gid), (0, 1, 0, 0))
    same(mode("new"), 0o640)
    same(os.listdir(), ["new"])


@case()
def creat_obeys_the_umask() -> None:
    os.umask(0o027)
    opened("new", CREAT, 0o777)
    same(mode("new"), 0o750)


@case("dir")
def creat_moves_the_times_of_the_parent() -> None:
    with Changed("dir") as parent:
        opened("dir/new", CREAT)
    same(parent.both, (True, True))


@case("file")
def creat_leaves_what_exists() -> None:
    before = os.lstat("file")
    opened("file", CREAT, 0o777)
    after = os.lstat("file")
    same(
        (after.st_size, after.st_mode, after.st_mtime_ns),
        (before.st_size, before.st_mode, before.st_mtime_ns),
    )
    same(read("file"), TEXT)


@each([(kind,) for kind in TYPES])
def excl_refuses(kind: str) -> None:
    fails(errno.EEXIST, opened, kind, CREAT | os.O_EXCL)


@case("file")
def excl_makes_what_was_removed() -> None:
    os.unlink("file")
    opened("file", CREAT | os.O_EXCL)
    same(os.lstat("file").st_size, 0)


@case("file")
def trunc_empties() -> None:
    with Changed("file") as file:
        opened("file", os.O_WRONLY | os.O_TRUNC)
    same(file.both, (True, True))
    same(read("file"), b"")


@case("file")
def trunc_keeps_owner_and_mode() -> None:
    os.chmod("file", 0o640)
    os.chown("file", 5, 6)
    opened("file", CREAT | os.O_TRUNC, 0o777)
    info = os.lstat("file")
    same((mode("file"), info.st_uid, info.st_gid), (0o640, 5, 6))


@case("big")
def trunc_then_write_shows_nothing_old() -> None:
    write("big", b"new", os.O_WRONLY | os.O_TRUNC)
    same(read("big"), b"new")


@case("dangling")
def creat_follows_a_dangling_link() -> None:
    write("dangling", b"x")
    same(read("nowhere"), b"x")
    same(os.readlink("dangling"), "nowhere")


@case("link", "file")
def writing_through_a_link() -> None:
    write("link", b"link", os.O_WRONLY | os.O_TRUNC)
    same(read("file"), b"link")
    same(os.readlink("link"), "file")


@case()
def open_of_nothing() -> None:
    fails(errno.ENOENT, opened, "none", os.O_RDONLY)
    fails(errno.ENOENT, opened, "none/below", CREAT)
    fails(errno.ENOENT, opened, "", os.O_RDONLY)


@each([("O_WRONLY",), ("O_RDWR",), ("O_CREAT",), ("O_TRUNC",), ("O_APPEND",)], "dir")
def directories_are_not_opened_for_writing(flag: str) -> None:
    flags = getattr(os, flag)
    fails(
        errno.EISDIR,
        opened,
        "dir",
        flags if flag in ("O_WRONLY", "O_RDWR", "O_CREAT") else flags | os.O_WRONLY,
    )


@each([(kind,) for kind in ("file", "link", "fifo")], "file")
def no_directory_on_the_way(kind: str) -> None:
    fails(errno.ENOTDIR, opened, f"{kind}/below", os.O_RDONLY)
    fails(errno.ENOTDIR, opened, f"{kind}/below", CREAT)
    fails(errno.ENOTDIR, os.lstat, f"{kind}/")


@case("file", "dir", "dirlink", "link")
def o_directory() -> None:
    flags = os.O_RDONLY | os.O_DIRECTORY
    same((opened("dir", flags), opened("dirlink", flags)), (0, 0))
    fails(errno.ENOTDIR, opened, "file", flags)
    fails(errno.ENOTDIR, opened, "link", flags)
    fails(errno.ENOTDIR, opened, "dirlink", flags | os.O_NOFOLLOW)


@case("file", "link", "dangling", "dir")
def o_nofollow() -> None:
    fails(errno.ELOOP, opened, "link", os.O_RDONLY | os.O_NOFOLLOW)
    fails(errno.ELOOP, opened, "dangling", CREAT | os.O_NOFOLLOW)
    same(opened("file", os.O_RDONLY | os.O_NOFOLLOW), 0)
    same(opened("dir", os.O_RDONLY | os.O_NOFOLLOW), 0)


@case("link", "file")
def o_path_on_a_link_is_the_link() -> None:
    fd = os.open("link", os.O_PATH | os.O_NOFOLLOW)
    same(stat.S_ISLNK(os.fstat(fd).st_mode), True)
    fails(errno.EBADF, os.read, fd, 1)
    os.close(fd)


@case("loop")
def links_that_lead_to_themselves() -> None:
    for call in (os.stat, os.listdir, os.chdir):
        fails(errno.ELOOP, call, "loop")
    fails(errno.ELOOP, opened, "loop", os.O_RDONLY)
    fails(errno.ELOOP, opened, "loop/x", CREAT)
    same(os.readlink("loop"), "loop")


@case()
def links_that_lead_in_a_circle() -> None:
    os.symlink("two", "one")
    os.symlink("one", "two")
    fails(errno.ELOOP, os.stat, "one")
    fails(errno.ELOOP, os.stat, "one/x")


@case("file")
def a_chain_of_links() -> None:
    os.symlink("file", "l0")
    for number in range(45):
        os.symlink(f"l{number}", f"l{number + 1}")
    same(read("l38"), TEXT)
    fails(errno.ELOOP, opened, "l45", os.O_RDONLY)


@case("file", "dir")
def slash_at_the_end() -> None:
    fails(errno.ENOTDIR, opened, "file/", os.O_RDONLY)
    fails(errno.EISDIR, opened, "new/", CREAT)
    same(opened("dir/", os.O_RDONLY), 0)
    missing("new")


@case("file")
def o_append_writes_at_the_end() -> None:
    fd = os.open("file", os.O_WRONLY | os.O_APPEND)
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, b"+")
    os.close(fd)
    same(read("file"), TEXT + b"+")


@case("file")
def two_appenders_take_turns() -> None:
    fds = [os.open("file", os.O_WRONLY | os.O_APPEND) for _ in range(2)]
    for number in range(10):
        os.write(fds[number % 2], b"%d" % number)
    for fd in fds:
        os.close(fd)
    same(read("file"), TEXT + b"0123456789")


@case("empty")
def appenders_in_two_processes_lose_nothing() -> None:
    def append(letter: bytes) -> None:
        for _ in range(50):
            write("empty", letter * 7, os.O_WRONLY | os.O_APPEND)

    pid = os.fork()
    if not pid:
        try:
            append(b"a")
        finally:
            os._exit(0)
    append(b"b")
    os.waitpid(pid, 0)
    data = read("empty")
    same((len(data), data.count(b"a"), data.count(b"b")), (700, 350, 350))
    same({data[at : at + 7] for at in range(0, 700, 7)}, {b"a" * 7, b"b" * 7})


@case("file")
def descriptors_keep_their_access() -> None:
    fd = os.open("file", os.O_RDONLY)
    fails(errno.EBADF, os.write, fd, b"x")
    os.close(fd)
    fd = os.open("file", os.O_WRONLY)
    fails(errno.EBADF, os.read, fd, 1)
    os.close(fd)


@case("file")
def o_rdwr_reads_what_it_wrote() -> None:
    fd = os.open("file", os.O_RDWR)
    same(os.read(fd, 4), b"0123")
    os.write(fd, b"xx")
    same(os.pread(fd, 20, 0), b"0123xx6789")
    same(os.lseek(fd, 0, os.SEEK_CUR), 6)
    os.close(fd)


@case("file")
def a_reader_from_before_sees_later_writes() -> None:
    fd = os.open("file", os.O_RDONLY)
    same(os.pread(fd, 20, 0), TEXT)
    write("file", b"new", os.O_WRONLY)
    same(os.pread(fd, 20, 0), b"new3456789")
    os.truncate("file", 2)
    same(os.fstat(fd).st_size, 2)
    os.close(fd)


@case("file")
def opening_alone_changes_nothing() -> None:
    before = os.lstat("file")
    opened("file", os.O_RDWR)
    opened("file", os.O_WRONLY | os.O_APPEND)
    after = os.lstat("file")
    same(after.st_mtime_ns, before.st_mtime_ns)
    same((after.st_size, after.st_mode), (before.st_size, before.st_mode))


@case()
def o_tmpfile_works_or_says_it_cannot() -> None:
    try:
        fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as error:
        assert error.errno in (errno.EOPNOTSUPP, errno.EISDIR), error
        same(os.listdir(), [])
        return
    same(os.fstat(fd).st_nlink, 0)
    same(os.listdir(), [])
    os.write(fd, b"tmp")
    linkat(f"/proc/self/fd/{fd}", "named", AT_SYMLINK_FOLLOW)
    same((read("named"), os.fstat(fd).st_nlink), (b"tmp", 1))
    os.close(fd)


@case("fifo")
def a_fifo_carries_bytes() -> None:
    fails(errno.ENXIO, os.open, "fifo", os.O_WRONLY | os.O_NONBLOCK)
    reader = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open("fifo", os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, b"through")
    same(os.read(reader, 20), b"through")
    os.close(writer)
    same(os.read(reader, 20), b"")
    os.close(reader)


@case("file")
def a_removed_file_is_opened_again_by_its_descriptor() -> None:
    fd = os.open("file", os.O_RDONLY)
    os.unlink("file")
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    same(os.read(again, 20), TEXT)
    os.close(again)
    os.close(fd)


@case("script")
def programs_are_executed() -> None:
    def run() -> int:
        pid = os.fork()
        if not pid:
            try:
                os.execv("script", ["script"])
            finally:
                os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    same(run(), 7)
    write("script", b"#!/bin/sh\nexit 9\n", os.O_WRONLY | os.O_TRUNC)
    same(run(), 9)
    os.chmod("script", 0o644)
    fails(errno.EACCES, in_child, os.execv, "script", ["script"])
