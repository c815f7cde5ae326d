"""Caches of builds that lie elsewhere: what --cache-from and --cache-to say, and the documents that hold them.

Pure.  A cache is an OCI manifest whose config, of a media type of our own, lists records: which layer a step
made, by the step's key, and what a COPY --from chose of which layers.  Its layers are the records' blobs.
An image holds a smaller one inline, under a field of its config: keys and diff IDs of its own layers, which
its manifest leads to.  What is read is hostile: a record is taken only if all of it has the form it must have,
and its layer only as its digests have it.
"""

from __future__ import annotations

import re

from rootless import jsonc
from rootless.errors import ImageError, UsageError
from rootless.oci import descriptor as descriptors
from rootless.oci import media_types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    Record = dict[str, Any]

CONFIG = "application/vnd.rootless.buildcache.v1+json"
INLINE = "rootless.buildcache.v1"
MAX_CONFIG = 32 << 20
MAX_RECORDS = 20_000
_KEY = re.compile(r"[0-9a-f]{64}$")
_CONTENT = re.compile(r"[0-9a-f]{64}(?:-[0-9a-f]{64})*$")
_DIFF_ID = re.compile(r"sha256:[0-9a-f]{64}$")
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z$")
_TYPES = ("registry", "local", "inline")
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_FIELDS = {
    "from": {"registry": ("ref",), "local": ("src", "tag", "digest"), "inline": ()},
    "to": {
        "registry": ("ref", "mode", "ignore-error", "registry.insecure"),
        "local": ("dest", "mode", "tag", "ignore-error"),
        "inline": (),
    },
}


class Place:
    """One value of --cache-from or --cache-to.

    kind   registry, local or inline
    where  a reference, or a directory; tag, digest: which entry of the directory
    all    mode=max: the steps of all stages, not only those whose layers the image has
    """

    __slots__ = ("all", "digest", "ignore", "insecure", "kind", "tag", "where")

    def __init__(self, kind: str, where: str = "") -> None:
        self.kind = kind
        self.where = where
        self.tag = "latest"
        self.digest = ""
        self.all = False
        self.ignore = False
        self.insecure = False

    @property
    def shown(self) -> str:
        """As progress names it."""
        return self.where or self.kind


def parse(text: str, direction: str) -> Place:
    """A value of --cache-DIRECTION ("from" or "to"); raises UsageError."""
    flag = f"--cache-{direction}"
    if "=" not in text:
        if not text:
            raise UsageError(f"invalid {flag} {text!r}: it is empty")
        return (
            Place("inline") if text == "inline" and direction == "to" else Place("registry", text)
        )
    fields: dict[str, str] = {}
    for word in text.split(","):
        key, equals, value = word.partition("=")
        if not equals or not value:
            raise UsageError(f"invalid {flag} {text!r}: {word!r} is not KEY=VALUE")
        fields[key.strip().lower()] = value
    kind = fields.pop("type", "")
    if kind not in _TYPES or (kind == "inline" and direction == "from"):
        known = ", ".join(_TYPES if direction == "to" else _TYPES[:2])
        raise UsageError(f"invalid {flag} {text!r}: type is one of {known}")
    unknown = sorted(set(fields) - set(_FIELDS[direction][kind]))
    if unknown:
        raise UsageError(f"invalid {flag} {text!r}: unknown key {unknown[0]!r}")
    needed = _FIELDS[direction][kind][:1]
    if needed and needed[0] not in fields:
        raise UsageError(f"invalid {flag} {text!r}: {needed[0]} is required")
    place = Place(kind, fields[needed[0]] if needed else "")
    place.tag = fields.get("tag", "latest")
    place.digest = fields.get("digest", "")
    mode = fields.get("mode", "min")
    if mode not in ("min", "max"):
        raise UsageError(f"invalid {flag} {text!r}: mode is min or max")
    place.all = mode == "max"
    for key, attribute in (("ignore-error", "ignore"), ("registry.insecure", "insecure")):
        value = fields.get(key, "false").lower()
        if value not in _FLAGS:
            raise UsageError(f"invalid {flag} {text!r}: {key} is true or false")
        setattr(place, attribute, _FLAGS[value])
    return place


class Found:
    """The records of a cache: of steps by their key, and digests of what was chosen by theirs."""

    __slots__ = ("contents", "steps")

    def __init__(self) -> None:
        self.steps: dict[str, Record] = {}
        self.contents: dict[str, str] = {}


