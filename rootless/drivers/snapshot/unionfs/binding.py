"""libfuse, through fusepy or mfusepy: its structures, its replies, its loop.

fusepy's class FUSE serves by paths: each name of a hard link is an inode of its own to the kernel, with a page
cache of its own, and an open file that was removed has to live on under another name.  So we use what
the binding has loaded, the library and its structures, and the interface of libfuse by inodes, which version 2
and 3 share.  A handler gets a request and answers it with exactly one of the ``reply`` functions.

The connection comes as an open descriptor.  libfuse 3 takes that as mount point "/dev/fd/N"; for libfuse 2
a channel is made of it.  The library is called with the interpreter lock held: there is one thread.
"""

from __future__ import annotations

import ctypes
import importlib
import os
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_double, c_int, c_size_t, c_uint32, c_void_p

from rootless.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Callable

c_off, c_u64 = ctypes.c_int64, ctypes.c_uint64
c_ino = ctypes.c_ulong  # uint64_t in version 3, which is the same where that runs
SONAMES = {"3": ("libfuse3.so.4", "libfuse3.so.3"), "2": ("libfuse.so.2",)}
MODULES = {"3": ("mfusepy",), "2": ("mfusepy", "fuse")}

# struct fuse_conn_info.want
CAP_ATOMIC_O_TRUNC, CAP_BIG_WRITES, CAP_SPLICE_WRITE, CAP_SPLICE_MOVE = (
    1 << 3,
    1 << 5,
    1 << 7,
    1 << 8,
)
CAP_SPLICE_READ, CAP_AUTO_INVAL_DATA, CAP_READDIRPLUS = 1 << 9, 1 << 12, 1 << 13
CAP_READDIRPLUS_AUTO, CAP_WRITEBACK, CAP_PARALLEL_DIROPS = 1 << 14, 1 << 16, 1 << 18
CAP_HANDLE_KILLPRIV, CAP_CACHE_SYMLINKS = 1 << 20, 1 << 23


def load(wanted: str = "") -> tuple[Any, str]:
    """The binding's module and the major version of libfuse it has loaded; WANTED: this version only.

    Raises HostError.
    """
    for version in [wanted] if wanted else ["3", "2"]:
        for soname in SONAMES[version]:
            try:
                ctypes.CDLL(soname)
            except OSError:
                continue
            # Both look here first; their own search starts a compiler.
            os.environ["FUSE_LIBRARY_PATH"] = soname
            for name in MODULES[version]:
                try:
                    return importlib.import_module(name), version
                except (ImportError, OSError, AttributeError):
                    continue
    raise HostError(f"cannot load libfuse {wanted or '3 or 2'} through mfusepy or fusepy")


class Context(ctypes.Structure):
    """struct fuse_ctx."""

    _fields_ = [("uid", c_uint32), ("gid", c_uint32), ("pid", c_int), ("umask", c_uint32)]


class _Pieces(ctypes.Structure):
    """struct fuse_bufvec of one piece, which is in a file."""

    _fields_ = [
        ("count", c_size_t),
        ("index", c_size_t),
        ("done", c_size_t),
        ("size", c_size_t),
        ("flags", c_int),
        ("memory", c_void_p),
        ("fd", c_int),
        ("position", c_off),
    ]


class FromFile:
    """Replies with what is in a file, which libfuse splices where it can."""

    def __init__(self, lib: ctypes.PyDLL) -> None:
        self._pieces = _Pieces(count=1, flags=1 << 1 | 1 << 2)  # FUSE_BUF_IS_FD, FUSE_BUF_FD_SEEK
        self._at = ctypes.addressof(self._pieces)
        self._reply = lib.fuse_reply_data
        self._reply.argtypes = [c_void_p, c_void_p, c_int]

    def give(self, request: int, fd: int, size: int, offset: int) -> None:
        """SIZE bytes from OFFSET on, or as many as there are."""
        pieces = self._pieces
        pieces.index = pieces.done = 0
        pieces.size, pieces.fd, pieces.position = size, fd, offset
        self._reply(request, self._at, 0)


class _Arguments(ctypes.Structure):
    _fields_ = [("argc", c_int), ("argv", POINTER(c_char_p)), ("allocated", c_int)]


