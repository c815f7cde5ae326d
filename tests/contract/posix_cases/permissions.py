"""chmod, chown, umask, and what users other than root may do."""

from __future__ import annotations

import errno
import os

from .harness import (
    GROUP,
    STRANGER,
    TEXT,
    USER,
    Changed,
    as_user,
    case,
    each,
    fails,
    inode,
    missing,
    mode,
    read,
    same,
    write,
)

DENIED = (errno.EACCES, errno.EPERM)


def owner(path: str) -> tuple[int, int]:
    info = os.lstat(path)
    return info.st_uid, info.st_gid


@each(
    [(f"{bits:04o}",) for bits in (0, 0o111, 0o444, 0o777, 0o1755, 0o2755, 0o4755, 0o7777)],
    "file",
    "dir",
)
def chmod_sets_bits(bits: str) -> None:
    for path in ("file", "dir"):
        os.chmod(path, int(bits, 8))
        same(mode(path), int(bits, 8))


@case("file", "dir", "fifo")
def chmod_moves_the_ctime_alone() -> None:
    for path in ("file", "dir", "fifo"):
        with Changed(path) as changed:
            os.chmod(path, 0o700)
        same(changed.both, (False, True))


@case("file", "dir")
def chmod_by_descriptor() -> None:
    for path in ("file", "dir"):
        fd = os.open(path, os.O_RDONLY)
        os.fchmod(fd, 0o711)
        same((mode(path), os.fstat(fd).st_mode & 0o7777), (0o711, 0o711))
        os.close(fd)


@case("link", "file", "dangling", "loop")
def chmod_follows_links() -> None:
    os.chmod("link", 0o600)
    same((mode("file"), mode("link")), (0o600, 0o777))
    fails(errno.ENOENT, os.chmod, "dangling", 0o600)
    fails(errno.ELOOP, os.chmod, "loop", 0o600)
    fails(errno.ENOTDIR, os.chmod, "file/x", 0o600)


@case("file", "dir", "fifo")
def chmod_keeps_the_content() -> None:
    os.chmod("file", 0o600)
    same((read("file"), os.lstat("file").st_size), (TEXT, len(TEXT)))
    os.chmod("dir", 0o700)
    same(os.listdir("dir"), [])


@each([(kind,) for kind in ("file", "dir", "fifo", "link")])
def chown_sets_owners(kind: str) -> None:
    with Changed(kind) as changed:
        os.lchown(kind, 1234, 4321)
    same((owner(kind), changed.both), ((1234, 4321), (False, True)))
    os.lchown(kind, -1, 7)
    same(owner(kind), (1234, 7))
    os.lchown(kind, 8, -1)
    same(owner(kind), (8, 7))


@case("link", "file", "dangling")
def chown_follows_links() -> None:
    os.chown("link", 11, 12)
    same((owner("file"), owner("link")), ((11, 12), (0, 0)))
    fails(errno.ENOENT, os.chown, "dangling", 1, 1)


@case("file")
def chown_by_descriptor() -> None:
    fd = os.open("file", os.O_RDONLY)
    os.fchown(fd, 21, 22)
    same((owner("file"), os.fstat(fd).st_uid), ((21, 22), 21))
    os.close(fd)


@case("file")
def the_last_id_of_the_map() -> None:
    os.chown("file", 65534, 65535)
    same(owner("file"), (65534, 65535))
    fails(errno.EINVAL, os.chown, "file", 4_000_000_000, 0)


@case("suid")
def chown_clears_set_id_bits() -> None:
    os.chown("suid", 0, 0)
    same(mode("suid"), 0o755)


@case("suid")
def chown_to_the_same_clears_them_too() -> None:
    os.chown("suid", USER, USER)
    same(mode("suid"), 0o755)


@case("shared")
def chown_leaves_them_on_directories() -> None:
    os.chown("shared", 5, 5)
    same(mode("shared"), 0o2777)


@case("suid")
def roots_writing_clears_them_too() -> None:
    """What would keep them is CAP_FSETID of the initial user namespace, which this root never has."""
    write("suid", b"x", os.O_WRONLY)
    same(mode("suid"), 0o755)


