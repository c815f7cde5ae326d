"""What is in a file: sizes, holes, mappings, copies, and files that are removed while open."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os

from .harness import (
    STRANGER,
    TEXT,
    Changed,
    as_user,
    case,
    checked,
    each,
    fails,
    libc,
    missing,
    mode,
    read,
    same,
    write,
)

BIG = bytes(range(256)) * 1024
PAGE = mmap.PAGESIZE
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
MS_SYNC = 4


@each([(size,) for size in (0, 4, 10, 11, 5000, 1_000_000)], "file")
def truncate_sets_the_size(size: int) -> None:
    os.truncate("file", size)
    same(os.lstat("file").st_size, size)
    same(read("file"), TEXT[:size].ljust(size, b"\0"))


@each([(size,) for size in (1, PAGE, PAGE + 1, 262_143)], "big")
def truncate_a_large_file(size: int) -> None:
    os.truncate("big", size)
    same(read("big"), BIG[:size])
    os.truncate("big", size + 100)
    same(read("big"), BIG[:size] + b"\0" * 100)


@case("file", "link", "dir", "dangling", "fifo")
def truncate_refuses() -> None:
    fails(errno.EISDIR, os.truncate, "dir", 0)
    fails(errno.ENOENT, os.truncate, "none", 0)
    fails(errno.ENOENT, os.truncate, "dangling", 0)
    fails(errno.ENOTDIR, os.truncate, "file/x", 0)
    fails(errno.EINVAL, os.truncate, "file", -1)
    fails(errno.EINVAL, os.truncate, "fifo", 0)
    os.truncate("link", 3)
    same(read("file"), TEXT[:3])


@case("file")
def ftruncate() -> None:
    fd = os.open("file", os.O_RDWR)
    os.ftruncate(fd, 3)
    same((os.fstat(fd).st_size, os.lstat("file").st_size), (3, 3))
    os.ftruncate(fd, 6)
    same(os.pread(fd, 20, 0), b"012\0\0\0")
    os.close(fd)
    fd = os.open("file", os.O_RDONLY)
    fails((errno.EINVAL, errno.EBADF), os.ftruncate, fd, 0)
    os.close(fd)


@case("file")
def reading_past_the_end() -> None:
    fd = os.open("file", os.O_RDWR)
    same((os.pread(fd, 20, 8), os.pread(fd, 20, 10), os.pread(fd, 20, 1 << 40)), (b"89", b"", b""))
    fails(errno.EINVAL, os.pread, fd, 1, -1)
    os.close(fd)


@case("file")
def writing_past_the_end_leaves_a_hole() -> None:
    fd = os.open("file", os.O_RDWR)
    same(os.pwrite(fd, b"end", 20_000), 3)
    same(os.fstat(fd).st_size, 20_003)
    os.close(fd)
    same(read("file"), TEXT.ljust(20_000, b"\0") + b"end")


@case("big")
def writing_in_the_middle() -> None:
    fd = os.open("big", os.O_RDWR)
    for at in (0, 1, PAGE - 1, PAGE, 100_000, len(BIG) - 1):
        os.pwrite(fd, b"!", at)
    os.close(fd)
    wanted = bytearray(BIG)
    for at in (0, 1, PAGE - 1, PAGE, 100_000, len(BIG) - 1):
        wanted[at] = ord("!")
    same(read("big"), bytes(wanted))


@case("file")
def vectors() -> None:
    fd = os.open("file", os.O_RDWR)
    same(os.writev(fd, [b"ab", b"", b"cd"]), 4)
    parts = [bytearray(3), bytearray(20)]
    os.lseek(fd, 0, os.SEEK_SET)
    same((os.readv(fd, parts), bytes(parts[0] + parts[1][:7])), (10, b"abcd456789"))
    os.close(fd)


@case()
def a_large_file() -> None:
    data = os.urandom(1 << 16)
    fd = os.open("new", os.O_RDWR | os.O_CREAT)
    for number in range(48):
        os.write(fd, data[number:] + data[:number])
    os.lseek(fd, 0, os.SEEK_SET)
    for number in range(48):
        same(os.read(fd, 1 << 16) == data[number:] + data[:number], True)
    same(os.fstat(fd).st_size, 48 << 16)
    os.close(fd)


@case("file")
def more_than_four_gigabytes() -> None:
    fd = os.open("file", os.O_RDWR)
    at = (5 << 30) + 7
    os.pwrite(fd, b"far", at)
    same((os.fstat(fd).st_size, os.pread(fd, 5, at - 2)), (at + 3, b"\0\0far"))
    same(os.fstat(fd).st_blocks * 512 < 1 << 20, True)
    os.close(fd)
    os.truncate("file", 5)
    same(read("file"), TEXT[:5])


@case()
def holes_take_no_room_and_are_found() -> None:
    fd = os.open("new", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"x", 1 << 20)
    os.fsync(fd)
    same(os.fstat(fd).st_blocks * 512 < 1 << 19, True)
    data = os.lseek(fd, 0, os.SEEK_DATA)
    assert 0 <= data <= 1 << 20, data
    hole = os.lseek(fd, 1 << 20, os.SEEK_HOLE)
    same(hole, (1 << 20) + 1)
    fails(errno.ENXIO, os.lseek, fd, (1 << 20) + 1, os.SEEK_DATA)
    fails(errno.ENXIO, os.lseek, fd, 1 << 30, os.SEEK_HOLE)
    os.close(fd)


@case("big")
def seek_in_a_file_without_holes() -> None:
    fd = os.open("big", os.O_RDONLY)
    same((os.lseek(fd, 5, os.SEEK_DATA), os.lseek(fd, 0, os.SEEK_HOLE)), (5, len(BIG)))
    same(os.lseek(fd, -3, os.SEEK_END), len(BIG) - 3)
    same(os.read(fd, 10), BIG[-3:])
    fails(errno.EINVAL, os.lseek, fd, -1, os.SEEK_SET)
    os.close(fd)


@case("file")
def fallocate_makes_room() -> None:
    fd = os.open("file", os.O_RDWR)
    os.posix_fallocate(fd, 0, 100_000)
    same((os.fstat(fd).st_size, os.pread(fd, 12, 0)), (100_000, TEXT + b"\0\0"))
    os.close(fd)


def fallocate(fd: int, how: int, at: int, length: int) -> bool:
    """Whether the filesystem can do that; other errors are raised."""
    try:
        checked(libc.fallocate(fd, how, ctypes.c_long(at), ctypes.c_long(length)))
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return False
        raise
    return True


@case("file")
def fallocate_keeps_the_size() -> None:
    fd = os.open("file", os.O_RDWR)
    fallocate(fd, KEEP_SIZE, 0, 1 << 20)
    same((os.fstat(fd).st_size, os.pread(fd, 20, 0)), (10, TEXT))
    os.close(fd)


@each([(PUNCH_HOLE | KEEP_SIZE,), (ZERO_RANGE,)], "big")
def fallocate_punches_holes_or_says_it_cannot(how: int) -> None:
    fd = os.open("big", os.O_RDWR)
    worked = fallocate(fd, how, PAGE, 2 * PAGE)
    wanted = BIG[:PAGE] + b"\0" * (2 * PAGE) + BIG[3 * PAGE :] if worked else BIG
    same(os.pread(fd, len(BIG), 0) == wanted, True)
    same(os.fstat(fd).st_size, len(BIG))
    os.close(fd)


@case("big")
def sendfile_from_and_to() -> None:
    source, target = os.open("big", os.O_RDONLY), os.open("new", os.O_WRONLY | os.O_CREAT)
    at = 0
    while at < len(BIG):
        at += os.sendfile(target, source, at, len(BIG) - at)
    os.close(source)
    os.close(target)
    same(read("new") == BIG, True)


@case("big", "file")
def copy_file_range() -> None:
    source, target = os.open("big", os.O_RDONLY), os.open("file", os.O_RDWR)
    at = 0
    while at < 100_000:
        count = os.copy_file_range(source, target, 100_000 - at, at, at + 5)
        assert count > 0
        at += count
    same(os.pread(target, 200_000, 0) == TEXT[:5] + BIG[:100_000], True)
    os.close(source)
    os.close(target)


@case("file")
def splice_through_a_pipe() -> None:
    receive, send = os.pipe()
    fd = os.open("file", os.O_RDWR)
    same(checked(libc.splice(fd, None, send, None, 6, 0)), 6)
    same(os.read(receive, 20), b"012345")
    os.write(send, b"spliced")
    at = ctypes.c_long(2)
    same(checked(libc.splice(receive, None, fd, ctypes.byref(at), 7, 0)), 7)
    same(os.pread(fd, 20, 0), b"01spliced9")
    for one in (receive, send, fd):
        os.close(one)


@case("file", "dir")
def sync_calls_work() -> None:
    fd = os.open("file", os.O_RDWR)
    os.write(fd, b"x")
    os.fsync(fd)
    os.fdatasync(fd)
    checked(libc.syncfs(fd))
    os.close(fd)
    fd = os.open("dir", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    fd = os.open("file", os.O_WRONLY | os.O_SYNC)
    os.write(fd, b"y")
    os.close(fd)
    same(read("file"), b"y123456789")


@case("file")
def advice_is_taken() -> None:
    fd = os.open("file", os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
    same(os.read(fd, 20), TEXT)
    os.close(fd)


@case("file", "link")
def removed_while_open() -> None:
    fd = os.open("file", os.O_RDWR)
    os.unlink("file")
    missing("file")
    same((os.fstat(fd).st_nlink, os.fstat(fd).st_size), (0, 10))
    os.pwrite(fd, b"more", 10)
    same(os.pread(fd, 20, 0), TEXT + b"more")
    os.ftruncate(fd, 2)
    os.fchmod(fd, 0o600)
    os.utime(fd, (5, 6))
    info = os.fstat(fd)
    same((info.st_size, info.st_mode & 0o777, info.st_mtime), (2, 0o600, 6))
    os.close(fd)


@case("file")
def removed_while_open_for_reading() -> None:
    fd = os.open("file", os.O_RDONLY)
    os.unlink("file")
    write("file", b"another")
    same((os.read(fd, 20), os.fstat(fd).st_nlink), (TEXT, 0))
    os.close(fd)
    same(read("file"), b"another")


@case("big")
def shared_mappings_and_read_agree() -> None:
    fd = os.open("big", os.O_RDWR)
    with mmap.mmap(fd, len(BIG)) as view:
        same(view[:10], BIG[:10])
        view[0:3] = b"map"
        same(os.pread(fd, 5, 0), b"map" + BIG[3:5])
        same(read("big")[:3], b"map")
        os.pwrite(fd, b"write", PAGE)
        same(view[PAGE : PAGE + 5], b"write")
        view[len(BIG) - 1 :] = b"E"
        view.flush()
    os.close(fd)
    data = read("big")
    same(
        (data[:3], data[PAGE : PAGE + 5], data[-1:], len(data)), (b"map", b"write", b"E", len(BIG))
    )


@case("file")
def two_mappings_are_one() -> None:
    first, second = os.open("file", os.O_RDWR), os.open("file", os.O_RDWR)
    with mmap.mmap(first, 10) as one, mmap.mmap(second, 10) as two:
        one[0:3] = b"one"
        same(two[0:4], b"one3")
        two[9:10] = b"!"
        same(one[9:10], b"!")
    os.close(first)
    os.close(second)
    same(read("file"), b"one345678!")


@case("file")
def a_mapping_outlives_its_descriptor() -> None:
    fd = os.open("file", os.O_RDWR)
    view = mmap.mmap(fd, 10)
    os.close(fd)
    os.unlink("file")
    view[0:1] = b"X"
    same(view[:], b"X123456789")
    view.close()
    missing("file")


@case("file")
def private_mappings_stay_private() -> None:
    fd = os.open("file", os.O_RDONLY)
    with mmap.mmap(fd, 10, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as view:
        view[0:4] = b"mine"
        same((os.pread(fd, 4, 0), view[:6]), (b"0123", b"mine45"))
    os.close(fd)
    same(read("file"), TEXT)


@case("file")
def a_mapping_from_before_sees_later_writes() -> None:
    fd = os.open("file", os.O_RDONLY)
    with mmap.mmap(fd, 10, mmap.MAP_SHARED, mmap.PROT_READ) as view:
        same(view[0:4], b"0123")
        write("file", b"new", os.O_WRONLY)
        same(view[0:4], b"new3")
    os.close(fd)


@case("file")
def a_mapping_moves_the_mtime() -> None:
    fd = os.open("file", os.O_RDWR)
    with mmap.mmap(fd, 10) as view, Changed("file") as file:
        view[0:1] = b"X"
        view.flush()
    os.close(fd)
    same(file.mtime, True)


@case("file")
def mapping_asks_for_access() -> None:
    fd = os.open("file", os.O_RDONLY)
    fails(errno.EACCES, mmap.mmap, fd, 10, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    os.close(fd)


@case("script")
def code_is_mapped() -> None:
    fd = os.open("script", os.O_RDONLY)
    with mmap.mmap(fd, 9, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC) as view:
        same(view[:], b"#!/bin/sh")
    os.close(fd)


@case("dir", "file")
def statfs() -> None:
    for path in (".", "dir", "file"):
        info = os.statvfs(path)
        assert info.f_namemax == 255, info
        assert info.f_bsize >= 512, info
        assert info.f_blocks >= info.f_bfree >= info.f_bavail >= 0, info
        assert info.f_blocks > 0, info
    fd = os.open("file", os.O_RDONLY)
    same(os.fstatvfs(fd).f_blocks, os.statvfs(".").f_blocks)
    os.close(fd)


@case("dir", "file")
def directories_are_not_read_as_files() -> None:
    fd = os.open("dir", os.O_RDONLY)
    fails(errno.EISDIR, os.read, fd, 10)
    fails((errno.EISDIR, errno.EINVAL, errno.EBADF), os.ftruncate, fd, 0)
    os.close(fd)
    fails(errno.ENOTDIR, os.listdir, "file")


@case("mine")
def two_users_write_one_file() -> None:
    os.chmod("mine", 0o666)
    as_user(write, "mine", b"A", os.O_WRONLY)
    as_user(write, "mine", b"B", os.O_WRONLY | os.O_APPEND, uid=STRANGER)
    same((read("mine"), mode("mine")), (b"A123456789B", 0o666))


@case("file")
def size_is_known_to_all_at_once() -> None:
    fd = os.open("file", os.O_WRONLY | os.O_APPEND)
    other = os.open("file", os.O_RDONLY)
    for number in range(1, 20):
        os.write(fd, b"12345")
        same(os.lstat("file").st_size, 10 + 5 * number)
        same(os.lseek(other, 0, os.SEEK_END), 10 + 5 * number)
        same(os.pread(other, 5, 5 + 5 * number), b"12345")
    os.close(fd)
    os.close(other)


@case("empty")
def an_empty_file_grows() -> None:
    same((read("empty"), os.lstat("empty").st_size), (b"", 0))
    write("empty", b"x")
    same(read("empty"), b"x")


@case("big", "other")
def many_descriptors_of_one_file() -> None:
    fds = [os.open("other", os.O_RDWR) for _ in range(40)]
    for number, fd in enumerate(fds):
        os.pwrite(fd, bytes([number]), number)
    same(os.pread(fds[0], 100, 0), bytes(range(40)))
    for fd in fds:
        os.close(fd)
    same(len(read("big")), len(BIG))
