"""mkdir, rmdir, unlink, symlink, mknod: what may be made and removed, and under which names."""

from __future__ import annotations

import errno
import os
import socket
import stat

from .harness import TEXT, Changed, case, each, fails, inode, missing, mode, read, same, write

TYPES = ("file", "dir", "full", "link", "dangling", "fifo")
LONG, TOO_LONG = "n" * 255, "n" * 256


def creat(name: str) -> None:
    write(name, b"")


def symlink(name: str) -> None:
    os.symlink("target", name)


MAKERS = (creat, os.mkdir, symlink, os.mkfifo)


@case()
def mkdir_makes_a_directory() -> None:
    os.umask(0o022)
    os.mkdir("new", 0o775)
    info = os.lstat("new")
    same((stat.S_ISDIR(info.st_mode), mode("new"), info.st_uid, info.st_gid), (True, 0o755, 0, 0))
    same(os.listdir("new"), [])


@case("dir")
def mkdir_moves_the_times_of_the_parent() -> None:
    with Changed("dir") as parent:
        os.mkdir("dir/new")
    same(parent.both, (True, True))


@case("dir")
def directories_are_linked_by_those_in_them() -> None:
    """Or, as filesystems that do not count say it, st_nlink is 1."""
    before = os.lstat("dir").st_nlink
    os.mkdir("dir/new")
    after = os.lstat("dir").st_nlink
    assert (before, after) in ((2, 3), (1, 1)), (before, after)


@each([(maker, kind) for maker in MAKERS for kind in ("file", "dir", "link", "dangling", "fifo")])
def makers_refuse_names_that_exist(maker, kind: str) -> None:  # type: ignore[no-untyped-def]
    if maker is creat:
        fails(errno.EEXIST, os.open, kind, os.O_CREAT | os.O_EXCL)
    else:
        fails(errno.EEXIST, maker, kind)


@each([(maker,) for maker in MAKERS], "file")
def makers_need_a_directory(maker) -> None:  # type: ignore[no-untyped-def]
    fails(errno.ENOENT, maker, "none/new")
    fails(errno.ENOTDIR, maker, "file/new")


@each([(maker,) for maker in MAKERS])
def longest_names(maker) -> None:  # type: ignore[no-untyped-def]
    maker(LONG)
    same(os.listdir(), [LONG])
    same(os.path.lexists(LONG), True)
    fails(errno.ENAMETOOLONG, maker, TOO_LONG)


@case("file", "dir")
def names_too_long_to_look_for() -> None:
    for call in (os.lstat, os.unlink, os.rmdir, os.listdir, os.readlink):
        fails(errno.ENAMETOOLONG, call, TOO_LONG)
    fails(errno.ENAMETOOLONG, os.rename, "file", TOO_LONG)
    fails(errno.ENAMETOOLONG, os.link, "file", f"dir/{TOO_LONG}")


@case("file")
def a_file_gets_the_longest_name_and_loses_it() -> None:
    os.rename("file", LONG)
    same(read(LONG), TEXT)
    os.link(LONG, LONG[:-1] + "2")
    os.unlink(LONG)
    same(os.listdir(), [LONG[:-1] + "2"])


@each(
    [
        (name,)
        for name in ("latin-1", "invalid", "newline", "space", "backslash", "comma", "control")
    ]
)
def names_are_bytes(what: str) -> None:
    name = {
        "latin-1": b"M\xfcnchen",
        "invalid": b"\xff\xfe\x80",
        "newline": b"a\nb",
        "space": b" ",
        "backslash": b"a\\b\\\\c",
        "comma": b"a,b:c=d",
        "control": bytes(range(1, 32)),
    }[what]
    text = os.fsdecode(name)
    write(text, b"x")
    os.mkdir(os.fsdecode(name + b".d"))
    os.symlink(text, os.fsdecode(name + b".l"))
    same(sorted(os.listdir(b".")), sorted([name, name + b".d", name + b".l"]))
    same(read(os.fsdecode(name + b".l")), b"x")
    os.rename(text, os.fsdecode(name + b".d/" + name))
    os.setxattr(name + b".d/" + name, "user.x", b"1")
    same(os.listdir(name + b".d"), [name])


