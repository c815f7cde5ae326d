"""rootless export."""

from __future__ import annotations

from rootless.engine import files
from rootless.engine.context import Context
from rootless.errors import RootlessError

from . import output, session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Write a container's whole filesystem as a tar archive, without what is mounted in it."""
    ctx = Context.load(env)
    container = ctx.containers.resolve(args.args[0])
    try:
        output.write(str(args.get("output") or ""), lambda fd: files.export(ctx, container, fd))
    except RootlessError as error:
        raise session.with_code(error, 1) from None
    return 0
