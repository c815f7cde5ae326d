"""Compressing a stream: gzip, zstd or not at all.  The same input gives the same bytes: no name, no time.

Owns the choice of a library, and the usual levels.  Which media type a compression has is oci's business.
"""

from __future__ import annotations

import importlib
import zlib

from rootless.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Compressor(Protocol):
        """What every library's object can do."""

        def compress(self, data: bytes, /) -> bytes:
            """What is ready of the compressed stream."""

        def flush(self) -> bytes:
            """The rest of it."""


# Of gzip its fastest: a layer is read far less often than it is built.
LEVELS = {"gzip": 1, "zstd": 3, "uncompressed": 0}


class Plain:
    """Bytes as they are."""

    def compress(self, data: bytes) -> bytes:
        """The same."""
        return data

    def flush(self) -> bytes:
        """Nothing."""
        return b""


def spec(kind: str, level: int = -1) -> str:
    """How a layer is compressed, in a word: ``gzip:1``; a level of -1 is the usual one."""
    return f"{kind}:{LEVELS[kind] if level < 0 else level}"


def compressor(wanted: str) -> Compressor:
    """A compressor for what spec() gave; raises HostError where no library can do it."""
    kind, _, level = wanted.partition(":")
    if kind == "uncompressed":
        return Plain()
    if kind == "gzip":
        gzip: Compressor = zlib.compressobj(int(level), zlib.DEFLATED, 31)
        return gzip
    found: Compressor = _zstd(int(level))
    return found


def _zstd(level: int) -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name).ZstdCompressor(level)
        except ImportError:
            continue
    try:
        return importlib.import_module("zstandard").ZstdCompressor(level=level).compressobj()
    except ImportError:
        raise HostError(
            "cannot compress with zstd: no zstd library is installed",
            hint="install the Python package zstandard where rootless is installed",
        ) from None
