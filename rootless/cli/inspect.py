"""rootless inspect, container inspect, image inspect."""

from __future__ import annotations

from rootless.engine import inspect as inspecting
from rootless.engine.context import Context
from rootless.errors import NotFoundError, RootlessError, UsageError

from . import inspect_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .parse import Parsed

TYPES = ("", "container", "image", "network", "volume")


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Print what is known about containers, images, networks and volumes as JSON, or as --format says."""
    ctx = Context.load(env)
    kind = {"container inspect": "container", "image inspect": "image"}.get(args.command, "")
    kind = kind or args.get("type") or ""
    if kind not in TYPES:
        raise UsageError(f'"{kind}" is not a valid value for --type', exit_code=1)
    find = _finder(ctx, kind, bool(args.get("size")))
    failed = inspect_text.write(args.args, find, args.get("format") or "")
    return max((1 if isinstance(one, NotFoundError) else one.code for one in failed), default=0)


def _finder(ctx: Context, kind: str, size: bool) -> Callable[[str], dict[str, Any]]:
    def find(reference: str) -> dict[str, Any]:
        if kind in ("", "container"):
            try:
                return inspecting.container(ctx, reference, size=size)
            except NotFoundError:
                if kind == "container":
                    raise
        if kind in ("", "image"):
            try:
                return inspecting.image(ctx, reference)
            except RootlessError:
                if kind == "image":
                    raise
        if kind in ("", "network"):
            from rootless.engine import networks

            try:
                return networks.inspect(ctx, reference)
            except NotFoundError:
                if kind == "network":
                    raise
        if kind == "volume" or ctx.volumes.exists():
            from rootless.engine import volumes

            try:
                return volumes.inspect(ctx, reference)
            except NotFoundError:
                if kind == "volume":
                    raise
        raise NotFoundError(f"no such object: {reference}")

    return find