def write(steps: Mapping[str, Record], contents: Mapping[str, str]) -> tuple[bytes, list[Record]]:
    """The config of a cache, and its layers' descriptors, each once, in the order of records."""
    layers: dict[str, Record] = {}
    records = []
    for key, record in sorted(steps.items()):
        layer = record.get("layer") if record["diff_id"] else None
        if layer:
            layers.setdefault(layer["digest"], layer)
        records.append(
            {
                "key": key,
                "diff_id": record["diff_id"],
                "layer": {name: layer[name] for name in ("mediaType", "digest", "size")}
                if layer
                else None,
                "created": record["created"],
                "shown": str(record.get("shown", ""))[:200],
            }
        )
    document = {"version": 1, "steps": records, "contents": dict(sorted(contents.items()))}
    return jsonc.dumps(document, sort_keys=True).encode(), list(layers.values())


def read(data: bytes, layers: Sequence[Mapping[str, Any]], what: str) -> Found:
    """What a cache's config holds; a layer has to be one of LAYERS.  Raises ImageError."""
    document = _object(data, what)
    listed = {str(layer["digest"]): int(layer["size"]) for layer in layers}
    found = Found()
    for record in _list(document, "steps", what):
        key, step = _step(record, what)
        layer = record.get("layer")
        if step["diff_id"]:
            checked = descriptors.check(layer, what)
            kind = checked.get("mediaType")
            if listed.get(checked["digest"]) != checked["size"] or kind not in media_types.LAYERS:
                raise ImageError(f"cannot use {what}: a record's layer is none of its own")
            step["layer"] = descriptors.make(str(kind), checked["digest"], checked["size"])
        found.steps[key] = step
    contents = document.get("contents", {})
    if not isinstance(contents, dict) or len(contents) > MAX_RECORDS:
        raise ImageError(f"cannot use {what}: its contents are no records")
    for key, value in contents.items():
        if not (_KEY.match(key) and isinstance(value, str) and _CONTENT.match(value)):
            raise ImageError(f"cannot use {what}: it holds what is no record")
        found.contents[key] = value
    return found


def inline(steps: Mapping[str, Record], diff_ids: Sequence[str]) -> dict[str, Any]:
    """What an image's config says of the steps whose layers it has."""
    have = set(diff_ids)
    records = [
        {"key": key, "diff_id": record["diff_id"], "created": record["created"]}
        for key, record in sorted(steps.items())
        if not record["diff_id"] or record["diff_id"] in have
    ]
    return {"version": 1, "steps": records}


def read_inline(
    config: Mapping[str, Any],
    layers: Sequence[Mapping[str, Any]],
    diff_ids: Sequence[str],
    what: str,
) -> Found:
    """The records in an image's config, with LAYERS (its manifest's) of its DIFF_IDS.  Raises ImageError."""
    found = Found()
    document = config.get(INLINE)
    if document is None:
        return found
    if not isinstance(document, dict) or document.get("version") != 1:
        raise ImageError(f"cannot use {what}: its cache is of another version")
    by_diff_id = dict(zip(diff_ids, layers))
    for record in _list(document, "steps", what):
        key, step = _step(record, what)
        if step["diff_id"]:
            layer = by_diff_id.get(step["diff_id"])
            if layer is None:
                raise ImageError(f"cannot use {what}: a record's layer is none of its own")
            kind = media_types.as_oci(str(layer["mediaType"]))
            step["layer"] = descriptors.make(kind, str(layer["digest"]), int(layer["size"]))
        found.steps[key] = step
    return found


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        document = jsonc.loads(data)
    except ValueError:
        raise ImageError(f"cannot use {what}: it is not JSON") from None
    if not isinstance(document, dict) or document.get("version") != 1:
        raise ImageError(f"cannot use {what}: it is no cache of this version")
    return document


def _list(document: Mapping[str, Any], name: str, what: str) -> list[dict[str, Any]]:
    value = document.get(name, [])
    if not isinstance(value, list) or len(value) > MAX_RECORDS:
        raise ImageError(f"cannot use {what}: its {name} are no records")
    if not all(isinstance(one, dict) for one in value):
        raise ImageError(f"cannot use {what}: it holds what is no record")
    return value


def _step(record: Mapping[str, Any], what: str) -> tuple[str, Record]:
    """(key, record without its layer) of what a cache says of a step."""
    key, diff_id, created = (record.get(name) for name in ("key", "diff_id", "created"))
    good = (
        isinstance(key, str)
        and _KEY.match(key)
        and isinstance(diff_id, str)
        and (not diff_id or _DIFF_ID.match(diff_id))
        and isinstance(created, str)
        and _CREATED.match(created)
    )
    if not good:
        raise ImageError(f"cannot use {what}: it holds what is no record")
    shown = str(record.get("shown", ""))[:200]
    shown = "".join(c if c.isprintable() else "?" for c in shown)
    return str(key), {"diff_id": diff_id, "layer": None, "created": created, "shown": shown}
