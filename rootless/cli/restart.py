"""rootless restart."""

from __future__ import annotations

from rootless.engine import events, lifecycle
from rootless.engine.context import Context

from . import many, session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Stop containers where they run and start them again."""
    ctx = Context.load(env)

    def restart(name: str) -> str:
        container = ctx.containers.resolve(name)
        client = lifecycle.restart(
            ctx, container, timeout=args.get("timeout"), signal=args.get("signal") or ""
        )
        session.leave_running(client)
        events.container(ctx, container, "restart")
        return name

    return many.each(args.args, restart)
