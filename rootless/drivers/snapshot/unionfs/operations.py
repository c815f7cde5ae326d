"""Requests about names and attributes, and how a request is answered whatever happens.

Each handler ends with one reply; what it raises before that becomes the reply.  Files and listings that are
open are fileio.py's.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from . import calls, marks
from .tree import error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Callable

    from .binding import Binding
    from .copyup import CopyUp
    from .edit import Editor
    from .nodes import Node
    from .quota import Quota
    from .tree import Tree

# Nobody else changes the tree, so the kernel may believe for a day what it knows, or that there is nothing.
TIMEOUT = 86400.0
SET_MODE, SET_UID, SET_GID, SET_SIZE = 1, 2, 4, 8
SET_ATIME, SET_MTIME, SET_ATIME_NOW, SET_MTIME_NOW = 16, 32, 128, 256
_CAPABILITY = b"security.capability"
_ACL = b"system.posix_acl_"
_NO_DATA = errno.ENODATA
ENOTSUP = errno.ENOTSUP


def guarded(
    binding: Binding, handler: Callable[..., None], say: Callable[[str], None]
) -> Callable[..., None]:
    """HANDLER, with what it raises as the reply: an errno; what should not have come is said in a line."""
    reply = binding.reply_err

    def answer(request: int, *words: object) -> None:
        try:
            handler(request, *words)
        except OSError as problem:
            reply(request, problem.errno or errno.EIO)
        except MemoryError:
            reply(request, errno.ENOMEM)
        except Exception as problem:  # whatever it is, the container's other files stay
            reply(request, errno.EIO)
            name = getattr(handler, "__name__", "request")
            say(f"cannot answer {name}: {type(problem).__name__}: {problem}")

    return answer


class Operations:
    """Handlers of requests by node number and name."""

    def __init__(
        self, binding: Binding, tree: Tree, copyup: CopyUp, editor: Editor, quota: Quota
    ) -> None:
        self._binding = binding
        self._tree = tree
        self._copyup = copyup
        self._editor = editor
        self._quota = quota
        self._nodes = tree.nodes
        self._by_id = tree.nodes.by_id
        self._times = (calls.Timespec * 2)()
        self._statvfs = ctypes.create_string_buffer(binding.statvfs_size)
        tree.entry.attr_timeout = tree.entry.entry_timeout = TIMEOUT
        self._nothing = binding.Entry(entry_timeout=TIMEOUT)
        self._nothing_at = ctypes.addressof(self._nothing)

    def handlers(self) -> Mapping[str, Callable[..., None]]:
        """By the names that libfuse has for them."""
        names = (
            *("lookup", "forget", "forget_multi", "getattr", "setattr", "readlink", "mknod"),
            *("mkdir", "unlink", "rmdir", "symlink", "rename", "link", "statfs"),
            *("setxattr", "getxattr", "listxattr", "removexattr"),
        )
        return {name: getattr(self, name) for name in names}

    def _caller(self, request: int) -> tuple[int, int]:
        context = self._binding.context(request).contents
        return context.uid, context.gid

    def _entry(self, request: int, node: Node) -> None:
        """Tell of NODE, of which ``attr`` is filled."""
        self._tree.entry.ino = node.id
        node.lookups += 1
        if self._binding.reply_entry(request, self._tree.entry_at):
            self._nodes.forget(node, 1)

    def lookup(self, request: int, parent: int, name: bytes) -> None:
        """What is called NAME; that there is nothing is remembered, too."""
        nodes = self._nodes
        if nodes.open_fds > nodes.max_fds:
            nodes.shrink()
        node = self._tree.lookup(self._by_id[parent], name)
        if node is None:
            self._binding.reply_entry(request, self._nothing_at)
        else:
            self._entry(request, node)

    def forget(self, request: int, ino: int, lookups: int) -> None:
        """The kernel knows less of a node; no answer is due."""
        self._forget(ino, lookups)
        self._binding.reply_none(request)

    def forget_multi(self, request: int, count: int, pairs: int) -> None:
        """The same of many."""
        numbers = (ctypes.c_uint64 * (2 * count)).from_address(pairs)
        for place in range(0, 2 * count, 2):
            self._forget(numbers[place], numbers[place + 1])
        self._binding.reply_none(request)

    def _forget(self, ino: int, lookups: int) -> None:
        node = self._by_id.get(ino)
        if node is not None:
            self._nodes.forget(node, lookups)

    def getattr(self, request: int, ino: int, _info: int) -> None:
        """What a node is."""
        self._tree.stat(self._by_id[ino])
        self._binding.reply_attr(request, self._tree.attr_at, TIMEOUT)

    def setattr(
        self, request: int, ino: int, attributes: int, wanted: int, info: int | None
    ) -> None:
        """chown, truncate, chmod and utimens, in the order in which the later are not undone."""
        node = self._by_id[ino]
        tree = self._tree
        new = self._binding.stat.from_address(attributes)
        if node.children is None:
            self._copyup.file(node, empty=bool(wanted & SET_SIZE and new.st_size == 0))
        else:
            self._copyup.directory(node)
        if wanted & (SET_UID | SET_GID):
            uid = new.st_uid if wanted & SET_UID else -1
            gid = new.st_gid if wanted & SET_GID else -1
            path, follow = tree.path(node)
            os.chown(path, *tree.owners.stored(uid, gid), follow_symlinks=follow)
        if wanted & SET_SIZE:
            self._truncate(node, new.st_size, info)
        if wanted & SET_MODE:
            os.chmod(tree.path(node)[0], stat.S_IMODE(new.st_mode))
        if wanted & (SET_ATIME | SET_MTIME):
            self._set_times(node, new, wanted)
        tree.stat(node)
        node.mode = tree.attr.st_mode
        self._binding.reply_attr(request, tree.attr_at, TIMEOUT)

    def _truncate(self, node: Node, size: int, info: int | None) -> None:
        quota = self._quota
        fd = -1 if info is None else self._binding.file_info.from_address(info).fh
        opened = fd < 0
        if opened:
            fd = self._tree.open_file(node, os.O_WRONLY)
        try:
            growth = size - os.fstat(fd).st_size if quota else 0
            quota.check(growth)
            os.ftruncate(fd, size)
            quota.add(growth)
        finally:
            if opened:
                os.close(fd)

    def _set_times(self, node: Node, new: ctypes.Structure, wanted: int) -> None:
        times = self._times
        for at, (given, now, field) in enumerate(
            ((SET_ATIME, SET_ATIME_NOW, "st_atimespec"), (SET_MTIME, SET_MTIME_NOW, "st_mtimespec"))
        ):
            time = times[at]
            if wanted & now:
                time.nsec = calls.UTIME_NOW
            elif wanted & given:
                value = getattr(new, field)
                time.sec, time.nsec = value.tv_sec, value.tv_nsec
            else:
                time.nsec = calls.UTIME_OMIT
        path, follow = self._tree.path(node)
        calls.utimens(-1, path, times, follow=follow)

    def readlink(self, request: int, ino: int) -> None:
        """Where a symbolic link leads."""
        fd, name = self._tree.where(self._by_id[ino])
        self._binding.reply_readlink(request, os.readlink(name, dir_fd=fd))

    def mknod(self, request: int, parent: int, name: bytes, mode: int, device: int) -> None:
        """Make what is no directory."""
        caller = self._caller(request)
        self._entry(request, self._editor.mknod(self._by_id[parent], name, mode, device, caller))

    def mkdir(self, request: int, parent: int, name: bytes, mode: int) -> None:
        """Make a directory."""
        caller = self._caller(request)
        self._entry(request, self._editor.mkdir(self._by_id[parent], name, mode, caller))

    def symlink(self, request: int, target: bytes, parent: int, name: bytes) -> None:
        """Make a symbolic link."""
        caller = self._caller(request)
        self._entry(request, self._editor.symlink(self._by_id[parent], name, target, caller))

    def link(self, request: int, ino: int, parent: int, name: bytes) -> None:
        """Give a file a further name."""
        node = self._by_id[ino]
        self._editor.link(node, self._by_id[parent], name)
        self._tree.stat(node)
        self._entry(request, node)

    def unlink(self, request: int, parent: int, name: bytes) -> None:
        """Remove what is no directory."""
        self._editor.unlink(self._by_id[parent], name)
        self._binding.reply_err(request, 0)

    def rmdir(self, request: int, parent: int, name: bytes) -> None:
        """Remove a directory."""
        self._editor.rmdir(self._by_id[parent], name)
        self._binding.reply_err(request, 0)

    def rename(
        self, request: int, parent: int, name: bytes, to: int, new: bytes, flags: int = 0
    ) -> None:
        """Rename; libfuse 2 knows no flags."""
        self._editor.rename(self._by_id[parent], name, self._by_id[to], new, flags)
        self._binding.reply_err(request, 0)

    def statfs(self, request: int, _ino: int) -> None:
        """What is free where the upper layer is, within the limit."""
        buffer = self._statvfs
        if calls.fstatvfs(self._tree.layers[0].fd, buffer):
            raise calls.failure()
        if self._quota:
            # f_bsize, f_frsize, f_blocks, f_bfree, f_bavail, each as wide as a long
            numbers = (ctypes.c_ulong * 5).from_buffer(buffer)
            unit = numbers[1] or 4096
            numbers[2] = self._quota.limit // unit
            numbers[3] = min(numbers[3], self._quota.free // unit)
            numbers[4] = min(numbers[4], self._quota.free // unit)
        self._binding.reply_statfs(request, ctypes.addressof(buffer))

    def getxattr(self, request: int, ino: int, name: bytes, size: int) -> None:
        """An extended attribute; ours are not shown."""
        node = self._by_id[ino]
        if name == _CAPABILITY:  # asked before each write
            if node.plain:
                self._binding.reply_err(request, _NO_DATA)
                return
        elif name.startswith(_ACL):
            raise error(ENOTSUP)
        elif marks.private_xattr(os.fsdecode(name)):
            raise error(_NO_DATA)
        path, follow = self._tree.path(node)
        try:
            value = os.getxattr(path, name, follow_symlinks=follow)
        except OSError as problem:
            node.plain = name == _CAPABILITY and problem.errno in (_NO_DATA, ENOTSUP)
            raise
        self._value(request, value, size)

    def _value(self, request: int, value: bytes, size: int) -> None:
        if not size:
            self._binding.reply_xattr(request, len(value))
        elif len(value) > size:
            raise error(errno.ERANGE)
        else:
            self._binding.reply_buf(request, value, len(value))

    def listxattr(self, request: int, ino: int, size: int) -> None:
        """The names of extended attributes."""
        path, follow = self._tree.path(self._by_id[ino])
        names = [
            os.fsencode(name) + b"\0"
            for name in os.listxattr(path, follow_symlinks=follow)
            if not marks.private_xattr(name) and not name.startswith("system.posix_acl_")
        ]
        self._value(request, b"".join(names), size)

    def _change_xattr(self, ino: int, name: bytes) -> tuple[bytes, bool]:
        if name.startswith(_ACL):  # the kernel would not enforce them
            raise error(ENOTSUP)
        if marks.private_xattr(os.fsdecode(name)):
            raise error(errno.EPERM)
        node = self._by_id[ino]
        if node.children is None:
            self._copyup.file(node)
        else:
            self._copyup.directory(node)
        node.plain = False
        return self._tree.path(node)

    def setxattr(
        self, request: int, ino: int, name: bytes, value: int, size: int, flags: int
    ) -> None:
        """Set an extended attribute."""
        data = ctypes.string_at(value, size) if size else b""
        path, follow = self._change_xattr(ino, name)
        os.setxattr(path, name, data, flags, follow_symlinks=follow)
        self._binding.reply_err(request, 0)

    def removexattr(self, request: int, ino: int, name: bytes) -> None:
        """Remove an extended attribute; nothing is copied up for one that is not there."""
        path, follow = self._tree.path(self._by_id[ino])
        if not marks.private_xattr(os.fsdecode(name)):
            os.getxattr(path, name, follow_symlinks=follow)
        path, follow = self._change_xattr(ino, name)
        os.removexattr(path, name, follow_symlinks=follow)
        self._binding.reply_err(request, 0)
