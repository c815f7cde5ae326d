"""Reading members of an image archive by name: a tar, compressed or not, a stream, or a directory.

Knows nothing of images.  Links are followed to other members only, and nothing is ever unpacked by name.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import tarfile
import tempfile

from rootless.errors import HostError, ImageError, LayerError, UsageError
from rootless.store import decompress, files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Protocol, Union

    Source = Union[str, IO[bytes]]

    class Archive(Protocol):
        """Members by name."""

        def has(self, name: str) -> bool:
            """Whether there is such a member that can be read."""

        def open(self, name: str) -> IO[bytes]:
            """Its bytes; raises ImageError where it is missing."""

        def close(self) -> None:
            """Free what holds the archive."""


MAX_MEMBERS = 200_000
MAX_LINKS = 8
_PLAIN_BLOCK = 512


def open_archive(source: Source, what: str, scratch: str) -> Archive:
    """The archive at a path or in a stream; SCRATCH is a directory with room for its plain bytes.

    Raises UsageError, ImageError, HostError; an OSError is a full or broken disk.
    """
    if isinstance(source, str):
        if os.path.isdir(source):
            return DirectoryArchive(source)
        try:
            raw: IO[bytes] = open(source, "rb")
        except OSError as error:
            raise UsageError(f"cannot open {source}: {files.reason(error)}", exit_code=1) from None
    else:
        raw = source
    try:
        return TarArchive(_seekable(raw, what, scratch), what)
    except BaseException:
        raw.close()
        raise


def _seekable(raw: IO[bytes], what: str, scratch: str) -> IO[bytes]:
    """RAW, or an anonymous file with its uncompressed bytes where RAW cannot be read by position."""
    if not raw.seekable():
        raw = _spooled(raw, scratch)
    head = raw.read(_PLAIN_BLOCK)
    raw.seek(0)
    if not _is_compressed(head):
        return raw
    plain = tempfile.TemporaryFile(dir=scratch)
    source = decompress.Source(raw.read)
    try:
        while True:
            chunk = source.next_chunk()
            if not chunk:
                break
            plain.write(chunk)
    except (LayerError, HostError) as error:
        plain.close()
        reason = error.message.partition(": ")[2]
        raise type(error)(f"cannot load {what}: {reason}", hint=error.hint, exit_code=1) from None
    except BaseException:
        plain.close()
        raise
    finally:
        source.close()
        raw.close()
    plain.seek(0)
    return plain


def _spooled(stream: IO[bytes], scratch: str) -> IO[bytes]:
    held = tempfile.TemporaryFile(dir=scratch)
    try:
        shutil.copyfileobj(stream, held, 1 << 20)
    except BaseException:
        held.close()
        raise
    held.seek(0)
    return held


def _is_compressed(head: bytes) -> bool:
    # A tar has its magic at 257; its first bytes are a file's name, which may look like anything.
    if head[257:262] == b"ustar":
        return False
    return head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")) or (
        head[1:4] == b"\x2a\x4d\x18"  # a skippable frame before zstd's first
    )


class DirectoryArchive:
    """A directory, nothing outside of which is read."""

    def __init__(self, path: str) -> None:
        self._path = os.path.realpath(path)

    def _resolve(self, name: str) -> str:
        path = os.path.realpath(os.path.join(self._path, name))
        return path if path.startswith(self._path.rstrip("/") + "/") else ""

    def has(self, name: str) -> bool:
        """Whether NAME is a regular file in here."""
        return "\0" not in name and os.path.isfile(self._resolve(name))

    def open(self, name: str) -> IO[bytes]:
        """The file NAME; raises ImageError."""
        if not self.has(name):
            raise _missing(name)
        return open(self._resolve(name), "rb")

    def close(self) -> None:
        """Nothing is held."""


class TarArchive:
    """A tar by the names of its members; of equal names the last one counts, as tar does."""

    def __init__(self, file: IO[bytes], what: str) -> None:
        self._file = file
        self._members: dict[str, tarfile.TarInfo] = {}
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        try:
            self._tar = tarfile.open(fileobj=file, mode="r:")
            for member in self._tar:
                if len(self._members) >= MAX_MEMBERS:
                    raise ImageError(f"cannot load {what}: it has too many members")
                if member.isreg() and (member.sparse or member.offset_data + member.size > end):
                    raise ImageError(
                        f"cannot load {what}: member {member.name[:200]!r} is sparse or truncated"
                    )
                self._members[posixpath.normpath(member.name)] = member
        # A chain of extension headers makes tarfile recurse, and a size may be no file offset.
        except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
            reason = str(error) or type(error).__name__
            raise ImageError(f"cannot load {what}: it is not a tar archive ({reason})") from None

    def _find(self, name: str) -> tarfile.TarInfo | None:
        for _ in range(MAX_LINKS):
            member = self._members.get(posixpath.normpath(name))
            if member is None or member.isreg():
                return member
            if member.issym():
                name = posixpath.join(posixpath.dirname(member.name), member.linkname)
            elif member.islnk():
                name = member.linkname
            else:
                return None
        return None

    def has(self, name: str) -> bool:
        """Whether NAME leads to a regular member."""
        return self._find(name) is not None

    def open(self, name: str) -> IO[bytes]:
        """The member NAME leads to; raises ImageError."""
        member = self._find(name)
        stream = self._tar.extractfile(member) if member else None
        if stream is None:
            raise _missing(name)
        return stream

    def close(self) -> None:
        """Free the file, which may be a spooled copy."""
        self._tar.close()
        self._file.close()


def _missing(name: str) -> ImageError:
    return ImageError(f"cannot read member {name[:200]!r} of the archive: it is missing")
