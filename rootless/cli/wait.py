"""rootless wait."""

from __future__ import annotations

from rootless.engine import lifecycle
from rootless.engine.context import Context

from . import many

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Wait until containers have ended and print their exit codes."""
    ctx = Context.load(env)
    return many.each(args.args, lambda name: lifecycle.wait(ctx, ctx.containers.resolve(name)))
