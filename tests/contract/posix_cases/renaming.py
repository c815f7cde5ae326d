"""rename in all combinations, its flags, and link."""

from __future__ import annotations

import errno
import os
import stat

from .harness import (
    AT_SYMLINK_FOLLOW,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    STRANGER,
    TEXT,
    Changed,
    as_user,
    case,
    each,
    fails,
    inode,
    linkat,
    missing,
    mode,
    read,
    renameat2,
    same,
    write,
)

PLAIN = ("file", "link", "dangling", "fifo")  # what is no directory
OVER = ("other", "dirlink", "empty", "twin")
NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)


def kind(path: str) -> int:
    return stat.S_IFMT(os.lstat(path).st_mode)


@each([(source,) for source in PLAIN])
def rename_to_a_new_name(source: str) -> None:
    before = kind(source)
    os.rename(source, "new")
    missing(source)
    same((kind("new"), os.listdir()), (before, ["new"]))


@each([(source,) for source in ("dir", "full", "deep")])
def rename_a_directory(source: str) -> None:
    before = sorted(os.listdir(source))
    os.rename(source, "new")
    missing(source)
    same(sorted(os.listdir("new")), before)


@case("deep")
def a_renamed_directory_takes_all_along() -> None:
    os.rename("deep/a", "moved")
    same(read("moved/b/leaf"), TEXT)
    same(os.listdir("deep"), [])
    write("moved/b/new", b"x")
    os.mkdir("deep/a")
    same((os.listdir("deep/a"), sorted(os.listdir("moved/b"))), ([], ["leaf", "new"]))


@case()
def a_directory_of_ones_own_is_renamed() -> None:
    os.makedirs("one/two")
    write("one/two/leaf", b"x")
    before = inode("one")
    os.rename("one", "three")
    same((read("three/two/leaf"), inode("three"), os.listdir()), (b"x", before, ["three"]))


@each([(source, target) for source in PLAIN for target in OVER])
def rename_over_a_file(source: str, target: str) -> None:
    before = kind(source)
    os.rename(source, target)
    missing(source)
    same(kind(target), before)


@each([(source, target) for source in PLAIN for target in ("dir", "full")])
def rename_a_file_over_a_directory(source: str, target: str) -> None:
    fails(errno.EISDIR, os.rename, source, target)
    same((os.path.lexists(source), os.path.isdir(target)), (True, True))


@each([(source, target) for source in ("dir", "full") for target in PLAIN])
def rename_a_directory_over_a_file(source: str, target: str) -> None:
    fails(errno.ENOTDIR, os.rename, source, target)
    same((os.path.isdir(source), os.path.lexists(target)), (True, True))


@each([(source,) for source in ("dir", "full")], "void")
def rename_a_directory_over_an_empty_one(source: str) -> None:
    before = sorted(os.listdir(source))
    os.rename(source, "void")
    missing(source)
    same(sorted(os.listdir("void")), before)


@case("void")
def rename_ones_own_directory_over_an_empty_one() -> None:
    os.mkdir("new")
    write("new/x", b"x")
    os.rename("new", "void")
    missing("new")
    same(os.listdir("void"), ["x"])


@case("full")
def rename_over_a_directory_emptied() -> None:
    os.unlink("full/child")
    os.rmdir("full/sub")
    os.mkdir("new")
    write("new/x", b"x")
    os.rename("new", "full")
    same(os.listdir("full"), ["x"])


@case("full")
def rename_over_a_full_directory() -> None:
    os.mkdir("new")
    fails(NOT_EMPTY, os.rename, "new", "full")
    same(sorted(os.listdir("full")), ["child", "sub"])
    missing("full/new")


@case("file", "full", "dir")
def rename_to_itself_is_nothing() -> None:
    os.rename("file", "file")
    os.rename("full", "full")
    os.rename("file", "dir/../file")
    same((read("file"), sorted(os.listdir("full"))), (TEXT, ["child", "sub"]))


