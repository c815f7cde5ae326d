"""exec: a further process in a running container.

An exec session is a monitor of its own without state: it plays a tape that joins the container's
namespaces through the pid and start time of its first process.
"""

from __future__ import annotations

import os

from rootless import jsonc
from rootless.errors import ConflictError
from rootless.linux import proc
from rootless.plan import fastconnect, launch, tape
from rootless.plan.request import ExecRequest
from rootless.runtime import monitor

from . import events, filters, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.plan.tape import Op
    from rootless.runtime.monitor import Client
    from rootless.store.containers import Container

    from .context import Context


def _group(ctx: Context, container: Container, state: dict[str, Any]) -> tuple[list[Op], list[Op]]:
    """What leads into the container's control group, where it has one."""
    if not state.get("cgroup"):
        return [], []
    from rootless.plan.request import RunRequest

    from . import cgroups

    request = RunRequest.from_dict(container.record["request"])
    return cgroups.enter(ctx, state, container.record, request)


def _spec(ctx: Context, container: Container, run_dir: str) -> dict[str, Any]:
    """The container's spec as it was started."""
    try:
        with open(f"{run_dir}/config.json", "rb") as file:
            found: dict[str, Any] = jsonc.loads(file.read())
    except FileNotFoundError:
        from . import heal

        return heal.spec(ctx, container)
    return found


def execute(ctx: Context, container: Container, request: ExecRequest) -> tuple[Client, str]:
    """Start REQUEST in CONTAINER: (the session's client, its ID).

    Raises ConflictError if the container does not run.
    """
    state = ctx.containers.read_state(container.id)
    if state["status"] == "paused":
        raise ConflictError(
            f"container {container.id} is paused, unpause the container before exec"
        )
    if state["status"] != "running":
        raise ConflictError(f"container {container.id} is not running")
    run_dir = start.run_dir(ctx, container.id)
    spec = _spec(ctx, container, run_dir)
    rules = f"{run_dir}/{fastconnect.RULES}"
    ops = launch.exec_tape(
        spec,
        request,
        int(state["pid"]),
        int(state["pidStart"]),
        ctx.facts,
        seccomp=lambda profile, caps: filters.program(ctx, profile, caps),
        emulation=lambda caps: filters.emulation(ctx, caps),
        fast=(filters.fast_connect(ctx), rules) if os.path.exists(rules) else None,
        group=_group(ctx, container, state),
    )
    exec_id = os.urandom(32).hex()
    session = f"{run_dir}/exec-{exec_id[:32]}"
    os.mkdir(session, 0o700)
    program = f"{session}/tape"
    fd = os.open(program, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, tape.encode(ops))
    finally:
        os.close(fd)
    options = monitor.MonitorOptions(
        id=container.id,
        launch=f"{ctx.paths.libexec}/launch",
        tape=program,
        run_dir=session,
        boot_id=proc.boot_id(),
        tty=request.tty,
        stdin=request.interactive,
        stdin_once=request.interactive,
        exec_id=exec_id,
        **events.options(ctx, run_dir),
    )
    command = " ".join(request.args)
    events.tell(
        ctx,
        *(
            events.of_container(container, f"{action}: {command}", execID=exec_id)
            for action in ("exec_create", "exec_start")
        ),
    )
    return monitor.spawn(ctx.paths.libexec, options), exec_id
