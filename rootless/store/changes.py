"""What a container changed: its writable layer against the layers below.

Owns the comparison and nothing of how it is shown (``diff``) or packed (``commit``).  Two kinds of writable
layer exist: one that holds the changes alone (every union driver), with whiteouts, and one that holds all
(the copy driver).  Runs where the files' owners are those of the container.
"""

from __future__ import annotations

import os
import stat

from . import whiteouts
from .ownership import Records
from .treecopy import Owners

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 18
ADDED, CHANGED, DELETED = "A", "C", "D"
# What the engine puts into a root for its own mounts; empty there, it is nobody's change.
OURS = frozenset(
    (
        *(b"/etc/hosts", b"/etc/hostname", b"/etc/resolv.conf", b"/etc/mtab", b"/dev/console"),
        *(b"/sbin/docker-init", b"/.dockerenv", b"/etc/apt/apt.conf.d/zz-rootless"),
    )
)
OUR_DIRS = frozenset((b"/dev", b"/proc", b"/sys", b"/dev/pts", b"/dev/shm", b"/dev/mqueue"))


class Change:
    """One path (absolute, bytes) and what became of it.

    directory, name  where the entry can be read (an open descriptor, valid until the next change); -1 for
                     what was deleted
    info             its lstat; None for what was deleted
    opaque           a directory of which everything below it in lower layers is gone
    was_directory    what it stands for was a directory, too
    """

    __slots__ = ("directory", "info", "kind", "name", "opaque", "path", "was_directory")

    def __init__(
        self,
        kind: str,
        path: bytes,
        info: os.stat_result | None = None,
        directory: int = -1,
        name: bytes = b"",
        opaque: bool = False,
        was_directory: bool = False,
    ) -> None:
        self.kind = kind
        self.path = path
        self.info = info
        self.directory = directory
        self.name = name
        self.opaque = opaque
        self.was_directory = was_directory


class Lower:
    """One directory as the stack of lower layers shows it: descriptors, topmost first.

    OWNERS says who the owner of a file of it is in the writable layer, RECORDS what is said of files in both.
    EXACT: files of one size and time are not believed to have one content.
    """

    __slots__ = ("exact", "fds", "marks", "owners", "records")

    def __init__(
        self,
        fds: Sequence[int],
        *,
        marks: bool,
        owners: Owners,
        records: Records,
        exact: bool = False,
    ) -> None:
        self.records = records
        self.exact = exact
        self.fds = list(fds)
        self.marks = marks
        self.owners = owners

    def like(self, fds: Sequence[int]) -> Lower:
        """Another directory of the same stack."""
        return Lower(
            fds, marks=self.marks, owners=self.owners, records=self.records, exact=self.exact
        )

    def close(self) -> None:
        """Close what is open."""
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    def find(self, name: bytes) -> tuple[int, os.stat_result] | None:
        """(directory, lstat) of the entry that shows, or None."""
        for fd in self.fds:
            try:
                info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except OSError:
                info = None
            if info is not None:
                hidden = whiteouts.hidden_by(name, info, marks=self.marks)
                return (fd, info) if hidden is None else None
            if self.marks and _exists(fd, whiteouts.PREFIX + name):
                return None
        return None

    def below(self, name: bytes) -> Lower:
        """The subdirectory NAME as the stack shows it; of nothing where it is no directory."""
        found: list[int] = []
        for fd in self.fds:
            if self.marks and _exists(fd, whiteouts.PREFIX + name):
                break
            try:
                info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except OSError:
                continue
            if not stat.S_ISDIR(info.st_mode):
                break
            found.append(os.open(name, _DIRECTORY, dir_fd=fd))
            if whiteouts.is_opaque(found[-1], marks=self.marks):
                break
        return self.like(found)

    def names(self) -> list[bytes]:
        """All names that show, sorted."""
        every = {os.fsencode(name) for fd in self.fds for name in os.listdir(fd)}
        return sorted(name for name in every if self.find(name) is not None)


