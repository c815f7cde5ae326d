"""rootless rm."""

from __future__ import annotations

from rootless.engine import lifecycle
from rootless.engine.context import Context
from rootless.errors import NotFoundError

from . import many

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Remove containers; with --force running ones too, and missing ones are no error."""
    ctx = Context.load(env)
    if args.get("link"):
        return _unlink(ctx, args)
    force = bool(args.get("force"))

    def remove(name: str) -> str | None:
        try:
            container = ctx.containers.resolve(name)
        except NotFoundError:
            if force:
                return None
            raise
        lifecycle.remove(ctx, container, force=force, volumes=bool(args.get("volumes")))
        return name

    code = many.each(args.args, remove)
    from rootless.engine import garbage

    garbage.after_removal(ctx)
    return code


def _unlink(ctx: Context, args: Parsed) -> int:
    from rootless.engine import connecting

    def remove(name: str) -> str:
        connecting.unlink(ctx, name)
        return name

    return many.each(args.args, remove)
