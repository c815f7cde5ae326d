"""Checking manifests, indexes and configs as they arrive: hostile JSON in, documents of known shape out."""

from __future__ import annotations

from rootless import jsonc
from rootless.errors import ImageError

from . import descriptor, media_types
from . import digest as digests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_SIZE = 4 << 20
MAX_LAYERS = 512
MAX_MANIFESTS = 4096


def load(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object that DATA is; raises ImageError naming WHAT."""
    try:
        document = jsonc.loads(data)
    except ValueError:
        raise ImageError(f"cannot read {what}: it is not JSON") from None
    if not isinstance(document, dict):
        raise ImageError(f"cannot read {what}: it is not a JSON object")
    return document


def parse(data: bytes, what: str, media_type: str = "") -> tuple[str, dict[str, Any]]:
    """(media type, document) of a manifest or index; raises ImageError naming WHAT.

    MEDIA_TYPE is the transport's; the document's own must agree with it where both say what this is.
    A document that could be read as a manifest and as an index is refused (distribution-spec,
    CVE-2021-41190).
    """
    what = f"manifest of {what}"
    if len(data) > MAX_SIZE:
        raise ImageError(f"cannot read {what}: more than {MAX_SIZE} bytes are too many")
    document = load(data, what)
    kind = _kind(document, what, media_type.partition(";")[0].strip().lower())
    if kind in media_types.INDEXES:
        _check_list(document, "manifests", MAX_MANIFESTS, what)
    else:
        descriptor.check(document.get("config"), f"config in {what}")
        _check_list(document, "layers", MAX_LAYERS, what)
    return kind, document


def _kind(document: dict[str, Any], what: str, told: str) -> str:
    own = document.get("mediaType", "")
    if not isinstance(own, str):
        raise ImageError(f"cannot use {what}: its media type is not text")
    if document.get("schemaVersion") == 1 or (own or told) in media_types.DOCKER_SCHEMA1:
        raise ImageError(
            f"cannot use {what}: schema 1 manifests are not supported",
            hint="push the image again with a current tool",
        )
    if document.get("schemaVersion") != 2:
        raise ImageError(f"cannot use {what}: its schemaVersion is not 2")
    is_index = "manifests" in document
    if is_index and ("layers" in document or "config" in document):
        raise ImageError(f"cannot use {what}: it is both an index and a manifest")
    if own and told in media_types.ACCEPTED and own != told:
        raise ImageError(f"cannot use {what}: it was sent as {told} and calls itself {own}")
    known = own or (told if told in media_types.ACCEPTED else "")
    if not known:
        return media_types.OCI_INDEX if is_index else media_types.OCI_MANIFEST
    if known not in media_types.ACCEPTED:
        raise ImageError(f"cannot use {what}: media type {known!r} is not an image's")
    if is_index != (known in media_types.INDEXES):
        raise ImageError(f"cannot use {what}: it is not what its media type {known} says")
    return known


def _check_list(document: dict[str, Any], key: str, limit: int, what: str) -> None:
    entries = document.get(key)
    if not isinstance(entries, list):
        raise ImageError(f"cannot use {what}: it has no list of {key}")
    if len(entries) > limit:
        raise ImageError(f"cannot use {what}: {len(entries)} {key} are more than {limit}")
    for entry in entries:
        descriptor.check(entry, f"{key} in {what}")


def check_image(document: dict[str, Any], what: str) -> None:
    """Refuse a manifest whose parts are not those of an image that can be run; raises ImageError."""
    kind = document["config"].get("mediaType", "")
    if kind and kind not in media_types.CONFIGS:
        raise ImageError(
            f"cannot use {what}: it is not an image but an artifact ({kind})",
            hint="only images can be pulled and loaded",
        )
    for layer in document["layers"]:
        kind = layer.get("mediaType", "")
        if media_types.is_foreign(kind):
            raise ImageError(f"cannot use {what}: layer {layer['digest']} may not be distributed")
        if kind and kind not in media_types.LAYERS:
            raise ImageError(
                f"cannot use {what}: layer {layer['digest']} has the unknown media type {kind!r}"
            )


def check_config(data: bytes, layers: int, what: str) -> dict[str, Any]:
    """The config blob of an image of LAYERS layers; raises ImageError where it does not fit them."""
    what = f"config of {what}"
    config = load(data, what)
    rootfs = config.get("rootfs") or {}
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if diff_ids is None and not layers:
        return config
    if not isinstance(diff_ids, list):
        raise ImageError(f"cannot use {what}: it has no list of diff IDs")
    if len(diff_ids) != layers:
        raise ImageError(f"cannot use {what}: it has {len(diff_ids)} diff IDs for {layers} layers")
    for diff_id in diff_ids:
        digests.check(diff_id, what)
    return config


def diff_ids(config: dict[str, Any]) -> list[str]:
    """The diff IDs of a config that check_config has passed, lowest first."""
    return list((config.get("rootfs") or {}).get("diff_ids") or [])