def _exists(fd: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError:
        return False
    return True


def open_lower(
    paths: Sequence[str],
    *,
    marks: bool,
    owners: Owners | None = None,
    records: Records | None = None,
    exact: bool = False,
) -> Lower:
    """The roots of layers at PATHS, topmost first."""
    fds = [os.open(path, _DIRECTORY) for path in paths]
    said = records or Records(active=False)
    return Lower(fds, marks=marks, owners=owners or Owners(), records=said, exact=exact)


def walk(
    upper: int, lower: Lower, *, marks: bool, whole: bool = False, path: bytes = b""
) -> Iterator[Change]:
    """The changes below the open directory UPPER, each directory before what is in it, sorted by name.

    MARKS: ``.wh.`` files in UPPER are whiteouts.  WHOLE: UPPER holds everything, not only what changed.
    """
    hidden: set[bytes] = set()
    shown: list[tuple[bytes, os.stat_result]] = []
    for name in sorted(map(os.fsencode, os.listdir(upper))):
        info = os.stat(name, dir_fd=upper, follow_symlinks=False)
        other = None if whole else whiteouts.hidden_by(name, info, marks=marks)
        if other is None:
            shown.append((name, info))
        elif other:
            hidden.add(other)
    if whole:
        hidden = set(lower.names()) - {name for name, _ in shown}
    for name in sorted(hidden - {name for name, _ in shown}):
        if lower.find(name) is not None:
            yield Change(DELETED, path + b"/" + name)
    for name, info in shown:
        yield from _entry(upper, lower, name, info, path + b"/" + name, marks, whole)


def _entry(
    upper: int,
    lower: Lower,
    name: bytes,
    info: os.stat_result,
    path: bytes,
    marks: bool,
    whole: bool,
) -> Iterator[Change]:
    before = lower.find(name)
    if not stat.S_ISDIR(info.st_mode):
        if _is_ours(path, info, before is None):
            return
        if not whole or before is None or not _same(upper, name, info, *before, lower):
            yield Change(ADDED if before is None else CHANGED, path, info, upper, name)
        return
    here = os.open(name, _DIRECTORY, dir_fd=upper)
    below = lower.below(name)
    was_dir = before is not None and stat.S_ISDIR(before[1].st_mode)
    opaque = was_dir and not whole and whiteouts.is_opaque(here, marks=marks)
    kind = ADDED if before is None else CHANGED
    hides = opaque or (before is not None and not was_dir)
    own = Change(kind, path, info, upper, name, hides, was_dir)
    changed = (
        before is None
        or not was_dir
        or opaque
        or not _same_owner(upper, name, info, *before, lower)
    )
    if was_dir and before is not None and not changed:
        changed = info.st_mtime_ns != before[1].st_mtime_ns and not whole
    try:
        inside = walk(
            here,
            lower.like([]) if opaque else below,
            marks=marks,
            whole=whole,
            path=path,
        )
        first = next(inside, None)
        if first is None and (_only_ours(here, path) or not changed):
            if changed and not (path in OUR_DIRS or _holds_ours(here, path)):
                yield own
            return
        yield own
        if opaque:
            for gone in below.names():
                if not _exists(here, gone):
                    yield Change(DELETED, path + b"/" + gone)
        if first is not None:
            yield first
            yield from inside
    finally:
        below.close()
        os.close(here)


def _is_ours(path: bytes, info: os.stat_result, new: bool) -> bool:
    return new and path in OURS and stat.S_ISREG(info.st_mode) and info.st_size == 0


def _holds_ours(directory: int, path: bytes) -> bool:
    return any(_is_ours_at(directory, path, os.fsencode(name)) for name in os.listdir(directory))


def _is_ours_at(directory: int, path: bytes, name: bytes) -> bool:
    info = os.stat(name, dir_fd=directory, follow_symlinks=False)
    return _is_ours(path + b"/" + name, info, True)


def _only_ours(directory: int, path: bytes) -> bool:
    """Whether all there is in the directory are empty files for the engine's own mounts."""
    names = [os.fsencode(name) for name in os.listdir(directory)]
    names = [name for name in names if not name.startswith(whiteouts.PREFIX)]
    return path in OUR_DIRS or all(_is_ours_at(directory, path, name) for name in names)


def _same_owner(
    upper: int,
    name: bytes,
    info: os.stat_result,
    directory: int,
    before: os.stat_result,
    lower: Lower,
) -> bool:
    owner = lower.owners.of(before)
    if (info.st_mode, info.st_uid, info.st_gid) != (before.st_mode, *owner):
        return False
    now = lower.records.of(upper, name, info)
    then = lower.records.of(directory, name, before)
    if then.owner == (before.st_uid, before.st_gid):
        then.owner = owner
    return now.key() == then.key()


def _same(
    upper: int,
    name: bytes,
    info: os.stat_result,
    directory: int,
    before: os.stat_result,
    lower: Lower,
) -> bool:
    """Whether a copy is still what it was copied from; contents are believed by size and time."""
    if info.st_mtime_ns != before.st_mtime_ns:
        return False
    if not _same_owner(upper, name, info, directory, before, lower):
        return False
    if stat.S_ISLNK(info.st_mode):
        return os.readlink(name, dir_fd=upper) == os.readlink(name, dir_fd=directory)
    if stat.S_ISREG(info.st_mode):
        if info.st_size != before.st_size:
            return False
        # An overlay gives a file the number that it has in its layer.
        return not lower.exact or info.st_ino == before.st_ino or _equal(upper, directory, name)
    return info.st_rdev == before.st_rdev


def _equal(one: int, other: int, name: bytes) -> bool:
    """Whether two regular files have the same content."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with (
        open(os.open(name, flags, dir_fd=one), "rb") as left,
        open(os.open(name, flags, dir_fd=other), "rb") as right,
    ):
        while True:
            data = left.read(_PIECE)
            if data != right.read(_PIECE):
                return False
            if not data:
                return True
