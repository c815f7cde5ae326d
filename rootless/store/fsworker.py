"""The process that reads and writes a container's files, as its root: ``fsworker.py VERB OPTIONS...``

    --root=DIRECTORY        the container's root, or --pid=PID:START for that of a living process
    stat PATH               what PATH is; result on descriptor 3
    get PATH                PATH as a tar stream to descriptor 1
    put PATH                a tar stream from descriptor 0 into the directory PATH
    export [EXCLUDED...]    all of the root as a tar stream to descriptor 1
    changes                 what --upper=DIRECTORY changed against the --lower=DIRECTORY ..., to descriptor 1;
                            --uids=MAP and --gids=MAP say who owners of lower layers are in UPPER
                            --journal=FILE says what is recorded of files in a container of one ID,
                            --written=DIRECTORY is its writable layer, --lower=DIRECTORY ... as above
    usage PATH...           how much room each path of the host takes (of no container)
    layer                   the same as an image layer (a tar stream with whiteouts) to descriptor 1

Started as root of the container's own user namespace, so that owners are those that the container sees.
Whatever PATH says is resolved inside the root by the kernel (linux/inroot.py); the container may change it
meanwhile and gets nothing else.  The result, or the error, is one line of JSON on descriptor 3.
"""

from __future__ import annotations

import _signal
import os
import stat
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..")))

from rootless.errors import NotFoundError, RootlessError, StorageError, UsageError
from rootless.linux import inroot, proc
from rootless.store import changes, files, ownership, treecopy, worker
from rootless.store.layerwriter import LayerWriter
from rootless.store.packer import Output, Packer, add_change, base_name
from rootless.store.tarreader import TarReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_KERNEL = ("proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue")
_MOST = 64 << 20  # of one of their files
_BUFFER = 1 << 18


class Options:
    """The command line: flags by name, lists in order, and the words that are left."""

    def __init__(self, argv: list[str]) -> None:
        self.verb = argv[0]
        self.words: list[str] = []
        self.flags: dict[str, str] = {}
        self.lowers: list[str] = []
        self.journals: list[str] = []
        for word in argv[1:]:
            key, equals, value = word.partition("=")
            if not word.startswith("--"):
                self.words.append(word)
            elif key == "--lower":
                self.lowers.append(value)
                self.journals.append(ownership.journal_of(value))
            elif key == "--journal":
                self.journals.append(value)
            else:
                self.flags[key[2:]] = value if equals else "1"

    def records(self) -> ownership.Records:
        """What is recorded of files in a container of one ID."""
        upper = self.flags.get("written", "")
        return ownership.Records(
            self.journals, active=ownership.one_id(), upper=upper, lowers=self.lowers
        )

    def path(self) -> bytes:
        """The path inside the root."""
        return os.fsencode(self.words[0])


def main(argv: list[str]) -> int:
    """Work as ARGV says; 0, or 1 if an error was reported."""
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    options = Options(argv)
    os.umask(0)
    try:
        result = VERBS[options.verb](options)
    except RootlessError as error:
        worker.report_error(error)
        return 1
    except BrokenPipeError:  # who reads has had enough
        result = {"entries": 0}
    except OSError as error:
        shown = options.words[0] if options.words else options.verb
        worker.report_error(files.failure(f"{_DOING[options.verb]} {shown}", error))
        return 1
    worker.report(result)
    return 0


