"""Making sure that the layers a container needs are unpacked; nearly always they are."""

from __future__ import annotations

from rootless.oci.digest import chain_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from .context import Context
    from .unpack import Cost


def ensure_layers(
    ctx: Context, record: dict[str, Any], on_unpack: Callable[[Cost], None] | None = None
) -> None:
    """Unpack what is missing of the record's layers; they are derived and may be gone."""
    layers = ctx.layers_of(record)
    missing = [diff_id for diff_id in record["layers"] if not layers.present(diff_id)]
    shared = ctx.shared_of(record)
    if missing or (shared is not None and not shared.present(chain_id(record["layers"]))):
        from . import unpack

        unpack.unpack_missing(ctx, record, missing, on_unpack)
