"""rootless update: change limits and the restart policy of containers."""

from __future__ import annotations

import os

from rootless.engine import update as updating
from rootless.engine.context import Context
from rootless.errors import UsageError

from . import limitflags, many, session, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Change containers, print their names, then the warnings there are."""
    if not args.values:
        raise UsageError("you must provide one or more flags when using this command", exit_code=1)
    ctx = Context.load(env)
    change = updating.Change(limitflags.limits(args))
    if args.get("restart"):
        change.restart = values.restart(args.get("restart"))
    try:
        updating.check(change)
    except UsageError as error:
        raise session.with_code(error, 1) from None
    said: dict[str, None] = {}

    def update(name: str) -> str:
        found = updating.update(ctx, ctx.containers.resolve(name), change)
        said.update(dict.fromkeys(found))
        return name

    code = many.each(args.args, update)
    for line in said:
        os.write(1, f"{line}\n".encode())
    return code