def _connection(version: str) -> type[ctypes.Structure]:
    """struct fuse_conn_info; fusepy has none."""
    names = ["proto_major", "proto_minor"]
    if version == "2":
        names += ["async_read", "max_write", "max_readahead"]
    else:
        names += ["max_write", "max_read", "max_readahead"]
    names += ["capable", "want", "max_background", "congestion_threshold", "time_gran"]
    fields = [(name, c_uint32) for name in names]
    return type("Connection", (ctypes.Structure,), {"_fields_": fields})


def _operations(version: str, minor: int) -> list[tuple[str, list[Any]]]:
    """The members of struct fuse_lowlevel_ops, in their order: name, types after the request."""
    p, name = c_void_p, c_char_p
    flags = [c_uint32] if version == "3" else []
    table: list[tuple[str, list[Any]]] = [
        ("lookup", [c_ino, name]),
        ("forget", [c_ino, c_u64]),
        ("getattr", [c_ino, p]),
        ("setattr", [c_ino, p, c_int, p]),
        ("readlink", [c_ino]),
        ("mknod", [c_ino, name, c_uint32, c_u64]),
        ("mkdir", [c_ino, name, c_uint32]),
        ("unlink", [c_ino, name]),
        ("rmdir", [c_ino, name]),
        ("symlink", [name, c_ino, name]),
        ("rename", [c_ino, name, c_ino, name, *flags]),
        ("link", [c_ino, c_ino, name]),
        ("open", [c_ino, p]),
        ("read", [c_ino, c_size_t, c_off, p]),
        ("write", [c_ino, p, c_size_t, c_off, p]),
        ("flush", [c_ino, p]),
        ("release", [c_ino, p]),
        ("fsync", [c_ino, c_int, p]),
        ("opendir", [c_ino, p]),
        ("readdir", [c_ino, c_size_t, c_off, p]),
        ("releasedir", [c_ino, p]),
        ("fsyncdir", [c_ino, c_int, p]),
        ("statfs", [c_ino]),
        ("setxattr", [c_ino, name, p, c_size_t, c_int]),
        ("getxattr", [c_ino, name, c_size_t]),
        ("listxattr", [c_ino, c_size_t]),
        ("removexattr", [c_ino, name]),
        ("access", [c_ino, c_int]),
        ("create", [c_ino, name, c_uint32, p]),
        *((other, []) for other in ("getlk", "setlk", "bmap", "ioctl", "poll")),
        ("write_buf", [c_ino, p, c_off, p]),
        ("retrieve_reply", []),
        ("forget_multi", [c_size_t, p]),
        ("flock", []),
        ("fallocate", [c_ino, c_int, c_off, c_off, p]),
    ]
    if version == "3":
        table.append(("readdirplus", [c_ino, c_size_t, c_off, p]))
        if minor >= 4:
            table.append(("copy_file_range", [c_ino, c_off, p, c_ino, c_off, p, c_size_t, c_int]))
        if minor >= 8:
            table.append(("lseek", [c_ino, c_off, c_int, p]))
    return table


