"""rootless kill."""

from __future__ import annotations

from rootless.engine import lifecycle
from rootless.engine.context import Context

from . import many

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Send a signal to containers, SIGKILL unless told otherwise."""
    ctx = Context.load(env)

    def kill(name: str) -> str:
        lifecycle.kill(ctx, ctx.containers.resolve(name), args.get("signal") or "KILL")
        return name

    return many.each(args.args, kill)
