"""Nodes: what the kernel knows of, one per inode of the merged tree.

Owns identity, names and lifetime, and the descriptors of directories.  How a name is found in the layers is
tree.py's.

A node is known by number as long as the kernel holds it (``lookups``).  A file of a lower layer is one node
per name, as writing to one of its names must not be seen through the others; a file of the upper layer is
one node, however many names it has.
"""

from __future__ import annotations

import os
import resource
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .listing import Listing

ROOT_ID = 1
DIRECTORY_PATH = 0o10000000 | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC  # O_PATH


class Layer:
    """One layer: the open directory FD; ``writable`` for the upper one."""

    __slots__ = ("fd", "writable")

    def __init__(self, fd: int, *, writable: bool) -> None:
        self.fd = fd
        self.writable = writable


class Node:
    """An inode of the merged tree.

    id        number in requests; ino: number that is shown
    mode      type and permissions when last seen
    layers    where it is, topmost first; more than one for a directory that is merged
    parent, name   one of its names; parent is None for the root and for what was removed
    aliases   further names, or None
    children  of a directory: nodes by name, as far as known
    fds       of a directory: open descriptors (O_PATH) by layer, topmost first, or None
    held      descriptor (O_PATH) of what was removed, or -1
    reader    descriptor for reading a file (readers.py), or -1; reading: how many use it
    link      number of its inode in the upper layer, if that has several names
    plain     known to have no file capabilities
    listing   of a directory: the one open listing that the kernel may give by itself, or None
    """

    __slots__ = (
        "aliases",
        "children",
        "fds",
        "held",
        "id",
        "ino",
        "layers",
        "link",
        "listing",
        "lookups",
        "mode",
        "name",
        "parent",
        "plain",
        "reader",
        "reading",
    )

    def __init__(
        self, ident: int, mode: int, layers: tuple[Layer, ...], parent: Node | None, name: bytes
    ) -> None:
        self.id = ident
        self.ino = 0
        self.mode = mode
        self.layers = layers
        self.parent = parent
        self.name = name
        self.aliases: list[tuple[Node, bytes]] | None = None
        self.children: dict[bytes, Node] | None = {} if mode & 0o170000 == 0o040000 else None
        self.fds: dict[Layer, int] | None = None
        self.held = -1
        self.reader = -1
        self.reading = 0
        self.link = 0
        self.lookups = 0
        self.plain = False
        self.listing: Listing | None = None

    @property
    def upper(self) -> bool:
        """Whether the upper layer has it."""
        return bool(self.layers) and self.layers[0].writable

    @property
    def lower(self) -> bool:
        """Whether a lower layer has part in it."""
        return bool(self.layers) and not self.layers[-1].writable

    @property
    def removed(self) -> bool:
        """Whether it has no name any more."""
        return self.held >= 0


class Nodes:
    """All nodes by number; RELEASED is called with a node of which the kernel lets go.

    linked  files of the upper layer with several names, by number of their inode there
    """

    def __init__(self, root: Node, released: Callable[[Node], None]) -> None:
        self.root = root
        self.by_id: dict[int, Node] = {ROOT_ID: root}
        self.linked: dict[int, Node] = {}
        self._released = released
        self._next = ROOT_ID
        self._opened: deque[Node] = deque()
        self.open_fds = 0
        self.max_fds = max(64, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4, 8192))

    def add(self, mode: int, layers: tuple[Layer, ...], parent: Node, name: bytes) -> Node:
        """A new node; it stays if the kernel is told of it."""
        self._next += 1
        node = Node(self._next, mode, layers, parent, name)
        assert parent.children is not None
        parent.children[name] = node
        self.by_id[node.id] = node
        return node

    def link(self, node: Node, inode: int) -> None:
        """NODE is a file that has, or gets, several names in the upper layer."""
        node.link = inode
        self.linked[inode] = node

    def name(self, node: Node, parent: Node, name: bytes) -> None:
        """A further name of NODE."""
        assert parent.children is not None
        parent.children[name] = node
        if node.parent is None:
            node.parent, node.name = parent, name
            if node.held >= 0:
                os.close(node.held)
                node.held = -1
        elif node.aliases is None:
            node.aliases = [(parent, name)]
        else:
            node.aliases.append((parent, name))

    def unname(self, node: Node, parent: Node, name: bytes) -> bool:
        """NAME is no name of NODE any more; whether it has none left that is known."""
        assert parent.children is not None
        if parent.children.get(name) is node:
            del parent.children[name]
        if node.parent is parent and node.name == name:
            if node.aliases:
                node.parent, node.name = node.aliases.pop()
            else:
                node.parent = None
        elif node.aliases:
            node.aliases = [one for one in node.aliases if one != (parent, name)]
        if parent.lookups <= 0:
            self._drop(parent)
        return node.parent is None

    def forget(self, node: Node, lookups: int) -> None:
        """The kernel holds NODE that many times less."""
        node.lookups -= lookups
        if node.lookups <= 0:
            self._drop(node)

    def _drop(self, node: Node) -> None:
        """Let go of a node that nobody holds, unless nodes are known by names in it."""
        if node.children or node is self.root or self.by_id.pop(node.id, None) is None:
            return
        self._released(node)
        if node.held >= 0:
            os.close(node.held)
            node.held = -1
        self.close(node)
        if self.linked.get(node.link) is node:
            del self.linked[node.link]
        for _ in range(1 + len(node.aliases or ())):
            parent = node.parent
            if parent is not None:
                self.unname(node, parent, node.name)

    def open(self, node: Node) -> dict[Layer, int]:
        """The descriptors of a directory, opened component by component where they are not open."""
        chain = []
        here: Node | None = node
        while here is not None and here.fds is None:
            chain.append(here)
            here = here.parent
        above = here.fds if here is not None and here.fds is not None else {}
        for one in reversed(chain):
            fds: dict[Layer, int] = {}
            one.fds = fds
            self._opened.append(one)
            try:
                for layer in one.layers if one.parent is not None else ():
                    fds[layer] = os.open(one.name, DIRECTORY_PATH, dir_fd=above[layer])
                    self.open_fds += 1
            except BaseException:
                self.close(one)
                raise
            above = fds
        return above

    def close(self, node: Node) -> None:
        """Close the descriptors of a directory; they are opened again when they are needed."""
        fds, node.fds = node.fds, None
        if fds:
            self.open_fds -= len(fds)
            for fd in fds.values():
                os.close(fd)

    def shrink(self) -> None:
        """Between requests: close what was opened first where too much is open."""
        while self.open_fds > self.max_fds // 2 and self._opened:
            self.close(self._opened.popleft())
