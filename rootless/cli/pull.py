"""rootless pull."""

from __future__ import annotations

import sys

from rootless.engine import pull as pulling
from rootless.engine.context import Context

from . import progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Fetch an image from its registry."""
    ctx = Context.load(env)
    with progress.sink(quiet=bool(args.get("quiet")), stream=sys.stdout) as sink:
        result = pulling.pull(ctx, args.args[0], args.get("platform") or None, sink)
    sys.stdout.write(f"{result.reference}\n")
    return 0
