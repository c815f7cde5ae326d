"""rootless attach: join the streams of a running container."""

from __future__ import annotations

from rootless.engine import events, lifecycle
from rootless.engine.context import Context
from rootless.errors import ConflictError
from rootless.plan.request import RunRequest

from . import session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless.store.containers import Container

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Attach to a running container until it ends or the detach keys are typed."""
    ctx = Context.load(env)
    container = ctx.containers.resolve(args.args[0])
    request = RunRequest.from_dict(container.record["request"])
    request.interactive = request.interactive and not args.get("no_stdin")
    return to_running(ctx, container, request, args)


def to_running(ctx: Context, container: Container, request: RunRequest, args: Parsed) -> int:
    """Attach to CONTAINER, which runs; its exit code, or 0 after a detach."""
    state = ctx.containers.read_state(container.id)["status"]
    if state == "paused":
        raise ConflictError(
            f"cannot attach to container {container.name}: "
            "you cannot attach to a paused container, unpause it first"
        )
    client = lifecycle.connect(ctx, container) if state in ("running", "restarting") else None
    if client is None:
        raise ConflictError(
            f"cannot attach to container {container.name}: "
            "you cannot attach to a stopped container, start it first"
        )
    if request.log_driver == "passthrough":
        raise ConflictError(
            f"cannot attach to container {container.name}: "
            "its log driver is passthrough, so its streams are those of whoever started it"
        )
    request.attach = ["stdout", "stderr"] + (["stdin"] if request.interactive else [])
    session.check_terminal(request.tty, request.interactive)
    events.container(ctx, container, "attach")
    return session.foreground(
        client,
        container,
        request,
        session.detach_keys(ctx, args),
        sig_proxy=args.get("sig_proxy") is not False and not request.tty,
        detached=lambda: events.container(ctx, container, "detach"),
    )
