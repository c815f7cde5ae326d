"""Entries of a layer's tar stream made into files below one directory, and nowhere else.

Owns where an entry may go and what becomes of it: whiteouts, owners, modes, times, extended attributes,
hard links.  Whiteouts take one of two forms: overlayfs's (a 0/0 character device, ``user.overlay.opaque`` on
a directory), or that of the archive itself ("files": empty files ``.wh.NAME`` and ``.wh..wh..opq``), for
filesystems that have neither.

Safety: every path is walked one component at a time from the layer's root with O_NOFOLLOW; a symbolic link
met on the way is followed by hand, inside the layer (an absolute target begins at its root, ``..``
stops there), as real images need it for lib -> usr/lib.  The last component is never followed.  Walked
directories stay open, so that most entries cost one lookup in a dictionary.  Nothing else writes below
the directory meanwhile.

An entry may not forge what overlayfs would obey: device nodes are left out (a user namespace
cannot make them, and a 0/0 one would be a whiteout) and so are attributes that storage drivers read.
"""

from __future__ import annotations

import errno
import os
import stat

from rootless.errors import IdMapError, LayerError, StorageError

from .files import reason
from .ownership import Recorder
from .tarreader import REGULAR, Entry, TarReader, shown

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MARK = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WHITEOUT = b".wh."
_META = b".wh..wh."
_OPAQUE = b".wh..wh..opq"
_MAX_LINKS = 40
_MAX_OPEN = 200
_MAX_TIME = (1 << 63) - 1
_MAX_ID = (1 << 32) - 2
_FORBIDDEN_XATTRS = (
    b"user.overlay.",
    b"user.fuseoverlayfs.",
    b"user.containers.",
    b"user.rootless.",
)


