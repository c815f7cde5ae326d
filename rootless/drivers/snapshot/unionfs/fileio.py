"""Requests about open files and open directories.

The handle of a file is the descriptor of the file in its layer: what is read and written costs one system
call and one reply.  The kernel keeps what it has read (keep_cache), as all changes go through it.
"""

from __future__ import annotations

import ctypes
import errno
import os

from . import calls
from .listing import Listing
from .tree import error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Callable

    from .binding import Binding
    from .copyup import CopyUp
    from .edit import Editor
    from .nodes import Node
    from .quota import Quota
    from .tree import Tree

# The kernel has dealt with these, or they would change what a position means.
_NOT_PASSED = (
    os.O_CREAT
    | os.O_EXCL
    | os.O_APPEND
    | os.O_DIRECT
    | os.O_NOCTTY
    | os.O_DIRECTORY
    | os.O_NOFOLLOW
)
_CHANGES = os.O_ACCMODE | os.O_TRUNC
_BUFFER = 1 << 20
_LARGE = 1 << 15  # from here on splice(2) is cheaper than two copies
_KEEP_SIZE = 1


class FileIO:
    """Handlers of requests by handle; WRITEBACK: the kernel collects writes, and reads what it writes into."""

    def __init__(
        self,
        binding: Binding,
        tree: Tree,
        copyup: CopyUp,
        editor: Editor,
        quota: Quota,
        *,
        writeback: bool,
    ) -> None:
        self._binding = binding
        self._tree = tree
        self._copyup = copyup
        self._editor = editor
        self._quota = quota
        self._writeback = writeback
        self._by_id = tree.nodes.by_id
        self._buffer = ctypes.create_string_buffer(_BUFFER)
        self._buffer_at = ctypes.addressof(self._buffer)
        self._listings: dict[int, Listing] = {}
        self._next = 0
        self._direntry = binding.stat()
        self._direntry_at = ctypes.addressof(self._direntry)
        self._caches_listings = hasattr(binding.file_info, "cache_readdir")
        self._bind_hot(binding)

    def _bind_hot(self, binding: Binding) -> None:
        self._readers = self._tree.readers
        self._opened = binding.file_info(keep_cache=1)
        self._opened_at = ctypes.addressof(self._opened)
        self._reply_open = binding.reply_open
        self._info = binding.file_info.from_address
        self._reply_buf = binding.reply_buf
        self._pieces = binding.pieces
        self._reply_write = binding.reply_write

    def handlers(self) -> Mapping[str, Callable[..., None]]:
        """By the names that libfuse has for them; flush is not among them: the kernel need not tell us."""
        names = [
            *("open", "create", "read", "write", "release", "fsync", "fallocate"),
            *("copy_file_range", "opendir", "readdir", "readdirplus", "releasedir", "fsyncdir"),
        ]
        if not self._writeback:  # what the kernel has collected would be taken for a hole
            names.append("lseek")
        return {name: getattr(self, name) for name in names}

    def _flags(self, flags: int) -> int:
        flags &= ~_NOT_PASSED
        if self._writeback and flags & os.O_ACCMODE == os.O_WRONLY:
            flags = flags & ~os.O_ACCMODE | os.O_RDWR
        return flags

    def open(self, request: int, ino: int, info: int) -> None:
        """Open a regular file; for writing, in the upper layer."""
        node, flags = self._by_id[ino], self._info(info).flags
        if flags & _CHANGES:
            self._copyup.file(node, empty=bool(flags & os.O_TRUNC))
            fd = self._open_upper(node, self._flags(flags))
        else:
            fd = self._readers.take(node)
        self._opened.fh = fd
        if self._reply_open(request, self._opened_at):
            self._close(node, fd)

    def _open_upper(self, node: Node, flags: int) -> int:
        quota = self._quota
        if not (quota and flags & os.O_TRUNC):
            return self._tree.open_file(node, flags)
        self._tree.stat(node)
        size = self._tree.attr.st_size
        fd = self._tree.open_file(node, flags)
        quota.add(-size)
        return fd

    def create(self, request: int, parent: int, name: bytes, mode: int, info: int) -> None:
        """Make and open a regular file."""
        fi, context = self._info(info), self._binding.context(request).contents
        node, fd = self._editor.create(
            self._by_id[parent],
            name,
            self._flags(fi.flags),
            mode & 0o7777,
            (context.uid, context.gid),
        )
        fi.fh = fd
        fi.keep_cache = 1
        self._tree.entry.ino = node.id
        node.lookups += 1
        if self._binding.reply_create(request, self._tree.entry_at, info):
            os.close(fd)
            self._tree.nodes.forget(node, 1)

    def read(self, request: int, _ino: int, size: int, offset: int, info: int) -> None:
        """Bytes of a file."""
        if size >= _LARGE:
            self._pieces.give(request, self._info(info).fh, size, offset)
            return
        at = self._buffer_at
        count = calls.pread(self._info(info).fh, at, size, offset)
        if count < 0:
            raise calls.failure()
        self._reply_buf(request, at, count)

    def write(self, request: int, _ino: int, data: int, size: int, offset: int, info: int) -> None:
        """Bytes into a file."""
        fd = self._info(info).fh
        if self._quota:
            before = os.fstat(fd).st_size
            self._quota.check(offset + size - before)
        done = calls.pwrite(fd, data, size, offset)
        if done < 0:
            raise calls.failure()
        while done < size:  # a full disk, or a signal
            more = calls.pwrite(fd, data + done, size - done, offset + done)
            if more <= 0:
                break
            done += more
        if self._quota:
            self._quota.add(max(0, offset + done - before))
        self._reply_write(request, done)

    def release(self, request: int, ino: int, info: int) -> None:
        """The last user of a handle has closed it."""
        self._close(self._by_id.get(ino), self._info(info).fh)
        self._binding.reply_err(request, 0)

    def _close(self, node: Node | None, fd: int) -> None:
        if node is not None and node.reader == fd:
            self._readers.give_back(node)
        else:
            os.close(fd)

    def fsync(self, request: int, _ino: int, only_data: int, info: int) -> None:
        """Have it on disk."""
        (os.fdatasync if only_data else os.fsync)(self._info(info).fh)
        self._binding.reply_err(request, 0)

    def fallocate(
        self, request: int, _ino: int, mode: int, offset: int, length: int, info: int
    ) -> None:
        """Reserve, punch, zero, collapse or insert."""
        fd = self._info(info).fh
        before = os.fstat(fd).st_size if self._quota else 0
        if not mode & _KEEP_SIZE:
            self._quota.check(offset + length - before)
        elif mode == _KEEP_SIZE:
            self._quota.check(length)
        calls.fallocate(fd, mode, offset, length)
        if self._quota:
            self._quota.add(os.fstat(fd).st_size - before)
        self._binding.reply_err(request, 0)

    def copy_file_range(
        self,
        request: int,
        _ino: int,
        offset: int,
        info: int,
        _to: int,
        target: int,
        target_info: int,
        size: int,
        _flags: int,
    ) -> None:
        """Copy between open files without moving the bytes through here."""
        source, fd = self._info(info).fh, self._info(target_info).fh
        before = os.fstat(fd).st_size if self._quota else 0
        self._quota.check(target + size - before)
        size = os.copy_file_range(source, fd, min(size, 1 << 30), offset, target)
        if self._quota:
            self._quota.add(max(0, target + size - before))
        self._reply_write(request, size)

    def lseek(self, request: int, _ino: int, offset: int, whence: int, info: int) -> None:
        """Where the next data or hole is."""
        place = os.lseek(self._info(info).fh, offset, whence)
        self._binding.reply_lseek(request, place)

    def opendir(self, request: int, ino: int, info: int) -> None:
        """Open a directory; its layers are opened when it is read, often never as the kernel keeps listings.

        Of each directory one opener at a time has the kernel keep what it reads: positions are its own.
        """
        fi = self._info(info)
        self._next += 1
        node = self._by_id[ino]
        listing = self._listings[self._next] = Listing(self._tree, node)
        fi.fh = self._next
        if self._caches_listings and node.listing is None:
            fi.cache_readdir = fi.keep_cache = 1
            node.listing = listing
        if self._binding.reply_open(request, info):
            self._closed(self._next)

    def _closed(self, handle: int) -> None:
        listing = self._listings.pop(handle, None)
        if listing is not None and listing.node.listing is listing:
            listing.node.listing = None

    def _room(self, size: int) -> int:
        return min(size, _BUFFER)

    def readdir(self, request: int, _ino: int, size: int, offset: int, info: int) -> None:
        """Entries of a directory, as many as fit."""
        listing = self._listings[self._info(info).fh]
        add, entry, entry_at = self._binding.add_direntry, self._direntry, self._direntry_at
        at, end = self._buffer_at, self._buffer_at + self._room(size)
        for name, number, kind in listing.at(offset):
            offset += 1
            entry.st_ino, entry.st_mode = number, kind
            used = add(request, at, end - at, name, entry_at, offset)
            if used > end - at:
                break
            at += used
        self._reply_buf(request, self._buffer_at, at - self._buffer_at)

    def readdirplus(self, request: int, _ino: int, size: int, offset: int, info: int) -> None:
        """The same, with what each entry is, as if it had been looked up."""
        listing = self._listings[self._info(info).fh]
        tree, add = self._tree, self._binding.add_direntry_plus
        at, end = self._buffer_at, self._buffer_at + self._room(size)
        told = []
        for name, number, kind in listing.at(offset):
            offset += 1
            node = None if name in (b".", b"..") else self._look(listing.node, name)
            if node is None:  # nothing is told of these but what they are
                tree.entry.ino = 0
                tree.attr.st_ino, tree.attr.st_mode = number, kind
            else:
                tree.entry.ino = node.id
            used = add(request, at, end - at, name, tree.entry_at, offset)
            if used > end - at:
                if node is not None:
                    tree.nodes.forget(node, 0)
                break
            at += used
            if node is not None:
                node.lookups += 1
                told.append(node)
        if self._reply_buf(request, self._buffer_at, at - self._buffer_at):
            for node in told:
                tree.nodes.forget(node, 1)

    def _look(self, parent: Node, name: bytes) -> Any:
        try:
            return self._tree.lookup(parent, name)
        except OSError:
            return None

    def releasedir(self, request: int, _ino: int, info: int) -> None:
        """A listing is over."""
        self._closed(self._info(info).fh)
        self._binding.reply_err(request, 0)

    def fsyncdir(self, request: int, ino: int, _only_data: int, _info: int) -> None:
        """Have the names on disk."""
        node = self._by_id[ino]
        if node.upper and not node.removed:
            fd = os.open(
                ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._tree.upper_fd(node)
            )
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        elif node.removed:
            raise error(errno.ENOENT)
        self._binding.reply_err(request, 0)