@case("twin")
def rename_between_names_of_one_file_is_nothing() -> None:
    os.rename("twin", "twin2")
    same(sorted(os.listdir()), ["twin", "twin2"])
    same(inode("twin"), inode("twin2"))


@case("deep", "full")
def rename_into_itself() -> None:
    fails(errno.EINVAL, os.rename, "deep", "deep/new")
    fails(errno.EINVAL, os.rename, "deep", "deep/a/b/new")
    fails(NOT_EMPTY, os.rename, "deep/a/b", "deep")
    same(read("deep/a/b/leaf"), TEXT)


@case("file", "dir")
def rename_of_strange_names() -> None:
    fails(errno.ENOENT, os.rename, "none", "new")
    fails(errno.ENOENT, os.rename, "file", "none/new")
    fails(errno.ENOENT, os.rename, "none/x", "new")
    fails(errno.ENOTDIR, os.rename, "file/x", "new")
    fails(errno.ENOTDIR, os.rename, "dir", "file/x")
    fails((errno.EBUSY, errno.EINVAL), os.rename, "dir/.", "new")
    fails((errno.EBUSY, errno.EINVAL, errno.ENOTEMPTY), os.rename, "dir", "dir/..")
    fails(errno.ENOTDIR, os.rename, "file", "new/")
    same(sorted(os.listdir()), ["dir", "file"])


@each([(source,) for source in (*PLAIN, "twin")])
def rename_keeps_the_inode(source: str) -> None:
    before = inode(source)
    os.rename(source, "new")
    same(inode("new"), before)


@case("dir")
def rename_keeps_the_inode_of_a_directory() -> None:
    before = inode("dir")
    os.rename("dir", "new")
    same(inode("new"), before)


@case("tagged", "suid")
def rename_keeps_all_else() -> None:
    before = os.lstat("suid")
    os.rename("suid", "new")
    after = os.lstat("new")
    same((after.st_mode, after.st_uid, after.st_gid, after.st_mtime_ns, after.st_size),
         (before.st_mode, before.st_uid, before.st_gid, before.st_mtime_ns, before.st_size))  # fmt: skip
    os.rename("tagged", "other")
    same(os.getxattr("other", "user.note"), b"of the layer")


@case("file", "dir", "void")
def rename_moves_the_times_of_the_parents() -> None:
    write("dir/x", b"")
    with Changed("dir") as source, Changed("void") as target:
        os.rename("dir/x", "void/x")
    same((source.both, target.both), ((True, True), (True, True)))


@case("file", "other")
def an_open_file_survives_being_replaced() -> None:
    fd = os.open("other", os.O_RDWR)
    os.rename("file", "other")
    same(os.pread(fd, 20, 0), b"other")
    os.pwrite(fd, b"O", 0)
    same((os.pread(fd, 20, 0), os.fstat(fd).st_nlink), (b"Other", 0))
    same(read("other"), TEXT)
    os.close(fd)


@case("file")
def an_open_file_follows_its_name() -> None:
    fd = os.open("file", os.O_RDWR)
    os.rename("file", "new")
    os.write(fd, b"via fd")
    same(read("new"), b"via fd6789")
    write("new", b"NEW", os.O_WRONLY)
    same(os.pread(fd, 20, 0), b"NEW fd6789")
    os.close(fd)


@case("file", "dir")
def there_and_back_again() -> None:
    for _ in range(3):
        os.rename("file", "dir/file")
        missing("file")
        os.rename("dir/file", "file")
        missing("dir/file")
    same((read("file"), sorted(os.listdir())), (TEXT, ["dir", "file"]))


@case("file", "other")
def the_old_name_is_free_again() -> None:
    os.rename("file", "moved")
    write("file", b"second")
    same((read("file"), read("moved")), (b"second", TEXT))
    os.rename("other", "file")
    same((read("file"), sorted(os.listdir())), (b"other", ["file", "moved"]))


@case("file", "other")
def rename_over_a_removed_name() -> None:
    os.unlink("other")
    os.rename("file", "other")
    same((read("other"), os.listdir()), (TEXT, ["other"]))
    os.unlink("other")
    same(os.listdir(), [])


