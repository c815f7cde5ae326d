"""rootless run: create, start and attach in one step."""

from __future__ import annotations

import os

from rootless.engine import create as creating
from rootless.engine import events
from rootless.engine import start as starting
from rootless.engine.context import Context
from rootless.errors import LaunchError, RootlessError

from . import request as requests
from . import session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Callable

    from rootless.plan.request import RunRequest
    from rootless.runtime.monitor import Client
    from rootless.store.containers import Container

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Run a command in a new container; the exit code is the command's, 125 where none was run."""
    ctx = Context.load(env)
    request = requests.build(args, env, ctx.settings)
    detach = bool(args.get("detach"))
    if not detach:
        session.check_terminal(request.tty, "stdin" in request.attach)
    if args.get("explain"):
        from . import explain

        return explain.main(ctx, request)
    keys = session.detach_keys(ctx, args)
    session.warn_later(ctx, args, request)
    try:
        container, client = _started(ctx, args, request)
        if detach:
            return _detached(ctx, client, container)
        sig_proxy = args.get("sig_proxy") is not False
        return session.foreground(
            client,
            container,
            request,
            keys,
            sig_proxy=sig_proxy,
            running=_tell(ctx, container, request) if request.limits else None,
            detached=lambda: events.container(ctx, container, "detach"),
        )
    except LaunchError:
        raise
    except RootlessError as error:
        raise session.with_code(error, 125) from None


def _started(ctx: Context, args: Parsed, request: RunRequest) -> tuple[Container, Client]:
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
    if not args.get("detach"):
        events.container(ctx, container, "attach")
    try:
        return container, starting.start(ctx, container)
    except BaseException:
        if request.auto_remove:
            from rootless.engine import lifecycle

            lifecycle.remove(ctx, container)
        raise


def _tell(ctx: Context, container: Container, request: RunRequest) -> Callable[[], None]:
    end = "\r\n" if request.tty and os.isatty(0) else "\n"  # the terminal is raw by then
    return lambda: session.tell_refused(ctx, container, end=end)


def _detached(ctx: Context, client: Client, container: Container) -> int:
    os.write(1, (container.id + "\n").encode())
    session.leave_running(client)
    if container.record["request"].get("limits"):
        session.tell_refused(ctx, container)
    session.warn_of_logout(ctx, container)
    return 0
