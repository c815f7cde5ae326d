"""Layers on their way from a blob to an unpacked tree: used by pulling and by loading archives."""

from __future__ import annotations

import os
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from rootless.oci import digest as digests
from rootless.store import files
from rootless.store import unpack as unpacker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from rootless.store.layers import LayerStore

    from .context import Context
    from .progress import ProgressSink


class Layer:
    """One layer of an image: its blob, its diff ID, and how people see it (``short``)."""

    __slots__ = ("diff_id", "digest", "short", "size")

    def __init__(self, descriptor: dict[str, Any], diff_id: str) -> None:
        self.digest = str(descriptor["digest"])
        self.size = int(descriptor["size"])
        self.diff_id = diff_id
        self.short = digests.short(self.digest)

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from the other layers of the image."""
        return self.digest, self.diff_id


def pair(descriptors: Iterable[dict[str, Any]], diff_ids: Iterable[str]) -> list[Layer]:
    """The layers of an image without repetitions, lowest first."""
    layers = [Layer(one, diff_id) for one, diff_id in zip(descriptors, diff_ids)]
    return list({layer.key: layer for layer in layers}.values())


def unpack(ctx: Context, store: LayerStore, layer: Layer, sink: ProgressSink) -> None:
    """Unpack a layer whose blob is there; raises LayerError, DigestMismatchError, NoSpaceError."""
    if store.present(layer.diff_id):
        return
    sink.event(layer.short, "Extracting", 0, layer.size)
    try:
        blob = os.open(ctx.blobs.path(layer.digest), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise files.failure(f"read blob {layer.digest}", error) from None
    try:
        unpacker.unpack(
            store, layer.diff_id, blob, ctx.run_in_realm, digest=layer.digest, size=layer.size
        )
    finally:
        os.close(blob)


def unpack_one(ctx: Context, descriptor: dict[str, Any], diff_id: str) -> None:
    """Unpack a layer of our own making, with nothing to show; raises LayerError."""
    from .progress import ProgressSink

    unpack(ctx, ctx.layers(), Layer(descriptor, diff_id), ProgressSink())


def workers() -> int:
    """How many layers are unpacked at once."""
    return max(1, os.cpu_count() or 1)


def first_error(futures: Sequence[Future[Any]], give_up: Callable[[], None]) -> None:
    """Wait for FUTURES; at the first failure (or interrupt) call GIVE_UP, wait for the rest, raise it."""
    try:
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
    except BaseException:
        give_up()
        for future in futures:
            future.cancel()
        wait(futures)
        raise


def unpack_all(ctx: Context, layers: Sequence[Layer], sink: ProgressSink) -> None:
    """Unpack layers whose blobs are there, in parallel; raises the first error."""
    store = ctx.layers()
    missing = [layer for layer in layers if not store.present(layer.diff_id)]
    if not missing:
        return
    ctx.realm  # noqa: B018  (made once, before the threads want it)
    with ThreadPoolExecutor(min(workers(), len(missing))) as pool:
        futures = [pool.submit(unpack, ctx, store, layer, sink) for layer in missing]
        first_error(futures, lambda: None)
