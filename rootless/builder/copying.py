"""Copying chosen files into a root: what COPY, ADD and WORKDIR do there, as root of the container's IDs.

Every path of the destination is resolved inside the root by the kernel.  What is new gets the owner that
was asked for, else root (or, from another stage or image, the owner that it has there).
"""

from __future__ import annotations

import os
import re
import stat

from rootless.errors import BuildError, LayerError
from rootless.linux import inroot
from rootless.store import files, ownership, treecopy
from rootless.store.decompress import Source
from rootless.store.layerwriter import LayerWriter
from rootless.store.tarreader import TarReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from .patterns import Matcher
    from .tree import Entry, Found, Tree

    Owner = tuple[int, int]

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=][rwxXst]*)+)$")


class Mode:
    """What --chmod asks for: an octal number, or changes such as u=rwX,go-w; raises BuildError."""

    def __init__(self, text: str) -> None:
        self._fixed = -1
        self._clauses: list[tuple[str, str, str]] = []
        if text.isdigit():
            if len(text) > 5 or set(text) - set("01234567"):
                raise BuildError(f"cannot change modes: invalid chmod parameter {text!r}")
            self._fixed = int(text, 8) & 0o7777
            return
        for clause in text.split(","):
            match = _CLAUSE.match(clause)
            if match is None:
                raise BuildError(f"cannot change modes: invalid chmod parameter {text!r}")
            for operator, letters in re.findall(r"([-+=])([rwxXst]*)", match[2]):
                self._clauses.append((match[1] or "a", operator, letters))

    def of(self, mode: int, *, directory: bool) -> int:
        """The new mode of what has MODE."""
        if self._fixed >= 0:
            return self._fixed
        mode = stat.S_IMODE(mode)
        for who, operator, letters in self._clauses:
            bits = keep = 0
            for shift, name in ((6, "u"), (3, "g"), (0, "o")):
                if name not in who and "a" not in who:
                    continue
                keep |= 7 << shift
                for letter, value in (("r", 4), ("w", 2), ("x", 1)):
                    bits |= value << shift if letter in letters else 0
                if "X" in letters and (directory or mode & 0o111):
                    bits |= 1 << shift
                if "s" in letters and shift:
                    bits |= 0o4000 if shift == 6 else 0o2000
            if "t" in letters:
                bits |= 0o1000
            if operator == "+":
                mode |= bits
            elif operator == "-":
                mode &= ~bits
            else:
                mode = mode & ~keep | bits
        return mode


