"""Whiteouts and opaque directories: how a layer says that something of the layers below is gone.

Two formats, as the layers were unpacked; both have the same methods.  ``Overlay``: a character device 0/0
in the place of what is gone, ``user.overlay.opaque`` on a directory.  ``Files``: empty files ``.wh.NAME``
and ``.wh..wh..opq``, where the filesystem takes neither.  Knows descriptors and names, no nodes.
"""

from __future__ import annotations

import errno
import os
import stat

from . import calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .work import Work

OPAQUE_XATTR = "user.overlay.opaque"
# Where the number of the inode from which a file was copied up is kept.
INODE_XATTR = "user.rootless.inode"
# On a directory without lower layers: a file with such a number was moved into it.
IMPURE_XATTR = "user.overlay.impure"
PREFIX = b".wh."
OPAQUE_NAME = b".wh..wh..opq"
_WHITEOUT_MODE = stat.S_IFCHR
_NO_FLAGS = (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP)


def private_xattr(name: str) -> bool:
    """Whether an attribute is bookkeeping of storage drivers and none of the container's business."""
    return name.startswith(("user.overlay.", "trusted.overlay.", "user.fuseoverlayfs.")) or (
        name == INODE_XATTR
    )


def place(fd: int, name: bytes = b".") -> bytes:
    """A path of the entry NAME in the directory of a descriptor, which may be one of O_PATH."""
    return b"/proc/self/fd/%d/%s" % (fd, name)


class Marks:
    """What is common to both formats."""

    files = False  # whether names that begin with ".wh." are marks

    def reserved(self, name: bytes) -> bool:
        """Whether NAME cannot be the name of a file here."""
        return self.files and name.startswith(PREFIX)

    def hides(self, fd: int, name: bytes) -> bool:
        """Whether the layer hides NAME by something that has another name."""
        raise NotImplementedError

    def is_opaque(self, fd: int, name: bytes) -> bool:
        """Whether the directory NAME in FD hides what the layers below have in it."""
        raise NotImplementedError

    def set_opaque(self, fd: int, name: bytes) -> None:
        """Make the directory NAME in FD opaque."""
        raise NotImplementedError

    def whited_out(self, fd: int, name: bytes) -> bool:
        """Whether there is a whiteout of NAME in FD."""
        raise NotImplementedError

    def hide(self, fd: int, name: bytes) -> None:
        """Make a whiteout where the layer has nothing of that name."""
        raise NotImplementedError

    def replace(self, fd: int, name: bytes, work: Work) -> None:
        """Let a whiteout take the place of the entry NAME, which is no directory."""
        raise NotImplementedError

    def unhide(self, fd: int, name: bytes) -> None:
        """Something has come in the place of a whiteout, if there was one: forget that."""

    def move(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        """Rename, leaving a whiteout."""
        raise NotImplementedError


class Overlay(Marks):
    """As the kernel's overlayfs does it."""

    def hides(self, fd: int, name: bytes) -> bool:  # noqa: ARG002
        """A whiteout has the name of what it hides."""
        return False

    def is_opaque(self, fd: int, name: bytes) -> bool:
        """By the attribute."""
        try:
            return os.getxattr(place(fd, name), OPAQUE_XATTR, follow_symlinks=False) == b"y"
        except OSError:
            return False

    def set_opaque(self, fd: int, name: bytes) -> None:
        """By the attribute."""
        os.setxattr(place(fd, name), OPAQUE_XATTR, b"y", follow_symlinks=False)

    def whited_out(self, fd: int, name: bytes) -> bool:
        """A character device 0/0."""
        try:
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0

    def hide(self, fd: int, name: bytes) -> None:
        """Anyone may make such a device (since 5.8)."""
        os.mknod(name, _WHITEOUT_MODE, 0, dir_fd=fd)

    def replace(self, fd: int, name: bytes, work: Work) -> None:
        """By one rename."""
        with work.made(
            lambda at, temporary: os.mknod(temporary, _WHITEOUT_MODE, 0, dir_fd=at)
        ) as it:
            it.rename(fd, name)

    def move(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        """In one step where the filesystem can."""
        try:
            calls.rename(old_fd, old, new_fd, new, calls.RENAME_WHITEOUT)
        except OSError as error:
            if error.errno not in _NO_FLAGS:
                raise
            calls.rename(old_fd, old, new_fd, new)
            self.hide(old_fd, old)


class Files(Marks):
    """As image layers have it."""

    files = True

    def hides(self, fd: int, name: bytes) -> bool:
        """By a file beside it."""
        return _exists(fd, PREFIX + name)

    def is_opaque(self, fd: int, name: bytes) -> bool:
        """By a file in it."""
        return _exists(fd, name + b"/" + OPAQUE_NAME)

    def set_opaque(self, fd: int, name: bytes) -> None:
        """By a file in it."""
        _touch(fd, name + b"/" + OPAQUE_NAME)

    def whited_out(self, fd: int, name: bytes) -> bool:
        """By a file beside it."""
        return _exists(fd, PREFIX + name)

    def hide(self, fd: int, name: bytes) -> None:
        """A mark counts for nothing as long as the layer itself has an entry of that name."""
        _touch(fd, PREFIX + name)

    def replace(self, fd: int, name: bytes, work: Work) -> None:  # noqa: ARG002
        """The mark first, so that the layers below never show through."""
        self.hide(fd, name)
        os.unlink(name, dir_fd=fd)

    def unhide(self, fd: int, name: bytes) -> None:
        """Take the mark away."""
        try:
            os.unlink(PREFIX + name, dir_fd=fd)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
                raise

    def move(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        """The mark first."""
        self.hide(old_fd, old)
        try:
            calls.rename(old_fd, old, new_fd, new)
        except OSError:
            self.unhide(old_fd, old)
            raise


def _exists(fd: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError:
        return False
    return True


def _touch(fd: int, name: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(name, flags, 0o600, dir_fd=fd))


def of(layer_format: str) -> Marks:
    """The marks of a layer format; raises KeyError."""
    kinds: dict[str, type[Marks]] = {"overlay": Overlay, "files": Files}
    return kinds[layer_format]()
