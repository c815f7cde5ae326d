"""Namespaces shared with another container, and slots of automatic ID maps.

Turns ``container:NAME`` in a request into the pid and start time of that container's first process, and
``--userns auto`` into a range that no other living container has.
"""

from __future__ import annotations

import fcntl
import os
import stat

from rootless.errors import ConflictError, IdMapError
from rootless.plan import idmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.request import Placement, RunRequest

    from .context import Context


def resolve(ctx: Context, request: RunRequest, place: Placement) -> None:
    """Fill PLACE.joined (namespace kind -> (pid, start time)) for what REQUEST shares."""
    for kind, value in (
        ("pid", request.pid),
        ("ipc", request.ipc),
        ("network", request.network),
        ("uts", request.uts),
    ):
        if value.startswith("container:"):
            target = value[len("container:") :]
            place.joined[kind] = process_of(ctx, target)
            if kind == "network":
                _share_files(ctx, target, request, place)
            if _shares_host(ctx, target, kind):
                # The kernel lets nobody enter the initial namespace again; we are in it.
                del place.joined[kind]
                setattr(request, kind, "host")
                continue
            if kind == "ipc":
                place.shared_shm = shared_memory(ctx, target)
    if request.privileged:
        place.host_devices = host_devices()


def _share_files(ctx: Context, reference: str, request: RunRequest, place: Placement) -> None:
    """Let a container on another's network have its names: its hosts file, resolver and host name."""
    directory = ctx.containers.resolve(reference).dir
    place.hosts_file = f"{directory}/hosts"
    place.resolv_file = f"{directory}/resolv.conf"
    if request.uts not in ("", "private"):
        return
    place.hostname_file = f"{directory}/hostname"
    if not request.hostname:
        try:
            with open(place.hostname_file, encoding="utf-8", errors="surrogateescape") as file:
                request.hostname = file.read(256).strip()
        except OSError:
            pass


def map_key(ctx: Context, request: RunRequest) -> str:
    """Names the ID map of the container's layers: that of the container it joins, else its own.

    Joining a container's pid, network, IPC or UTS namespace brings its user namespace along.
    """
    for kind in ("pid", "network", "ipc", "uts"):
        value = getattr(request, kind)
        if value.startswith("container:"):
            target = value[len("container:") :]
            if not _shares_host(ctx, target, kind):
                return str(ctx.containers.resolve(target).record["map_key"])
    return idmap.map_key(request, ctx.facts)


def _shares_host(ctx: Context, reference: str, kind: str) -> bool:
    """Whether a container has no namespace of its own of this kind, but the host's."""
    mode = ctx.containers.resolve(reference).record["request"][kind]
    return bool(mode == "host")


def process_of(ctx: Context, reference: str) -> tuple[int, int]:
    """(pid, start time) of a running container's first process; raises ConflictError if it has none."""
    container = ctx.containers.resolve(reference)
    state = ctx.containers.read_state(container.id)
    if state["status"] != "running":
        raise ConflictError(f"cannot join namespaces of container {reference}: it is not running")
    return int(state["pid"]), int(state["pidStart"])


def with_slot(ctx: Context, request: RunRequest) -> str:
    """The --userns value of an automatic map with a range that no other container has.

    The caller holds :func:`slot_lock` until its own record is on disk.  Raises IdMapError.
    """
    size = idmap.auto_size(idmap.parse(request.userns))
    total = sum(extent[2] for extent in ctx.facts.uid_map)
    taken = []
    for container, _ in ctx.containers.scan():
        text = container.record["request"]["userns"]
        if text.startswith("auto:"):
            other = idmap.parse(text)
            taken.append((other.slot * idmap.auto_size(other), idmap.auto_size(other)))
    for slot in range(1, total // size):
        start = slot * size
        if all(start + size <= low or low + count <= start for low, count in taken):
            return idmap.with_slot(request.userns, slot)
    raise IdMapError(
        f"cannot map {size} IDs for --userns auto: all of the {total} subordinate IDs are taken",
        hint="give a smaller --userns auto:size=N, or ask for a larger range in /etc/subuid",
    )


def slot_lock(ctx: Context) -> int:
    """The lock under which automatic ranges are chosen; the caller closes it."""
    fd = os.open(f"{ctx.paths.data_root}/auto.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def shared_memory(ctx: Context, reference: str) -> str:
    """The directory that is /dev/shm of a container which shares it; raises ConflictError."""
    container = ctx.containers.resolve(reference)
    if container.record["request"]["ipc"] != "shareable":
        raise ConflictError(
            f"cannot join IPC of container {reference}: non-shareable IPC",
            hint="start that container with --ipc shareable",
        )
    return f"{container.dir}/shm"


def host_devices() -> list[str]:
    """Device nodes below /dev that this user can open for reading and writing, for --privileged."""
    found = []
    for name in sorted(os.listdir("/dev")):
        path = f"/dev/{name}"
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            continue
        if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and os.access(path, os.R_OK | os.W_OK):
            found.append(path)
    return found
