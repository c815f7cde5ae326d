"""A compressed stream read, hashed, decompressed and hashed again by one thread, in one pass.

Owns recognising gzip, zstd, xz, bzip2 and plain data by their first bytes.  Hands out chunks of the
uncompressed stream; knows nothing of tar.  Memory is bounded: a chunk comes from at most 64 KiB of input
or is limited in size, and a few chunks are under way at once.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import threading
import zlib
from collections import deque

from rootless.errors import HostError, LayerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_INPUT = 64 << 10
_PLAIN_INPUT = 1 << 20
_OUTPUT = 1 << 20
_DEPTH = 12


class Source:
    """Chunks of the uncompressed stream: next_chunk() until b"", then the digests are final.

    READ(size) gives compressed bytes, b"" at the end.  Gzip is done by isal if that imports.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._queue: deque[bytes | BaseException] = deque()
        self._filled = threading.Semaphore(0)
        self._free = threading.Semaphore(_DEPTH)
        self._stop = False
        self._ended = False
        self._compressed = hashlib.sha256()
        self._plain = hashlib.sha256()
        self.compressed_size = 0
        self.size = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def digest(self) -> str:
        """Digest of the compressed bytes, once all were read."""
        return f"sha256:{self._compressed.hexdigest()}"

    @property
    def diff_id(self) -> str:
        """Digest of the uncompressed bytes, once all were read."""
        return f"sha256:{self._plain.hexdigest()}"

    def next_chunk(self) -> bytes:
        """The next piece, b"" at the end and ever after; raises what decompression raised."""
        if self._ended:
            return b""
        self._filled.acquire()
        item = self._queue.popleft()
        self._free.release()
        self._ended = not item or isinstance(item, BaseException)
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Stop the thread, whatever is left of the stream."""
        self._stop = True
        self._free.release()
        self._thread.join()

    def _put(self, item: bytes | BaseException) -> None:
        self._free.acquire()
        self._queue.append(item)
        self._filled.release()

    def _run(self) -> None:
        try:
            for chunk in _decompressed(self._pull):
                if self._stop:
                    return
                if chunk:
                    self._plain.update(chunk)
                    self.size += len(chunk)
                    self._put(chunk)
            self._put(b"")
        except BaseException as error:
            self._put(error)

    def _pull(self, size: int) -> bytes:
        data = self._read(size)
        self._compressed.update(data)
        self.compressed_size += len(data)
        return data


def fd_reader(fd: int) -> Callable[[int], bytes]:
    """Read from a descriptor."""
    return lambda size: os.read(fd, size)


def _decompressed(pull: Callable[[int], bytes]) -> Iterator[bytes]:
    head = pull(_INPUT)
    while 0 < len(head) < 6:
        more = pull(_INPUT)
        if not more:
            break
        head += more
    if head[:2] == b"\x1f\x8b":
        yield from _gzip(head, pull)
    elif head[:4] == b"\x28\xb5\x2f\xfd" or (head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5):
        yield from _zstd(head, pull)
    elif head[:6] == b"\xfd7zXZ\0":
        yield from _limited(head, pull, lambda: importlib.import_module("lzma").LZMADecompressor())
    elif head[:3] == b"BZh" and head[:512].strip(b"\0") != b"":
        yield from _limited(head, pull, lambda: importlib.import_module("bz2").BZ2Decompressor())
    else:
        while head:
            yield head
            head = pull(_PLAIN_INPUT)


def _gzip(data: bytes, pull: Callable[[int], bytes]) -> Iterator[bytes]:
    library: Any = zlib
    try:
        library = importlib.import_module("isal.isal_zlib")
    except ImportError:
        pass
    errors: tuple[type[Exception], ...] = (zlib.error, getattr(library, "error", zlib.error))
    inflate = library.decompressobj(31)
    while data:
        try:
            yield inflate.decompress(data)
        except errors as error:
            raise LayerError(f"cannot decompress layer: {error}") from None
        data = inflate.unused_data if inflate.eof else b""
        if inflate.eof:
            data = data or pull(_INPUT)
            if not data.strip(b"\0"):  # padding, as some writers leave it
                while data:
                    data = pull(_INPUT)
                    if data.strip(b"\0"):
                        raise LayerError("cannot decompress layer: bytes follow the gzip stream")
                return
            inflate = library.decompressobj(31)
        else:
            data = pull(_INPUT)
    if not inflate.eof:
        raise LayerError("cannot decompress layer: the gzip stream is truncated")


def _limited(data: bytes, pull: Callable[[int], bytes], new: Callable[[], Any]) -> Iterator[bytes]:
    """For decompressors with max_length, needs_input and eof, one stream after the other."""
    decompressor = new()
    while True:
        try:
            out = decompressor.decompress(data, _OUTPUT)
        except (OSError, EOFError, ValueError, RuntimeError) as error:
            raise LayerError(f"cannot decompress layer: {error}") from None
        except Exception as error:  # lzma.LZMAError and zstd.ZstdError have no common base
            raise LayerError(f"cannot decompress layer: {error}") from None
        yield out
        data = b""
        if decompressor.eof:
            data = decompressor.unused_data or pull(_INPUT)
            if not data:
                return
            decompressor = new()
        elif decompressor.needs_input:
            data = pull(_INPUT)
            if not data:
                raise LayerError("cannot decompress layer: the compressed stream is truncated")


class _Pulled:
    """A file for zstandard: what was read already, then the rest."""

    def __init__(self, head: bytes, pull: Callable[[int], bytes]) -> None:
        self._head = head
        self._pull = pull

    def read(self, size: int = -1) -> bytes:
        if self._head:
            data, self._head = self._head, b""
            return data
        return self._pull(size if size > 0 else _INPUT)


def _zstd(head: bytes, pull: Callable[[int], bytes]) -> Iterator[bytes]:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        yield from _limited(head, pull, module.ZstdDecompressor)
        return
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError:
        raise HostError(
            "cannot decompress layer: it is compressed with zstd and no zstd library is installed",
            hint="install the Python package zstandard where rootless is installed",
        ) from None
    context = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    # A stream cut short ends quietly here; the tar reader and the digests find it.
    reader = context.stream_reader(_Pulled(head, pull), read_size=_INPUT, read_across_frames=True)
    while True:
        try:
            out = reader.read(_OUTPUT)
        except zstandard.ZstdError as error:
            raise LayerError(f"cannot decompress layer: {error}") from None
        if not out:
            return
        yield out
