"""New images from what is there: a container's changes (commit) or a root filesystem archive (import).

Owns what becomes of an image's config: the container's own settings over its image's, then the
instructions of --change, a small part of the Dockerfile language.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib

from rootless import jsonc
from rootless.oci import descriptor as descriptors
from rootless.oci import media_types, platform
from rootless.oci import reference as references
from rootless.plan import spec as specs
from rootless.plan.image import ImageConfig
from rootless.plan.request import RunRequest

from . import cgroups, events, files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Callable

    from rootless.store.containers import Container

    from .context import Context

LEVEL = 6


class LayerBlob:
    """A layer being stored: write() the tar's bytes, close() gives descriptor and diff ID."""

    def __init__(self, ctx: Context) -> None:
        self._writer = ctx.blobs.writer()
        self._hash = hashlib.sha256()
        self._gzip = _compressor()

    def write(self, data: bytes) -> None:
        """Take bytes of the uncompressed tar; raises NoSpaceError."""
        self._hash.update(data)
        packed = self._gzip.compress(data)
        if packed:
            self._writer.write(packed)

    def close(self) -> tuple[dict[str, Any], str]:
        """Store the blob: (descriptor, diff ID)."""
        self._writer.write(self._gzip.flush())
        size = self._writer.written
        digest = self._writer.commit()
        found = descriptors.make(media_types.OCI_LAYER_GZIP, digest, size)
        return found, f"sha256:{self._hash.hexdigest()}"

    def abort(self) -> None:
        """Forget it; harmless after close()."""
        self._writer.abort()


def _compressor() -> Any:
    """A gzip compressor whose output depends on nothing but its input (no name, no time)."""
    return zlib.compressobj(LEVEL, zlib.DEFLATED, 31)


def commit(
    ctx: Context,
    container: Container,
    name: str = "",
    *,
    author: str = "",
    message: str = "",
    changes: Iterable[str] = (),
    pause: bool = True,
    config: dict[str, Any] | None = None,
) -> str:
    """Make an image of the container, called NAME if given; its ID.

    CONFIG stands in for what the container was made with.  PAUSE: a running container that has a control
    group is paused meanwhile.  Raises DockerfileError for a CHANGES instruction that cannot be, ConflictError
    without an image.
    """
    files.check_rootfs(container, "commit")
    record = ctx.images.resolve(container.record["image_id"])
    if config is None:
        config = _config_of(container, record.config.get("config") or {})
    apply_changes(config, changes)
    command = " ".join([container.record.get("path", ""), *container.record.get("args", ())])
    lease = ctx.blobs.lease()
    try:
        blob = LayerBlob(ctx)
        try:
            if pause:
                with cgroups.Paused(ctx, container):
                    files.layer(ctx, container, blob.write)
            else:
                files.layer(ctx, container, blob.write)
            layer, diff_id = blob.close()
        finally:
            blob.abort()
        document = dict(record.config, config=config)
        document["rootfs"] = {"type": "layers", "diff_ids": [*record.diff_ids, diff_id]}
        entry = {"created_by": command, "comment": message, "author": author}
        image_id = _store(ctx, document, [*record.layers, layer], entry, name)
    finally:
        if lease is not None:
            os.close(lease)
    if name:
        events.image(ctx, "tag", image_id, familiar(name))
    about = {"comment": message, "imageID": image_id, "imageRef": name}
    events.container(ctx, container, "commit", **about)
    return image_id


