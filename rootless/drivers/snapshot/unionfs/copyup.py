"""Copying up: what is about to change comes into the upper layer, with all it has, by one rename.

Made whole in the work directory first, so that a kill in the middle leaves nothing that shows and an error
(ENOSPC) leaves everything as it was.  The times of the directory it appears in stay, as nothing changed there.
"""

from __future__ import annotations

import errno
import os
import stat

from rootless.store import treecopy

from . import marks
from .tree import error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .nodes import Node
    from .quota import Quota
    from .tree import Tree
    from .work import Made, Work

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = treecopy.DIRECTORY


class CopyUp:
    """CHANGED is called with a node whose number changed, as the kernel has to ask for it."""

    def __init__(
        self, tree: Tree, work: Work | None, quota: Quota, changed: Callable[[Node], None]
    ) -> None:
        self._tree = tree
        self._work = work
        self._quota = quota
        self._changed = changed
        self._copier = treecopy.TreeCopier(-1)
        self._clone = True

    @property
    def work(self) -> Work:
        """The work directory; EROFS where there is none."""
        if self._work is None:
            raise error(errno.EROFS)
        return self._work

    def directory(self, node: Node) -> int:
        """Have the directory NODE in the upper layer, ready to be changed; its descriptor there."""
        self.work  # noqa: B018
        chain = []
        here = node
        while not here.upper:
            if here.parent is None:
                raise error(errno.ENOENT)
            chain.append(here)
            here = here.parent
        if here.removed:
            raise error(errno.ENOENT)
        for one in reversed(chain):
            self._directory(one)
        if node.listing is not None:
            node.listing.keep()
        return self._tree.upper_fd(node)

    def _directory(self, node: Node) -> None:
        tree = self._tree
        assert node.parent is not None and tree.upper is not None
        for listing in (node.parent.listing, node.listing):
            if listing is not None:
                listing.keep()
        source = tree.open_file(node, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with self.work.made(lambda at, name: os.mkdir(name, 0o700, dir_fd=at)) as made:
                target = os.open(made.name, _DIRECTORY, dir_fd=made.fd)
                try:
                    self._copier.metadata(source, target, os.fstat(source))
                finally:
                    os.close(target)
                self._appear(made, node.parent, node.name)
        finally:
            os.close(source)
        node.layers = (tree.upper, *node.layers)
        tree.nodes.close(node)

    def _appear(self, made: Made, parent: Node, name: bytes) -> None:
        """Rename into the upper layer; nobody sees that its directory was touched."""
        fd = self._tree.upper_fd(parent)
        before = os.stat(fd)
        made.rename(fd, name)
        os.utime(b".", ns=(before.st_atime_ns, before.st_mtime_ns), dir_fd=fd)

    def file(self, node: Node, *, empty: bool = False) -> None:
        """Have NODE in the upper layer, which is no directory; EMPTY: its content is not needed."""
        if node.upper:
            return
        tree = self._tree
        self.work  # noqa: B018
        if node.parent is not None:
            self.directory(node.parent)
        tree.stat(node)
        several, size = tree.attr.st_nlink > 1, 0
        if stat.S_ISREG(node.mode) and not empty:
            size = tree.attr.st_size
            self._quota.check(size)
        with self.work.made(lambda at, name: self._copy(node, at, name, several, empty)) as made:
            if node.parent is not None:
                self._appear(made, node.parent, node.name)
            else:
                held = os.open(made.name, 0o10000000 | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=made.fd)
                os.close(node.held)
                node.held = held
        assert tree.upper is not None
        node.layers = (tree.upper,)
        self._quota.add(size)
        if several:  # its other names are another file from now on
            tree.stat(node)
            fd, name = tree.where(node)
            info = os.stat(name or fd, dir_fd=fd if name else None, follow_symlinks=not name)
            node.ino = tree.number(info)
            self._changed(node)
        tree.readers.follow(node)

    def _copy(self, node: Node, at: int, name: bytes, several: bool, empty: bool) -> None:
        """Make a copy of NODE called NAME in the directory AT."""
        tree = self._tree
        kind = stat.S_IFMT(node.mode)
        if kind == stat.S_IFREG:
            source, target = tree.open_file(node, os.O_RDONLY), -1
            try:
                target = os.open(name, _CREATE, 0o600, dir_fd=at)
                info = os.fstat(source)
                if info.st_size and not empty:
                    self._clone = treecopy.copy_data(source, target, info, clone=self._clone)
                self._copier.metadata(source, target, info)
                if tree.keeps_origins and not several:
                    self._remember(target, node.ino)
            finally:
                os.close(source)
                if target >= 0:
                    os.close(target)
            return
        fd, old = tree.where(node)
        info = os.stat(old, dir_fd=fd, follow_symlinks=False) if old else os.stat(fd)
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink(old, dir_fd=fd), name, dir_fd=at)
        else:
            os.mknod(name, info.st_mode, info.st_rdev, dir_fd=at)
        os.chown(name, info.st_uid, info.st_gid, dir_fd=at, follow_symlinks=False)
        if kind != stat.S_IFLNK:
            os.chmod(name, stat.S_IMODE(info.st_mode), dir_fd=at)
        times = (info.st_atime_ns, info.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=at, follow_symlinks=False)

    def _remember(self, fd: int, number: int) -> None:
        """Note which number a copy had before, for the next time it is looked up."""
        try:
            os.setxattr(fd, marks.INODE_XATTR, b"%d" % number)
        except OSError as problem:
            if problem.errno != errno.ENOTSUP:
                raise
            self._tree.keeps_origins = False
