"""rootless exec: run a further command in a running container."""

from __future__ import annotations

from rootless.engine import events, execs
from rootless.engine.context import Context
from rootless.plan.request import ExecRequest, RunRequest

from . import kvfile, session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Run a command in a running container; the exit code is the command's."""
    ctx = Context.load(env)
    detach = bool(args.get("detach"))
    request = ExecRequest()
    request.args = list(args.args[1:])
    request.tty = bool(args.get("tty"))
    request.interactive = bool(args.get("interactive")) and not detach
    request.env, request.env_remove = kvfile.environment(
        args.get("env_file") or (), args.get("env") or (), env.get
    )
    request.user = args.get("user") or ""
    request.workdir = args.get("workdir") or ""
    request.privileged = bool(args.get("privileged"))
    if not detach:
        session.check_terminal(request.tty, request.interactive)
    keys = session.detach_keys(ctx, args)
    container = ctx.containers.resolve(args.args[0])
    client, exec_id = execs.execute(ctx, container, request)
    if detach:
        session.leave_running(client)
        return 0
    streams = RunRequest()
    streams.tty = request.tty
    streams.interactive = request.interactive
    streams.attach = ["stdout", "stderr"] + (["stdin"] if request.interactive else [])
    return session.foreground(
        client,
        container,
        streams,
        keys,
        sig_proxy=False,
        detached=lambda: events.container(ctx, container, "exec_detach", execID=exec_id),
    )
