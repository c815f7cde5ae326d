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
    """Wait until containers have ended, or until a condition holds, and print their exit codes."""
    ctx = Context.load(env)
    conditions = args.get("condition") or []
    if conditions and conditions != ["not-running"]:
        from rootless.engine import waiting

        waiting.check(conditions)
        return many.each(
            args.args, lambda name: waiting.wait(ctx, ctx.containers.resolve(name), conditions)
        )
    return many.each(args.args, lambda name: lifecycle.wait(ctx, ctx.containers.resolve(name)))
