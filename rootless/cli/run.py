"""rootless run: create, start and attach in one step."""

from __future__ import annotations

import os

from rootless.engine import create as creating
from rootless.engine import start as starting
from rootless.engine.context import Context
from rootless.errors import UsageError

from . import request as requests
from . import session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless.store.containers import Container

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Run a command in a new container; the exit code is the command's."""
    ctx = Context.load(env)
    request = requests.build(args, env, ctx.settings)
    detach = bool(args.get("detach"))
    if detach and request.auto_remove and request.restart_name != "no":
        raise UsageError("conflicting options: cannot specify both --restart and --rm")
    if not detach:
        session.check_terminal(request.tty, "stdin" in request.attach)
    if args.get("explain"):
        from . import explain

        return explain.main(ctx, request)
    session.warn_later(ctx, args, request)
    with session.IdFile(args.get("cidfile")) as id_file:
        container = creating.create(
            ctx,
            request,
            policy=args.get("pull") or "missing",
            pull=session.puller(ctx, quiet=bool(args.get("quiet"))),
            on_unpack=session.unpack_notice(request),
        )
        id_file.write(container.id)
    if detach:
        return _detached(ctx, container)
    client = starting.start(ctx, container)
    keys = session.detach_keys(ctx, args)
    return session.foreground(
        client, container, request, keys, sig_proxy=args.get("sig_proxy") is not False
    )


def _detached(ctx: Context, container: Container) -> int:
    client = starting.start(ctx, container)
    client.attach(stdin=False, stdout=False, stderr=False)
    error = session.started(client)
    client.close()
    os.write(1, (container.id + "\n").encode())
    if error is not None:
        raise error
    return 0