@each([(name,) for name in (".wh.name", ".wh.", ".wh..wh..opq", ".wh..wh.plnk")])
def names_that_layers_use_for_whiteouts(name: str) -> None:
    """Are names like any other, or are refused before anything is made."""
    write("name", b"kept")
    try:
        write(name, b"x")
    except OSError as error:
        same(error.errno in (errno.EINVAL, errno.EPERM, errno.ENAMETOOLONG), True)
        same(os.listdir(), ["name"])
    else:
        same(sorted(os.listdir()), sorted([name, "name"]))
        same(read(name), b"x")
    same(read("name"), b"kept")


@case("dir")
def dots_are_there() -> None:
    same(inode("dir/."), inode("dir"))
    same(inode("dir/.."), inode("."))
    same(os.path.samestat(os.stat("dir/../dir/./"), os.stat("dir")), True)
    fails(errno.EEXIST, os.mkdir, "dir/.")
    fails(errno.EEXIST, os.mkdir, "dir/..")
    fails((errno.EEXIST, errno.EINVAL), os.symlink, "x", "dir/.")


@case("dir")
def mkdir_takes_a_slash_at_the_end() -> None:
    os.mkdir("new/")
    os.mkdir("dir/new/")
    fails(errno.ENOENT, os.mkdir, "none/new/")
    fails(errno.ENOENT, os.mkfifo, "fifo/")
    same(sorted(os.listdir()), ["dir", "new"])


@case("dir")
def rmdir_removes() -> None:
    with Changed(".") as parent:
        os.rmdir("dir")
    missing("dir")
    same(parent.both, (True, True))


@case("full")
def rmdir_wants_it_empty() -> None:
    fails((errno.ENOTEMPTY, errno.EEXIST), os.rmdir, "full")
    os.unlink("full/child")
    fails((errno.ENOTEMPTY, errno.EEXIST), os.rmdir, "full")
    os.rmdir("full/sub")
    os.rmdir("full")
    missing("full")


@each([(kind,) for kind in ("file", "link", "dangling", "fifo")])
def rmdir_wants_a_directory(kind: str) -> None:
    fails(errno.ENOTDIR, os.rmdir, kind)
    same(os.path.lexists(kind), True)


@case("dir", "dirlink", "full")
def rmdir_of_strange_names() -> None:
    fails(errno.EINVAL, os.rmdir, "dir/.")
    fails((errno.ENOTEMPTY, errno.EEXIST), os.rmdir, "full/sub/..")
    fails(errno.ENOTDIR, os.rmdir, "dirlink/")
    fails(errno.ENOENT, os.rmdir, "none")
    fails(errno.ENOENT, os.rmdir, "none/below")
    os.rmdir("dir/")
    missing("dir")


@case("dir")
def nothing_is_made_in_a_removed_directory() -> None:
    os.chdir("dir")
    os.rmdir("../dir")
    same(os.listdir("."), [])
    fails(errno.ENOENT, write, "new", b"")
    fails(errno.ENOENT, os.mkdir, "new")
    fails(errno.ENOENT, os.getcwd)


@each([(kind,) for kind in ("file", "link", "dangling", "fifo")])
def unlink_removes(kind: str) -> None:
    with Changed(".") as parent:
        os.unlink(kind)
    missing(kind)
    same(parent.both, (True, True))
    fails(errno.ENOENT, os.unlink, kind)


@case("dir", "full", "file")
def unlink_refuses() -> None:
    fails((errno.EISDIR, errno.EPERM), os.unlink, "dir")
    fails((errno.EISDIR, errno.EPERM), os.unlink, "full")
    fails(errno.ENOENT, os.unlink, "none")
    fails(errno.ENOENT, os.unlink, "none/below")
    fails(errno.ENOTDIR, os.unlink, "file/below")
    fails(errno.ENOTDIR, os.unlink, "file/")
    same(sorted(os.listdir()), ["dir", "file", "full"])


@case("link", "file")
def unlink_takes_the_link_not_its_target() -> None:
    os.unlink("link")
    same(read("file"), TEXT)
    missing("link")


@each([(old, new) for old in ("file", "dir", "link", "fifo") for new in MAKERS])
def a_name_is_used_again(old: str, new) -> None:  # type: ignore[no-untyped-def]
    (os.rmdir if old == "dir" else os.unlink)(old)
    missing(old)
    new(old)
    kind = stat.S_IFMT(os.lstat(old).st_mode)
    wanted = {creat: stat.S_IFREG, os.mkdir: stat.S_IFDIR, symlink: stat.S_IFLNK}
    same(kind, wanted.get(new, stat.S_IFIFO))
    same(os.listdir(), [old])


