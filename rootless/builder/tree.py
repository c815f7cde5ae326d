"""Looking into a directory that files are copied from: ignore patterns, wildcards, a digest of what was chosen.

The directory is read in place.  Its own symbolic links are resolved inside it by the kernel, and none is
followed while walking, so that nothing outside is ever read.  A digest covers names, kinds, modes, link
targets and contents, not times; contents are remembered by inode and time of change.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time

from rootless import jsonc
from rootless.errors import BuildError
from rootless.linux import inroot
from rootless.store import files

from .patterns import WILD, Matcher, glob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_PIECE = 1 << 20
# A file changed so shortly before we read it may change again within the same tick of its clock.
_RACY_NS = 2_000_000_000


class Found:
    """A source that a pattern means.

    path    where it really is, from the tree's root; "" for the root
    name    its last component as the pattern has it; kept, with --parents, what comes after the pivot
    """

    __slots__ = ("directory", "info", "kept", "name", "path")

    def __init__(self, path: str, name: str, kept: str, info: os.stat_result) -> None:
        self.path = path
        self.name = name
        self.kept = kept
        self.info = info
        self.directory = stat.S_ISDIR(info.st_mode)


class Entry:
    """One inode met while walking: PATH below what is walked, NAME in the open directory FD."""

    __slots__ = ("fd", "info", "name", "path")

    def __init__(self, path: str, fd: int, name: str, info: os.stat_result) -> None:
        self.path = path
        self.fd = fd
        self.name = name
        self.info = info


class Tree:
    """A directory to copy from; IGNORED matches paths from its root.  TITLE is for messages."""

    def __init__(
        self, root: str, ignored: Sequence[str] = (), title: str = "the build context"
    ) -> None:
        self.fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._real = os.readlink(f"/proc/self/fd/{self.fd}").rstrip("/")
        self.ignored = Matcher(ignored)
        self.title = title

    def close(self) -> None:
        """Close the root."""
        os.close(self.fd)

    def find(self, source: str, *, parents: bool = False) -> list[Found]:
        """What SOURCE means, in order of names; raises BuildError where it is nothing."""
        pivot = ""
        if parents and "/./" in source:
            pivot, _, source_tail = source.partition("/./")
            source = f"{pivot}/{source_tail}"
        clean = os.path.normpath("/" + source).lstrip("/")
        head = os.path.normpath("/" + pivot).lstrip("/") if pivot else ""
        out: list[Found] = []
        for path in self._matching(clean, deep=parents):
            found = self._look(path, path[len(head) :].lstrip("/") if parents else "")
            if found is not None:
                out.append(found)
        if not out:
            raise BuildError(
                f'cannot copy "/{clean}": not found in {self.title}',
                hint="a pattern of the ignore file may leave it out" if self.ignored else "",
            )
        return out

    def named(self, path: str, name: str) -> Found:
        """What is at PATH, which is no pattern, under another NAME; raises BuildError."""
        found = self._look(os.path.normpath("/" + path).lstrip("/"), "")
        if found is None:
            raise BuildError(f'cannot copy "/{path}": not found in {self.title}')
        found.name = name
        return found

    def _matching(self, path: str, *, deep: bool) -> list[str]:
        if not WILD.search(path):
            return [path]
        bases = [""]
        for part in path.split("/"):
            if not WILD.search(part):
                bases = [f"{base}/{part}" if base else part for base in bases]
            elif part == "**" and deep:
                bases = [one for base in bases for one in self._below(base)]
            else:
                try:
                    pattern = glob(part)
                except ValueError as error:
                    raise BuildError(f"cannot copy {path}: {error}") from None
                bases = [
                    f"{base}/{name}" if base else name
                    for base in bases
                    for name in self._names(base)
                    if pattern.match(name)
                ]
        return bases

    def _below(self, base: str) -> list[str]:
        """BASE and all directories below it."""
        out = [base]
        for name in self._names(base):
            path = f"{base}/{name}" if base else name
            info = self._lstat(path)
            if info is not None and stat.S_ISDIR(info.st_mode):
                out += self._below(path)
        return out

    def _lstat(self, path: str) -> os.stat_result | None:
        try:
            fd = inroot.open_path(self.fd, os.fsencode(path), follow=False)
        except OSError:
            return None
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def _names(self, path: str) -> list[str]:
        try:
            fd = inroot.open_path(self.fd, os.fsencode(path) or b".", DIRECTORY & ~os.O_NOFOLLOW)
        except OSError:
            return []
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)

    def _look(self, path: str, kept: str) -> Found | None:
        """The entry that PATH names, links at its end followed; None where it is not there or left out."""
        try:
            fd = inroot.open_path(self.fd, os.fsencode(path) or b".")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise BuildError(f"cannot copy /{path}: {files.reason(error)}") from None
        try:
            info = os.fstat(fd)
            real = os.readlink(f"/proc/self/fd/{fd}")[len(self._real) :].lstrip("/")
        finally:
            os.close(fd)
        may = stat.S_ISDIR(info.st_mode) and self.ignored.may_include_below(real)
        if real and not may and self.ignored.matches(real):
            return None
        return Found(real, path.rpartition("/")[2], kept, info)

    def walk(self, found: Found, excludes: Matcher | None = None) -> Iterator[Entry]:
        """What is to be copied of FOUND: itself for a file, else its content, directories first."""
        head, _, name = found.path.rpartition("/")
        try:
            if not found.directory:
                fd = inroot.open_path(
                    self.fd, os.fsencode(head) or b".", DIRECTORY & ~os.O_NOFOLLOW
                )
                try:
                    if not (excludes and excludes.matches(name)):
                        yield Entry("", fd, name, os.stat(name, dir_fd=fd, follow_symlinks=False))
                finally:
                    os.close(fd)
                return
            fd = inroot.open_path(
                self.fd, os.fsencode(found.path) or b".", DIRECTORY & ~os.O_NOFOLLOW
            )
        except OSError as error:
            raise BuildError(f"cannot read /{found.path}: {files.reason(error)}") from None
        try:
            yield from self._content(fd, found.path, "", excludes)
        finally:
            os.close(fd)

    def _content(self, fd: int, real: str, below: str, excludes: Matcher | None) -> Iterator[Entry]:
        for name in sorted(os.listdir(fd)):
            path = f"{below}/{name}" if below else name
            whole = f"{real}/{name}" if real else name
            try:
                info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue  # it went meanwhile
            directory = stat.S_ISDIR(info.st_mode)
            out = self.ignored.matches(whole) if self.ignored else False
            gone = excludes.matches(path) if excludes else False
            if out or gone:
                again = (not out or self.ignored.may_include_below(whole)) and (
                    not gone or (excludes is not None and excludes.may_include_below(path))
                )
                if not (directory and again):
                    continue
                inner = self._inside(fd, name, whole, path, excludes)
                first = next(inner, None)
                if first is not None:
                    yield Entry(path, fd, name, info)
                    yield first
                    yield from inner
                continue
            yield Entry(path, fd, name, info)
            if directory:
                yield from self._inside(fd, name, whole, path, excludes)

    def _inside(
        self, fd: int, name: str, whole: str, path: str, excludes: Matcher | None
    ) -> Iterator[Entry]:
        try:
            here = os.open(name, DIRECTORY, dir_fd=fd)
        except OSError as error:
            raise BuildError(f"cannot read /{whole}: {files.reason(error)}") from None
        try:
            yield from self._content(here, whole, path, excludes)
        finally:
            os.close(here)


class Digests:
    """Digests of files' contents, kept at PATH between builds; a file is known by inode and time of change."""

    def __init__(self, path: str = "") -> None:
        self._path = path
        self._known: dict[str, list[Any]] = {}
        self._changed = False
        if path:
            try:
                self._known = jsonc.loads(files.read(path))
            except (OSError, ValueError):
                self._known = {}

    def of(self, entry: Entry) -> str:
        """The digest of a regular file; raises BuildError where it cannot be read."""
        info = entry.info
        key = f"{info.st_dev}:{info.st_ino}"
        known = self._known.get(key)
        if known is not None and known[:2] == [info.st_ctime_ns, info.st_size]:
            return str(known[2])
        try:
            digest = self._read(entry)
        except OSError as error:
            raise BuildError(
                f"cannot read {entry.path or entry.name}: {files.reason(error)}"
            ) from None
        if time.time_ns() - info.st_ctime_ns > _RACY_NS:
            self._known[key] = [info.st_ctime_ns, info.st_size, digest]
            self._changed = True
        return digest

    @staticmethod
    def _read(entry: Entry) -> str:
        fd = os.open(entry.name, _READ, dir_fd=entry.fd)
        try:
            running = hashlib.sha256()
            while True:
                data = os.read(fd, _PIECE)
                if not data:
                    return running.hexdigest()
                running.update(data)
        finally:
            os.close(fd)

    def save(self) -> None:
        """Put what was learnt on disk; a disk that refuses costs reading again."""
        if not (self._changed and self._path):
            return
        try:
            files.ensure_dir(os.path.dirname(self._path))
            files.replace(self._path, jsonc.dumps(self._known).encode(), durable=False)
        except OSError:
            pass


