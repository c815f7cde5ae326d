"""What is recorded of inodes whose owner, device number or attributes could not be stored.

In a container of one ID everything belongs to its root.  Who a file should belong to is kept in its
extended attributes ``user.rootless.*``; of what has none (symbolic links, FIFOs, a filesystem without) in a
journal, a file ``owners`` beside the writable layer or the unpacked layer.  helpers/launch_owner_store.c writes
both while a container runs, this module when layers are unpacked and copied, and it reads them where
archives are made.  Keys: ``owner`` ("UID:GID"; without it an inode is root's), ``node`` ("c MAJOR MINOR"
or "b ..." of an empty file that stands for a device) and ``xattr.NAME``.

A line of a journal: ``INODE BIRTH KIND TARGET KEY VALUE``, inode number and time of birth as statx has them,
kind as ls shows it, a link's target and the value in hexadecimal, "-" for empty; an empty value takes
back what an earlier line said.  A line that does not read so is not believed.

Programs that write a file anew (useradd /etc/shadow, editors) give the new one the owner they see at the old
one, which is root.  So a regular file of which nothing is said belongs to whom the layers below say of a file
with its name and mode; an explicit change back to root is said as ``0:0``.

What a container says of its files is believed like their content: it is its own.
"""

from __future__ import annotations

import errno
import os
import stat

from rootless.linux import inroot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

JOURNAL = "owners"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
PREFIX = "user.rootless."
_KINDS = {stat.S_IFREG: "-", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFIFO: "p"}
_UNSUPPORTED = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
_MAX_ID = (1 << 32) - 2


class Stated:
    """What an inode is said to be: OWNER, NODE (type, major, minor) of a device or None, XATTRS."""

    __slots__ = ("node", "owner", "xattrs")

    def __init__(self, owner: tuple[int, int]) -> None:
        self.owner = owner
        self.node: tuple[bytes, int, int] | None = None
        self.xattrs: dict[bytes, bytes] = {}

    def key(self) -> tuple[object, ...]:
        """What two files have in common if nothing else was said of them."""
        return self.owner, self.node, tuple(sorted(self.xattrs.items()))


def one_id() -> bool:
    """Whether this process's user namespace has a single user ID, so that every file can only be theirs."""
    with open("/proc/self/uid_map", "rb") as file:
        return sum(int(line.split()[2]) for line in file) == 1


def _hex(data: bytes) -> str:
    return data.hex() or "-"


def _target(directory: int, name: bytes, info: os.stat_result) -> bytes:
    return os.readlink(name, dir_fd=directory) if stat.S_ISLNK(info.st_mode) else b""


def _kind(info: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(info.st_mode), "s")


class Records:
    """Reads what is recorded; JOURNALS are paths, of which not all need to exist.

    Without ``active`` (more than one ID) an inode is what it is.  UPPER is the writable layer of the tree
    that is read, if there is one: FUSE servers give an inode another number than it has there.  LOWERS are the
    layers below it, topmost first.
    """

    def __init__(
        self,
        journals: Iterable[str] = (),
        *,
        active: bool = True,
        upper: str = "",
        lowers: Iterable[str] = (),
    ) -> None:
        self._active = active
        self._upper = os.open(upper, _DIRECTORY) if active and os.path.isdir(upper) else -1
        self._lowers = [os.open(path, _DIRECTORY) for path in lowers] if active else []
        self._said: dict[tuple[int, str, str], list[tuple[str, str, bytes]]] = {}
        for path in journals if active else ():
            self._load(path)

    def close(self) -> None:
        """Close what is open."""
        for fd in (*self._lowers, *([self._upper] if self._upper >= 0 else ())):
            os.close(fd)
        self._lowers, self._upper = [], -1

    def _load(self, path: str) -> None:
        try:
            with open(path, "rb") as file:
                for line in file:
                    self._line(line.decode("utf-8", "replace").split(" "))
        except FileNotFoundError:
            pass

    def _line(self, words: list[str]) -> None:
        if len(words) != 6 or not words[5].endswith("\n"):
            return
        number, birth, kind, target, key, value = words
        try:
            data = b"" if value == "-\n" else bytes.fromhex(value)
            self._said.setdefault((int(number), kind, target), []).append((birth, key, data))
        except ValueError:
            return

    def of(self, directory: int, name: bytes, info: os.stat_result, path: bytes = b"") -> Stated:
        """What is said of the entry NAME of the open DIRECTORY, of which INFO is the lstat.

        PATH is where it is in the tree, if that is known.
        """
        stated = Stated((info.st_uid, info.st_gid))
        if self._active:
            found = self._of(directory, name, info, path)
            for key, value in found.items():
                _take(stated, key, value)
            if self._lowers and path and not found and stat.S_ISREG(info.st_mode):
                self._inherit(stated, path, info)
        return stated

    def _inherit(self, stated: Stated, path: bytes, info: os.stat_result) -> None:
        """Take the owner of the file in whose place this one is."""
        head, _, base = path.rpartition(b"/")
        for lower in self._lowers:
            try:
                parent = inroot.open_path(lower, head or b".", follow=True)
            except OSError:
                continue
            try:
                before = os.stat(base, dir_fd=parent, follow_symlinks=False)
                if before.st_mode == info.st_mode:
                    said = self._of(parent, base, before, b"")
                    _take(stated, "owner", said.get("owner", b""))
                return
            except OSError:
                continue
            finally:
                os.close(parent)

    def _of(
        self, directory: int, name: bytes, info: os.stat_result, path: bytes
    ) -> Mapping[str, bytes]:
        found: dict[str, bytes] = {}
        if stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode):
            file = b"/proc/self/fd/%d/%s" % (directory, name)
            try:
                for key in os.listxattr(file, follow_symlinks=False):
                    if key.startswith(PREFIX):
                        value = os.getxattr(file, key, follow_symlinks=False)
                        found[key[len(PREFIX) :]] = value
            except OSError:
                pass  # a filesystem without, or it went meanwhile
        if found or not self._said:
            return found
        return self._above(path, info) or self._journaled(directory, name, info)

    def _above(self, path: bytes, info: os.stat_result) -> Mapping[str, bytes]:
        """What the journal has of PATH as the writable layer has it."""
        if self._upper < 0 or not path:
            return {}
        head, _, base = path.rpartition(b"/")
        try:
            parent = inroot.open_path(self._upper, head or b".", follow=True)
        except OSError:
            return {}
        try:
            there = os.stat(base, dir_fd=parent, follow_symlinks=False)
            if stat.S_IFMT(there.st_mode) != stat.S_IFMT(info.st_mode):
                return {}
            return self._journaled(parent, base, there)
        except OSError:
            return {}
        finally:
            os.close(parent)

    def _journaled(self, directory: int, name: bytes, info: os.stat_result) -> Mapping[str, bytes]:
        if not self._said:
            return {}
        where = (info.st_ino, _kind(info), _hex(_target(directory, name, info)))
        lines = self._said.get(where)
        if lines is None:
            return {}
        from rootless.linux.birth import birth

        born = birth(directory, name)
        return {key: value for when, key, value in lines if "0.0" in (when, born) or when == born}

    def carry(
        self,
        source: int,
        name: bytes,
        info: os.stat_result,
        recorder: Recorder,
        target: int,
    ) -> None:
        """Record of NAME in TARGET, a copy, what a journal has of it in SOURCE; attributes go by themselves."""
        for key, value in self._journaled(source, name, info).items():
            recorder.say(target, name, key, value)


