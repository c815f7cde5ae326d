"""Times, extended attributes, and inode numbers."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from .harness import (
    STRANGER,
    TEXT,
    UTIME_NOW,
    UTIME_OMIT,
    Changed,
    as_user,
    case,
    each,
    fails,
    inode,
    libc,
    read,
    same,
    tick,
    utimensat,
    write,
)

SECOND = 1_000_000_000


@each([("file",), ("dir",), ("fifo",), ("link",)])
def times_are_kept_to_the_nanosecond(kind: str) -> None:
    os.utime(kind, ns=(1_111_111_111_123_456_789, 1_222_222_222_987_654_321), follow_symlinks=False)
    info = os.lstat(kind)
    same(
        (info.st_atime_ns, info.st_mtime_ns), (1_111_111_111_123_456_789, 1_222_222_222_987_654_321)
    )


@each([("epoch", 0), ("before", -2), ("year-2100", 4_102_444_800)], "file")
def times_far_away(_what: str, when: int) -> None:
    os.utime("file", ns=(when * SECOND, when * SECOND + 5))
    same(os.lstat("file").st_mtime_ns, when * SECOND + 5)


@case("file")
def utime_omit() -> None:
    os.utime("file", (100, 200))
    utimensat("file", (0, UTIME_OMIT), (300, 0))
    same((int(os.lstat("file").st_atime), int(os.lstat("file").st_mtime)), (100, 300))
    utimensat("file", (400, 0), (0, UTIME_OMIT))
    same((int(os.lstat("file").st_atime), int(os.lstat("file").st_mtime)), (400, 300))
    before = os.lstat("file")
    utimensat("file", (0, UTIME_OMIT), (0, UTIME_OMIT))
    same(os.lstat("file").st_ctime_ns, before.st_ctime_ns)


@case("file", "dir")
def utime_now() -> None:
    for path in ("file", "dir"):
        os.utime(path, (1, 1))
        with Changed(path) as changed:
            utimensat(path, (0, UTIME_NOW), (0, UTIME_NOW))
        same(changed.mtime, True)
        os.utime(path, (1, 1))
        os.utime(path)
        same(os.lstat(path).st_mtime > 1_600_000_000, True)


@case("file", "link", "dangling")
def utime_of_links() -> None:
    os.utime("link", (5, 6))
    same(os.lstat("file").st_mtime, 6)
    os.utime("dangling", (7, 8), follow_symlinks=False)
    same(os.lstat("dangling").st_mtime, 8)
    fails(errno.ENOENT, os.utime, "dangling", (7, 8))
    fails(errno.ENOENT, os.utime, "none", (7, 8))


@case("file")
def utime_by_descriptor() -> None:
    fd = os.open("file", os.O_RDONLY)
    os.utime(fd, (5, 6))
    same((os.fstat(fd).st_mtime, os.lstat("file").st_mtime), (6, 6))
    os.close(fd)


@case("file", "mine", "sticky")
def utime_asks_for_permission() -> None:
    as_user(os.utime, "mine", (1, 2))
    same(os.lstat("mine").st_mtime, 2)
    fails(errno.EPERM, as_user, os.utime, "mine", (3, 4), uid=STRANGER)
    fails(errno.EACCES, as_user, os.utime, "mine", uid=STRANGER)
    as_user(os.utime, "sticky/mine", uid=STRANGER)  # who may write it may say "now"
    same(os.lstat("mine").st_mtime, 2)


@case("file")
def writing_moves_the_times() -> None:
    with Changed("file") as file:
        write("file", b"x", os.O_WRONLY)
    same(file.both, (True, True))


@case("file")
def writing_later_moves_them_again() -> None:
    fd = os.open("file", os.O_RDWR)
    for _ in range(2):
        with Changed("file") as file:
            os.write(fd, b"x")
        same(file.both, (True, True))
    os.close(fd)


@case("file")
def a_time_set_survives_closing() -> None:
    fd = os.open("file", os.O_WRONLY)
    os.write(fd, b"x")
    os.utime("file", (5, 6))
    os.close(fd)
    tick()
    same(os.lstat("file").st_mtime, 6)


@case("file", "full")
def reading_moves_nothing() -> None:
    with Changed("file") as file, Changed("full") as directory:
        read("file")
        os.listdir("full")
        os.access("full/child", os.R_OK)
    same((file.both, directory.both), ((False, False), (False, False)))


@case("file")
def truncating_moves_the_times() -> None:
    with Changed("file") as file:
        os.truncate("file", 3)
    same(file.both, (True, True))


@case("file", "dir")
def attributes_move_the_ctime() -> None:
    for path in ("file", "dir"):
        with Changed(path) as changed:
            os.setxattr(path, "user.x", b"1")
        same(changed.both, (False, True))
        with Changed(path) as changed:
            os.removexattr(path, "user.x")
        same(changed.both, (False, True))


@case("full")
def what_happens_in_a_file_is_nothing_to_its_directory() -> None:
    with Changed("full") as directory:
        write("full/child", b"x", os.O_WRONLY)
        os.chmod("full/child", 0o600)
        os.setxattr("full/child", "user.x", b"")
        write("full/sub/new", b"")
    same(directory.both, (False, False))


@each([("file",), ("dir",)])
def xattrs_are_set_and_removed(kind: str) -> None:
    same(os.listxattr(kind), [])
    os.setxattr(kind, "user.one", b"\0binary\xff")
    os.setxattr(kind, "user.two", b"")
    same(sorted(os.listxattr(kind)), ["user.one", "user.two"])
    same((os.getxattr(kind, "user.one"), os.getxattr(kind, "user.two")), (b"\0binary\xff", b""))
    os.setxattr(kind, "user.one", b"other")
    same(os.getxattr(kind, "user.one"), b"other")
    os.removexattr(kind, "user.one")
    same(os.listxattr(kind), ["user.two"])
    fails(errno.ENODATA, os.getxattr, kind, "user.one")
    fails(errno.ENODATA, os.removexattr, kind, "user.one")


@case("file", "tagged")
def xattr_create_and_replace() -> None:
    fails(errno.EEXIST, os.setxattr, "tagged", "user.note", b"x", os.XATTR_CREATE)
    fails(errno.ENODATA, os.setxattr, "tagged", "user.none", b"x", os.XATTR_REPLACE)
    os.setxattr("tagged", "user.new", b"1", os.XATTR_CREATE)
    os.setxattr("tagged", "user.note", b"2", os.XATTR_REPLACE)
    same((os.getxattr("tagged", "user.new"), os.getxattr("tagged", "user.note")), (b"1", b"2"))


@case("tagged")
def xattrs_of_a_layer_are_shown_and_kept() -> None:
    same(
        (os.listxattr("tagged"), os.getxattr("tagged", "user.note")),
        (["user.note"], b"of the layer"),
    )
    os.chmod("tagged", 0o600)
    same(os.getxattr("tagged", "user.note"), b"of the layer")
    write("tagged", b"x", os.O_WRONLY)
    same(os.getxattr("tagged", "user.note"), b"of the layer")
    os.removexattr("tagged", "user.note")
    same(os.listxattr("tagged"), [])


@case("tagged")
def xattr_sizes() -> None:
    buffer = ctypes.create_string_buffer(100)
    name = b"user.note"
    same(libc.getxattr(b"tagged", name, None, 0), 12)
    same(libc.getxattr(b"tagged", name, buffer, 100), 12)
    same(libc.getxattr(b"tagged", name, buffer, 5), -1)
    same(ctypes.get_errno(), errno.ERANGE)
    same(libc.listxattr(b"tagged", None, 0), len(name) + 1)
    same(libc.listxattr(b"tagged", buffer, 3), -1)
    same(ctypes.get_errno(), errno.ERANGE)


@case("file")
def xattrs_as_large_as_a_block() -> None:
    value = os.urandom(2000)
    os.setxattr("file", "user.large", value)
    os.chmod("file", 0o600)
    same(os.getxattr("file", "user.large"), value)


@case("file")
def xattr_names() -> None:
    os.setxattr("file", "user." + "n" * 250, b"1")
    fails((errno.ERANGE, errno.ENAMETOOLONG), os.setxattr, "file", "user." + "n" * 251, b"1")
    fails(errno.EOPNOTSUPP, os.setxattr, "file", "unknown.name", b"1")
    fails((errno.EOPNOTSUPP, errno.EPERM), os.setxattr, "file", "trusted.name", b"1")
    fails((errno.EOPNOTSUPP, errno.EINVAL), os.setxattr, "file", "user.", b"1")
    same(os.listxattr("file"), ["user." + "n" * 250])


@case("link", "fifo", "file")
def only_files_and_directories_have_user_xattrs() -> None:
    fails(errno.EPERM, os.setxattr, "link", "user.x", b"1", follow_symlinks=False)
    fails(errno.EPERM, os.setxattr, "fifo", "user.x", b"1")
    fails(errno.ENODATA, os.getxattr, "link", "user.x", follow_symlinks=False)
    os.setxattr("link", "user.x", b"1")
    same(os.listxattr("file"), ["user.x"])
    same(os.listxattr("link", follow_symlinks=False), [])


@case("file", "secret", "mine")
def xattrs_ask_for_permission() -> None:
    fails(errno.EACCES, as_user, os.setxattr, "file", "user.x", b"1")
    fails(errno.EACCES, as_user, os.getxattr, "secret", "user.x")
    as_user(os.setxattr, "mine", "user.x", b"1")
    same((os.listxattr("mine"), os.listxattr("file")), (["user.x"], []))


@case("tagged", "dir")
def xattrs_by_descriptor_and_after_renaming() -> None:
    fd = os.open("tagged", os.O_RDONLY)
    os.setxattr(fd, "user.fd", b"1")
    same(os.getxattr("tagged", "user.fd"), b"1")
    os.rename("tagged", "dir/moved")
    same(sorted(os.listxattr(fd)), ["user.fd", "user.note"])
    os.setxattr("dir/moved", "user.fd", b"2")
    same(os.getxattr(fd, "user.fd"), b"2")
    os.close(fd)


@case("script")
def capabilities_are_dropped_by_writing() -> None:
    value = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
    os.setxattr("script", "security.capability", value)
    same(os.listxattr("script"), ["security.capability"])
    write("script", b"#", os.O_WRONLY)
    same(os.listxattr("script"), [])


@case("script")
def capabilities_are_dropped_by_chown() -> None:
    value = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
    os.setxattr("script", "security.capability", value)
    os.chmod("script", 0o700)
    same(os.listxattr("script"), ["security.capability"])
    os.chown("script", 1, 1)
    same(os.listxattr("script"), [])


def _append() -> None:
    write("file", b"x", os.O_WRONLY | os.O_APPEND)


def _chmod() -> None:
    os.chmod("file", 0o600)


def _chown() -> None:
    os.chown("file", 1, 1)


def _utime() -> None:
    os.utime("file", (1, 1))


def _setxattr() -> None:
    os.setxattr("file", "user.x", b"1")


def _link() -> None:
    os.link("file", "linked")


def _truncate() -> None:
    os.truncate("file", 0)


@each([(how,) for how in (_append, _chmod, _chown, _utime, _setxattr, _link, _truncate)], "file")
def the_inode_stays(how) -> None:  # type: ignore[no-untyped-def]
    fd = os.open("file", os.O_RDONLY)
    before = os.fstat(fd)
    how()
    after = os.lstat("file")
    same((after.st_ino, after.st_dev), (before.st_ino, before.st_dev))
    same(os.fstat(fd).st_ino, before.st_ino)
    os.close(fd)


@case("file")
def an_old_descriptor_shows_what_became_of_the_file() -> None:
    fd = os.open("file", os.O_RDONLY)
    os.chmod("file", 0o600)
    os.utime("file", (5, 6))
    os.truncate("file", 3)
    os.link("file", "new")
    old, new = os.fstat(fd), os.lstat("file")
    same((old.st_mode, old.st_size, old.st_nlink), (new.st_mode, new.st_size, new.st_nlink))
    os.close(fd)


@case("dir", "full")
def the_inode_of_a_directory_stays() -> None:
    before = inode("dir"), inode("full")
    write("dir/new", b"")
    os.chmod("full", 0o700)
    os.unlink("full/child")
    same((inode("dir"), inode("full")), before)


@case("file", "other", "dir", "full", "link", "fifo", "deep")
def no_two_have_one_inode() -> None:
    write("new", b"")
    paths = [
        os.path.join(where, name) for where, dirs, files in os.walk(".") for name in dirs + files
    ]
    found = {(os.lstat(path).st_dev, os.lstat(path).st_ino) for path in paths}
    same(len(found), len(paths))
    os.chmod("file", 0o600)
    write("deep/a/b/leaf", b"x")
    found = {(os.lstat(path).st_dev, os.lstat(path).st_ino) for path in paths}
    same(len(found), len(paths))


@case("file", "dir")
def one_device_for_all() -> None:
    write("new", b"")
    same({os.lstat(path).st_dev for path in ("file", "dir", "new", ".")}, {os.lstat(".").st_dev})
    same(read("file"), TEXT)
