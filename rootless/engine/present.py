"""Making sure that the layers a container needs are unpacked; nearly always they are."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from .context import Context


def ensure_layers(
    ctx: Context, record: dict[str, Any], on_unpack: Callable[[str], None] | None = None
) -> None:
    """Unpack what is missing of the record's layers; they are derived and may be gone."""
    layers = ctx.layers(record["map_key"])
    missing = [diff_id for diff_id in record["layers"] if not layers.present(diff_id)]
    if missing:
        from . import unpack

        unpack.unpack_missing(ctx, record["image_id"], missing, record["map_key"], on_unpack)
