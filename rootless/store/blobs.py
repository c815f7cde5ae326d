"""Blobs: bytes addressed by the digest of their content, in an OCI image layout.

Owns ``images/blobs/<algorithm>/<hex>`` and ``images/ingest``, where blobs are written.  No bytes leave
here unverified: a reader checks digest and size at the end, read_small before it returns.  A blob gets
its final name only when its digest was right and its bytes are on disk.

A writer holds an exclusive flock on its temporary file, so that sweep() can tell an abandoned one.
"""

from __future__ import annotations

import fcntl
import os

from rootless.errors import DigestMismatchError, ImageError

from . import files

try:
    from _sha2 import sha256  # Python 3.12
except ImportError:
    from _sha256 import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from rootless.config.paths import Paths

_CHUNK = 1 << 20
SMALL = 8 << 20
_LENGTHS = {"sha256": 64, "sha512": 128}
_HEX = frozenset("0123456789abcdef")


def split_digest(digest: str) -> tuple[str, str]:
    """(algorithm, hex) of a digest; raises ImageError where it is none that can be verified here."""
    algorithm, _, value = digest.partition(":")
    if len(value) != _LENGTHS.get(algorithm, -1) or not _HEX.issuperset(value):
        raise ImageError(f"invalid digest {digest!r}")
    return algorithm, value


def hasher(algorithm: str) -> Any:
    """A running hash by OpenSSL, for large inputs."""
    import hashlib

    return hashlib.new(algorithm, usedforsecurity=False)


