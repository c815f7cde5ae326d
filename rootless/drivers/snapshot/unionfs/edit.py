"""Making, removing, renaming and linking: what changes the names of the upper layer.

Every change is one system call on the upper layer, or is made so that a kill between two of them leaves the
tree as it was before or after.  The kernel has checked permissions and types (default_permissions); what
was made belongs to the caller, whose IDs come with the request.
"""

from __future__ import annotations

import errno
import os
import stat

from . import calls, marks
from .listing import is_empty
from .tree import error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .copyup import CopyUp
    from .nodes import Node
    from .tree import Tree

    Make = Callable[[int, bytes], None]

_CREATE = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SPECIAL = stat.S_ISUID | stat.S_ISGID


class Editor:
    """Changes of names in the tree."""

    def __init__(self, tree: Tree, copyup: CopyUp) -> None:
        self._tree = tree
        self._copyup = copyup
        self._marks = tree.marks

    def _place(self, parent: Node, name: bytes, make: Make) -> None:
        """Have MAKE(directory, name) make something that is no directory, in place of a whiteout if need be."""
        fd = self._copyup.directory(parent)
        if self._marks.reserved(name):
            raise error(errno.EPERM, name)
        try:
            make(fd, name)
        except FileExistsError:
            if self._marks.files or not self._marks.whited_out(fd, name):
                raise
            with self._copyup.work.made(make) as made:
                made.rename(fd, name)
        if parent.lower:
            self._marks.unhide(fd, name)

    def _owner(self, parent: Node, uid: int, gid: int) -> tuple[int, int]:
        """Who is to own what UID and GID make in PARENT."""
        uid, gid = self._tree.owners.stored(uid, gid)
        if parent.mode & stat.S_ISGID:
            gid = os.stat(self._tree.upper_fd(parent)).st_gid
        return uid, gid

    def create(
        self, parent: Node, name: bytes, flags: int, mode: int, ids: tuple[int, int]
    ) -> tuple[Node, int]:
        """A new regular file, opened with FLAGS: its node and descriptor."""
        opened: list[int] = []
        self._copyup.directory(parent)
        owner = self._owner(parent, *ids)

        def make(at: int, called: bytes) -> None:
            fd = os.open(called, flags | _CREATE, mode, dir_fd=at)
            opened.append(fd)
            if owner != (0, 0):
                os.fchown(fd, *owner)
                if mode & _SPECIAL:
                    os.fchmod(fd, mode & 0o7777)

        try:
            self._place(parent, name, make)
            return self._tree.made(parent, name), opened[0]
        except BaseException:
            for fd in opened:
                os.close(fd)
            raise

    def mknod(
        self, parent: Node, name: bytes, mode: int, device: int, ids: tuple[int, int]
    ) -> Node:
        """A file, pipe, socket or device."""
        if stat.S_ISCHR(mode) and device == 0:
            raise error(errno.EPERM, name)  # that would be a whiteout
        self._copyup.directory(parent)
        owner = self._owner(parent, *ids)

        def make(at: int, called: bytes) -> None:
            os.mknod(called, mode, device, dir_fd=at)
            if owner != (0, 0):
                os.chown(called, *owner, dir_fd=at, follow_symlinks=False)
                if mode & _SPECIAL:
                    os.chmod(called, stat.S_IMODE(mode), dir_fd=at)

        self._place(parent, name, make)
        return self._tree.made(parent, name)

    def symlink(self, parent: Node, name: bytes, target: bytes, ids: tuple[int, int]) -> Node:
        """A symbolic link to TARGET."""
        self._copyup.directory(parent)
        owner = self._owner(parent, *ids)

        def make(at: int, called: bytes) -> None:
            os.symlink(target, called, dir_fd=at)
            if owner != (0, 0):
                os.chown(called, *owner, dir_fd=at, follow_symlinks=False)

        self._place(parent, name, make)
        return self._tree.made(parent, name)

    def link(self, node: Node, parent: Node, name: bytes) -> None:
        """A further name of NODE, which is no directory."""
        self._copyup.file(node)
        old_fd, old = self._tree.where(node)
        if not old:
            raise error(errno.ENOENT, name)

        def make(at: int, called: bytes) -> None:
            os.link(old, called, src_dir_fd=old_fd, dst_dir_fd=at, follow_symlinks=False)

        self._place(parent, name, make)
        inode = os.stat(old, dir_fd=old_fd, follow_symlinks=False).st_ino
        self._tree.nodes.link(node, inode)
        self._tree.nodes.name(node, parent, name)

    def mkdir(self, parent: Node, name: bytes, mode: int, ids: tuple[int, int]) -> Node:
        """A directory; opaque where a whiteout was."""
        fd = self._copyup.directory(parent)
        owner = self._owner(parent, *ids)
        if self._marks.reserved(name):
            raise error(errno.EPERM, name)
        if parent.mode & stat.S_ISGID:
            mode |= stat.S_ISGID

        def make(at: int, called: bytes) -> None:
            os.mkdir(called, mode & 0o7777, dir_fd=at)
            if owner != (0, 0):
                os.chown(called, *owner, dir_fd=at, follow_symlinks=False)
            if mode & 0o7000:  # mkdir(2) leaves these to the filesystem
                os.chmod(called, mode & 0o7777, dir_fd=at)

        if parent.lower and self._marks.whited_out(fd, name):
            with self._copyup.work.made(make) as made:
                self._marks.set_opaque(made.fd, made.name)
                self._take_place(made.exchange, made.rename, fd, name)
        else:
            make(fd, name)
        return self._tree.made(parent, name)

    def _take_place(self, exchange: Make, rename: Make, fd: int, name: bytes) -> None:
        """Put a directory where a whiteout is."""
        if self._marks.files:
            rename(fd, name)
            self._marks.unhide(fd, name)
        else:
            exchange(fd, name)

    def unlink(self, parent: Node, name: bytes) -> None:
        """Remove a name of what is no directory."""
        node = self._tree.need(parent, name)
        fd = self._copyup.directory(parent)
        covers = self._tree.covers(parent, name)
        held = self._tree.hold(node)
        try:
            if not node.upper:
                self._marks.hide(fd, name)
            elif covers:
                self._marks.replace(fd, name, self._copyup.work)
            else:
                os.unlink(name, dir_fd=fd)
        except BaseException:
            os.close(held)
            raise
        self._removed(node, parent, name, held)

    def _removed(self, node: Node, parent: Node, name: bytes, held: int) -> None:
        """NAME is gone; what has no name left lives on by the descriptor HELD."""
        if self._tree.nodes.unname(node, parent, name):
            node.held = held
            self._tree.readers.drop(node)
            self._tree.nodes.close(node)
        else:
            os.close(held)

    def rmdir(self, parent: Node, name: bytes) -> None:
        """Remove a directory in which nothing shows."""
        node = self._tree.need(parent, name)
        if not is_empty(self._tree, node):
            raise error(errno.ENOTEMPTY, name)
        fd = self._copyup.directory(parent)
        covers = self._tree.covers(parent, name)
        held = self._tree.hold(node)
        try:
            if not node.upper:
                self._marks.hide(fd, name)
            elif not covers:
                self._clear_away(fd, name)
            elif self._marks.files:
                self._marks.hide(fd, name)
                self._clear_away(fd, name)
            else:
                work = self._copyup.work
                with work.made(self._marks.hide) as made:
                    made.exchange(fd, name)
        except BaseException:
            os.close(held)
            raise
        self._removed(node, parent, name, held)
        node.fds = {}

    def _clear_away(self, fd: int, name: bytes) -> None:
        """Remove a directory of the upper layer that holds whiteouts at most."""
        try:
            os.rmdir(name, dir_fd=fd)
        except OSError as problem:
            if problem.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            self._copyup.work.take(fd, name)

    def rename(self, parent: Node, name: bytes, to: Node, new: bytes, flags: int) -> None:
        """Rename as renameat2(2) does; a directory of a lower layer is left to the caller (EXDEV)."""
        if flags & ~(calls.RENAME_NOREPLACE | calls.RENAME_EXCHANGE):
            raise error(errno.EINVAL, name)
        if self._marks.reserved(new):
            raise error(errno.EPERM, new)
        node = self._tree.need(parent, name)
        other = self._tree.lookup(to, new)
        if flags & calls.RENAME_EXCHANGE:
            if other is None:
                raise error(errno.ENOENT, new)
            self._exchange(parent, name, to, new, (node, other))
            return
        if flags & calls.RENAME_NOREPLACE and other is not None:
            raise error(errno.EEXIST, new)
        if other is node:
            return
        self._movable(node)
        old_fd, new_fd = self._copyup.directory(parent), self._copyup.directory(to)
        held = self._make_way(to, new, other) if other is not None else -1
        try:
            self._move((parent, old_fd, name), (to, new_fd, new), node)
        except BaseException:
            if held >= 0:
                os.close(held)
            raise
        if other is not None:
            self._removed(other, to, new, held)
            if other.children is not None:
                other.fds = {}
        self._moved(node, parent, name, to, new)

    def _movable(self, node: Node) -> None:
        """Have NODE wholly in the upper layer."""
        if node.children is None:
            self._copyup.file(node)
        elif node.lower:
            raise error(errno.EXDEV, node.name)

    def _make_way(self, to: Node, new: bytes, other: Node) -> int:
        """Prepare what a rename will replace; a descriptor that keeps it."""
        if other.children is not None:
            if not is_empty(self._tree, other):
                raise error(errno.ENOTEMPTY, new)
            if other.upper:
                return self._clear(to, new, other)
        return self._tree.hold(other)

    def _clear(self, to: Node, new: bytes, other: Node) -> int:
        """Empty a directory of the upper layer, or take it away; what it hid must not show meanwhile."""
        fd, held = self._tree.upper_fd(to), self._tree.hold(other)
        try:
            if self._marks.files:
                self._marks.hide(fd, new)
                self._copyup.work.take(fd, new)
            elif other.lower:
                self._marks.set_opaque(fd, new)
                directory = self._tree.upper_fd(other)
                for entry in os.listdir(marks.place(directory)):
                    os.unlink(entry, dir_fd=directory)
        except BaseException:
            os.close(held)
            raise
        return held

    def _move(
        self, source: tuple[Node, int, bytes], target: tuple[Node, int, bytes], node: Node
    ) -> None:
        """Rename within the upper layer, leaving a whiteout where something lies below."""
        (parent, old_fd, old), (to, new_fd, new) = source, target
        layer_marks = self._marks
        covered = self._tree.covers(parent, old)
        hidden = to.lower and layer_marks.whited_out(new_fd, new)
        if node.children is not None:
            if hidden or self._tree.covers(to, new):
                layer_marks.set_opaque(old_fd, old)
            if hidden and not layer_marks.files:
                self._swap_whiteout(old_fd, old, new_fd, new, keep=covered)
                return
        if covered:
            layer_marks.move(old_fd, old, new_fd, new)
        else:
            calls.rename(old_fd, old, new_fd, new)
        if hidden:
            layer_marks.unhide(new_fd, new)

    def _swap_whiteout(
        self, old_fd: int, old: bytes, new_fd: int, new: bytes, *, keep: bool
    ) -> None:
        """Put a directory where a whiteout is, and that where the directory was, to KEEP or to be removed."""
        try:
            calls.rename(old_fd, old, new_fd, new, calls.RENAME_EXCHANGE)
        except OSError:
            os.unlink(new, dir_fd=new_fd)
            calls.rename(old_fd, old, new_fd, new)
            if keep:
                self._marks.hide(old_fd, old)
            return
        if not keep:
            os.unlink(old, dir_fd=old_fd)

    def _exchange(
        self, parent: Node, name: bytes, to: Node, new: bytes, nodes: tuple[Node, Node]
    ) -> None:
        """Let two entries change places."""
        for node in nodes:
            self._movable(node)
        fd, new_fd = self._copyup.directory(parent), self._copyup.directory(to)
        if nodes[0].children is not None and self._tree.covers(to, new):
            self._marks.set_opaque(fd, name)
        if nodes[1].children is not None and self._tree.covers(parent, name):
            self._marks.set_opaque(new_fd, new)
        calls.rename(fd, name, new_fd, new, calls.RENAME_EXCHANGE)
        known = self._tree.nodes
        for node, where, called in zip(nodes, (parent, to), (name, new)):
            known.unname(node, where, called)
        for node, where, called in zip(nodes, (to, parent), (new, name)):
            known.name(node, where, called)
            self._note_impure(where, node)

    def _moved(self, node: Node, parent: Node, name: bytes, to: Node, new: bytes) -> None:
        known = self._tree.nodes
        known.unname(node, parent, name)
        known.name(node, to, new)
        if parent is not to:
            self._note_impure(to, node)

    def _note_impure(self, to: Node, node: Node) -> None:
        """Listings of a directory without lower layers ask for numbers only where this is set."""
        if node.children is not None or to.lower or not self._tree.keeps_origins:
            return
        if node.ino != self._own_number(node):
            fd = self._tree.upper_fd(to)
            os.setxattr(marks.place(fd), marks.IMPURE_XATTR, b"y")

    def _own_number(self, node: Node) -> int:
        fd, name = self._tree.where(node)
        return self._tree.number(os.stat(name, dir_fd=fd, follow_symlinks=False))
