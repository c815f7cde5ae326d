"""A build's files in a directory of the user's: unpacked beside, then moved to where they belong.

Everything belongs to the caller.  What the image holds is hostile: nothing is set-ID or a device, no link of it
or in the directory is followed, and a file never takes the place of a directory.  Until all is unpacked
nothing changes but a directory with a name of ours.
"""

from __future__ import annotations

import os
import stat
import threading
from functools import partial

from rootless.errors import RootlessError, UsageError
from rootless.store import files, treecopy
from rootless.store.layerwriter import LayerWriter
from rootless.store.tarreader import TarReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from rootless.store.tarreader import Entry

_PIECE = 1 << 18


class _Writer(LayerWriter):
    """Makes directories that we can write to; ``wanted`` says (path, mode, time) of each in the end."""

    def __init__(self, root: int) -> None:
        super().__init__(root, plain=True, owners=False, set_ids=False)
        self.wanted: list[tuple[bytes, int, int]] = []

    def _apply_one(self, entry: Entry, reader: TarReader) -> None:
        if entry.type == b"5":
            self.wanted.append((entry.name.strip(b"/"), entry.mode & 0o1777, entry.time))
            entry.mode = entry.mode & 0o1777 | 0o700
        super()._apply_one(entry, reader)


def unpack(dest: str, produce: Callable[[int], Any], *, delete: bool = False) -> dict[str, int]:
    """Unpack the archive that PRODUCE writes to a descriptor into DEST; what was left out, by kind.

    DELETE: what is in DEST and not in the archive goes.  Raises UsageError, and what PRODUCE raises.
    """
    made = not os.path.lexists(dest)
    try:
        os.makedirs(dest, 0o755, exist_ok=True)
        target = os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"cannot write to {dest}: {files.reason(error)}", exit_code=1) from None
    name = os.fsencode(f".rootless-{os.urandom(6).hex()}")
    umask = os.umask(0)
    stage = -1
    done = False
    try:
        os.mkdir(name, 0o700, dir_fd=target)
        stage = os.open(name, treecopy.DIRECTORY, dir_fd=target)
        writer = _unpacked(stage, produce)
        _check(stage, target, b"")
        if delete:
            _drop(stage, target, name)
        _move(stage, target)
        for path, mode, time in sorted(writer.wanted, reverse=True):
            _finish(target, path, mode, time)
        done = True
        return writer.skipped
    except OSError as error:
        raise files.failure(f"write to {dest}", error) from None
    finally:
        os.umask(umask)
        treecopy.remove_if_there(target, name)
        for fd in (stage, target):
            if fd >= 0:
                os.close(fd)
        if made and not done:
            os.rmdir(dest)


def _unpacked(stage: int, produce: Callable[[int], Any]) -> _Writer:
    writer = _Writer(stage)
    try:
        piped(produce, writer.apply)
    finally:
        writer.close()
    return writer


def piped(produce: Callable[[int], Any], take: Callable[[TarReader], Any]) -> None:
    """Have TAKE read the archive that PRODUCE writes to a descriptor; the first error of either is raised."""
    receiving, sending = os.pipe2(os.O_CLOEXEC)
    failed: list[BaseException] = []

    def read() -> None:
        try:
            reader = TarReader(lambda: os.read(receiving, _PIECE))
            take(reader)
            reader.drain()
        except BaseException as error:
            failed.append(error)
        finally:
            os.close(receiving)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        produce(sending)
    except RootlessError:
        os.close(sending)
        sending = -1
        thread.join()
        if not failed:
            raise  # else the pipe broke because of what failed here
    finally:
        if sending >= 0:
            os.close(sending)
        thread.join()
    if failed:
        raise failed[0]


def _lstat(directory: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _names(directory: int) -> list[bytes]:
    return sorted(map(os.fsencode, os.listdir(directory)))


def _check(stage: int, target: int, where: bytes) -> None:
    """Refuse what _move() could not do, before anything is changed."""
    for name in _names(stage):
        there = _lstat(target, name)
        if there is None or not stat.S_ISDIR(there.st_mode):
            continue
        path = where + b"/" + name
        info = os.stat(name, dir_fd=stage, follow_symlinks=False)
        if not stat.S_ISDIR(info.st_mode):
            raise UsageError(
                f"cannot overwrite directory {os.fsdecode(path)[1:]!r} with non-directory",
                exit_code=1,
            )
        _both(stage, target, name, partial(_check, where=path))


def _both(stage: int, target: int, name: bytes, do: Callable[[int, int], None]) -> None:
    here = os.open(name, treecopy.DIRECTORY, dir_fd=stage)
    try:
        below = os.open(name, treecopy.DIRECTORY, dir_fd=target)
        try:
            do(here, below)
        finally:
            os.close(below)
    finally:
        os.close(here)


def _move(stage: int, target: int) -> None:
    """Move what is in STAGE into TARGET; directories merge, all else replaces."""
    for name in _names(stage):
        info = os.stat(name, dir_fd=stage, follow_symlinks=False)
        there = _lstat(target, name)
        if there is not None and stat.S_ISDIR(info.st_mode):
            if stat.S_ISDIR(there.st_mode):
                _both(stage, target, name, _move)
                continue
            os.unlink(name, dir_fd=target)  # a link to a directory, too
        os.rename(name, name, src_dir_fd=stage, dst_dir_fd=target)


def _drop(stage: int, target: int, ours: bytes) -> None:
    """Remove from TARGET what STAGE does not have."""
    for name in _names(target):
        if name == ours:
            continue
        wanted, there = _lstat(stage, name), os.stat(name, dir_fd=target, follow_symlinks=False)
        if wanted is None:
            treecopy.remove(target, name)
        elif stat.S_ISDIR(wanted.st_mode) and stat.S_ISDIR(there.st_mode):
            _both(stage, target, name, partial(_drop, ours=b""))


def _finish(target: int, path: bytes, mode: int, time: int) -> None:
    if not path:
        return
    fd = treecopy.open_below(target, path)
    try:
        os.fchmod(fd, mode)
        os.utime(fd, ns=(max(0, time), max(0, time)))
    finally:
        os.close(fd)