class LayerWriter:
    """Applies entries below a directory.

    RECORDER: every owner becomes the caller, there is one ID, and this keeps what was to be.  PLAIN: the
    archive is no layer, so that nothing is a whiteout, what lies there stays, and a link on the way is an
    error; then OWNERS tells whether files keep theirs, OWNER whose all become, SET_IDS whether they may become
    set-ID, and KEEP_KINDS forbids a directory in the place of a file and the reverse.
    """

    def __init__(
        self,
        root_fd: int,
        *,
        recorder: Recorder | None = None,
        layer_format: str = "overlay",
        plain: bool = False,
        owners: bool = True,
        owner: tuple[int, int] | None = None,
        set_ids: bool = True,
        keep_kinds: bool = False,
    ) -> None:
        self._plain = plain
        self._owner = owner if owner is not None else None if owners else (0, 0)
        self._set_ids = set_ids
        self._keep_kinds = keep_kinds
        self._root = root_fd
        self._files = layer_format == "files"
        self._recorder = recorder
        self._fds: dict[bytes, int] = {}  # walked directory, no links in it -> descriptor
        self._known: dict[bytes, bytes] = {}  # directory as an entry wrote it -> walked
        self._modes: dict[
            bytes, int
        ] = {}  # walked directory -> mode, if new entries would inherit it
        self._times: dict[bytes, int] = {}  # walked directory -> mtime to be set at the end
        self._hidden: set[bytes] = set()  # walked paths that this layer whited out
        self.skipped: dict[str, int] = {}
        os.umask(0)

    def apply(self, reader: TarReader) -> None:
        """Everything the archive holds; raises LayerError, IdMapError, OSError (of the disk)."""
        while True:
            entry = reader.next()
            if entry is None:
                break
            try:
                self._apply_one(entry, reader)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
                    raise
                raise LayerError(
                    f"cannot unpack entry {shown(entry.name)}: {reason(error)}"
                ) from None
        self._finish()

    def close(self) -> None:
        """Close what is still open, after an error too."""
        self._forget()

    def _skip(self, what: str) -> None:
        self.skipped[what] = self.skipped.get(what, 0) + 1

    def _apply_one(self, entry: Entry, reader: TarReader) -> None:
        if self._owner is not None:
            entry.uid, entry.gid = self._owner
        name = entry.name.rstrip(b"/") if entry.name[-1:] == b"/" else entry.name
        head, _, base = name.rpartition(b"/")
        kind = entry.type
        if base in (b"", b".", b"..") or b"\0" in name:
            parts = _parts(name, entry)
            if parts:
                head, base = b"/".join(parts[:-1]), parts[-1]
            elif kind == b"5":
                self._set_root(entry)
                return
            else:
                raise LayerError(f"cannot unpack entry {shown(entry.name)}: it has no name")
        where = self._known.get(head)
        if where is None:
            where = self._walk(_parts(head, entry), entry)
            self._known[head] = where
        directory = self._fds.get(where)
        if directory is None:
            directory = self._open(where)
        if base[:4] == _WHITEOUT and not self._plain:
            self._whiteout(directory, where, base, entry)
        elif kind in REGULAR:
            if not self._set_ids:
                entry.mode &= 0o1777
            self._regular(directory, where, base, entry, reader)
        elif kind == b"5":
            self._directory(directory, where, base, entry)
        elif kind == b"2":
            self._symlink(directory, where, base, entry)
        elif kind == b"1":
            self._hardlink(where, base, entry)
        elif kind == b"6":
            self._fifo(directory, where, base, entry)
        elif self._recorder is not None and _is_device(entry):
            self._device(directory, where, base, entry)
        else:
            self._skip("device nodes")

    # where

    def _open(self, where: bytes) -> int:
        """Descriptor of a walked directory."""
        found = self._fds.get(where)
        if found is not None:
            return found
        if not where:
            return self._root
        if len(self._fds) >= _MAX_OPEN:
            self._forget()
        fd = self._root
        at = b""
        for part in where.split(b"/"):
            at = at + b"/" + part if at else part
            known = self._fds.get(at)
            if known is None:
                known = self._fds[at] = os.open(part, _DIRECTORY, dir_fd=fd)
            fd = known
        return fd

    def _forget(self) -> None:
        """Close all directories and believe nothing walked so far."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
        self._known.clear()

    def _walk(self, parts: list[bytes], entry: Entry) -> bytes:
        """The real directory that PARTS mean inside the layer, missing ones made."""
        where: list[bytes] = []
        todo = parts[::-1]
        links = 0
        while todo:
            part = todo.pop()
            if part == b"..":  # only from a link: entries with it are refused
                if where:
                    where.pop()
                continue
            parent = self._open(b"/".join(where))
            try:
                mode = os.lstat(part, dir_fd=parent).st_mode
            except FileNotFoundError:
                os.mkdir(part, 0o755, dir_fd=parent)
                mode = stat.S_IFDIR
            if stat.S_ISDIR(mode):
                where.append(part)
            elif stat.S_ISLNK(mode) and not self._plain:
                links += 1
                if links > _MAX_LINKS:
                    raise LayerError(
                        f"cannot unpack entry {shown(entry.name)}: too many symbolic links on its way"
                    )
                target = os.readlink(part, dir_fd=parent)
                if target[:1] == b"/":
                    where = []
                todo += [one for one in target.split(b"/")[::-1] if one not in (b"", b".")]
            elif stat.S_ISCHR(mode) and not self._plain:
                # Our own whiteout: what comes now replaces what it hides.
                os.unlink(part, dir_fd=parent)
                os.mkdir(part, 0o755, dir_fd=parent)
                where.append(part)
                self._opaque(self._open(b"/".join(where)))
            else:
                way = b"/".join([*where, part])
                raise LayerError(
                    f"cannot unpack entry {shown(entry.name)}: {shown(way)} is not a directory"
                )
        return b"/".join(where)

    def _clear(self, directory: int, where: bytes, base: bytes) -> None:
        """Make room: what an earlier entry put there goes, whatever it is."""
        mode = os.lstat(base, dir_fd=directory).st_mode
        if self._keep_kinds and stat.S_ISDIR(mode):
            there = shown(_join(where, base))
            raise LayerError(f"cannot overwrite directory {there} with non-directory")
        if not stat.S_ISDIR(mode):
            os.unlink(base, dir_fd=directory)
            if stat.S_ISLNK(mode):
                self._known.clear()
            return
        path = _join(where, base)
        prefix = path + b"/"
        self._forget()
        for table in (self._times, self._modes, self._hidden):
            for key in [one for one in table if one == path or one.startswith(prefix)]:
                table.pop(key) if isinstance(table, dict) else table.discard(key)
        parent = os.open(where or b".", _DIRECTORY, dir_fd=self._root)
        try:
            _remove_tree(parent, base)
        finally:
            os.close(parent)

    # what

    def _own(self, directory: int, base: bytes, entry: Entry, *, fresh: bool = True) -> None:
        uid, gid = entry.uid, entry.gid
        if self._recorder is not None:
            self._record(self._recorder, directory, base, entry, fresh=fresh)
        elif uid or gid or not (fresh or self._plain or _is_callers(base, directory)):
            try:
                os.chown(base, uid, gid, dir_fd=directory, follow_symlinks=False)
            except (OSError, OverflowError) as error:
                raise _cannot_own(entry, error) from None

    def _regular(
        self, directory: int, where: bytes, base: bytes, entry: Entry, reader: TarReader
    ) -> None:
        try:
            fd = os.open(base, _CREATE, entry.mode, dir_fd=directory)
        except FileExistsError:
            self._clear(directory, where, base)
            fd = os.open(base, _CREATE, entry.mode, dir_fd=self._open(where))
        try:
            if entry.sparse is not None:
                reader.copy_sparse(fd)
            elif entry.size:
                reader.copy(fd)
            if self._recorder is not None:
                self._record(self._recorder, self._open(where), base, entry)
            elif entry.uid or entry.gid:
                try:
                    os.fchown(fd, entry.uid, entry.gid)
                except (OSError, OverflowError) as error:
                    raise _cannot_own(entry, error) from None
            if entry.mode & 0o6000:  # chown and write take setuid away
                os.fchmod(fd, entry.mode)
            if entry.xattrs:
                self._xattrs(fd, entry, self._open(where), base)
            time = entry.time if 0 <= entry.time <= _MAX_TIME else 0
            os.utime(fd, ns=(time, time))
        finally:
            os.close(fd)

    def _directory(self, directory: int, where: bytes, base: bytes, entry: Entry) -> None:
        path = _join(where, base)
        mode = entry.mode
        self._modes.pop(path, None)
        if mode & stat.S_ISGID and not self._plain:
            self._modes[path] = mode
            mode &= ~stat.S_ISGID
        try:
            os.mkdir(base, mode, dir_fd=directory)
            fresh = True
        except FileExistsError:
            fresh = not stat.S_ISDIR(os.lstat(base, dir_fd=directory).st_mode)
            if fresh and self._keep_kinds:
                raise LayerError(
                    f"cannot overwrite non-directory {shown(path)} with directory"
                ) from None
            if fresh:
                self._clear(directory, where, base)
                directory = self._open(where)
                os.mkdir(base, mode, dir_fd=directory)
        self._own(directory, base, entry, fresh=fresh)
        if not fresh or mode & 0o6000:
            os.chmod(base, mode, dir_fd=directory)
        if entry.xattrs or path in self._hidden:
            fd = os.open(base, _DIRECTORY, dir_fd=directory)
            try:
                if path in self._hidden and not self._files:
                    self._opaque(fd)
                self._xattrs(fd, entry, directory, base)
            finally:
                os.close(fd)
        self._times[path] = entry.time

    def _set_root(self, entry: Entry) -> None:
        if self._recorder is not None:
            self._record(self._recorder, self._root, b".", entry, fresh=False)
        elif entry.uid or entry.gid:
            try:
                os.fchown(self._root, entry.uid, entry.gid)
            except (OSError, OverflowError) as error:
                raise _cannot_own(entry, error) from None
        if entry.mode & stat.S_ISGID and not self._plain:
            self._modes[b""] = entry.mode
        else:
            os.fchmod(self._root, entry.mode)
        self._xattrs(self._root, entry, self._root, b".")
        self._times[b""] = entry.time

    def _symlink(self, directory: int, where: bytes, base: bytes, entry: Entry) -> None:
        if not entry.link or b"\0" in entry.link:
            raise LayerError(f"cannot unpack entry {shown(entry.name)}: its link target is empty")
        try:
            os.symlink(entry.link, base, dir_fd=directory)
        except FileExistsError:
            self._clear(directory, where, base)
            directory = self._open(where)
            os.symlink(entry.link, base, dir_fd=directory)
        self._own(directory, base, entry)
        self._touch(directory, base, entry)

    def _hardlink(self, where: bytes, base: bytes, entry: Entry) -> None:
        parts = _parts(entry.link, entry, what="hard link target ")
        path = b"/".join(parts)
        if not parts or parts == [*_split(where), base]:
            raise LayerError(f"cannot unpack entry {shown(entry.name)}: it is a link to itself")
        source_dir = self._walk(parts[:-1], entry)
        source = os.dup(self._open(source_dir))  # ours, whatever the table of directories forgets
        try:
            try:
                mode = os.lstat(parts[-1], dir_fd=source).st_mode
            except FileNotFoundError:
                mode = 0
            if not mode or stat.S_ISDIR(mode) or _is_whiteout(parts[-1], source, mode):
                raise LayerError(
                    f"cannot unpack entry {shown(entry.name)}: "
                    f"its hard link target {shown(path)} is no file of the layer"
                )
            if (source_dir, parts[-1]) == (where, base):
                raise LayerError(f"cannot unpack entry {shown(entry.name)}: it is a link to itself")
            try:
                self._link(source, parts[-1], self._open(where), base)
            except FileExistsError:
                self._clear(self._open(where), where, base)
                self._link(source, parts[-1], self._open(where), base)
        finally:
            os.close(source)

    @staticmethod
    def _link(source: int, name: bytes, directory: int, base: bytes) -> None:
        os.link(name, base, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)

    def _fifo(self, directory: int, where: bytes, base: bytes, entry: Entry) -> None:
        try:
            os.mkfifo(base, entry.mode, dir_fd=directory)
        except FileExistsError:
            self._clear(directory, where, base)
            directory = self._open(where)
            os.mkfifo(base, entry.mode, dir_fd=directory)
        self._own(directory, base, entry)
        if entry.mode & 0o6000:
            os.chmod(base, entry.mode, dir_fd=directory)
        self._touch(directory, base, entry)

    def _device(self, directory: int, where: bytes, base: bytes, entry: Entry) -> None:
        """An empty file that says which device it would be."""
        assert self._recorder is not None
        try:
            fd = os.open(base, _CREATE, entry.mode, dir_fd=directory)
        except FileExistsError:
            self._clear(directory, where, base)
            directory = self._open(where)
            fd = os.open(base, _CREATE, entry.mode, dir_fd=directory)
        os.close(fd)
        self._recorder.node(
            directory, base, "c" if entry.type == b"3" else "b", entry.major, entry.minor
        )
        self._own(directory, base, entry)
        self._touch(directory, base, entry)

    @staticmethod
    def _record(
        recorder: Recorder, directory: int, base: bytes, entry: Entry, *, fresh: bool = True
    ) -> None:
        if not 0 <= min(entry.uid, entry.gid) <= max(entry.uid, entry.gid) <= _MAX_ID:
            raise _cannot_own(entry, OverflowError())
        recorder.owner(directory, base, entry.uid, entry.gid, fresh=fresh)

    @staticmethod
    def _touch(directory: int, base: bytes, entry: Entry) -> None:
        time = entry.time if 0 <= entry.time <= _MAX_TIME else 0
        os.utime(base, ns=(time, time), dir_fd=directory, follow_symlinks=False)

    def _xattrs(self, fd: int, entry: Entry, directory: int, base: bytes) -> None:
        for name, value in (entry.xattrs or {}).items():
            wanted = name == b"security.capability" or name[:5] == b"user."
            if not wanted or name.startswith(_FORBIDDEN_XATTRS) or b"\0" in name:
                self._skip("extended attributes")
                continue
            try:
                os.setxattr(fd, name, value)
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EINVAL):
                    raise
                if self._recorder is not None and name == b"security.capability":
                    self._recorder.attribute(directory, base, name, value)
                    continue
                self._skip("extended attributes")

    # whiteouts

    def _whiteout(self, directory: int, where: bytes, base: bytes, entry: Entry) -> None:
        if base == _OPAQUE:
            self._opaque(directory)
            return
        if base[:8] == _META:  # bookkeeping of aufs
            return
        name = base[4:]
        if name in (b"", b".", b".."):
            raise LayerError(f"cannot unpack entry {shown(entry.name)}: it is no whiteout")
        self._hidden.add(_join(where, name))
        if self._files:
            os.close(os.open(base, _MARK, 0o600, dir_fd=directory))
            return
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=directory)
        except FileExistsError:
            # What this layer itself has here stays; only what lies below is hidden.
            if stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode):
                fd = os.open(name, _DIRECTORY, dir_fd=directory)
                try:
                    self._opaque(fd)
                finally:
                    os.close(fd)

    def _opaque(self, directory: int) -> None:
        """Hide what lower layers have in the directory."""
        if self._files:
            os.close(os.open(_OPAQUE, _MARK, 0o600, dir_fd=directory))
        else:
            os.setxattr(directory, "user.overlay.opaque", b"y")

    def _settle_marks(self) -> None:
        """A name that this layer both hides and makes keeps no mark beside it; a directory is opaque."""
        for path in self._hidden:
            where, _, base = path.rpartition(b"/")
            directory = self._open(where)
            try:
                mode = os.lstat(base, dir_fd=directory).st_mode
            except FileNotFoundError:
                continue
            os.unlink(_WHITEOUT + base, dir_fd=directory)
            if stat.S_ISDIR(mode):
                self._opaque(self._open(path))

    def _finish(self) -> None:
        if self._files:
            self._settle_marks()
        self._forget()
        for path, mode in self._modes.items():
            os.chmod(path or b".", mode, dir_fd=self._root)
        for path, time in self._times.items():
            both = (time, time) if 0 <= time <= _MAX_TIME else (0, 0)
            if path:
                os.utime(path, ns=both, dir_fd=self._root, follow_symlinks=False)
            else:
                os.utime(self._root, ns=both)


def _parts(name: bytes, entry: Entry, what: str = "") -> list[bytes]:
    """Components of a path in the archive; raises LayerError for one that climbs out."""
    parts = _split(name)
    if b".." in parts or b"\0" in name:
        why = "climbs out of the layer" if b".." in parts else "holds a NUL"
        subject = f"its {what}{shown(name)}" if what else "it"
        raise LayerError(f"cannot unpack entry {shown(entry.name)}: {subject} {why}")
    return parts


def _split(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part and part != b"."]


def _join(where: bytes, base: bytes) -> bytes:
    return where + b"/" + base if where else base


def _is_device(entry: Entry) -> bool:
    """Whether it is one that may be stood for: 0/0 is overlay's whiteout."""
    return entry.type == b"4" or (entry.type == b"3" and (entry.major, entry.minor) != (0, 0))


