"""Starting a container: spec, tape, monitor.

The container's lock file, held by its monitor for as long as it lives, is what makes a second start
fail and what tells a living container from a lost one.
"""

from __future__ import annotations

import os

from rootless import jsonc
from rootless.errors import ConflictError, UsageError
from rootless.linux import proc
from rootless.plan import launch, tape
from rootless.plan import spec as specs
from rootless.plan.image import ImageConfig
from rootless.plan.request import Placement, RunRequest
from rootless.runtime import monitor

from . import filters, hostfiles, join, present

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from rootless.runtime.monitor import Client
    from rootless.store.containers import Container

    from .context import Context


def build_spec(
    ctx: Context, record: dict[str, Any], request: RunRequest, image: ImageConfig
) -> dict[str, Any]:
    """The OCI runtime spec of a container, as it would be started now."""
    return specs.build_spec(request, image, ctx.facts, placement(ctx, record, request))


def run_dir(ctx: Context, container_id: str) -> str:
    """The container's directory for sockets and tapes, gone after a reboot."""
    return f"{ctx.paths.run_containers}/{container_id[:32]}"


def placement(ctx: Context, record: dict[str, Any], request: RunRequest) -> Placement:
    """Where the container's parts lie on this host."""
    container_id = record["id"]
    directory = f"{ctx.paths.containers}/{container_id}"
    layers = ctx.layers(record["map_key"]) if record["layers"] else None
    place = Placement(
        container_id=container_id,
        container_dir=directory,
        run_dir=run_dir(ctx, container_id),
        lowers=[layers.path(d) for d in reversed(record["layers"])] if layers else [],
        upper=f"{directory}/upper",
        work=f"{directory}/work",
        merged=f"{directory}/rootfs",
        libexec=ctx.paths.libexec,
        storage_driver=record["driver"],
        hosts_file=f"{directory}/hosts",
        hostname_file=f"{directory}/hostname",
        resolv_file=f"{directory}/resolv.conf",
        seccomp=lambda profile, caps: filters.program(ctx, profile, caps),
    )
    place.host_name = os.uname().nodename
    join.resolve(ctx, request, place)
    return place


def start(
    ctx: Context,
    container: Container,
    *,
    lock_fd: int | None = None,
) -> Client:
    """Start the container's monitor; the client tells of success, output and the end.

    Raises ConflictError when it runs already.
    """
    lock = ctx.containers.lock(container.id) if lock_fd is None else lock_fd
    try:
        return _start_locked(ctx, container, lock)
    finally:
        os.close(lock)


def _start_locked(ctx: Context, container: Container, lock: int) -> Client:
    record = container.record
    request = RunRequest.from_dict(record["request"])
    image = ImageConfig.from_dict(record["image_config"])
    if record["layers"]:
        present.ensure_layers(ctx, record)
    place = placement(ctx, record, request)
    spec = specs.build_spec(request, image, ctx.facts, place)
    ops = launch.build_tape(spec, place, ctx.facts)
    _prepare(place, request, spec)
    _put(f"{place.run_dir}/tape", tape.encode(ops))
    _put(f"{place.run_dir}/config.json", jsonc.dumps(spec).encode())
    options = _options(ctx, container, request, spec, place)
    realm = ctx.realm
    if request.auto_remove:
        _put(
            f"{place.run_dir}/remove",
            tape.encode(launch.remove_tape([f"{ctx.paths.trash}/{container.id}"])),
        )
    return monitor.spawn(
        ctx.paths.libexec,
        options,
        lock_fd=lock,
        user_ns_fd=realm.user_fd,
        net_ns_fd=realm.net_fd,
    )


def _prepare(place: Placement, request: RunRequest, spec: dict[str, Any]) -> None:
    """Directories and files that must be there before the tape is played.

    The writable directories are the tape's own to make: their owner is the container's root, which
    some ID maps make another than ours.
    """
    for path in (place.merged, place.run_dir):
        os.makedirs(path, 0o700, exist_ok=True)
    hostfiles.write(place.container_dir, request, spec.get("hostname") or os.uname().nodename)
    for mount in request.mounts:
        if mount.type == "bind" and mount.create_source and not os.path.lexists(mount.source):
            try:
                os.makedirs(mount.source, 0o755)
            except OSError as error:
                raise UsageError(
                    f"cannot make mount source {mount.source}: "
                    f"{os.strerror(error.errno or 0).lower()}"
                ) from None


def _options(
    ctx: Context,
    container: Container,
    request: RunRequest,
    spec: dict[str, Any],
    place: Placement,
) -> monitor.MonitorOptions:
    logged = request.log_driver != "none"
    options = monitor.MonitorOptions(
        id=container.id,
        launch=f"{ctx.paths.libexec}/launch",
        tape=f"{place.run_dir}/tape",
        socket=f"{place.run_dir}/sock",
        run_dir=place.run_dir,
        state=f"{place.container_dir}/state.json",
        durable=not request.auto_remove,
        boot_id=proc.boot_id(),
        tty=request.tty,
        stdin=request.interactive,
        stdin_once=request.interactive and "stdin" in request.attach,
        restart=request.restart_name,
        restart_max=request.restart_max,
        stop_signal=specs.stop_signal(request, spec),
        stop_timeout=stop_timeout(ctx, request),
    )
    if logged:
        options.log = f"{place.container_dir}/{container.id}-json.log"
        options.log_max_size, options.log_max_file = log_limits(ctx, request)
    if request.auto_remove:
        options.remove_tape = f"{place.run_dir}/remove"
        options.container_dir = place.container_dir
        options.trash_dir = ctx.paths.trash
        options.names_dir = ctx.paths.names
    return options


def stop_timeout(ctx: Context, request: RunRequest) -> int:
    """Seconds between the stop signal and SIGKILL: the container's own, or the configured ones."""
    if request.stop_timeout is not None:
        return request.stop_timeout
    return int(str(ctx.settings.get("run.stop_timeout")))


def log_limits(ctx: Context, request: RunRequest) -> tuple[int, int]:
    """(bytes, files) at which the json-file log rotates; 0 bytes is never."""
    size = request.log_opts.get("max-size", str(ctx.settings.get("run.log_max_size")))
    files = request.log_opts.get("max-file", str(ctx.settings.get("run.log_max_file")))
    factor = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}.get(size[-1:].lower(), 1)
    digits = size if factor == 1 else size[:-1]
    return (int(digits) * factor if digits.lstrip("-").isdigit() else 0), int(files)


def running_conflict(container: Container) -> ConflictError:
    """What a start of a running container says."""
    return ConflictError(f"cannot start container {container.name}: it is already running")


def drop_run_dir(path: str) -> None:
    """Remove a run directory and the exec sessions in it; what is gone already is fine."""
    for top, dirs, files in os.walk(path, topdown=False):
        for name in files:
            _quietly(os.unlink, f"{top}/{name}")
        for name in dirs:
            _quietly(os.rmdir, f"{top}/{name}")
    _quietly(os.rmdir, path)


def _quietly(act: Callable[[str], None], path: str) -> None:
    try:
        act(path)
    except OSError:
        pass


def _put(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
