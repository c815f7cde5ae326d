"""Copying directory trees inside the realm: everything an inode has, and nothing outside of the tree.

Owns what a faithful copy is: type, owner (as an ID map says), mode, times to the nanosecond, extended
attributes, hard links among what is copied, holes. File contents are shared (reflink) where the filesystem
can, else copied by the kernel. Walks by descriptors with O_NOFOLLOW, so that no link on either side leads
anywhere else. Inodes are never shared between source and copy.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from rootless.errors import IdMapError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Callable

    from rootless.facts import Extent

    Carry = Callable[[int, bytes, os.stat_result, int], None]

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FICLONE = 0x40049409
_PIECE = 1 << 30
_NO_CLONE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM)
# Errors of an extended attribute that is not to be had.
_REFUSED = (errno.EPERM, errno.ENOTSUP, errno.EINVAL, errno.ENODATA)
# What a storage driver keeps for itself is no part of a file.
PRIVATE_XATTRS = ("user.overlay.", "trusted.overlay.", "user.fuseoverlayfs.")


class Owners:
    """Whose a copy is where its source is owned by somebody: two ID maps, as extents (source, copy, size).

    Without extents everybody is who they are.
    """

    __slots__ = ("gid", "uid")

    def __init__(self, uid: Sequence[Extent] = (), gid: Sequence[Extent] = ()) -> None:
        self.uid = tuple(uid)
        self.gid = tuple(gid)

    @classmethod
    def from_words(cls, uid: str, gid: str) -> Owners:
        """From the text that words() makes."""
        return cls(_extents(uid), _extents(gid))

    def words(self) -> tuple[str, str]:
        """The two maps as words of a command line: ``0:1:1000,1000:0:1``; empty for none."""
        return _word(self.uid), _word(self.gid)

    def of(self, info: os.stat_result) -> tuple[int, int]:
        """The owner of the copy; raises IdMapError for an ID that no extent has."""
        return _mapped(self.uid, info.st_uid), _mapped(self.gid, info.st_gid)


def _extents(text: str) -> list[Extent]:
    found = []
    for word in text.split(",") if text else ():
        source, copy, size = map(int, word.split(":"))
        found.append((source, copy, size))
    return found


def _word(extents: Sequence[Extent]) -> str:
    return ",".join(":".join(map(str, extent)) for extent in extents)


def _mapped(extents: Sequence[Extent], number: int) -> int:
    if not extents:
        return number
    for source, copy, size in extents:
        if source <= number < source + size:
            return copy + number - source
    raise IdMapError(f"cannot map owner {number}: the container's ID map does not have it")


class TreeCopier:
    """Copies trees; hard links are kept among all that one copier has copied.

    CARRY(source directory, name, lstat, target directory) is told of each copy.
    LINKS maps (device, inode) of a source to where its copy is; ``cloned`` is None until the first
    file tells whether extents can be shared.
    """

    private: tuple[str, ...] = PRIVATE_XATTRS

    def __init__(
        self,
        target_root: int,
        owners: Owners | None = None,
        carry: Carry | None = None,
    ) -> None:
        self._carry = carry
        self._target = target_root
        self._owners = owners or Owners()
        self._links: dict[tuple[int, int], bytes] = {}
        self._clone = True
        self.files = 0
        self.bytes = 0

    def tree(self, source: int, target: int, where: bytes = b"") -> None:
        """Copy what is in the directory SOURCE into the directory TARGET; names that exist are an error.

        WHERE is TARGET's path below the target root.  Raises OSError.
        """
        for name in os.listdir(source):
            raw = os.fsencode(name)
            self.entry(source, raw, target, where + b"/" + raw)

    def entry(self, source: int, name: bytes, target: int, where: bytes) -> None:
        """Copy the entry NAME of the directory SOURCE into TARGET; WHERE is its path from the root."""
        info = os.stat(name, dir_fd=source, follow_symlinks=False)
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFDIR:
            os.mkdir(name, 0o700, dir_fd=target)
            here, there = os.open(name, DIRECTORY, dir_fd=source), -1
            try:
                there = os.open(name, DIRECTORY, dir_fd=target)
                self.tree(here, there, where)
                self.metadata(here, there, info)
            finally:
                os.close(here)
                if there >= 0:
                    os.close(there)
            if self._carry is not None:
                self._carry(source, name, info, target)
            return
        key = (info.st_dev, info.st_ino)
        if info.st_nlink > 1:
            known = self._links.get(key)
            if known is not None:
                self._hardlink(known, name, target)
                return
            self._links[key] = where
        if kind == stat.S_IFREG:
            self.regular(source, name, target, info, where)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            self._own(name, target, info)
        elif kind in (stat.S_IFIFO, stat.S_IFSOCK):
            os.mknod(name, stat.S_IMODE(info.st_mode) | kind, dir_fd=target)
            self._own(name, target, info)
            os.chmod(name, stat.S_IMODE(info.st_mode), dir_fd=target)
        else:
            return  # a device node: nobody in a user namespace can make one
        self.files += 1
        if self._carry is not None:
            self._carry(source, name, info, target)
        if kind != stat.S_IFREG:
            times = (info.st_atime_ns, info.st_mtime_ns)
            os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)

    def _hardlink(self, known: bytes, name: bytes, target: int) -> None:
        head, _, base = known.lstrip(b"/").rpartition(b"/")
        parent = open_below(self._target, head)
        try:
            os.link(base, name, src_dir_fd=parent, dst_dir_fd=target, follow_symlinks=False)
        finally:
            os.close(parent)

    def regular(
        self,
        source: int,
        name: bytes,
        target: int,
        info: os.stat_result,
        where: bytes,  # noqa: ARG002  (for those who override it)
    ) -> None:
        """Copy the regular file NAME."""
        here, there = os.open(name, _READ, dir_fd=source), -1
        try:
            there = os.open(name, _CREATE, 0o600, dir_fd=target)
            if info.st_size:
                self._clone = copy_data(here, there, info, clone=self._clone)
            self.metadata(here, there, info)
        finally:
            os.close(here)
            if there >= 0:
                os.close(there)
        self.bytes += info.st_size

    def metadata(self, source: int, target: int, info: os.stat_result) -> None:
        """Give the open file or directory TARGET what SOURCE has besides its content; INFO is SOURCE's."""
        try:
            os.fchown(target, *self._owners.of(info))
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EINVAL):
                raise
        for name in self._attributes(source):
            try:
                os.setxattr(target, name, os.getxattr(source, name))
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise
        os.fchmod(target, stat.S_IMODE(info.st_mode))
        os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))

    def clear_attributes(self, source: int, target: int) -> None:
        """Take from TARGET the extended attributes that SOURCE does not have."""
        for name in set(self._attributes(target)) - set(self._attributes(source)):
            try:
                os.removexattr(target, name)
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise

    def _attributes(self, fd: int) -> list[str]:
        try:
            names = os.listxattr(fd)
        except OSError:  # a filesystem without attributes
            return []
        return [name for name in names if not name.startswith(self.private)]

    def _own(self, name: bytes, target: int, info: os.stat_result) -> None:
        try:
            os.chown(name, *self._owners.of(info), dir_fd=target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EINVAL):
                raise


