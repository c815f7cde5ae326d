"""Whole-file reads, atomic replacement and the words for a disk that refuses.

Owns how the store touches single files; knows nothing of what they hold.  Everything is written under
a temporary name and renamed, so that a reader sees the old file or the new one, never a part.
"""

from __future__ import annotations

import errno
import os

from rootless.errors import NoSpaceError, RootlessError, StorageError

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW


def read(path: str) -> bytes:
    """The whole file; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, 65536)
        if len(data) < 65536:
            return data
        parts = [data]
        while data:
            data = os.read(fd, 1 << 20)
            parts.append(data)
        return b"".join(parts)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write all of DATA, however the kernel splits it."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write(path: str, data: bytes, *, durable: bool) -> None:
    """Write a file in place, for directories that nobody sees yet; fsync it if DURABLE."""
    fd = os.open(path, _WRITE, 0o600)
    try:
        write_all(fd, data)
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)


def replace(path: str, data: bytes, *, durable: bool) -> None:
    """Put DATA at PATH as one step; if DURABLE it is on disk when this returns."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        write(temporary, data, durable=durable)
        os.rename(temporary, path)
    except BaseException:
        unlink(temporary)
        raise
    if durable:
        sync_dir(os.path.dirname(path))


def sync_dir(path: str) -> None:
    """Make renames in a directory survive a power loss."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network filesystems
            raise
    finally:
        os.close(fd)


def unlink(path: str) -> None:
    """Remove a file that may be gone already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def ensure_dir(path: str) -> None:
    """Make a private directory and its parents; an existing one is fine."""
    os.makedirs(path, 0o700, exist_ok=True)


def reason(error: OSError) -> str:
    """An errno by name and in words: ``ENOSPC (no space left on device)``."""
    number = error.errno or 0
    name = errno.errorcode.get(number, str(number))
    return f"{name} ({os.strerror(number).lower()})"


def failure(action: str, error: OSError) -> RootlessError:
    """The error for an operation that the kernel refused; ACTION is "write blob sha256:..." or the like."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceError(
            f"cannot {action}: {reason(error)}",
            hint="free some space, or move the store with storage.root",
        )
    return StorageError(f"cannot {action}: {reason(error)}")
