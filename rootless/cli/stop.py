"""rootless stop."""

from __future__ import annotations

from rootless.engine import lifecycle
from rootless.engine.context import Context

from . import many

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Stop containers: their stop signal, then SIGKILL after the timeout."""
    ctx = Context.load(env)

    def stop(name: str) -> str:
        container = ctx.containers.resolve(name)
        lifecycle.stop(ctx, container, timeout=args.get("timeout"), signal=args.get("signal") or "")
        return name

    return many.each(args.args, stop)