def open_below(root: int, path: bytes) -> int:
    """Descriptor of the directory PATH below ROOT, no link followed on the way; the caller closes it."""
    fd = os.dup(root)
    for part in path.split(b"/"):
        if part:
            parent = fd
            try:
                fd = os.open(part, DIRECTORY, dir_fd=parent)
            finally:
                os.close(parent)
    return fd


def copy_data(source: int, target: int, info: os.stat_result, *, clone: bool = True) -> bool:
    """Copy a regular file's bytes, holes as holes; whether extents could be shared (CLONE: try)."""
    if clone:
        try:
            fcntl.ioctl(target, _FICLONE, source)
            return True
        except OSError as error:
            if error.errno not in _NO_CLONE:
                raise
    if info.st_blocks * 512 >= info.st_size:
        _copy_range(source, target, 0, info.st_size)
    else:
        os.ftruncate(target, info.st_size)
        at = 0
        while at < info.st_size:
            try:
                at = os.lseek(source, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only a hole is left
                    break
                raise
            end = os.lseek(source, at, os.SEEK_HOLE)
            _copy_range(source, target, at, end)
            at = end
    return False


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    os.lseek(target, start, os.SEEK_SET)
    at = start
    while at < end:
        try:
            count = os.sendfile(target, source, at, min(end - at, _PIECE))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            count = os.write(target, os.pread(source, min(end - at, 1 << 20), at))
        if not count:
            break
        at += count


def remove(parent: int, name: bytes) -> None:
    """Remove whatever NAME in the directory PARENT is, with all below it; no link is followed."""
    try:
        os.unlink(name, dir_fd=parent)
        return
    except IsADirectoryError:
        pass
    except PermissionError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise
    fd = os.open(name, DIRECTORY, dir_fd=parent)
    try:
        for child in os.listdir(fd):
            remove(fd, os.fsencode(child))
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)


def remove_if_there(parent: int, name: bytes) -> None:
    """Remove NAME, which need not exist."""
    try:
        remove(parent, name)
    except FileNotFoundError:
        pass
