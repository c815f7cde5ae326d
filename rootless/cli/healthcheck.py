"""rootless healthcheck run."""

from __future__ import annotations

import sys

from rootless.engine import health
from rootless.engine.context import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def run(args: Parsed, env: Mapping[str, str]) -> int:
    """Check a container's health now: 0 where the check passes, 1 where it does not."""
    ctx = Context.load(env)
    found, passed = health.run(ctx, ctx.containers.resolve(args.args[0]))
    if passed:
        return 0
    sys.stdout.write(f"{found}\n")
    return 0 if args.get("ignore_result") else 1
