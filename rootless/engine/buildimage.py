"""The image that a build comes to: config, history, manifest, names.

Times come from the steps (when a layer was really made), never from the clock at the end: a build of
which all is cached gives the same image again.  SOURCE_DATE_EPOCH stands in for all of them.
"""

from __future__ import annotations

import time

from rootless import jsonc
from rootless.builder import caches
from rootless.builder.outputs import Compression
from rootless.oci import descriptor as descriptors
from rootless.oci import media_types

from .buildlayers import Ref
from .commit import now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from .context import Context

COMMENT = "rootless.dockerfile.v0"
_EMPTY = ("Env", "Cmd", "Entrypoint", "Volumes", "ExposedPorts", "Labels", "OnBuild", "User")


class Made:
    """What a stage has come to so far.

    document  the base image's config blob, parsed: os, architecture, history ...
    config    its "config" after the instructions until now
    refs      layers, lowest first; history  (text, Ref or None) of each instruction
    inline    records of steps that the image's config shall tell, by key
    """

    __slots__ = ("args", "author", "base", "config", "document", "history", "inline", "key", "refs")

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
        self.inline: Mapping[str, Any] | None = None
        self.history: list[tuple[str, Ref | None]] = []

    def child(self) -> Made:
        """Where a stage built on this one begins."""
        made = Made(self.document, self.config, self.refs, self.key)
        made.args = dict(self.args)
        made.author = self.author
        made.base = self.base
        made.history = list(self.history)
        return made


def squashed(made: Made, merge: Callable[[list[Ref], list[Ref]], dict[str, Any]]) -> Made:
    """MADE with one layer for all that are not its base's; MERGE(all, the base's) gives its record."""
    base = [ref for ref in made.refs if ref.record.get("base")]
    own = [ref for ref in made.refs if not ref.record.get("base") and ref.record["diff_id"]]
    if len(own) < 2:
        return made
    record = {**merge(made.refs, base), "created": own[-1].record["created"]}
    found = made.child()
    ref = Ref(record)
    found.refs = [*base, ref]
    found.history = [(text, None) for text, _ in made.history]
    found.history.append((f"merge {len(own)} layers into one", ref))
    return found


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
    out.pop(caches.INLINE, None)  # the base image's
    if made.inline is not None:
        out[caches.INLINE] = caches.inline(made.inline, diff_ids)
    if made.author:
        out["author"] = made.author
    return out


class Form:
    """How an image is written: compression of its layers, Docker's media types, annotations of its manifest."""

    __slots__ = ("annotations", "compression", "docker")

    def __init__(
        self,
        compression: Compression | None = None,
        annotations: Mapping[str, str] | None = None,
        *,
        docker: bool = False,
    ) -> None:
        self.compression = compression or Compression()
        self.annotations = dict(annotations or {})
        self.docker = docker


class Image:
    """An image whose blobs are all there, without a name yet: its ID and its manifest's descriptor."""

    __slots__ = ("config", "descriptor", "manifest")

    def __init__(
        self, descriptor: dict[str, Any], manifest: dict[str, Any], config: dict[str, Any]
    ):
        self.descriptor = descriptor
        self.manifest = manifest
        self.config = config

    @property
    def id(self) -> str:
        """Digest of the config blob."""
        return str(self.manifest["config"]["digest"])


def assemble(ctx: Context, made: Made, epoch: int, form: Form) -> Image:
    """Write the image's config and manifest; layers that are not in the FORM wanted are compressed anew."""
    from . import buildconvert

    config = document(made, epoch)
    data = jsonc.dumps(config, sort_keys=True).encode()
    digest, size = ctx.blobs.ingest(data)
    records = [ref.record for ref in made.refs if ref.record["diff_id"]]
    layers = buildconvert.layers(ctx, records, form.compression)

    def typed(kind: str) -> str:
        return media_types.as_docker(kind) if form.docker else kind

    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": typed(media_types.OCI_MANIFEST),
        "config": descriptors.make(typed(media_types.OCI_CONFIG), digest, size),
        "layers": [{**layer, "mediaType": typed(layer["mediaType"])} for layer in layers],
    }
    if form.annotations:
        manifest["annotations"] = dict(sorted(form.annotations.items()))
    digest, size = ctx.blobs.ingest(jsonc.dumps(manifest).encode())
    found = descriptors.make(typed(media_types.OCI_MANIFEST), digest, size)
    return Image(found, manifest, config)


def name(ctx: Context, image: Image, names: Sequence[str]) -> None:
    """Put the image into the store under NAMES, or without one."""
    record = ctx.images.put(image.descriptor, names[0] if names else "")
    for more in names[1:]:
        ctx.images.tag(record.id, more)


def store(ctx: Context, made: Made, epoch: int, names: Sequence[str] = ()) -> str:
    """Put the image into the store under NAMES; its ID.  Nothing is named before all of it is there."""
    image = assemble(ctx, made, epoch, Form())
    name(ctx, image, names)
    return image.id
