"""Descriptors: media type, digest and size of a blob, as manifests and indexes list them."""

from __future__ import annotations

from rootless.errors import ImageError

from . import digest as digests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_SIZE = 1 << 50


def make(media_type: str, digest: str, size: int) -> dict[str, Any]:
    """A descriptor, ready for JSON."""
    return {"mediaType": media_type, "digest": digest, "size": size}


def check(entry: object, what: str) -> dict[str, Any]:
    """ENTRY if it is a descriptor; raises ImageError naming WHAT it was found in."""
    if not isinstance(entry, dict):
        raise ImageError(f"cannot use {what}: it holds what is no descriptor")
    size = entry.get("size")
    if type(size) is not int or not 0 <= size <= MAX_SIZE:
        raise ImageError(f"cannot use {what}: {str(size)[:40]!r} is not a size")
    media_type = entry.get("mediaType", "")
    if not isinstance(media_type, str) or len(media_type) > 255:
        raise ImageError(f"cannot use {what}: its media type is not text")
    digests.check(entry.get("digest"), what)
    return entry
