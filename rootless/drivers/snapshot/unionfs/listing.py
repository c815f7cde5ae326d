"""Directories, merged and streamed: the layers are read one after the other, as far as the kernel asks.

What higher layers have shown or hidden is remembered while a listing is open and lower layers are still to
come; the last layer, mostly the largest, is not held.  A position is the count of entries before it.  As the
kernel keeps listings and may come to us only in the middle of one, what a directory held is kept for those who
have it open when it changes.
"""

from __future__ import annotations

import os
import stat

from . import marks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .nodes import Node
    from .tree import Tree

    Entry = tuple[bytes, int, int]  # name, number of the inode, type as in st_mode

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DIR, _REG, _LNK, _CHR = 0o040000, 0o100000, 0o120000, 0o020000


def _scan(tree: Tree, fd: int, *, origins: bool) -> Iterator[Entry]:
    """One layer's entries, marks among them as they are, with type 0; numbers as far as the layer knows.

    ORIGINS: files may be shown with the number that they had before they were copied up.
    """
    marked = tree.marks.files
    opened = os.open(".", _DIRECTORY, dir_fd=fd)
    try:
        itself = os.fstat(opened)
        tag = tree.number(itself) ^ itself.st_ino
        with os.scandir(opened) as found:
            for entry in found:
                name, number = os.fsencode(entry.name), entry.inode() ^ tag
                if entry.is_file(follow_symlinks=False):
                    kind = _REG
                    if marked and name.startswith(marks.PREFIX):
                        kind = 0
                    elif origins:
                        number = tree.origin(opened, name) or number
                elif entry.is_dir(follow_symlinks=False):
                    kind = _DIR
                elif entry.is_symlink():
                    kind = _LNK
                else:
                    info = entry.stat(follow_symlinks=False)
                    kind = stat.S_IFMT(info.st_mode)
                    if kind == _CHR and info.st_rdev == 0:
                        kind = 0
                yield name, number, kind
    finally:
        os.close(opened)


def entries(tree: Tree, node: Node) -> Iterator[Entry]:
    """What shows in a directory, without "." and ".."."""
    layers = node.layers
    marked = tree.marks.files
    children = node.children or {}
    seen: set[bytes] = set()
    for layer in layers:
        fd = tree.fds(node).get(layer, -1)
        if fd < 0:  # removed meanwhile
            return
        last, merged = layer is layers[-1], layer.writable and node.lower
        origins = layer.writable and (merged or _impure(tree, fd))
        hidden: list[bytes] = []
        for name, number, kind in _scan(tree, fd, origins=origins):
            if not kind:
                hidden.append(name[len(marks.PREFIX) :] if marked else name)
                continue
            if name in seen:
                continue
            if not last:
                seen.add(name)
            known = children.get(name)
            if known is not None:
                yield name, known.ino, kind
            elif merged and kind == _DIR:
                yield name, tree.peek(node, name) or number, kind
            else:
                yield name, number, kind
        if not last:
            seen.update(hidden)


def _impure(tree: Tree, fd: int) -> bool:
    """Whether a file that was copied up has been moved into a directory without lower layers."""
    try:
        return tree.keeps_origins and bool(os.getxattr(marks.place(fd), marks.IMPURE_XATTR))
    except OSError:
        return False


def is_empty(tree: Tree, node: Node) -> bool:
    """Whether nothing shows in a directory."""
    return next(entries(tree, node), None) is None


class Listing:
    """An open directory."""

    def __init__(self, tree: Tree, node: Node) -> None:
        self._tree = tree
        self.node = node
        self._stream: Iterator[Entry] | None = None
        self._recent: list[
            Entry
        ] = []  # what was given last, as the kernel may take less than it got
        self._start = 0  # position of the first of these
        self._kept: list[Entry] | None = None

    def keep(self) -> None:
        """Remember all entries, as the directory is about to change and the kernel may have given some of them.

        Positions are counts, so what the kernel asks for next, when it dropped what it had, would be off by
        the changes.  What is being read from us goes on by itself.
        """
        if self._stream is None and self._kept is None:
            self._kept = list(self._all())

    def _all(self) -> Iterator[Entry]:
        node = self.node
        parent = node.parent or node
        yield b".", node.ino, _DIR
        yield b"..", parent.ino, _DIR
        if not node.removed:
            yield from entries(self._tree, node)

    def at(self, position: int) -> Iterator[Entry]:
        """The entries from POSITION on; the caller takes what it has room for."""
        if self._kept is not None and position > 0:
            yield from self._kept[position:]
            return
        self._kept = None
        recent, start = self._recent, self._start
        known = position > 0 and start <= position <= start + len(recent)
        if self._stream is None or not known:  # from the beginning, as rewinddir(3) wants it
            self._stream, recent, start = self._all(), [], 0
            for _ in range(position):
                if next(self._stream, None) is None:
                    break
            start = position
        self._recent, self._start = recent[position - start :], position
        yield from tuple(self._recent)
        for entry in self._stream:
            self._recent.append(entry)
            yield entry
