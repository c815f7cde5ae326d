"""rootless start: start containers that exist."""

from __future__ import annotations

from rootless.engine import events, lifecycle
from rootless.engine import start as starting
from rootless.engine.context import Context
from rootless.errors import ConflictError, UsageError
from rootless.plan.request import RunRequest

from . import many, session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Start containers; with -a or -i one, attached, whose exit code is given."""
    ctx = Context.load(env)
    if args.get("attach") or args.get("interactive"):
        if len(args.args) > 1:
            raise UsageError("you cannot start and attach multiple containers at once", exit_code=1)
        return _attached(ctx, args)

    def start(name: str) -> str:
        container = ctx.containers.resolve(name)
        if lifecycle.is_running(ctx, container):
            lifecycle.refuse_paused(ctx, container)
            return name
        try:
            client = starting.start(ctx, container)
        except ConflictError:
            if lifecycle.await_start(ctx, container):
                return name  # somebody else has started it meanwhile, after a boot for instance
            raise
        session.leave_running(client)
        return name

    return many.each(args.args, start)


def _attached(ctx: Context, args: Parsed) -> int:
    container = ctx.containers.resolve(args.args[0])
    request = RunRequest.from_dict(container.record["request"])
    request.interactive = request.interactive and bool(args.get("interactive"))
    request.attach = ["stdout", "stderr"] + (["stdin"] if request.interactive else [])
    session.check_terminal(request.tty, request.interactive)
    if lifecycle.is_running(ctx, container):
        from . import attach

        return attach.to_running(ctx, container, request, args)
    events.container(ctx, container, "attach")
    client = starting.start(ctx, container)
    return session.foreground(
        client,
        container,
        request,
        session.detach_keys(ctx, args),
        sig_proxy=args.get("sig_proxy") is not False and not request.tty,
        detached=lambda: events.container(ctx, container, "detach"),
    )