class Root:
    """The root that is written to; JOURNAL is where owners are recorded that cannot be stored."""

    def __init__(self, path: str, journal: str) -> None:
        self.fd = os.open(path, _OPEN_DIR)
        self.recorder = ownership.Recorder(journal) if ownership.one_id() else None

    def close(self) -> None:
        """Close what is open."""
        if self.recorder is not None:
            self.recorder.close()
        os.close(self.fd)

    def own(self, directory: int, name: str, owner: Owner) -> None:
        """Give NAME to OWNER, who is recorded where there is one ID only."""
        if self.recorder is not None:
            self.recorder.owner(directory, os.fsencode(name), *owner)
        else:
            os.chown(name, *owner, dir_fd=directory, follow_symlinks=False)

    def owner(self, text: str) -> Owner:
        """UID and GID of --chown or of a user, names looked up in the root; raises BuildError."""
        name, _, group = text.partition(":")
        uid, gid = self._user(name)
        if group:
            gid = int(group) if group.isdigit() else self._group(group)
        return uid, gid

    def _user(self, name: str) -> Owner:
        if not name:
            return 0, 0
        if name.isdigit():
            return int(name), int(name)
        for fields in self._lines("etc/passwd"):
            if (
                len(fields) > 3
                and fields[0] == name
                and fields[2].isdigit()
                and fields[3].isdigit()
            ):
                return int(fields[2]), int(fields[3])
        if name == "root":
            return 0, 0
        raise BuildError(f"cannot find user {name}: invalid user, it is not in /etc/passwd")

    def _group(self, name: str) -> int:
        for fields in self._lines("etc/group"):
            if len(fields) > 2 and fields[0] == name and fields[2].isdigit():
                return int(fields[2])
        if name == "root":
            return 0
        raise BuildError(f"cannot find group {name}: invalid group, it is not in /etc/group")

    def _lines(self, path: str) -> Iterable[list[str]]:
        try:
            fd = inroot.open_path(self.fd, path.encode(), os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return []
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return []
        with open(fd, encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n").split(":") for line in file.read(1 << 22).splitlines()]

    def lookup(self, path: str) -> os.stat_result | None:
        """What PATH is in the root, links followed; None for nothing."""
        try:
            fd = inroot.open_path(self.fd, os.fsencode(path).lstrip(b"/") or b".")
        except OSError:
            return None
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def directory(self, path: str, owner: Owner) -> tuple[int, bool]:
        """The directory PATH, made with its parents where missing, and whether it was made."""
        done, made = "", False
        fd = os.dup(self.fd)
        for part in [part for part in path.split("/") if part]:
            done = f"{done}/{part}"
            try:
                there = inroot.open_path(self.fd, os.fsencode(done[1:]), _OPEN_DIR)
                made = False
            except FileNotFoundError:
                try:
                    os.mkdir(part, 0o755, dir_fd=fd)
                except FileExistsError:
                    raise BuildError(
                        f"cannot make directory {done}: a link to nothing is in its place"
                    ) from None
                self.own(fd, part, owner)
                there, made = os.open(part, _OPEN_DIR | os.O_NOFOLLOW, dir_fd=fd), True
            except NotADirectoryError:
                raise BuildError(f"cannot copy to non-directory: {done}") from None
            os.close(fd)
            fd = there
        return fd, made


class Copier:
    """Copies into ROOT; OWNER None keeps that of the source, MODE None its mode."""

    def __init__(self, root: Root, owner: Owner | None, mode: Mode | None) -> None:
        self._root = root
        self._owner = owner
        self._mode = mode
        self._links: dict[tuple[int, int], tuple[int, str]] = {}
        self._clone = True

    @property
    def _new(self) -> Owner:
        return self._owner or (0, 0)

    def found(
        self, tree: Tree, one: Found, dest: str, excludes: Matcher | None, *, unpack: bool
    ) -> None:
        """Copy a source to DEST (with a "/" at its end: into that directory)."""
        if one.kept:
            head = one.kept.rpartition("/")[0]
            dest = f"{dest.rstrip('/')}/{one.kept if one.directory else head}/"
        if one.directory:
            fd, made = self._root.directory(dest, self._new)
            try:
                if made:
                    self._top(tree, one, fd)
                self._content(tree, one, excludes, fd)
            finally:
                self._forget()
                os.close(fd)
            return
        if unpack and self._unpacked(tree, one, dest):
            return
        self._file(tree, one, dest, excludes)

    def _top(self, tree: Tree, one: Found, fd: int) -> None:
        """A directory that we made has the mode and times of the one that is copied."""
        mode = stat.S_IMODE(one.info.st_mode)
        os.fchmod(fd, self._mode.of(mode, directory=True) if self._mode else mode)
        if self._owner is None and tree.title != CONTEXT:
            self._root.own(fd, ".", (one.info.st_uid, one.info.st_gid))

    def _file(self, tree: Tree, one: Found, dest: str, excludes: Matcher | None) -> None:
        info = self._root.lookup(dest)
        into = dest.endswith("/") or (info is not None and stat.S_ISDIR(info.st_mode))
        head, _, base = dest.rpartition("/")
        fd, _ = self._root.directory(dest if into else head, self._new)
        try:
            for entry in tree.walk(one, excludes):
                self._entry(tree, entry, fd, one.name if into else base)
        finally:
            self._forget()
            os.close(fd)

    def _content(self, tree: Tree, one: Found, excludes: Matcher | None, top: int) -> None:
        stack: list[tuple[str, int]] = [("", top)]
        times: list[tuple[int, os.stat_result]] = []
        try:
            for entry in tree.walk(one, excludes):
                head, _, name = entry.path.rpartition("/")
                while stack[-1][0] and not f"{head}/".startswith(f"{stack[-1][0]}/"):
                    self._leave(stack, times)
                self._entry(tree, entry, stack[-1][1], name)
                if stat.S_ISDIR(entry.info.st_mode):
                    flags = _OPEN_DIR | os.O_NOFOLLOW
                    stack.append((entry.path, os.open(name, flags, dir_fd=stack[-1][1])))
                    times.append((stack[-1][1], entry.info))
        finally:
            while len(stack) > 1:
                self._leave(stack, times)

    def _leave(self, stack: list[tuple[str, int]], times: list[tuple[int, os.stat_result]]) -> None:
        _, fd = stack.pop()
        _, info = times.pop()
        os.utime(fd, ns=(info.st_mtime_ns, info.st_mtime_ns))
        os.close(fd)

    def _forget(self) -> None:
        for fd, _ in self._links.values():
            os.close(fd)
        self._links.clear()

    def _entry(self, tree: Tree, entry: Entry, target: int, name: str) -> None:
        """Copy one inode to NAME in the open directory TARGET."""
        info = entry.info
        kind = stat.S_IFMT(info.st_mode)
        foreign = tree.title != CONTEXT
        try:
            if kind == stat.S_IFDIR:
                self._make_directory(target, name)
            elif kind in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO):
                self._make_room(target, name)
                if foreign and info.st_nlink > 1 and self._linked(info, target, name):
                    return
                self._make(entry, target, name, foreign=foreign)
            else:
                return  # sockets and devices stay behind
            self._metadata(entry, target, name, foreign=foreign)
        except OSError as error:
            raise files.failure(f"copy {entry.path or entry.name}", error) from None

    def _make_directory(self, target: int, name: str) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=target)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=target, follow_symlinks=False).st_mode):
                raise BuildError(f"cannot copy to non-directory: {name}") from None

    def _make_room(self, target: int, name: str) -> None:
        try:
            os.unlink(name, dir_fd=target)
        except FileNotFoundError:
            pass
        except (IsADirectoryError, PermissionError):
            raise BuildError(f"cannot copy over directory {name}: a file is no directory") from None

    def _linked(self, info: os.stat_result, target: int, name: str) -> bool:
        key = (info.st_dev, info.st_ino)
        first = self._links.get(key)
        if first is None:
            self._links[key] = (os.dup(target), name)
            return False
        os.link(first[1], name, src_dir_fd=first[0], dst_dir_fd=target, follow_symlinks=False)
        return True

    def _make(self, entry: Entry, target: int, name: str, *, foreign: bool) -> None:
        info = entry.info
        if stat.S_ISLNK(info.st_mode):
            os.symlink(os.readlink(entry.name, dir_fd=entry.fd), name, dir_fd=target)
            return
        if stat.S_ISFIFO(info.st_mode):
            os.mkfifo(name, stat.S_IMODE(info.st_mode), dir_fd=target)
            return
        here, there = os.open(entry.name, _READ, dir_fd=entry.fd), -1
        try:
            there = os.open(name, _CREATE, 0o600, dir_fd=target)
            if info.st_size:
                self._clone = treecopy.copy_data(here, there, info, clone=self._clone)
            if foreign:
                self._attributes(here, there)
        finally:
            os.close(here)
            if there >= 0:
                os.close(there)

    @staticmethod
    def _attributes(source: int, target: int) -> None:
        try:
            names = os.listxattr(source)
        except OSError:
            return
        for name in names:
            if name.startswith((*treecopy.PRIVATE_XATTRS, "user.rootless.", "security.selinux")):
                continue
            try:
                os.setxattr(target, name, os.getxattr(source, name))
            except OSError:
                continue  # not to be had on this filesystem

    def _metadata(self, entry: Entry, target: int, name: str, *, foreign: bool) -> None:
        info = entry.info
        owner = self._owner or ((info.st_uid, info.st_gid) if foreign else (0, 0))
        self._root.own(target, name, owner)
        if not stat.S_ISLNK(info.st_mode):
            directory = stat.S_ISDIR(info.st_mode)
            mode = stat.S_IMODE(info.st_mode)
            mode = self._mode.of(mode, directory=directory) if self._mode else mode
            os.chmod(name, mode, dir_fd=target)
        times = (info.st_mtime_ns, info.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)

    # ADD

    def _unpacked(self, tree: Tree, one: Found, dest: str) -> bool:
        """Unpack an archive into the directory DEST; False where the file is none."""
        entry = next(iter(tree.walk(one)), None)
        if entry is None or not stat.S_ISREG(entry.info.st_mode):
            return False
        fd = os.open(one.path, _READ, dir_fd=tree.fd)
        try:
            if not is_archive(fd):
                return False
            os.lseek(fd, 0, os.SEEK_SET)
            target, _ = self._root.directory(dest, self._new)
            try:
                self._apply(fd, target)
            finally:
                os.close(target)
        finally:
            os.close(fd)
        return True

    def _apply(self, fd: int, target: int) -> None:
        source = Source(lambda *_: os.read(fd, 1 << 18))
        writer = LayerWriter(target, recorder=self._root.recorder, plain=True, owner=self._owner)
        reader = TarReader(source.next_chunk)
        try:
            writer.apply(reader)
        finally:
            writer.close()
            source.close()


CONTEXT = "the build context"


def unpack(directory: str) -> dict[str, Any]:
    """Unpack an archive on descriptor 0, a build context, below DIRECTORY; owners do not count there."""
    root = os.open(directory, _OPEN_DIR)
    source = Source(lambda size: os.read(0, size))
    writer = LayerWriter(root, plain=True, owners=False)
    try:
        reader = TarReader(source.next_chunk)
        writer.apply(reader)
        return {"entries": reader.entries}
    except LayerError as error:
        raise BuildError(
            error.message.replace("cannot unpack", "cannot unpack the context:", 1)
        ) from None
    finally:
        writer.close()
        source.close()
        os.close(root)


def is_archive(fd: int) -> bool:
    """Whether the file is a tar archive, perhaps compressed, by its content."""
    head = os.pread(fd, 512, 0)
    if head[257:262] == b"ustar":
        return True
    if not head.startswith(_ARCHIVES):
        return False
    os.lseek(fd, 0, os.SEEK_SET)
    source = Source(lambda *_: os.read(fd, 1 << 16))
    try:
        return TarReader(source.next_chunk).next() is not None
    except Exception:  # whatever a decompressor finds wrong: then it is a file like any other
        return False
    finally:
        source.close()
