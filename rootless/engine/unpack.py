"""Unpacking what is missing of an image's layers, in parallel by diff ID: from its verified blobs, or for an ID
map from the layer that has no map.

Imported only where something is missing: layers are derived data.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from rootless.errors import ImageNotFoundError
from rootless.oci.digest import chain_id
from rootless.plan import idmap
from rootless.store import unpack as unpacker
from rootless.store.layers import SHARED
from rootless.store.treecopy import Owners

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from rootless.store.images import ImageRecord
    from rootless.store.layers import LayerStore

    from .context import Context

REFLINK, COPY, UNPACK = "reflink", "copy", "unpack"


class Cost:
    """What it takes to make layers for an ID map.

    how         SHARED: only names, owners and small files; REFLINK: extents are shared; COPY: all of an
                unpacked layer; UNPACK: the blobs anew
    layers      how many
    compressed  bytes of their blobs
    entries, size  of their archives; -1 where that is not known
    """

    __slots__ = ("compressed", "entries", "how", "layers", "map_key", "size")

    def __init__(self, how: str, map_key: str, layers: int, compressed: int) -> None:
        self.how = how
        self.map_key = map_key
        self.layers = layers
        self.compressed = compressed
        self.entries = self.size = -1


def unpack_missing(
    ctx: Context,
    container: dict[str, Any],
    diff_ids: Sequence[str],
    on_unpack: Callable[[Cost], None] | None,
) -> None:
    """Unpack layers of a container's image (CONTAINER is its record) in the format it has.

    ON_UNPACK is told the cost first, where it is one of an ID map.  Raises ImageNotFoundError if the image
    is gone.
    """
    image_id = container["image_id"]
    try:
        record = ctx.images.resolve(image_id)
    except ImageNotFoundError:
        raise ImageNotFoundError(
            f"cannot unpack layers of image {image_id}: the image is gone",
            hint="pull the image again",
        ) from None
    wanted = list(dict.fromkeys(diff_ids))
    layers = ctx.shared_of(container) or ctx.layers_of(container)
    if layers.base is None:
        unpacker.unpack_layers(ctx, record, wanted, layers)
        return
    if layers.format == SHARED:
        wanted = list(dict.fromkeys(container["layers"]))
    if on_unpack is not None:
        on_unpack(_cost(ctx, record, wanted, layers, layers.base))
    _for_map(ctx, record, wanted, layers, layers.base)


def _cost(
    ctx: Context, record: ImageRecord, diff_ids: Sequence[str], layers: LayerStore, base: LayerStore
) -> Cost:
    sizes = dict(zip(record.diff_ids, (int(layer.get("size", 0)) for layer in record.layers)))
    how = REFLINK if ctx.facts.has("reflink") else COPY
    if layers.format == SHARED:
        how = SHARED
    elif not all(base.present(diff_id) for diff_id in diff_ids):
        how = UNPACK
    cost = Cost(how, layers.map_key, len(diff_ids), sum(sizes[diff_id] for diff_id in diff_ids))
    known = [base.stats(diff_id) for diff_id in diff_ids]
    found = [one for one in known if one is not None]
    if len(found) == len(known):
        cost.entries = sum(entries for entries, _ in found)
        cost.size = sum(size for _, size in found)
    return cost


def _for_map(
    ctx: Context, record: ImageRecord, diff_ids: Sequence[str], layers: LayerStore, base: LayerStore
) -> None:
    """Make layers for an ID map: from those without, else from the blobs."""
    shared = layers.format == SHARED
    missing = [diff_id for diff_id in diff_ids if not base.present(diff_id)]
    if missing:
        unpacker.unpack_layers(ctx, record, missing, base if shared else layers)
    ids = idmap.from_key(layers.map_key, ctx.facts)
    owners = Owners(ids.uid, ids.gid)
    run = ctx.run_in_realm
    if shared:
        unpacker.derive(layers, chain_id(record.diff_ids), record.diff_ids, run, owners)
        return
    wanted = [diff_id for diff_id in diff_ids if not layers.present(diff_id)]
    with ThreadPoolExecutor(max(1, min(len(wanted), os.cpu_count() or 1))) as pool:
        for future in [
            pool.submit(unpacker.derive, layers, diff_id, [diff_id], run, owners)
            for diff_id in wanted
        ]:
            future.result()