@each([("write",), ("truncate",), ("trunc",)], "suid")
def writing_by_another_clears_set_id_bits(how: str) -> None:
    os.chmod("suid", 0o6777)
    if how == "write":
        as_user(write, "suid", b"x", os.O_WRONLY, uid=STRANGER)
    elif how == "truncate":
        as_user(os.truncate, "suid", 3, uid=STRANGER)
    else:
        as_user(write, "suid", b"", os.O_WRONLY | os.O_TRUNC, uid=STRANGER)
    same(mode("suid"), 0o777)


@case("file", "mine")
def chmod_is_the_owners() -> None:
    fails(errno.EPERM, as_user, os.chmod, "file", 0o777)
    fails(errno.EPERM, as_user, os.chmod, "mine", 0o777, uid=STRANGER)
    as_user(os.chmod, "mine", 0o600)
    same((mode("mine"), mode("file")), (0o600, 0o644))


@case("mine")
def chown_is_roots() -> None:
    fails(errno.EPERM, as_user, os.chown, "mine", STRANGER, -1)
    fails(errno.EPERM, as_user, os.chown, "mine", -1, GROUP)
    same(owner("mine"), (USER, USER))


@case("suid")
def chgrp_to_a_group_one_is_in() -> None:
    def change() -> None:
        os.chown("suid", -1, GROUP)

    as_user(change, groups=(GROUP,))
    same((owner("suid"), mode("suid")), ((USER, GROUP), 0o755))


@case("mine")
def set_group_id_needs_the_group() -> None:
    os.chown("mine", USER, GROUP)
    as_user(os.chmod, "mine", 0o2755)
    same(mode("mine"), 0o755)
    as_user(lambda: os.chmod("mine", 0o2755), groups=(GROUP,))
    same(mode("mine"), 0o2755)


@case("secret", "file", "closed")
def reading_asks_for_permission() -> None:
    fails(errno.EACCES, as_user, read, "secret")
    same(as_user(read, "file"), TEXT)
    fails(errno.EACCES, as_user, read, "closed/inner")
    fails(errno.EACCES, as_user, os.lstat, "closed/inner")
    fails(errno.EACCES, as_user, os.listdir, "closed")
    same((read("secret"), read("closed/inner")), (TEXT, TEXT))


@case("file", "mine", "dir")
def writing_asks_for_permission() -> None:
    fails(errno.EACCES, as_user, write, "file", b"x")
    fails(errno.EACCES, as_user, os.truncate, "file", 0)
    as_user(write, "mine", b"x")
    fails(errno.EACCES, as_user, write, "dir/new", b"x")
    same((read("file"), read("mine"), os.listdir("dir")), (TEXT, b"x123456789", []))


@case("dir", "home")
def making_and_removing_ask_the_directory() -> None:
    for call in (os.mkdir, os.mkfifo):
        fails(errno.EACCES, as_user, call, "dir/new")
    fails(errno.EACCES, as_user, os.symlink, "x", "dir/new")
    fails(errno.EACCES, as_user, os.rmdir, "dir")
    as_user(os.unlink, "home/roots")
    as_user(os.mkdir, "home/new")
    same((sorted(os.listdir("home")), owner("home/new")), (["new", "own"], (USER, USER)))


@case("file")
def the_owners_bits_are_for_the_owner() -> None:
    os.chown("file", USER, GROUP)
    os.chmod("file", 0o077)
    fails(errno.EACCES, as_user, read, "file")
    same(as_user(read, "file", uid=STRANGER), TEXT)


@case("file")
def the_groups_bits_are_for_the_group() -> None:
    os.chown("file", 0, GROUP)
    os.chmod("file", 0o640)
    fails(errno.EACCES, as_user, read, "file")
    same(as_user(lambda: read("file"), groups=(GROUP,)), TEXT)
    os.chmod("file", 0o604)
    fails(errno.EACCES, as_user, lambda: read("file"), groups=(GROUP,))


@case("secret", "file", "script", "closed")
def access_tells() -> None:
    same(as_user(os.access, "secret", os.R_OK), False)
    same(as_user(os.access, "file", os.R_OK), True)
    same(as_user(os.access, "file", os.W_OK), False)
    same(as_user(os.access, "script", os.X_OK), True)
    same(as_user(os.access, "closed", os.X_OK), False)
    same((os.access("secret", os.W_OK), os.access("file", os.X_OK)), (True, False))


