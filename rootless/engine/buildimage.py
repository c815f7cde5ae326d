"""The image that a build comes to: config, history, manifest, names.

Times come from the steps (when a layer was really made), never from the clock at the end: a build of
which all is cached gives the same image again.  SOURCE_DATE_EPOCH stands in for all of them.
"""

from __future__ import annotations

import time

from rootless import jsonc
from rootless.oci import descriptor as descriptors
from rootless.oci import media_types

from .commit import _as_oci, now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .buildlayers import Ref
    from .context import Context

COMMENT = "rootless.dockerfile.v0"
_EMPTY = ("Env", "Cmd", "Entrypoint", "Volumes", "ExposedPorts", "Labels", "OnBuild", "User")


class Made:
    """What a stage has come to so far.

    document  the base image's config blob, parsed: os, architecture, history ...
    config    its "config" after the instructions until now
    refs      layers, lowest first; history  (text, Ref or None) of each instruction
    """

    __slots__ = ("args", "author", "base", "config", "document", "history", "key", "refs")

    def __init__(
        self, document: dict[str, Any], config: dict[str, Any], refs: Sequence[Ref], key: str
    ) -> None:
        self.document = document
        self.config = config
        self.refs = list(refs)
        self.key = key
        self.args: dict[str, str | None] = {}
        self.author = ""
        self.base = ""
        self.history: list[tuple[str, Ref | None]] = []

    def child(self) -> Made:
        """Where a stage built on this one begins."""
        made = Made(self.document, self.config, self.refs, self.key)
        made.args = dict(self.args)
        made.author = self.author
        made.base = self.base
        made.history = list(self.history)
        return made


def stamp(epoch: int) -> str:
    """The time as image configs have it: EPOCH, or where that is negative the clock's."""
    if epoch < 0:
        return now()
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))


def document(made: Made, epoch: int) -> dict[str, Any]:
    """The config blob; waits for layers that are still being packed."""
    out = {key: value for key, value in made.document.items() if key not in ("config", "container")}
    created = str(made.document.get("created") or stamp(max(epoch, 0)))
    history = list(made.document.get("history") or [])
    diff_ids = list((made.document.get("rootfs") or {}).get("diff_ids") or [])
    for text, ref in made.history:
        entry: dict[str, Any] = {"created_by": text, "comment": COMMENT}
        if ref is not None:
            created = ref.record["created"] if epoch < 0 else stamp(epoch)
        if ref is None or not ref.record["diff_id"]:
            entry["empty_layer"] = True
        else:
            diff_ids.append(ref.record["diff_id"])
        entry["created"] = created if epoch < 0 else stamp(epoch)
        history.append(entry)
    config = {key: value for key, value in made.config.items() if value or key not in _EMPTY}
    out.update(
        created=stamp(epoch) if epoch >= 0 else created,
        config=config,
        rootfs={"type": "layers", "diff_ids": diff_ids},
        history=history,
    )
    if made.author:
        out["author"] = made.author
    return out


def store(ctx: Context, made: Made, epoch: int, names: Sequence[str] = ()) -> str:
    """Put the image into the store under NAMES; its ID.  Nothing is named before all of it is there."""
    config = document(made, epoch)
    digest, size = ctx.blobs.ingest(jsonc.dumps(config, sort_keys=True).encode())
    layers = [_as_oci(ref.record["layer"]) for ref in made.refs if ref.record["diff_id"]]
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": descriptors.make(media_types.OCI_CONFIG, digest, size),
        "layers": layers,
    }
    digest, size = ctx.blobs.ingest(jsonc.dumps(manifest).encode())
    record = ctx.images.put(
        descriptors.make(media_types.OCI_MANIFEST, digest, size), names[0] if names else ""
    )
    for name in names[1:]:
        ctx.images.tag(record.id, name)
    return str(record.id)