class Binding:
    """libfuse and what is declared of it.

    version           "2" or "3"
    stat, file_info   struct stat and struct fuse_file_info, as the binding has them
    Entry             struct fuse_entry_param
    """

    def __init__(self, wanted: str = "") -> None:
        module, self.version = load(wanted)
        self.lib = ctypes.PyDLL(module._libfuse._name)
        number = self.lib.fuse_version()
        self.minor = number % 100 if number >= 100 else number % 10
        self.stat = module.c_stat
        self.statvfs_size = max(ctypes.sizeof(module.c_statvfs), 256)
        self.file_info = module.fuse_file_info
        self.connection = _connection(self.version)
        fields = [
            ("ino", c_u64),
            ("generation", c_u64),
            ("attr", self.stat),
            ("attr_timeout", c_double),
            ("entry_timeout", c_double),
        ]
        self.Entry: Any = type("Entry", (ctypes.Structure,), {"_fields_": fields})
        self.pieces = FromFile(self.lib)
        self._declare()

    def _declare(self) -> None:
        p = c_void_p
        replies: list[tuple[str, list[Any]]] = [
            ("err", [c_int]),
            ("none", []),
            ("entry", [p]),
            ("create", [p, p]),
            ("attr", [p, c_double]),
            ("readlink", [c_char_p]),
            ("open", [p]),
            ("write", [c_size_t]),
            ("buf", [p, c_size_t]),
            ("statfs", [p]),
            ("xattr", [c_size_t]),
        ]
        if self.version == "3" and self.minor >= 8:
            replies.append(("lseek", [c_off]))
        for name, arguments in replies:
            function = self.lib[f"fuse_reply_{name}"]
            function.argtypes = [p, *arguments]
            function.restype = None if name == "none" else c_int
            setattr(self, f"reply_{name}", function)
        self.add_direntry = self.lib.fuse_add_direntry
        self.add_direntry.argtypes = [p, p, c_size_t, c_char_p, p, c_off]
        self.add_direntry.restype = c_size_t
        if self.version == "3":
            self.add_direntry_plus = self.lib.fuse_add_direntry_plus
            self.add_direntry_plus.argtypes = [p, p, c_size_t, c_char_p, p, c_off]
            self.add_direntry_plus.restype = c_size_t
        self.context = self.lib.fuse_req_ctx
        self.context.argtypes = [p]
        self.context.restype = POINTER(Context)
        self._inval = self.lib.fuse_lowlevel_notify_inval_inode
        self._inval.argtypes = [p, c_ino, c_off, c_off]
        self._peer = 0  # the session, or the channel of version 2

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Callable[..., Any]:
            """Replies, declared above."""

    def forget_attributes(self, ino: int) -> None:
        """Have the kernel ask for the attributes of a node anew."""
        self._inval(self._peer, ino, -1, 0)

    def serve(
        self,
        fd: int,
        handlers: Mapping[str, Callable[..., None]],
        initialise: Callable[[Any], None],
    ) -> int:
        """Answer requests of the connection FD until it ends; 0, or what libfuse says.

        INITIALISE gets struct fuse_conn_info before the first of them.  Raises HostError.
        """
        fields: list[tuple[str, Any]] = [
            ("init", CFUNCTYPE(None, c_void_p, POINTER(self.connection)))
        ]
        fields.append(("destroy", CFUNCTYPE(None, c_void_p)))
        for name, types in _operations(self.version, self.minor):
            fields.append((name, CFUNCTYPE(None, c_void_p, *types)))
        table = type("Operations", (ctypes.Structure,), {"_fields_": fields})()
        kinds = dict(fields)
        table.init = kinds["init"](lambda _data, connection: initialise(connection.contents))
        for name, handler in handlers.items():
            if name in kinds:
                setattr(table, name, kinds[name](handler))
        argv = (c_char_p * 2)(b"rootless", None)
        arguments = _Arguments(1, argv, 0)
        start = self._start_2 if self.version == "2" else self._start_3
        session = start(fd, arguments, table)
        loop = self.lib.fuse_session_loop
        loop.argtypes = [c_void_p]
        return int(loop(session))

    def _start_3(self, fd: int, arguments: _Arguments, table: ctypes.Structure) -> int:
        new, mount = self.lib.fuse_session_new, self.lib.fuse_session_mount
        new.restype, mount.argtypes = c_void_p, [c_void_p, c_char_p]
        new.argtypes = [c_void_p, c_void_p, c_size_t, c_void_p]
        size = ctypes.sizeof(table)
        session = new(ctypes.byref(arguments), ctypes.byref(table), size, None)
        if not session or mount(session, b"/dev/fd/%d" % fd):
            raise HostError(f"cannot serve descriptor {fd}: libfuse 3 refuses it")
        self._peer = session
        return int(session)

    def _start_2(self, fd: int, arguments: _Arguments, table: ctypes.Structure) -> int:
        new, channel = self.lib.fuse_lowlevel_new, self.lib.fuse_kern_chan_new
        new.restype = channel.restype = c_void_p
        new.argtypes, channel.argtypes = [c_void_p, c_void_p, c_size_t, c_void_p], [c_int]
        add = self.lib.fuse_session_add_chan
        add.argtypes = [c_void_p, c_void_p]
        size = ctypes.sizeof(table)
        session = new(ctypes.byref(arguments), ctypes.byref(table), size, None)
        peer = channel(fd)
        if not session or not peer:
            raise HostError(f"cannot serve descriptor {fd}: libfuse 2 refuses it")
        add(session, peer)
        self._peer = peer
        return int(session)