def _is_whiteout(name: bytes, directory: int, mode: int) -> bool:
    return stat.S_ISCHR(mode) and os.lstat(name, dir_fd=directory).st_rdev == 0


def _is_callers(name: bytes, directory: int) -> bool:
    """Whether a directory has the owners that a new one would have."""
    info = os.lstat(name, dir_fd=directory)
    return (info.st_uid, info.st_gid) == (os.geteuid(), os.getegid())


def _cannot_own(entry: Entry, error: Exception) -> Exception:
    number = getattr(error, "errno", errno.EINVAL)
    if max(entry.uid, entry.gid) > _MAX_ID or isinstance(error, OverflowError):
        return LayerError(
            f"cannot unpack entry {shown(entry.name)}: {entry.uid}:{entry.gid} is no owner"
        )
    if number == errno.EPERM and os.geteuid() == 0:  # the ID is mapped, or it were EINVAL
        return StorageError(
            f"cannot unpack entry {shown(entry.name)}: "
            f"the filesystem does not let it belong to {entry.uid}:{entry.gid}",
            hint="set storage.local to a directory on a local disk, or idmap.mode to single",
        )
    if number in (errno.EINVAL, errno.EPERM):
        return IdMapError(
            f"cannot unpack entry {shown(entry.name)}: "
            f"its owner {entry.uid}:{entry.gid} is outside of your subordinate IDs",
            hint="ask for a larger range in /etc/subuid and /etc/subgid",
        )
    return error


def _remove_tree(parent: int, name: bytes) -> None:
    """Remove a directory tree without following links."""
    fd = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        with os.scandir(fd) as entries:
            found = [
                (os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries
            ]
        for child, is_dir in found:
            if is_dir:
                _remove_tree(fd, child)
            else:
                os.unlink(child, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)
