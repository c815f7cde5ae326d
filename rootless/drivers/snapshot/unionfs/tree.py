"""The merged tree: how a name is found in the layers, and what is known of what was found.

Every component is looked up by itself in the directory of each layer, by descriptor and without following
links, so that nothing a layer holds leads out of it.  ``attr`` is filled by each look: one buffer that replies
are sent from.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from . import calls, marks
from .nodes import Layer, Node, Nodes
from .owners import Owners
from .readers import Readers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Callable

    from .binding import Binding

_S_IFMT, _S_IFDIR, _S_IFCHR, _S_IFREG = 0o170000, 0o040000, 0o020000, 0o100000
_NOFOLLOW = calls.NOFOLLOW
_fstatat = calls.fstatat
NO_NAME = (errno.ENOENT, errno.ENOTDIR)
_O_PATH = 0o10000000


def error(number: int, name: bytes = b"") -> OSError:
    """An error of the system."""
    return OSError(number, os.strerror(number), os.fsdecode(name))


class Tree:
    """LAYERS topmost first; UPPER is the first of them, or None for a tree that cannot change.

    RELEASED is called with a removed node when nobody has it open any more.

    entry  struct fuse_entry_param, with attr in it
    """

    def __init__(
        self,
        binding: Binding,
        layers: Sequence[Layer],
        layer_marks: marks.Marks,
        released: Callable[[Node], None],
        owners: Owners | None = None,
    ) -> None:
        self.layers = tuple(layers)
        self.upper = layers[0] if layers[0].writable else None
        self.marks = layer_marks
        self.owners = owners or Owners()
        self.entry = binding.Entry()
        self.attr = self.entry.attr
        self.entry_at = ctypes.addressof(self.entry)
        self.attr_at = self.entry_at + binding.Entry.attr.offset
        self._second = binding.stat()
        self._second_at = ctypes.addressof(self._second)
        self.keeps_origins = True
        # Numbers of inodes are unique per device; most often there is one.
        self._tags = {os.fstat(layer.fd).st_dev: 0 for layer in reversed(layers)}
        self._tags = {device: place << 48 for place, device in enumerate(self._tags)}
        self.nodes = Nodes(self._root(), self._let_go)
        self._released = released
        self.readers = Readers(self, self.nodes.max_fds // 2)

    def _root(self) -> Node:
        node = Node(1, _S_IFDIR, self.layers, None, b"")
        node.fds = {layer: layer.fd for layer in self.layers}
        node.lookups = 1
        lower = [layer for layer in self.layers if not layer.writable]
        info = os.fstat((lower or self.layers)[0].fd)
        node.ino = info.st_ino ^ self._tags[info.st_dev]
        node.mode = os.fstat(self.layers[0].fd).st_mode
        return node

    def _let_go(self, node: Node) -> None:
        self.readers.drop(node)
        if node.removed:
            self._released(node)

    def fds(self, node: Node) -> dict[Layer, int]:
        """Descriptors of a directory by layer, topmost first."""
        fds = node.fds
        return self.nodes.open(node) if fds is None else fds

    def upper_fd(self, node: Node) -> int:
        """The upper layer's directory of NODE, which is there."""
        return self.fds(node)[node.layers[0]]

    def where(self, node: Node) -> tuple[int, bytes]:
        """Directory and name at which NODE is; for what was removed its own descriptor and ""."""
        parent = node.parent
        if parent is None:
            return (node.held if node.held >= 0 else node.layers[0].fd), b""
        return self.fds(parent)[node.layers[0]], node.name

    def path(self, node: Node) -> tuple[bytes, bool]:
        """A path for calls that take no descriptor, and whether its last component has to be followed."""
        fd, name = self.where(node)
        return (marks.place(fd, name), False) if name else (b"/proc/self/fd/%d" % fd, True)

    def open_file(self, node: Node, flags: int) -> int:
        """Open a regular file or, to list it, a directory of the topmost layer."""
        fd, name = self.where(node)
        if not name:
            return os.open(b"/proc/self/fd/%d" % fd, flags | os.O_CLOEXEC | os.O_NONBLOCK)
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        if node.layers[0].writable:
            return os.open(name, flags, dir_fd=fd)
        try:  # layers are shared, and reading is no change
            return os.open(name, flags | os.O_NOATIME, dir_fd=fd)
        except PermissionError:
            return os.open(name, flags, dir_fd=fd)

    def stat(self, node: Node) -> None:
        """Fill ``attr`` with what NODE is now."""
        parent, attr = node.parent, self.attr
        if parent is None:
            fd = node.held if node.held >= 0 else node.layers[0].fd
            if _fstatat(fd, b"", self.attr_at, calls.EMPTY_PATH):
                raise calls.failure()
            if node.held >= 0 and (node.children is not None or not node.upper):
                attr.st_nlink = 0
        else:
            fds = parent.fds
            if fds is None:
                fds = self.nodes.open(parent)
            if _fstatat(fds[node.layers[0]], node.name, self.attr_at, _NOFOLLOW):
                raise calls.failure(node.name)
        attr.st_ino = node.ino
        if node.children is not None and node.lower and attr.st_nlink:
            attr.st_nlink = 1  # nobody counts the subdirectories of all layers
        if self.owners:
            self._show_owner()

    def lookup(self, parent: Node, name: bytes) -> Node | None:
        """The node called NAME in PARENT, with ``attr`` filled; None where there is nothing."""
        children = parent.children
        if children is None:
            raise error(errno.ENOTDIR, name)
        node = children.get(name)
        if node is None:
            return self._discover(parent, name)
        self.stat(node)
        return node

    def peek(self, parent: Node, name: bytes) -> int:
        """The number shown for NAME, which the kernel is not told of; 0 where there is nothing."""
        node = self.lookup(parent, name)
        if node is None:
            return 0
        self.nodes.forget(node, 0)
        return node.ino

    def need(self, parent: Node, name: bytes) -> Node:
        """The same where there has to be something."""
        node = self.lookup(parent, name)
        if node is None:
            raise error(errno.ENOENT, name)
        return node

    def _discover(self, parent: Node, name: bytes) -> Node | None:
        """Look in each layer, from the top until one decides."""
        hides = self.marks.hides if self.marks.files else None
        if hides and self.marks.reserved(name):
            return None
        attr, number, last = self.attr, 0, parent.layers[-1]
        found: list[Layer] = []
        for layer, fd in self.fds(parent).items():
            if _fstatat(fd, name, self._second_at if found else self.attr_at, _NOFOLLOW):
                if calls.get_errno() not in NO_NAME:
                    raise calls.failure(name)
                if hides and hides(fd, name):
                    break
                continue
            seen = self._second if found else attr
            kind = seen.st_mode & _S_IFMT
            if kind != _S_IFDIR:
                if found or (kind == _S_IFCHR and seen.st_rdev == 0):
                    break
                return self._file(parent, name, layer, fd)
            found.append(layer)
            if not number and not layer.writable:
                number = self.number(seen)
            if layer is not last and self.marks.is_opaque(fd, name):
                break
        if not found:
            return None
        node = self.nodes.add(attr.st_mode, tuple(found), parent, name)
        # That of the topmost lower layer, so that it stays when the directory is copied up.
        node.ino = attr.st_ino = number or self.number(attr)
        if number:
            attr.st_nlink = 1
        if self.owners:
            self._show_owner()
        return node

    def _file(self, parent: Node, name: bytes, layer: Layer, fd: int) -> Node:
        attr = self.attr
        inode, several = attr.st_ino, layer.writable and attr.st_nlink > 1
        if several and inode in self.nodes.linked:
            node = self.nodes.linked[inode]
            self.nodes.name(node, parent, name)
        else:
            node = self.nodes.add(attr.st_mode, (layer,), parent, name)
            node.ino = self.number(attr)
            if layer.writable and self.keeps_origins and attr.st_mode & _S_IFMT == _S_IFREG:
                node.ino = self.origin(fd, name) or node.ino
            if several:
                self.nodes.link(node, inode)
        attr.st_ino = node.ino
        if self.owners:
            self._show_owner()
        return node

    def _show_owner(self) -> None:
        attr = self.attr
        attr.st_uid, attr.st_gid = (
            self.owners.uid.shown(attr.st_uid),
            self.owners.gid.shown(attr.st_gid),
        )

    def made(self, parent: Node, name: bytes) -> Node:
        """The node of what was just made in the upper layer, with ``attr`` filled."""
        assert self.upper is not None
        if _fstatat(self.upper_fd(parent), name, self.attr_at, _NOFOLLOW):
            raise calls.failure(name)
        node = self.nodes.add(self.attr.st_mode, (self.upper,), parent, name)
        node.ino = self.attr.st_ino = self.number(self.attr)
        node.plain = True
        if self.owners:
            self._show_owner()
        return node

    def number(self, info: Any) -> int:
        """The number to show for the inode of a struct stat: unique across layers."""
        device = info.st_dev
        if device not in self._tags:  # something mounted in a layer
            self._tags[device] = len(self._tags) << 48
        return int(info.st_ino ^ self._tags[device])

    def origin(self, fd: int, name: bytes) -> int:
        """The number that a file of the upper layer had before it was copied up; 0 where it was not."""
        try:
            path = marks.place(fd, name)
            return int(os.getxattr(path, marks.INODE_XATTR, follow_symlinks=False))
        except OSError as problem:
            if problem.errno == errno.ENOTSUP:
                self.keeps_origins = False
            return 0
        except ValueError:
            return 0

    def covers(self, parent: Node, name: bytes) -> bool:
        """Whether the lower layers would show NAME if the upper one had nothing of it."""
        for layer, fd in self.fds(parent).items() if parent.lower else ():
            if layer.writable:
                continue
            if not _fstatat(fd, name, self._second_at, _NOFOLLOW):
                seen = self._second
                return not (stat.S_ISCHR(seen.st_mode) and seen.st_rdev == 0)
            if self.marks.hides(fd, name):
                return False
        return False

    def hold(self, node: Node) -> int:
        """A descriptor of NODE that stays valid when its name goes."""
        fd, name = self.where(node)
        if not name:
            raise error(errno.EBUSY)
        return os.open(name, _O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
