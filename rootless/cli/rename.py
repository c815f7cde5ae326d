"""rootless rename."""

from __future__ import annotations

from rootless.engine import lifecycle
from rootless.engine.context import Context
from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Give a container another name."""
    old, new = (word.strip() for word in args.args)
    if not old or not new:
        raise UsageError("cannot rename a container: neither old nor new names may be empty")
    ctx = Context.load(env)
    lifecycle.rename(ctx, ctx.containers.resolve(old), new)
    return 0