def _node(words: list[bytes]) -> tuple[bytes, int, int] | None:
    """A device, but none that overlay would take for a whiteout."""
    if len(words) != 3 or words[0] not in (b"c", b"b") or words == [b"c", b"0", b"0"]:
        return None
    if not (words[1].isdigit() and words[2].isdigit()):
        return None
    return words[0], int(words[1]) & 0xFFF, int(words[2]) & 0xFFFFF


def _take(stated: Stated, key: str, value: bytes) -> None:
    """Believe one record, if it reads as one."""
    if not value:
        return
    words = value.split(b":" if key == "owner" else b" ")
    if key.startswith("xattr."):
        stated.xattrs[os.fsencode(key[6:])] = value
    elif key == "owner" and len(words) == 2 and all(map(bytes.isdigit, words)):
        uid, gid = map(int, words)
        if max(uid, gid) <= _MAX_ID:
            stated.owner = uid, gid
    elif key == "node":
        stated.node = _node(words)


class Recorder:
    """Records what the one ID there is cannot store; JOURNAL is the file for what has no attributes."""

    def __init__(self, journal: str) -> None:
        self._journal = journal
        self._fd = -1
        self._own = (os.getuid(), os.getgid())

    def close(self) -> None:
        """Close the journal, if it was written to."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def owner(self, directory: int, name: bytes, uid: int, gid: int, *, fresh: bool = True) -> None:
        """NAME should belong to UID and GID; FRESH: nothing was said of it yet."""
        if (uid, gid) != self._own:
            self.say(directory, name, "owner", b"%d:%d" % (uid, gid))
        elif not fresh:
            self.unsay(directory, name, "owner")

    def say(self, directory: int, name: bytes, key: str, value: bytes) -> None:
        """Record VALUE under KEY; raises OSError of the disk."""
        path = b"/proc/self/fd/%d/%s" % (directory, name)
        try:
            os.setxattr(path, PREFIX + key, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self._append(directory, name, key, value)

    def unsay(self, directory: int, name: bytes, key: str) -> None:
        """Record nothing under KEY any more."""
        path = b"/proc/self/fd/%d/%s" % (directory, name)
        try:
            os.removexattr(path, PREFIX + key, follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.ENODATA:
                return
            if error.errno not in _UNSUPPORTED:
                raise
            if os.path.exists(self._journal):
                self._append(directory, name, key, b"")

    def _append(self, directory: int, name: bytes, key: str, value: bytes) -> None:
        from rootless.linux.birth import birth

        info = os.stat(name, dir_fd=directory, follow_symlinks=False)
        target = _hex(_target(directory, name, info))
        head = f"{info.st_ino} {birth(directory, name)} {_kind(info)} {target}"
        line = f"{head} {key} {_hex(value)}\n".encode()
        if self._fd < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(self._journal, flags, 0o600)
        if os.write(self._fd, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def node(self, directory: int, name: bytes, kind: str, major: int, minor: int) -> None:
        """NAME, an empty file, stands for a device; KIND is "c" or "b"."""
        self.say(directory, name, "node", f"{kind} {major} {minor}".encode())

    def attribute(self, directory: int, name: bytes, key: bytes, value: bytes) -> None:
        """NAME should have an extended attribute that the kernel refused; one too long is let go."""
        if len(key) <= 200:
            self.say(directory, name, f"xattr.{os.fsdecode(key)}", value)


def journal_of(tree: str) -> str:
    """The journal of an unpacked layer or a writable layer, by the path of its tree."""
    return f"{os.path.dirname(tree.rstrip('/'))}/{JOURNAL}"