@case("secret")
def a_change_of_mode_counts_at_once() -> None:
    fails(errno.EACCES, as_user, read, "secret")
    os.chmod("secret", 0o644)
    same(as_user(read, "secret"), TEXT)
    os.chmod("secret", 0o600)
    fails(errno.EACCES, as_user, read, "secret")


@case("file")
def root_is_stopped_by_no_bits() -> None:
    os.chmod("file", 0)
    write("file", b"x")
    same(read("file"), b"x123456789")
    os.mkdir("new", 0)
    write("new/x", b"")
    same(os.listdir("new"), ["x"])


@case("sticky")
def sticky_directories() -> None:
    for call in (os.unlink, os.rmdir):
        fails(
            DENIED if call is os.unlink else (*DENIED, errno.ENOTDIR),
            as_user,
            call,
            "sticky/theirs",
        )
    as_user(os.unlink, "sticky/mine")
    os.chown("sticky", USER, USER)
    as_user(os.unlink, "sticky/theirs")
    same(os.listdir("sticky"), [])


@case("sticky")
def anybody_makes_files_in_a_sticky_directory() -> None:
    as_user(write, "sticky/new", b"x", uid=STRANGER)
    as_user(os.mkdir, "sticky/dir", uid=STRANGER)
    as_user(os.symlink, "x", "sticky/link", uid=STRANGER)
    as_user(os.mkfifo, "sticky/fifo", uid=STRANGER)
    for name in ("new", "dir", "link", "fifo"):
        same(owner(f"sticky/{name}"), (STRANGER, STRANGER))


@case("shared")
def a_set_group_id_directory_gives_its_group() -> None:
    write("shared/file", b"")
    os.mkdir("shared/dir", 0o755)
    os.symlink("x", "shared/link")
    os.mkfifo("shared/fifo")
    for name in ("file", "dir", "link", "fifo"):
        same(owner(f"shared/{name}"), (0, GROUP))
    same((mode("shared/dir") & 0o2000, mode("shared/file") & 0o2000), (0o2000, 0))
    as_user(write, "shared/dir/../other", b"")
    same(owner("shared/other"), (USER, GROUP))


@case("dir")
def umask_of_directories_and_fifos() -> None:
    os.umask(0o077)
    os.mkdir("dir/new")
    os.mkfifo("dir/fifo")
    write("dir/file", b"")
    same([mode(f"dir/{name}") for name in ("new", "fifo", "file")], [0o700, 0o600, 0o600])


@case("dir")
def files_made_without_permission_for_oneself() -> None:
    """A descriptor is open as asked for, whatever the new file's mode."""
    fd = os.open("dir/new", os.O_RDWR | os.O_CREAT, 0)
    os.write(fd, b"x")
    same((os.pread(fd, 1, 0), mode("dir/new")), (b"x", 0))
    os.close(fd)
    os.chmod("dir", 0o777)

    def make() -> None:
        mine = os.open("dir/mine", os.O_WRONLY | os.O_CREAT, 0o444)
        os.write(mine, b"y")
        os.close(mine)
        fails(errno.EACCES, os.open, "dir/mine", os.O_WRONLY)

    as_user(make)
    same(read("dir/mine"), b"y")


@case("secret")
def an_open_descriptor_outlives_the_permission() -> None:
    os.chmod("secret", 0o666)

    def use() -> bytes:
        fd = os.open("secret", os.O_RDWR)
        before = inode("secret")
        os.write(fd, b"X")
        same(os.fstat(fd).st_ino, before)
        data = os.pread(fd, 20, 0)
        os.close(fd)
        return data

    same(as_user(use), b"X123456789")
    fd = os.open("secret", os.O_RDONLY)
    os.chmod("secret", 0)
    same(os.read(fd, 1), b"X")
    os.close(fd)


@case("home", "file")
def a_user_copies_up() -> None:
    """What a user may write is written, though the layer's file system is root's."""
    as_user(write, "home/own", b"new", os.O_WRONLY | os.O_TRUNC)
    as_user(os.chmod, "home/own", 0o600)
    as_user(os.mkdir, "home/made")
    as_user(os.rename, "home/own", "home/made/own")
    same(
        (read("home/made/own"), owner("home/made/own"), mode("home/made/own")),
        (b"new", (USER, USER), 0o600),
    )
    missing("home/own")
