"""rootless load."""

from __future__ import annotations

import sys

from rootless.engine import archive
from rootless.engine.context import Context
from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Load images from a docker-archive or an OCI archive."""
    ctx = Context.load(env)
    source = args.get("input")
    if not source and sys.stdin.isatty():
        raise UsageError("requested load from stdin, but stdin is empty", exit_code=1)
    for line in archive.load(ctx, source or sys.stdin.buffer, None):
        sys.stdout.write(f"{line}\n")
    return 0
