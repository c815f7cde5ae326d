"""Starting a container: spec, tape, monitor.

The container's lock file, held by its monitor for as long as it lives, is what makes a second start
fail and what tells a living container from a lost one.
"""

from __future__ import annotations

import os
import sys

from rootless import jsonc
from rootless.errors import ConflictError, UsageError
from rootless.linux import proc
from rootless.plan import idmap, launch, netmode, tape
from rootless.plan import spec as specs
from rootless.plan.image import ImageConfig
from rootless.plan.request import Placement, RunRequest
from rootless.runtime import monitor

from . import attach, events, filters, hostfiles, join, present, rootfs

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
    place = placement(ctx, record, request)
    control_group(ctx, record, request, place)
    return specs.build_spec(request, image, ctx.facts, place)


def run_dir(ctx: Context, container_id: str) -> str:
    """The container's directory for sockets and tapes, gone after a reboot."""
    return f"{ctx.paths.run_containers}/{container_id[:32]}"


def placement(
    ctx: Context,
    record: dict[str, Any],
    request: RunRequest,
    *,
    directory: str = "",
    volumes: bool = True,
    suppose: bool = False,
) -> Placement:
    """Where the container's parts lie on this host.

    DIRECTORY is another than its own while it is being created; VOLUMES: with what it mounts, which need
    not exist if we SUPPOSE so.
    """
    container_id = record["id"]
    directory = directory or f"{ctx.paths.containers}/{container_id}"
    place = Placement(
        container_id=container_id,
        container_dir=directory,
        run_dir=run_dir(ctx, container_id),
        lowers=rootfs.lowers(ctx, record, request),
        upper=f"{directory}/upper",
        work=f"{directory}/work",
        merged=f"{directory}/rootfs",
        libexec=ctx.paths.libexec,
        storage_driver=record["driver"],
        hosts_file=f"{directory}/hosts",
        hostname_file=f"{directory}/hostname",
        resolv_file=f"{directory}/resolv.conf",
        seccomp=lambda profile, caps: filters.program(ctx, profile, caps),
        emulation=lambda caps: filters.emulation(ctx, caps),
        one_id=record["map_key"] == idmap.SINGLE or idmap.emulated(request, ctx.facts),
    )
    place.host_name = os.uname().nodename
    join.resolve(ctx, request, place)
    if record["driver"]:
        assembly = ctx.driver_of(record).plan(rootfs.tree(ctx, record, request, place), ctx.facts)
        place.outer, place.root = assembly.outer, assembly.inner
    if request.limits:
        from . import limits

        limits.place(ctx, request, place)
    if volumes and request.mounts:
        from . import mounted

        if mounted.wanted(request):
            mounted.attach(ctx, record, request, place, suppose=suppose)
    return place


def control_group(
    ctx: Context, record: dict[str, Any], request: RunRequest, place: Placement, name: str = ""
) -> None:
    """Put into PLACE the container's group, where there is one."""
    wanted = str(ctx.settings.get("cgroup.driver"))
    if wanted == "none" or (wanted == "auto" and ctx.facts.cgroup_mode != "unified"):
        return
    from . import cgroups

    cgroups.plan(ctx, record, request, place, name)


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
    if request.links:
        from . import linking

        linking.require(ctx, container, request)
    place = placement(ctx, record, request)
    attach.plan(ctx, container.name, record, request, place)
    control_group(ctx, record, request, place, container.name)
    if netmode.is_own(request.network):
        from . import ownnet

        ownnet.plan(ctx, request, image, place)
    spec = specs.build_spec(request, image, ctx.facts, place)
    ops = launch.build_tape(spec, place, ctx.facts)
    prepare(place, request, spec)
    if place.fast is not None:
        from . import fastconnect

        fastconnect.put(ctx, request, place.run_dir)
    if request.storage_size:
        rootfs.check_size(ctx, container, request)
    if record["driver"]:
        rootfs.up(ctx, record, rootfs.tree(ctx, record, request, place))
    if place.trees:
        from . import mounted

        mounted.up(ctx, record, place)
    _put(f"{place.run_dir}/tape", tape.encode(ops))
    _put(f"{place.run_dir}/config.json", jsonc.dumps(spec).encode())
    events.write_lines(ctx, container.name, record, place.run_dir)
    options = _options(ctx, container, request, spec, place)
    if request.health or image.healthcheck:
        from . import health

        probe = health.prepare(ctx, request, image, spec, place, options)
        if probe:
            _put(f"{place.run_dir}/health", probe)
    realm = ctx.realm
    if place.attach is not None:
        attach.ready(ctx)
    if request.auto_remove:
        os.makedirs(ctx.paths.trash, 0o700, exist_ok=True)
        _put(
            f"{place.run_dir}/remove",
            tape.encode(launch.remove_tape([f"{ctx.paths.trash}/{container.id}"])),
        )
    stdio = _log(container, request, image, spec, place, options)
    return monitor.spawn(
        ctx.paths.libexec,
        options,
        stdio=stdio,
        lock_fd=lock,
        user_ns_fd=realm.user_fd,
        net_ns_fd=realm.net_fd,
    )