@case("full")
def a_tree_removed_and_made_again_is_empty() -> None:
    os.unlink("full/child")
    os.rmdir("full/sub")
    os.rmdir("full")
    os.mkdir("full")
    same(os.listdir("full"), [])
    fails(errno.ENOENT, os.lstat, "full/child")
    os.mkdir("full/sub")
    same(os.listdir("full"), ["sub"])


@case("file")
def removed_and_made_again_is_another_file() -> None:
    fd = os.open("file", os.O_RDONLY)
    os.unlink("file")
    write("file", b"second")
    same((os.fstat(fd).st_ino != inode("file"), os.pread(fd, 20, 0)), (True, TEXT))
    os.close(fd)


@case("file")
def made_and_removed_many_times() -> None:
    for number in range(30):
        os.unlink("file")
        write("file", b"%d" % number)
    same((read("file"), os.listdir()), (b"29", ["file"]))


@each([("short", b"t"), ("dots", b"../../x/./y/"), ("bytes", b"\xff\n "), ("long", b"t" * 1023)])
def symlinks_keep_their_text(_what: str, text: bytes) -> None:
    os.symlink(text, b"new")
    same(os.readlink(b"new"), text)
    info = os.lstat("new")
    same((stat.S_ISLNK(info.st_mode), info.st_size, info.st_nlink), (True, len(text), 1))


@case("file", "dir")
def symlinks_refuse() -> None:
    fails(errno.ENOENT, os.symlink, "", "new")
    fails(errno.ENAMETOOLONG, os.symlink, "t" * 4096, "new")
    fails(errno.EINVAL, os.readlink, "file")
    fails(errno.EINVAL, os.readlink, "dir")
    fails(errno.ENOENT, os.readlink, "none")
    same(sorted(os.listdir()), ["dir", "file"])


@case("dirlink", "dir")
def a_link_to_a_directory_is_walked() -> None:
    write("dirlink/new", b"x")
    same(os.listdir("dir"), ["new"])
    same(os.listdir("dirlink"), ["new"])
    os.unlink("dirlink/new")
    same(os.listdir("dir"), [])


@case("deep")
def links_that_climb() -> None:
    os.symlink("../a/b", "deep/a/up")
    same(read("deep/a/up/leaf"), TEXT)
    os.symlink("a/b/leaf", "deep/down")
    same(read("deep/down"), TEXT)


@case()
def mkfifo_makes_a_fifo() -> None:
    os.umask(0o022)
    os.mkfifo("new", 0o666)
    info = os.lstat("new")
    same((stat.S_ISFIFO(info.st_mode), mode("new"), info.st_size), (True, 0o644, 0))


@case()
def mknod_makes_what_is_no_device() -> None:
    os.umask(0)
    os.mknod("file", stat.S_IFREG | 0o640)
    os.mknod("fifo", stat.S_IFIFO | 0o620)
    os.mknod("sock", stat.S_IFSOCK | 0o600)
    kinds = {name: stat.S_IFMT(os.lstat(name).st_mode) for name in os.listdir()}
    same(kinds, {"file": stat.S_IFREG, "fifo": stat.S_IFIFO, "sock": stat.S_IFSOCK})
    same([mode(name) for name in ("file", "fifo", "sock")], [0o640, 0o620, 0o600])


@case("dir")
def devices_are_not_made_in_a_user_namespace() -> None:
    fails(errno.EPERM, os.mknod, "new", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    fails(errno.EPERM, os.mknod, "dir/new", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    same((os.listdir("dir"), os.listdir()), ([], ["dir"]))


@case("dir")
def sockets_are_bound_and_reached() -> None:
    server, client = (socket.socket(socket.AF_UNIX) for _ in range(2))
    server.bind("dir/sock")
    server.listen(1)
    same(stat.S_ISSOCK(os.lstat("dir/sock").st_mode), True)
    client.connect("dir/sock")
    os.rename("dir/sock", "moved")
    socket.socket(socket.AF_UNIX).connect_ex("moved")
    for one in (server, client):
        one.close()
    second = socket.socket(socket.AF_UNIX)
    fails(errno.ECONNREFUSED, second.connect, "moved")
    fails(errno.EADDRINUSE, second.bind, "moved")
    second.close()