@case("file", "full")
def rename_as_editors_do() -> None:
    for path in ("file", "full/child"):
        write(f"{path}.new", b"edited")
        os.chmod(f"{path}.new", mode(path))
        os.rename(f"{path}.new", path)
    same((read("file"), read("full/child")), (b"edited", b"edited"))
    same(sorted(os.listdir()), ["file", "full"])


@case("file", "other", "dir")
def noreplace() -> None:
    fails(errno.EEXIST, renameat2, "file", "other", RENAME_NOREPLACE)
    fails(errno.EEXIST, renameat2, "file", "dir", RENAME_NOREPLACE)
    same((read("file"), read("other")), (TEXT, b"other"))
    renameat2("file", "dir/new", RENAME_NOREPLACE)
    same((read("dir/new"), sorted(os.listdir())), (TEXT, ["dir", "other"]))
    os.unlink("other")
    renameat2("dir/new", "other", RENAME_NOREPLACE)
    same(read("other"), TEXT)


@case("file", "other")
def exchange_files() -> None:
    inodes = inode("file"), inode("other")
    renameat2("file", "other", RENAME_EXCHANGE)
    same((read("file"), read("other")), (b"other", TEXT))
    same((inode("other"), inode("file")), inodes)
    fails(errno.ENOENT, renameat2, "file", "none", RENAME_EXCHANGE)
    fails(errno.EINVAL, renameat2, "file", "other", RENAME_EXCHANGE | RENAME_NOREPLACE)


@case("file")
def exchange_a_file_and_a_directory() -> None:
    os.mkdir("new")
    write("new/x", b"x")
    renameat2("file", "new", RENAME_EXCHANGE)
    same((read("new"), os.listdir("file"), sorted(os.listdir())), (TEXT, ["x"], ["file", "new"]))


@case("dir", "full")
def exchange_directories() -> None:
    renameat2("dir", "full", RENAME_EXCHANGE)
    same((sorted(os.listdir("dir")), os.listdir("full")), (["child", "sub"], []))


@case("file", "deep")
def exchange_a_file_and_a_full_directory() -> None:
    renameat2("file", "deep", RENAME_EXCHANGE)
    same(
        (read("deep"), read("file/a/b/leaf"), sorted(os.listdir())), (TEXT, TEXT, ["deep", "file"])
    )


@case("sticky", "home")
def rename_asks_for_permission() -> None:
    fails((errno.EPERM, errno.EACCES), as_user, os.rename, "sticky/theirs", "sticky/new")
    fails((errno.EPERM, errno.EACCES), as_user, os.rename, "sticky/mine", "sticky/theirs")
    fails(errno.EACCES, as_user, os.rename, "sticky/mine", "outside")
    as_user(os.rename, "sticky/mine", "sticky/new")
    same(sorted(os.listdir("sticky")), ["new", "theirs"])
    as_user(os.rename, "home/roots", "home/taken")
    same(sorted(os.listdir("home")), ["own", "taken"])


@case("file")
def link_makes_a_second_name() -> None:
    with Changed("file") as file:
        os.link("file", "new")
    same(file.both, (False, True))
    first, second = os.lstat("file"), os.lstat("new")
    same((first.st_nlink, second.st_nlink), (2, 2))
    same(read("new"), TEXT)


@each([("file",), ("fifo",), ("dangling",)])
def link_any_kind(source: str) -> None:
    os.link(source, "new", follow_symlinks=False)
    same((kind("new"), os.lstat(source).st_nlink), (kind(source), 2))
    os.unlink(source)
    same((os.lstat("new").st_nlink, os.listdir()), (1, ["new"]))


@each([("file",), ("fifo",), ("dangling",)])
def link_shares_the_inode(source: str) -> None:
    os.link(source, "new", follow_symlinks=False)
    same(inode("new"), inode(source))
    os.chmod("new", 0o600) if source != "dangling" else os.lchown("new", 1, 1)
    same(inode("new"), inode(source))