def _log(
    container: Container,
    request: RunRequest,
    image: ImageConfig,
    spec: dict[str, Any],
    place: Placement,
    options: monitor.MonitorOptions,
) -> bool:
    """Tell the monitor about a log that is not the plain one; whether the container gets our own streams."""
    if options.log or request.log_driver == "none":
        return False
    from . import logconfig

    return logconfig.apply(container, request, image, spec, place.run_dir, options)


def prepare(place: Placement, request: RunRequest, spec: dict[str, Any]) -> None:
    """Directories and files that must be there before the tape is played.

    The writable directories are the tape's own to make: their owner is the container's root, which
    some ID maps make another than ours.
    """
    for path in (place.merged, place.run_dir):
        os.makedirs(path, 0o700, exist_ok=True)
    hostname = spec.get("hostname") or os.uname().nodename
    server = place.network_program[2] if place.network_program is not None else ""
    hostfiles.write(place.container_dir, request, hostname, server)
    make_sources(request)


def make_sources(request: RunRequest) -> list[str]:
    """Make the directories of the host that -v names and nobody has; sources that are missing else."""
    missing = []
    for mount in request.mounts:
        if mount.type != "bind" or os.path.lexists(mount.source):
            continue
        if not mount.create_source:
            missing.append(mount.source)
            continue
        try:
            os.makedirs(mount.source, 0o755)
        except OSError as error:
            raise UsageError(
                f"cannot make mount source {mount.source}: {os.strerror(error.errno or 0).lower()}"
            ) from None
    return missing


def _options(
    ctx: Context,
    container: Container,
    request: RunRequest,
    spec: dict[str, Any],
    place: Placement,
) -> monitor.MonitorOptions:
    options = monitor.MonitorOptions(
        id=container.id,
        launch=f"{ctx.paths.libexec}/launch",
        tape=f"{place.run_dir}/tape",
        socket=f"{place.run_dir}/sock",
        fallback_socket=f"{place.container_dir}/sock",
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
        **events.options(ctx, place.run_dir),
    )
    if request.log_driver == "json-file" and not request.log_opts:
        options.log = f"{place.container_dir}/{container.id}-json.log"
    if request.mounts:
        _aftermath(ctx, container, request, place, options)
    if request.auto_remove:
        options.remove_tape = f"{place.run_dir}/remove"
        options.container_dir = place.container_dir
        options.trash_dir = ctx.paths.trash
        options.names_dir = ctx.paths.names
    return options


def _aftermath(
    ctx: Context,
    container: Container,
    request: RunRequest,
    place: Placement,
    options: monitor.MonitorOptions,
) -> None:
    """Let the monitor call Python at the end where volumes or O mounts leave something to clear away."""
    from . import mounted

    if not mounted.wanted(request):
        return
    from . import aftermath, volumes

    doomed = volumes.anonymous_of(ctx, container.record) if request.auto_remove else []
    trees = [] if request.auto_remove else mounted.leftovers(request, place.container_dir)
    if doomed or trees:
        options.on_exit = sys.executable
        options.on_exit_args = aftermath.arguments(ctx, doomed, trees)


def stop_timeout(ctx: Context, request: RunRequest) -> int:
    """Seconds between the stop signal and SIGKILL: the container's own, or the configured ones."""
    if request.stop_timeout is not None:
        return request.stop_timeout
    return int(str(ctx.settings.get("run.stop_timeout")))


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
