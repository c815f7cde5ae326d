"""stop, kill, restart, wait, remove, rename: what is done to containers that exist."""

from __future__ import annotations

import os
import time

from rootless.errors import ConflictError, NotFoundError
from rootless.linux import proc
from rootless.plan import signals
from rootless.plan.request import RunRequest
from rootless.runtime import monitor
from rootless.store.claims import is_locked

from . import events, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.runtime.monitor import Client
    from rootless.store.containers import Container

    from .context import Context

KILL_WAIT = 10.0


def connect(ctx: Context, container: Container) -> Client | None:
    """A connection to the container's monitor, or None where none lives."""
    try:
        return monitor.connect(f"{start.run_dir(ctx, container.id)}/sock")
    except (OSError, NotFoundError):
        from . import heal

        return heal.connect(ctx, container)


def is_running(ctx: Context, container: Container) -> bool:
    """Whether the container runs, or waits to be restarted."""
    return ctx.containers.read_state(container.id)["status"] in ("running", "restarting", "paused")


def await_start(ctx: Context, container: Container) -> bool:
    """Whether a container that somebody else is starting comes to run."""
    path = f"{ctx.paths.containers}/{container.id}/lock"
    deadline = time.monotonic() + KILL_WAIT
    while time.monotonic() < deadline:
        if is_running(ctx, container):
            return True
        if not is_locked(path):
            break
        time.sleep(0.01)
    return is_running(ctx, container)


def refuse_paused(ctx: Context, container: Container) -> None:
    """What a start of a paused container says, as a ConflictError."""
    if ctx.containers.read_state(container.id)["status"] == "paused":
        raise ConflictError(
            f"cannot start container {container.name}: cannot start a paused container, try unpause instead"
        )


def stop(
    ctx: Context, container: Container, *, timeout: int | None = None, signal: str = ""
) -> bool:
    """Stop the container and wait until it has ended; False where it did not run.

    TIMEOUT in seconds (None: the container's own, or 10; negative: wait forever).
    """
    if not is_running(ctx, container):
        ctx.containers.note_stop(container.id)
        return False
    request = RunRequest.from_dict(container.record["request"])
    number = signals.number(signal or stop_signal(container, request))
    if timeout is None:
        timeout = start.stop_timeout(ctx, request)
    client = connect(ctx, container)
    if client is None:
        _kill_directly(ctx, container, 9)
    else:
        client.wait()
        client.stop(number, timeout)
        monitor.wait_exit(client)
        client.close()
    settle(ctx, container)
    return True


def stop_signal(container: Container, request: RunRequest) -> str:
    """The signal a stop begins with: the request's, the image's, or TERM."""
    return request.stop_signal or container.record["image_config"].get("stop_signal") or "SIGTERM"


def kill(ctx: Context, container: Container, signal: str) -> None:
    """Send SIGNAL to the container's first process; SIGKILL waits for the end, as Docker does."""
    number = signals.number(signal)
    if not is_running(ctx, container):
        raise ConflictError(
            f"cannot kill container: {container.name}: container {container.id} is not running"
        )
    client = connect(ctx, container)
    if client is None:
        _kill_directly(ctx, container, number)
        return
    request = RunRequest.from_dict(container.record["request"])
    ends = number in (9, signals.number(stop_signal(container, request)))
    if number == 9:
        client.wait()
    client.kill(number, manual_stop=ends)
    if number == 9:
        monitor.wait_exit(client)
        client.close()
        settle(ctx, container)
        return
    try:
        client.wait_ack()
    except ConnectionResetError:
        pass  # it ended meanwhile, which is what a signal is mostly for
    client.close()


def _kill_directly(ctx: Context, container: Container, number: int) -> None:
    """Signal a container whose monitor is gone, never a stranger with its old pid."""
    state = ctx.containers.read_state(container.id)
    pid, born = int(state["pid"]), int(state["pidStart"])
    if not proc.send_signal(pid, born, number):
        return
    deadline = time.monotonic() + KILL_WAIT
    while number == 9 and proc.pid_alive(pid, born) and time.monotonic() < deadline:
        time.sleep(0.005)


def settle(ctx: Context, container: Container) -> None:
    """Wait until the container's monitor is gone (it holds the lock) or the container is removed."""
    path = f"{ctx.paths.containers}/{container.id}/lock"
    deadline = time.monotonic() + KILL_WAIT
    while is_locked(path) and time.monotonic() < deadline:
        time.sleep(0.002)


def restart(
    ctx: Context, container: Container, *, timeout: int | None = None, signal: str = ""
) -> Client:
    """Stop the container if it runs, and start it."""
    stop(ctx, container, timeout=timeout, signal=signal)
    return start.start(ctx, container)


def remove(
    ctx: Context, container: Container, *, force: bool = False, volumes: bool = False
) -> None:
    """Remove the container; a running one only by FORCE, killed first.

    VOLUMES (and --rm): its anonymous volumes too, unless others use them.
    """
    doomed = _doomed(ctx, container, volumes=volumes)
    if is_running(ctx, container):
        if not force and ctx.containers.read_state(container.id)["status"] == "paused":
            raise ConflictError(
                f"cannot remove container {container.name}: "
                "container is paused and must be unpaused first"
            )
        if not force:
            raise ConflictError(
                f"cannot remove container {container.name}: container is running: "
                "stop the container before removing or force remove"
            )
        client = connect(ctx, container)
        if client is None:
            _kill_directly(ctx, container, 9)
        else:
            client.wait()
            client.kill(9, manual_stop=True)
            monitor.wait_exit(client)
            client.close()
        settle(ctx, container)
    if not os.path.isdir(f"{ctx.paths.containers}/{container.id}"):
        return  # it removed itself
    if os.path.exists(f"{ctx.paths.containers}/{container.id}/mounted"):
        from . import working

        working.umount(ctx, container)
    if doomed:
        from . import volumes as uses

        uses.doom(ctx, doomed)
    start.drop_run_dir(start.run_dir(ctx, container.id))
    if ctx.facts.cgroup_mode == "unified":
        from . import cgroups

        cgroups.drop(ctx, cgroups.left_by(ctx, container.id))
    trashed = ctx.containers.trash(container.id)
    if trashed:
        told = events.of_container(container, "destroy")
        ctx.remove_trees([trashed])
        events.tell(ctx, told)
    if doomed:
        uses.drop(ctx, doomed)


def _doomed(ctx: Context, container: Container, *, volumes: bool) -> list[str]:
    """Names of the anonymous volumes that go with a container."""
    request = container.record["request"]
    if not (volumes or request.get("auto_remove")):
        return []
    if not any(mount.get("type") == "volume" for mount in request.get("mounts") or ()):
        return []
    from . import volumes as uses

    return uses.anonymous_of(ctx, container.record)


def rename(ctx: Context, container: Container, name: str) -> None:
    """Give the container another name; raises ConflictError, UsageError, NotFoundError."""
    record, old = container.record, container.name
    ctx.containers.rename(container.id, name)
    container.name = name.removeprefix("/")
    events.container(ctx, container, "rename", oldName=f"/{old}")
    run_dir = start.run_dir(ctx, container.id)
    events.write_lines(ctx, container.name, record, run_dir, anew=False)


def wait(ctx: Context, container: Container) -> int:
    """The container's exit code, once it has ended."""
    client = connect(ctx, container) if is_running(ctx, container) else None
    if client is not None:
        client.wait()
        code = monitor.wait_exit(client)
        client.close()
        if code is not None:
            return code
    return int(ctx.containers.read_state(container.id)["exitCode"])
