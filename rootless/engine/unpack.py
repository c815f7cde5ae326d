"""Unpacking what is missing of an image's layers from its verified blobs, in parallel by diff ID.

Imported only where something is missing: layers are derived data.
"""

from __future__ import annotations

from rootless.errors import ImageNotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Callable

    from .context import Context


def unpack_missing(
    ctx: Context,
    image_id: str,
    diff_ids: Sequence[str],
    map_key: str,
    on_unpack: Callable[[str], None] | None,
) -> None:
    """Unpack the layers DIFF_IDS of the image; raises ImageNotFoundError if the image is gone."""
    from rootless.store import unpack as unpacker

    try:
        record = ctx.images.resolve(image_id)
    except ImageNotFoundError:
        raise ImageNotFoundError(
            f"cannot unpack layers of image {image_id}: the image is gone",
            hint="pull the image again",
        ) from None
    if on_unpack is not None:
        on_unpack(map_key)
    unpacker.unpack_layers(ctx, record, list(diff_ids), map_key)
