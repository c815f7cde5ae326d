"""rootless create: make a container without starting it."""

from __future__ import annotations

import os

from rootless.engine import create as creating
from rootless.engine.context import Context

from . import request as requests
from . import session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Create a container and print its ID."""
    ctx = Context.load(env)
    request = requests.build(args, env, ctx.settings)
    session.warn_later(ctx, args, request)
    with session.IdFile(args.get("cidfile")) as id_file:
        container = creating.create(
            ctx,
            request,
            policy=args.get("pull") or "missing",
            pull=session.puller(ctx, quiet=bool(args.get("quiet"))),
            on_unpack=session.unpack_notice(request, quiet=bool(args.get("quiet"))),
            tell=session.note,
        )
        id_file.write(container.id)
    session.advise(ctx, args, request, container)
    os.write(1, (container.id + "\n").encode())
    return 0