@each([(target,) for target in ("other", "dir", "dangling", "fifo")], "file")
def link_refuses_names_that_exist(target: str) -> None:
    fails(errno.EEXIST, os.link, "file", target)


@case("file", "dir")
def link_refuses() -> None:
    fails(errno.EPERM, os.link, "dir", "new")
    fails(errno.ENOENT, os.link, "none", "new")
    fails(errno.ENOENT, os.link, "file", "none/new")
    fails(errno.ENOTDIR, os.link, "file", "file/new")
    same(sorted(os.listdir()), ["dir", "file"])
    same(os.lstat("file").st_nlink, 1)


@case("link", "file")
def link_follows_if_told_to() -> None:
    linkat("link", "followed", AT_SYMLINK_FOLLOW)
    linkat("link", "not", 0)
    same((kind("followed"), kind("not")), (stat.S_IFREG, stat.S_IFLNK))
    same((os.lstat("file").st_nlink, os.lstat("link").st_nlink), (2, 2))


def through_both(first: str, second: str) -> None:
    """What is done by one name is seen by the other."""
    write(first, b"one", os.O_WRONLY | os.O_TRUNC)
    same((read(second), os.lstat(second).st_size), (b"one", 3))
    os.truncate(second, 1)
    same(os.lstat(first).st_size, 1)
    os.chmod(second, 0o604)
    os.chown(first, 3, 4)
    os.setxattr(first, "user.x", b"1")
    os.utime(second, (7, 8))
    one, two = os.lstat(first), os.lstat(second)
    for name in (
        "st_mode",
        "st_nlink",
        "st_uid",
        "st_gid",
        "st_size",
        "st_mtime_ns",
        "st_ctime_ns",
    ):
        same(getattr(two, name), getattr(one, name))
    same((one.st_uid, one.st_gid, int(one.st_mtime), mode(first)), (3, 4, 8, 0o604))
    same(os.getxattr(second, "user.x"), b"1")


@case("file", "dir")
def links_are_one_file() -> None:
    os.link("file", "dir/new")
    through_both("file", "dir/new")
    through_both("dir/new", "file")


@case("twin")
def links_of_a_layer_are_one_file() -> None:
    same((inode("twin"), os.lstat("twin").st_nlink), (inode("twin2"), 2))
    through_both("twin2", "twin")


@case("twin")
def a_third_name() -> None:
    os.link("twin2", "three")
    same([os.lstat(name).st_nlink for name in ("twin", "twin2", "three")], [3, 3, 3])
    same(len({inode(name) for name in os.listdir()}), 1)
    through_both("three", "twin")


@case("twin")
def one_name_less() -> None:
    fd = os.open("twin", os.O_RDONLY)
    os.unlink("twin")
    same((os.lstat("twin2").st_nlink, os.fstat(fd).st_nlink), (1, 1))
    os.unlink("twin2")
    same(os.fstat(fd).st_nlink, 0)
    os.close(fd)


@case("twin", "other")
def replacing_one_name_leaves_the_other() -> None:
    os.rename("other", "twin")
    same((read("twin"), read("twin2"), os.lstat("twin2").st_nlink), (b"other", TEXT, 1))


@case("file")
def unlink_moves_the_ctime_of_the_other_name() -> None:
    os.link("file", "new")
    with Changed("file") as file:
        os.unlink("new")
    same((file.both, os.lstat("file").st_nlink), ((False, True), 1))


@case("file")
def a_removed_file_is_not_linked_again() -> None:
    fd = os.open("file", os.O_RDWR)
    os.unlink("file")
    fails(errno.ENOENT, linkat, f"/proc/self/fd/{fd}", "new", AT_SYMLINK_FOLLOW)
    os.close(fd)


@case("file", "sticky")
def link_by_another_user() -> None:
    fails((errno.EACCES, errno.EPERM), as_user, os.link, "file", "new")
    same(as_user(os.link, "sticky/mine", "sticky/new"), None)
    fails((errno.EACCES, errno.EPERM), as_user, os.unlink, "sticky/theirs")
    as_user(os.unlink, "sticky/theirs", uid=STRANGER)
