"""rootless diff."""

from __future__ import annotations

import os
import sys

from rootless.engine import files
from rootless.engine.context import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Show what a container changed: A added, C changed, D deleted."""
    ctx = Context.load(env)
    container = ctx.containers.resolve(args.args[0])
    out = sys.stdout.buffer
    for kind, path in files.changes(ctx, container):
        out.write(kind.encode() + b" " + os.fsencode(path) + b"\n")
    out.flush()
    return 0
