"""rootless pause and rootless unpause."""

from __future__ import annotations

from rootless.engine import cgroups
from rootless.engine.context import Context

from . import many

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Freeze all processes of containers."""
    ctx = Context.load(env)

    def pause(name: str) -> str:
        cgroups.pause(ctx, ctx.containers.resolve(name))
        return name

    return many.each(args.args, pause)


def unpause(args: Parsed, env: Mapping[str, str]) -> int:
    """Let the processes of paused containers go on."""
    ctx = Context.load(env)

    def thaw(name: str) -> str:
        cgroups.unpause(ctx, ctx.containers.resolve(name))
        return name

    return many.each(args.args, thaw)
