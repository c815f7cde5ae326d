"""Checking manifests and indexes as they arrive: hostile JSON in, a value of known shape out."""

from __future__ import annotations

from rootless import jsonc
from rootless.errors import ImageError

from . import media_types
from .reference import check_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_SIZE = 4 << 20
MAX_LAYERS = 512


def parse(data: bytes, what: str, media_type: str = "") -> tuple[str, dict[str, Any]]:
    """(media type, document) of a manifest or index; raises ImageError naming WHAT.

    The document's own mediaType wins over MEDIA_TYPE (the transport's), which wins over its shape.
    """
    if len(data) > MAX_SIZE:
        raise ImageError(f"cannot read manifest of {what}: {len(data)} bytes are too many")
    try:
        document = jsonc.loads(data)
    except (ValueError, UnicodeDecodeError):
        raise ImageError(f"cannot read manifest of {what}: it is not JSON") from None
    if not isinstance(document, dict):
        raise ImageError(f"cannot read manifest of {what}: it is not a JSON object")
    kind = document.get("mediaType") or media_type.partition(";")[0].strip()
    if document.get("schemaVersion") == 1 or kind in media_types.DOCKER_SCHEMA1:
        raise ImageError(
            f"cannot use manifest of {what}: schema 1 manifests are not supported",
            hint="push the image again with a current tool",
        )
    if kind not in media_types.ACCEPTED:
        kind = media_types.OCI_INDEX if "manifests" in document else media_types.OCI_MANIFEST
    if kind in media_types.INDEXES:
        _check_list(document, "manifests", what)
    else:
        _check_descriptor(document.get("config"), what, "config")
        _check_list(document, "layers", what)
    return str(kind), document


def _check_list(document: dict[str, Any], key: str, what: str) -> None:
    entries = document.get(key)
    if not isinstance(entries, list) or len(entries) > MAX_LAYERS:
        raise ImageError(f"cannot use manifest of {what}: it has no list of {key}")
    for entry in entries:
        _check_descriptor(entry, what, key)


def _check_descriptor(entry: object, what: str, key: str) -> None:
    if not isinstance(entry, dict):
        raise ImageError(f"cannot use manifest of {what}: {key} is not a descriptor")
    size = entry.get("size")
    if not isinstance(entry.get("digest"), str) or not isinstance(size, int) or size < 0:
        raise ImageError(f"cannot use manifest of {what}: {key} lacks a digest or a size")
    check_digest(entry["digest"], entry["digest"])


def check_config(data: bytes, layers: int, what: str) -> dict[str, Any]:
    """The config blob as a value; raises ImageError where it does not fit a manifest of LAYERS layers."""
    try:
        config = jsonc.loads(data)
    except (ValueError, UnicodeDecodeError):
        raise ImageError(f"cannot read config of {what}: it is not JSON") from None
    rootfs = config.get("rootfs") if isinstance(config, dict) else None
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(config, dict) or (layers and not isinstance(diff_ids, list)):
        raise ImageError(f"cannot use config of {what}: it has no list of diff IDs")
    diff_ids = diff_ids or []
    if len(diff_ids) != layers:
        raise ImageError(
            f"cannot use config of {what}: it has {len(diff_ids)} diff IDs for {layers} layers"
        )
    for diff_id in diff_ids:
        check_digest(str(diff_id), str(diff_id))
    return config