class BlobReader:
    """A file-like reader that raises DigestMismatchError at the end if the blob is not what it says."""

    def __init__(self, fd: int, digest: str, size: int) -> None:
        self._fd = fd
        self._digest = digest
        self._size = size
        algorithm, self._hex = split_digest(digest)
        self._hash = hasher(algorithm)
        self._seen = 0

    def read(self, size: int = _CHUNK) -> bytes:
        """Up to SIZE bytes (negative: all that is left); b"" once everything was read and is right."""
        if size < 0:
            return b"".join(iter(lambda: self.read(_CHUNK), b""))
        data = os.read(self._fd, size)
        if data:
            self._hash.update(data)
            self._seen += len(data)
            return data
        if self._hash.hexdigest() != self._hex or self._size not in (-1, self._seen):
            raise mismatch(self._digest, self._hash.hexdigest(), self._size, self._seen)
        return b""

    def close(self) -> None:
        """Close the blob; it is not checked any further."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> BlobReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def mismatch(digest: str, actual_hex: str, size: int, actual_size: int) -> DigestMismatchError:
    """The error for bytes that are not what they were promised to be."""
    algorithm = digest.partition(":")[0]
    if size not in (-1, actual_size):
        return DigestMismatchError(
            f"cannot verify blob {digest}: it has {actual_size} bytes instead of {size}"
        )
    return DigestMismatchError(
        f"cannot verify blob {digest}: its digest is {algorithm}:{actual_hex}"
    )


class BlobWriter:
    """A blob being written: write() its bytes in order, then commit() or abort()."""

    def __init__(self, store: BlobStore, digest: str | None, size: int) -> None:
        self._store = store
        self._digest = digest
        self._size = size
        self._hash = hasher(split_digest(digest)[0] if digest else "sha256")
        self._known = ""
        self.written = 0
        self.path = ""
        self.fd = -1
        self._open()

    def _open(self) -> None:
        while True:
            self.path = f"{self._store.ingest_dir}/{os.urandom(8).hex()}"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            try:
                self.fd = os.open(self.path, flags, 0o600)
            except FileNotFoundError:
                files.ensure_dir(self._store.ingest_dir)
                continue
            fcntl.flock(self.fd, fcntl.LOCK_EX)
            if os.fstat(self.fd).st_nlink:  # a sweep may have come between
                return
            os.close(self.fd)

    def write(self, data: bytes) -> None:
        """Append DATA; raises DigestMismatchError past the promised size, NoSpaceError on a full disk."""
        self.written += len(data)
        if self.written > self._size >= 0:
            raise DigestMismatchError(
                f"cannot verify blob {self._digest}: it has more than {self._size} bytes"
            )
        self._hash.update(data)
        try:
            files.write_all(self.fd, data)
        except OSError as error:
            raise files.failure(f"write blob {self._digest or self.path}", error) from None

    def filled(self, digest: str, size: int) -> None:
        """A worker of ours has written SIZE bytes to ``fd`` by itself and hashed them: DIGEST."""
        self._digest = digest
        self._known = split_digest(digest)[1]
        self.written = size

    def commit(self) -> str:
        """Check, sync and name the blob; its digest.  Raises DigestMismatchError and removes it."""
        actual = self._known or self._hash.hexdigest()
        digest = self._digest or f"sha256:{actual}"
        wanted = split_digest(digest)[1]
        try:
            if actual != wanted or self._size not in (-1, self.written):
                raise mismatch(digest, actual, self._size, self.written)
            target = self._store.path(digest)
            os.fsync(self.fd)
            try:
                os.rename(self.path, target)
            except FileNotFoundError:
                files.ensure_dir(os.path.dirname(target))
                os.rename(self.path, target)
            files.sync_dir(os.path.dirname(target))
        except OSError as error:
            self.abort()
            raise files.failure(f"write blob {digest}", error) from None
        except BaseException:
            self.abort()
            raise
        os.close(self.fd)
        self.fd = -1
        return digest

    def abort(self) -> None:
        """Forget the blob; harmless after commit()."""
        if self.fd >= 0:
            files.unlink(self.path)
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()


class BlobStore:
    """All blobs of one image layout."""

    __slots__ = ("blobs_dir", "images_dir", "ingest_dir")

    def __init__(self, paths: Paths) -> None:
        self.images_dir = paths.images
        self.blobs_dir = f"{paths.images}/blobs"
        self.ingest_dir = f"{paths.images}/ingest"

    def path(self, digest: str) -> str:
        """Where the blob lies if it is there; its bytes are not verified by looking at it."""
        algorithm, value = split_digest(digest)
        return f"{self.blobs_dir}/{algorithm}/{value}"

    def has(self, digest: str, size: int = -1) -> bool:
        """Whether the blob is there, with SIZE bytes unless that is -1."""
        try:
            found = os.stat(self.path(digest)).st_size
        except OSError:
            return False
        return size in (-1, found)

    def size(self, digest: str) -> int:
        """Bytes of a blob; raises StorageError where it is missing."""
        try:
            return os.stat(self.path(digest)).st_size
        except OSError as error:
            raise files.failure(f"read blob {digest}", error) from None

    def open_verified(self, digest: str, size: int = -1) -> BlobReader:
        """A reader that checks digest and size when it reaches the end."""
        try:
            fd = os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise files.failure(f"read blob {digest}", error) from None
        return BlobReader(fd, digest, size)

    def read_small(self, digest: str, limit: int = SMALL) -> bytes:
        """A manifest or config, verified; raises StorageError, ImageError, DigestMismatchError."""
        algorithm, value = split_digest(digest)
        path = self.path(digest)
        try:
            found = os.stat(path).st_size
            if found > limit:
                raise ImageError(f"cannot read blob {digest}: {found} bytes are too many")
            data = files.read(path)
        except OSError as error:
            raise files.failure(f"read blob {digest}", error) from None
        if algorithm == "sha256":
            actual = sha256(data).hexdigest()
        else:
            running = hasher(algorithm)
            running.update(data)
            actual = running.hexdigest()
        if actual != value:
            raise mismatch(digest, actual, -1, found)
        return data

    def writer(self, digest: str | None = None, size: int | None = None) -> BlobWriter:
        """Begin a blob; DIGEST and SIZE are checked at commit() where they are known."""
        try:
            return BlobWriter(self, digest, -1 if size is None else size)
        except OSError as error:
            raise files.failure(f"write blob {digest or 'of unknown digest'}", error) from None

    def ingest(
        self, stream: Any, digest: str | None = None, size: int | None = None
    ) -> tuple[str, int]:
        """Copy STREAM (bytes, or an object with read()) into a blob; (digest, size)."""
        with self.writer(digest, size) as writer:
            for chunk in _chunks(stream):
                writer.write(chunk)
            return writer.commit(), writer.written

    def digests(self) -> Iterator[tuple[str, int]]:
        """(digest, bytes) of every blob."""
        for algorithm, length in _LENGTHS.items():
            try:
                entries = os.scandir(f"{self.blobs_dir}/{algorithm}")
            except FileNotFoundError:
                continue
            with entries:
                for entry in entries:
                    if len(entry.name) == length:
                        yield f"{algorithm}:{entry.name}", entry.stat().st_size

    def lease(self, *, wait: bool = True, exclusive: bool = False) -> int | None:
        """A lock under which no blob is swept (shared), or under which blobs may be (exclusive).

        The descriptor is closed by the caller; None only if WAIT is false and it is held otherwise.
        """
        try:
            files.ensure_dir(self.images_dir)
            fd = os.open(f"{self.images_dir}/lease", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise files.failure(f"write {self.images_dir}", error) from None
        mode = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(fd, mode if wait else mode | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        except OSError as error:
            os.close(fd)
            raise files.failure(f"lock {self.images_dir}", error) from None
        return fd

    def sweep(self, keep: Iterable[str]) -> tuple[list[str], int]:
        """Remove blobs that are not in KEEP and abandoned writes; (digests, bytes freed).

        The caller holds the exclusive lease.
        """
        kept = set(keep)
        gone, freed = [], 0
        for digest, size in list(self.digests()):
            if digest not in kept:
                files.unlink(self.path(digest))
                gone.append(digest)
                freed += size
        return gone, freed + self._sweep_ingest()

    def _sweep_ingest(self) -> int:
        freed = 0
        try:
            names = os.listdir(self.ingest_dir)
        except FileNotFoundError:
            return 0
        for name in names:
            path = f"{self.ingest_dir}/{name}"
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                freed += os.fstat(fd).st_size
                files.unlink(path)
            except BlockingIOError:
                pass
            finally:
                os.close(fd)
        return freed


def _chunks(stream: Any) -> Iterator[bytes]:
    if isinstance(stream, (bytes, bytearray, memoryview)):
        yield bytes(stream)
        return
    while True:
        chunk = stream.read(_CHUNK)
        if not chunk:
            return
        yield chunk
