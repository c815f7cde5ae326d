"""Layers laid over each other, lowest first: one tree of what a container would see, with nothing left to hide.

Owns what a layer does to the tree below it: whiteouts and opaque directories take away, directories merge,
everything else replaces.
"""

from __future__ import annotations

import os
import stat

from . import treecopy, whiteouts


class Layers(treecopy.TreeCopier):
    """Copies layers on top of each other; MARKS: whether they hide by ``.wh.`` files."""

    def __init__(
        self,
        root: int,
        owners: treecopy.Owners,
        *,
        marks: bool,
        carry: treecopy.Carry | None = None,
    ) -> None:
        super().__init__(root, owners, carry)
        self._root = root
        self._marks = marks

    def layer(self, path: str) -> None:
        """Lay the layer at PATH over what is there."""
        layer = os.open(path, treecopy.DIRECTORY)
        try:
            self.tree(layer, self._root)
            self.clear_attributes(layer, self._root)
            self.metadata(layer, self._root, os.fstat(layer))
        finally:
            os.close(layer)

    def tree(self, source: int, target: int, where: bytes = b"") -> None:
        """Lay the directory SOURCE over TARGET: what it hides goes, what it has comes."""
        if whiteouts.is_opaque(source, marks=self._marks):
            for old in os.listdir(target):
                treecopy.remove(target, os.fsencode(old))
        names = [os.fsencode(name) for name in os.listdir(source)]
        for name in names:
            info = os.stat(name, dir_fd=source, follow_symlinks=False)
            hidden = whiteouts.hidden_by(name, info, marks=self._marks)
            if hidden is None:
                continue
            if hidden and (hidden == name or hidden not in names):
                treecopy.remove_if_there(target, hidden)
        for name in names:
            info = os.stat(name, dir_fd=source, follow_symlinks=False)
            if whiteouts.hidden_by(name, info, marks=self._marks) is None:
                self.entry(source, name, target, where + b"/" + name)

    def entry(self, source: int, name: bytes, target: int, where: bytes) -> None:
        """Copy one entry; a directory over a directory is merged."""
        info = os.stat(name, dir_fd=source, follow_symlinks=False)
        try:
            there = os.stat(name, dir_fd=target, follow_symlinks=False)
        except FileNotFoundError:
            super().entry(source, name, target, where)
            return
        if not (stat.S_ISDIR(info.st_mode) and stat.S_ISDIR(there.st_mode)):
            treecopy.remove(target, name)
            super().entry(source, name, target, where)
            return
        here = os.open(name, treecopy.DIRECTORY, dir_fd=source)
        below = os.open(name, treecopy.DIRECTORY, dir_fd=target)
        try:
            self.tree(here, below, where)
            self.clear_attributes(here, below)
            self.metadata(here, below, info)
        finally:
            os.close(here)
            os.close(below)
