"""The server of the fusepy storage driver: ``python -I -S server.py ...``

    --fd=NUMBER       connection of FUSE, mounted by the launcher
    --target=DIRECTORY  where it is mounted, for messages
    --format=NAME     how layers keep whiteouts: "overlay" or "files"
    --lower=DIRECTORY a layer (repeatable, topmost first)
    --upper=DIRECTORY --work=DIRECTORY  writable layer and scratch space; without them the tree is read-only
    --size=BYTES      what the upper layer may hold
    --uidmap=MAP --gidmap=MAP  owners on disk and as they are shown (owners.py)
    --site=DIRECTORY  further import path (repeatable), where mfusepy or fusepy is
    --libfuse=VERSION "2" or "3" where that is not to be chosen

Runs as root of the realm until the filesystem is unmounted, with status 0 then.  Standard error is the
container's storage log; there a start that fails says why, and nothing else is said as long as all is well.
"""

from __future__ import annotations

import gc
import os
import resource
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), *[".."] * 4)))

from rootless.errors import HostError, RootlessError, StorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.drivers.snapshot.unionfs.nodes import Layer, Node
    from rootless.drivers.snapshot.unionfs.quota import Quota

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_REPEATED = ("lower", "site")


class Arguments:
    """The command line."""

    def __init__(self, words: list[str]) -> None:
        single: dict[str, str] = {}
        several: dict[str, list[str]] = {name: [] for name in _REPEATED}
        for word in words:
            name, sign, value = word[2:].partition("=")
            if not word.startswith("--") or not sign:
                raise StorageError(f"cannot serve: {word!r} is no argument of this program")
            if name in several:
                several[name].append(value)
            else:
                single[name] = value
        self.fd = int(single.pop("fd", "-1"))
        self.target = single.pop("target", "")
        self.format = single.pop("format", "overlay")
        self.upper, self.work = single.pop("upper", ""), single.pop("work", "")
        self.size = int(single.pop("size", "0"))
        self.uidmap, self.gidmap = single.pop("uidmap", ""), single.pop("gidmap", "")
        self.libfuse = single.pop("libfuse", "")
        self.lowers, self.sites = several["lower"], several["site"]
        if single:
            raise StorageError(f"cannot serve: unknown argument --{next(iter(single))}")
        if self.format not in ("overlay", "files"):
            raise StorageError(f"cannot serve: unknown layer format {self.format!r}")
        if self.upper and not self.work:
            raise StorageError("cannot serve: a writable tree needs --work")
        if not self.upper and not self.lowers:
            raise StorageError("cannot serve: there are no layers")


def open_layers(arguments: Arguments) -> list[Layer]:
    """The layers' directories, topmost first; raises StorageError."""
    from rootless.drivers.snapshot.unionfs.nodes import Layer

    found = []
    for path in [*([arguments.upper] if arguments.upper else []), *arguments.lowers]:
        try:
            found.append(Layer(os.open(path, _DIRECTORY), writable=path is arguments.upper))
        except OSError as error:
            raise StorageError(f"cannot open layer {path}: {error.strerror}") from None
    return found


def say(text: str) -> None:
    """A line for the storage log."""
    try:
        sys.stderr.write(f"rootless: {text}\n")
    except OSError:  # a full disk
        pass


def raise_limits() -> None:
    """As many descriptors as we may have: every open file of the container is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def serve(arguments: Arguments) -> int:
    """Serve until the end; 0, or what libfuse says.  Raises RootlessError."""
    from rootless.drivers.snapshot.unionfs import binding as libfuse
    from rootless.drivers.snapshot.unionfs import marks
    from rootless.drivers.snapshot.unionfs.copyup import CopyUp
    from rootless.drivers.snapshot.unionfs.edit import Editor
    from rootless.drivers.snapshot.unionfs.fileio import FileIO
    from rootless.drivers.snapshot.unionfs.operations import Operations, guarded
    from rootless.drivers.snapshot.unionfs.owners import Owners, extents
    from rootless.drivers.snapshot.unionfs.quota import Quota, measure
    from rootless.drivers.snapshot.unionfs.tree import Tree
    from rootless.drivers.snapshot.unionfs.work import Work

    bound = libfuse.Binding(arguments.libfuse)
    layers = open_layers(arguments)
    work = None
    if arguments.upper:
        work = Work(os.open(arguments.work, _DIRECTORY))
        work.sweep()
    used = measure(layers[0].fd) if arguments.size and arguments.upper else 0
    quota = Quota(arguments.size, used)
    owners = Owners(extents(arguments.uidmap), extents(arguments.gidmap))
    layer_marks = marks.of(arguments.format)
    tree = Tree(bound, layers, layer_marks, lambda node: _released(node, quota), owners)
    copyup = CopyUp(tree, work, quota, lambda node: bound.forget_attributes(node.id))
    editor = Editor(tree, copyup)
    # Collected writes would meet the limit only when their writer has gone on.
    writeback = bound.version == "3" and not quota
    names = Operations(bound, tree, copyup, editor, quota)
    files = FileIO(bound, tree, copyup, editor, quota, writeback=writeback)
    plain = {**names.handlers(), **files.handlers()}
    handlers = {name: guarded(bound, handler, say) for name, handler in plain.items()}
    os.umask(0)
    os.chdir("/")
    gc.disable()  # nothing here makes cycles that have to be found
    gc.freeze()
    return bound.serve(arguments.fd, handlers, lambda conn: _initialise(bound, conn, writeback))


def _released(node: Node, quota: Quota) -> None:
    """What a removed file held counts until nobody has it open any more."""
    if quota and node.children is None and node.upper:
        info = os.fstat(node.held)
        if info.st_nlink == 0 and info.st_mode & 0o170000 == 0o100000:
            quota.add(-info.st_size)


def _initialise(bound: Any, connection: Any, writeback: bool) -> None:
    """Choose among what the kernel offers (struct fuse_conn_info)."""
    from rootless.drivers.snapshot.unionfs import binding as libfuse

    wanted = libfuse.CAP_ATOMIC_O_TRUNC | libfuse.CAP_SPLICE_WRITE
    if bound.version == "2":
        wanted |= libfuse.CAP_BIG_WRITES
    else:
        wanted |= libfuse.CAP_CACHE_SYMLINKS
        wanted |= libfuse.CAP_PARALLEL_DIROPS
        wanted |= libfuse.CAP_READDIRPLUS | libfuse.CAP_READDIRPLUS_AUTO
        if writeback:
            wanted |= libfuse.CAP_WRITEBACK
        connection.time_gran = 1
    # Not: auto_inval_data (nobody else changes data), handle_killpriv (a lower file keeps its bits until it is
    # copied up), splice_read (more calls than it saves).
    unwanted = libfuse.CAP_AUTO_INVAL_DATA | libfuse.CAP_HANDLE_KILLPRIV | libfuse.CAP_SPLICE_READ
    connection.want = (connection.want | (wanted & connection.capable)) & ~unwanted


def main(words: list[str]) -> int:
    """Serve as WORDS say; 0, or 1 with a line that says why not."""
    try:
        arguments = Arguments(words)
        sys.path.extend(arguments.sites)
        raise_limits()
        status = serve(arguments)
        if status:
            raise HostError(f"cannot go on serving {arguments.target}: libfuse says {status}")
    except RootlessError as error:
        say(str(error))
        return 1
    except (OSError, ValueError) as error:
        say(f"cannot serve: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
