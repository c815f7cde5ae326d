"""Descriptors for reading: one per file, shared by all who have it open, and kept for a while for the next.

Reading is by position, so that sharing shows to nobody; most files of an image are opened again and again.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .nodes import Node
    from .tree import Tree


class Readers:
    """Of one tree; at most LIMIT descriptors are kept that nobody uses."""

    def __init__(self, tree: Tree, limit: int) -> None:
        self._tree = tree
        self._limit = limit
        self._idle: dict[Node, None] = {}  # oldest first

    def take(self, node: Node) -> int:
        """A descriptor of the regular file NODE; to be given back."""
        if node.reader < 0:
            node.reader = self._tree.open_file(node, os.O_RDONLY)
        elif not node.reading:
            del self._idle[node]
        node.reading += 1
        return node.reader

    def give_back(self, node: Node) -> None:
        """One user less."""
        node.reading -= 1
        if node.reading:
            return
        self._idle[node] = None
        if node.removed:  # what it takes on disk is not kept
            self.drop(node)
        elif len(self._idle) > self._limit:
            self.drop(next(iter(self._idle)))

    def drop(self, node: Node) -> None:
        """Close the descriptor of NODE if nobody uses it."""
        if node.reader >= 0 and not node.reading:
            del self._idle[node]
            os.close(node.reader)
            node.reader = -1

    def follow(self, node: Node) -> None:
        """NODE was copied up: from now on all its users read the copy."""
        if node.reader < 0:
            return
        copy = self._tree.open_file(node, os.O_RDONLY)
        try:
            os.dup2(copy, node.reader, inheritable=False)
        finally:
            os.close(copy)