def open_root(options: Options) -> int:
    """Descriptor of the container's root; raises StorageError where its process has ended."""
    if "pid" not in options.flags:
        return os.open(options.flags["root"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    pid, start = map(int, options.flags["pid"].split(":"))
    try:
        root = os.open(f"/proc/{pid}/root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError(f"cannot enter process {pid}: {files.reason(error)}") from None
    if proc.starttime(pid) != start:  # after the descriptor is open: a reused pid shows another
        raise StorageError(f"cannot enter process {pid}: it has ended")
    return root


def _open(root: int, path: bytes, *, follow: bool) -> int:
    try:
        return inroot.open_path(root, path.lstrip(b"/") or b".", follow=follow)
    except OSError as error:
        shown = os.fsdecode(path)
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise NotFoundError(f"could not find the file {shown} in the container") from None
        raise files.failure(f"open {shown} in the container", error) from None


def _follows(options: Options, path: bytes) -> bool:
    return "follow" in options.flags or path.endswith((b"/", b"/."))


def _stat(options: Options) -> dict[str, Any]:
    path = options.path()
    fd = _open(open_root(options), path, follow=_follows(options, path))
    info = os.fstat(fd)
    link = os.readlink(b"", dir_fd=fd) if stat.S_ISLNK(info.st_mode) else b""
    return {
        "name": os.fsdecode(base_name(path.removesuffix(b"/."))),
        "size": info.st_size,
        "mode": info.st_mode,
        "mtime_ns": info.st_mtime_ns,
        "link": os.fsdecode(link),
    }


def _get(options: Options) -> dict[str, Any]:
    path = options.path()
    root = open_root(options)
    fd = _open(root, path, follow=_follows(options, path))
    info = os.fstat(fd)
    name = os.fsencode(options.flags.get("as", "")) or base_name(path)
    kernels = _kernels(options)
    records = options.records()
    place = (b"" if name in (b"/", b".") else name, path.removesuffix(b"/.").strip(b"/"))
    packer = Packer(devices=kernels - {info.st_dev}, records=records, place=place)
    if stat.S_ISDIR(info.st_mode):
        here = os.open(b"/proc/self/fd/%d" % fd, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if name == b"/":
            name = b"."
        packer.one(name, info, here, b".")
        packer.content(here, b"" if name == b"." else name)
    elif stat.S_ISREG(info.st_mode) and info.st_dev in kernels:
        packer.tar.data(name, _made_when_read(fd), mode=info.st_mode & 0o777)
    else:
        link = os.readlink(b"", dir_fd=fd) if stat.S_ISLNK(info.st_mode) else b""
        packer.tar.opened(name, info, fd, link, _owner(options, records, info))
    return packer.close()


def _kernels(options: Options) -> set[int]:
    """Device numbers of what the kernel shows of itself in a living container: nobody's files to copy."""
    found = set()
    if "pid" in options.flags:
        pid = options.flags["pid"].partition(":")[0]
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.split()
                if words[words.index("-") + 1] in _KERNEL:
                    found.add(os.makedev(*map(int, words[2].split(":"))))
    return found


def _made_when_read(fd: int) -> bytes:
    """Content of a file of the kernel's, whose size is not known before; FD is an O_PATH one."""
    data = b""
    with open(
        os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb"
    ) as file:
        while len(data) < _MOST:
            more = file.read1(_BUFFER)
            if not more:
                break
            data += more
    return data


def _owner(
    options: Options, records: ownership.Records, info: os.stat_result
) -> tuple[int, int] | None:
    """Who a single file is said to belong to: asked of its directory, as a link has no descriptor to ask."""
    path = options.path()
    head, _, base = path.rstrip(b"/").rpartition(b"/")
    if "follow" in options.flags and not stat.S_ISLNK(info.st_mode):
        return None
    try:
        parent = inroot.open_path(open_root(options), head.lstrip(b"/") or b".", follow=True)
        here = os.open(b"/proc/self/fd/%d" % parent, treecopy.DIRECTORY & ~os.O_NOFOLLOW)
        again = os.stat(base, dir_fd=here, follow_symlinks=False)
    except OSError:
        return None  # it went meanwhile
    if (again.st_dev, again.st_ino) != (info.st_dev, info.st_ino):
        return None
    return records.of(here, base, info, path.strip(b"/")).owner


def _put(options: Options) -> dict[str, Any]:
    root = open_root(options)
    path = options.path()
    fd = _open(root, path, follow=True)
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        raise UsageError(f"cannot unpack to {os.fsdecode(path)}: it is not a directory")
    target = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    reader = TarReader(lambda: os.read(0, _BUFFER))
    recorder = ownership.Recorder(options.flags["owners-to"]) if ownership.one_id() else None
    writer = LayerWriter(
        target,
        recorder=recorder,
        plain=True,
        owners="owners" in options.flags,
        keep_kinds="no-overwrite-dir-non-dir" in options.flags,
    )
    try:
        writer.apply(reader)
    finally:
        writer.close()
    while os.read(0, _BUFFER):
        pass
    return {"entries": reader.entries, "skipped": writer.skipped}


def _export(options: Options) -> dict[str, Any]:
    excluded = {os.fsencode(word).strip(b"/") for word in options.words}
    packer = Packer(excluded, nanoseconds=False, records=options.records())
    packer.content(open_root(options), b"")
    return packer.close()


def _found(options: Options) -> Any:
    marks = options.flags.get("format") == "files"
    upper = os.open(options.flags["upper"], treecopy.DIRECTORY)
    maps = options.flags.get("uids", ""), options.flags.get("gids", "")
    owners = treecopy.Owners.from_words(*maps)
    records = options.records()
    lower = changes.open_lower(options.lowers, marks=marks, owners=owners, records=records)
    upper_marks = marks or "marks" in options.flags
    return changes.walk(upper, lower, marks=upper_marks, whole="whole" in options.flags)


def _changes(options: Options) -> dict[str, Any]:
    output = Output()
    count = size = 0
    for change in _found(options):
        output.write(change.kind.encode() + b" " + change.path + b"\0")
        count += 1
        if change.info is not None and stat.S_ISREG(change.info.st_mode):
            size += change.info.st_size
    output.flush()
    return {"entries": count, "bytes": size}


def _usage(options: Options) -> dict[str, Any]:
    """Of each path: bytes in regular files and the number of inodes, hard links counted once."""
    seen: set[tuple[int, int]] = set()
    return {"usage": [usage_of(path, seen) for path in options.words]}


def usage_of(path: str, seen: set[tuple[int, int]]) -> tuple[int, int]:
    """(bytes in regular files, inodes) below PATH; hard links in SEEN count nothing."""
    size = inodes = 0
    pending = [path]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except OSError:
            continue  # it went meanwhile
        for entry in entries:
            try:
                info = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(info.st_mode):
                pending.append(entry.path)
            elif info.st_nlink > 1:
                key = (info.st_dev, info.st_ino)
                if key in seen:
                    continue
                seen.add(key)
            inodes += 1
            if stat.S_ISREG(info.st_mode) and not _lent(entry.path, info):
                size += info.st_size
    return size, inodes


def _lent(path: str, info: os.stat_result) -> bool:
    """Whether a file's data is another layer's (remap_worker.py)."""
    if info.st_blocks * 512 >= info.st_size:
        return False
    try:
        os.getxattr(path, "user.overlay.metacopy", follow_symlinks=False)
    except OSError:
        return False
    return True


def _layer(options: Options) -> dict[str, Any]:
    packer = Packer(nanoseconds=False, records=options.records())
    opaque: set[bytes] = set()
    for change in _found(options):
        add_change(packer, change, opaque)
    return packer.close()


VERBS = {
    "stat": _stat,
    "get": _get,
    "put": _put,
    "export": _export,
    "changes": _changes,
    "layer": _layer,
    "usage": _usage,
}
_DOING = {
    "stat": "look at",
    "get": "read",
    "put": "write to",
    "export": "export",
    "changes": "compare",
    "layer": "pack",
    "usage": "count",
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