def digest(
    tree: Tree,
    found: Sequence[Found],
    digests: Digests,
    excludes: Sequence[str] = (),
    *,
    owners: bool = False,
) -> str:
    """The digest of all that FOUND comes to; OWNERS count where they are copied, too."""
    running = hashlib.sha256()
    matcher = Matcher(excludes) if excludes else None
    for one in found:
        running.update(
            f"source {one.kept or one.name} {one.directory}\0".encode(errors="surrogateescape")
        )
        if one.directory:
            running.update(f"{stat.S_IMODE(one.info.st_mode):o}\0".encode())
        for entry in tree.walk(one, matcher):
            line = described(entry, digests, owners=owners)
            running.update(line.encode("utf-8", "surrogateescape"))
    return running.hexdigest()


def described(entry: Entry, digests: Digests, *, owners: bool) -> str:
    """One entry as the digest has it."""
    info = entry.info
    kind = stat.S_IFMT(info.st_mode)
    content = ""
    if kind == stat.S_IFREG:
        content = digests.of(entry)
    elif kind == stat.S_IFLNK:
        content = os.readlink(entry.name, dir_fd=entry.fd)
    owner = f"{info.st_uid}:{info.st_gid} " if owners else ""
    return f"{entry.path}\0{kind:o} {stat.S_IMODE(info.st_mode):o} {owner}{content}\0"
