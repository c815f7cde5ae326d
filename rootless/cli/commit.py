"""rootless commit."""

from __future__ import annotations

import sys

from rootless.engine import commit
from rootless.engine.context import Context
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Make an image of a container's changes and print its ID."""
    ctx = Context.load(env)
    container = ctx.containers.resolve(args.args[0])
    try:
        image_id = commit.commit(
            ctx,
            container,
            args.args[1] if len(args.args) > 1 else "",
            author=str(args.get("author") or ""),
            message=str(args.get("message") or ""),
            changes=args.get("change") or [],
            pause=bool(args.get("pause")),
        )
    except RootlessError as error:
        raise type(error)(error.message, hint=error.hint, exit_code=1) from None
    sys.stdout.write(f"{image_id}\n")
    return 0