def import_tar(
    ctx: Context,
    read: Callable[[], bytes],
    name: str = "",
    *,
    message: str = "",
    changes: Iterable[str] = (),
    platform_text: str = "",
) -> str:
    """Make an image with one layer of the tar stream that READ gives piece by piece; its ID.

    The archive may be compressed.  It is unpacked before it counts, so that what cannot be unpacked
    leaves no image.  Raises LayerError and what commit() raises.
    """
    from rootless.store.decompress import Source

    from . import layers

    config: dict[str, Any] = {}
    apply_changes(config, changes)
    here = (
        platform.parse(platform_text)
        if platform_text
        else platform.Platform("linux", ctx.facts.arch)
    )
    lease = ctx.blobs.lease()
    try:
        blob = LayerBlob(ctx)
        source = Source(lambda *_: read())
        try:
            while True:
                data = source.next_chunk()
                if not data:
                    break
                blob.write(bytes(data))
            layer, diff_id = blob.close()
        finally:
            source.close()
            blob.abort()
        layers.unpack_one(ctx, layer, diff_id)
        document: dict[str, Any] = {
            "architecture": here.architecture,
            "os": here.os,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [],
        }
        if here.variant:
            document["variant"] = here.variant
        image_id = _store(ctx, document, [layer], {"comment": message or "Imported"}, name)
    finally:
        if lease is not None:
            os.close(lease)
    if name:
        events.image(ctx, "tag", image_id, familiar(name))
    events.image(ctx, "import", image_id)
    return image_id


def _store(
    ctx: Context,
    document: dict[str, Any],
    layers: Sequence[dict[str, Any]],
    entry: dict[str, str],
    name: str,
) -> str:
    created = now()
    document["created"] = created
    if entry.get("author"):
        document["author"] = entry["author"]
    added = {"created": created, **{key: value for key, value in entry.items() if value}}
    document["history"] = [*(document.get("history") or []), added]
    digest, size = ctx.blobs.ingest(jsonc.dumps(document).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": descriptors.make(media_types.OCI_CONFIG, digest, size),
        "layers": [_as_oci(layer) for layer in layers],
    }
    digest, size = ctx.blobs.ingest(jsonc.dumps(manifest).encode())
    made = ctx.images.put(descriptors.make(media_types.OCI_MANIFEST, digest, size), name)
    return str(made.id)


def familiar(name: str) -> str:
    """A name for an image as people write it, with its tag."""
    return references.parse(name).with_default_tag().familiar()


def _as_oci(layer: dict[str, Any]) -> dict[str, Any]:
    """A layer's descriptor in an OCI manifest, whatever kind of manifest it comes from."""
    kind = str(layer["mediaType"])
    if "docker" in kind:
        kind = media_types.OCI_LAYER_GZIP if kind.endswith("gzip") else media_types.OCI_LAYER
    return descriptors.make(kind, layer["digest"], layer["size"])


def now() -> str:
    """The time as image configs have it; SOURCE_DATE_EPOCH stands in for the clock."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch.isdigit():
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(epoch)))
    nanoseconds = time.time_ns()
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanoseconds // 1_000_000_000))
    return f"{seconds}.{nanoseconds % 1_000_000_000:09d}Z"


def _config_of(container: Container, base: dict[str, Any]) -> dict[str, Any]:
    """The image's settings as the container was run with them."""
    request = RunRequest.from_dict(container.record["request"])
    image = ImageConfig.from_dict(container.record["image_config"])
    config = dict(base)
    config["Env"] = specs.merge(list(image.env), request.env, request.env_remove)
    if request.entrypoint is not None:
        config["Entrypoint"] = list(request.entrypoint) or None
        config["Cmd"] = list(request.args) or None
    elif request.args:
        config["Cmd"] = list(request.args)
    if request.user:
        config["User"] = request.user
    if request.workdir:
        config["WorkingDir"] = request.workdir
    if request.stop_signal:
        config["StopSignal"] = request.stop_signal
    if request.labels:
        config["Labels"] = {**(base.get("Labels") or {}), **request.labels}
    ports = [port if "/" in port else f"{port}/tcp" for port in request.expose]
    if ports:
        config["ExposedPorts"] = {
            **(base.get("ExposedPorts") or {}),
            **{port: {} for port in ports},
        }
    return {key: value for key, value in config.items() if value not in (None, "", [], {})}


# --change


def apply_changes(config: dict[str, Any], changes: Iterable[str]) -> None:
    """Apply Dockerfile instructions to an image's config in place; raises DockerfileError, showing the line."""
    text = "\n".join(changes)
    if text:
        from rootless.builder import evaluate

        found = evaluate.changed(text, config)
        config.clear()
        config.update(found)
