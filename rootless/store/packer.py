"""Packing trees into tar streams: what an archive says of each inode, and in which order.

Used in a worker for a container's files and in the caller's own process for the host's.
"""

from __future__ import annotations

import os
import stat

from . import files, treecopy
from .ownership import Records
from .tarwriter import TarWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .changes import Change

_PRIVATE = (*treecopy.PRIVATE_XATTRS, "user.rootless.", "system.", "security.selinux", "trusted.")
_BUFFER = 1 << 18


class Output:
    """A buffered writer to a descriptor; ``total`` counts bytes."""

    def __init__(self, fd: int = 1) -> None:
        self._fd = fd
        self.total = 0
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Add DATA; raises OSError when what was buffered cannot be written."""
        self._parts.append(data)
        self._size += len(data)
        if self._size >= _BUFFER:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered."""
        data = b"".join(self._parts)
        self._parts, self._size = [], 0
        self.total += len(data)
        files.write_all(self._fd, data)


def base_name(path: bytes) -> bytes:
    """What the archive of PATH calls it: its last component, "." for a content, "/" for the root."""
    if path.endswith(b"/."):
        return b"."
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    return parts[-1] if parts else b"/"


def xattrs_of(directory: int, name: bytes, info: os.stat_result) -> dict[bytes, bytes]:
    """The attributes that belong into an archive; none for what cannot have them."""
    if not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)):
        return {}
    path = b"/proc/self/fd/%d/%s" % (directory, name)
    found = {}
    try:
        for key in os.listxattr(path, follow_symlinks=False):
            if not key.startswith(_PRIVATE):
                found[os.fsencode(key)] = os.getxattr(path, key, follow_symlinks=False)
    except OSError:
        pass  # a filesystem without attributes, or one that went meanwhile
    return found


class Packer:
    """Writes trees to a tar stream.

    EXCLUDED are paths (relative, bytes), DEVICES numbers of filesystems, of which the content is left out.
    RECORDS say who files belong to where the filesystem cannot; PLACE is what the archive calls a directory and
    what the tree calls it, where that is not the same.
    """

    def __init__(
        self,
        excluded: set[bytes] | None = None,
        *,
        devices: set[int] | None = None,
        nanoseconds: bool = True,
        fd: int = 1,
        records: Records | None = None,
        place: tuple[bytes, bytes] = (b"", b""),
    ) -> None:
        self._place = place
        self._records = records or Records(active=False)
        self.output = Output(fd)
        self.tar = TarWriter(self.output.write, nanoseconds=nanoseconds)
        self._excluded = excluded or set()
        self._devices = devices or set()

    def entry(self, directory: int, base: bytes, name: bytes) -> None:
        """BASE of the open DIRECTORY under NAME, with all below it."""
        try:
            info = os.stat(base, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return  # it went while we were on our way
        excluded = name in self._excluded
        if excluded and not stat.S_ISDIR(info.st_mode):
            return
        try:
            self.one(name, info, directory, base)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(info.st_mode) or excluded or info.st_dev in self._devices:
            return
        try:
            here = os.open(base, treecopy.DIRECTORY, dir_fd=directory)
        except OSError:
            return
        try:
            self.content(here, name)
        finally:
            os.close(here)

    def one(self, name: bytes, info: os.stat_result, directory: int, base: bytes) -> None:
        """A single entry, nothing below it."""
        stated = self._records.of(directory, base, info, self._path(name))
        xattrs = {**stated.xattrs, **xattrs_of(directory, base, info)}
        self.tar.inode(
            name, info, directory, base, owner=stated.owner, node=stated.node, xattrs=xattrs
        )

    def _path(self, name: bytes) -> bytes:
        called, real = self._place
        rest = name[len(called) :].lstrip(b"/")
        return b"/".join(part for part in (real, rest) if part)

    def content(self, directory: int, prefix: bytes) -> None:
        """All that is in the open DIRECTORY, under PREFIX."""
        for name in sorted(map(os.fsencode, os.listdir(directory))):
            self.entry(directory, name, prefix + b"/" + name if prefix else name)

    def close(self) -> dict[str, Any]:
        """End the archive; the worker's result."""
        self.tar.close()
        self.output.flush()
        return {"entries": self.tar.entries}


def add_change(packer: Packer, change: Change, opaque: set[bytes]) -> None:
    """Put a change (see changes.py) into an image layer; OPAQUE collects directories already said to hide all.

    Directories come before what is in them, whiteouts before what is new, opaque marks first of all.
    """
    name = change.path.lstrip(b"/")
    head, _, base = name.rpartition(b"/")
    prefix = head + b"/" if head else b""
    if change.info is None:
        if head not in opaque:
            packer.tar.empty(prefix + b".wh." + base)
        return
    replaced = change.opaque and not change.was_directory
    if replaced:
        packer.tar.empty(prefix + b".wh." + base)
    packer.one(name, change.info, change.directory, change.name)
    if change.opaque and not replaced:
        opaque.add(name)
        packer.tar.empty(name + b"/.wh..wh..opq")
