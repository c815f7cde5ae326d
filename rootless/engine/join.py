"""Namespaces shared with another container, and slots of automatic ID maps.

Turns ``container:NAME`` in a request into the pid and start time of that container's first process, and
``--userns auto`` into a range that no other living container has.
"""

from __future__ import annotations

import fcntl
import os

from rootless.errors import ConflictError, IdMapError

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
            place.joined[kind] = process_of(ctx, value[len("container:") :])


def process_of(ctx: Context, reference: str) -> tuple[int, int]:
    """(pid, start time) of a running container's first process; raises ConflictError if it has none."""
    container = ctx.containers.resolve(reference)
    state = ctx.containers.read_state(container.id)
    if state["status"] != "running":
        raise ConflictError(f"cannot join namespaces of container {reference}: it is not running")
    return int(state["pid"]), int(state["pidStart"])


def claim_slot(ctx: Context, size: int) -> tuple[int, int]:
    """(slot, open lock) of a free automatic range of SIZE IDs in the realm; raises IdMapError."""
    total = sum(extent[2] for extent in ctx.facts.uid_map)
    directory = f"{ctx.paths.runtime_root}/auto-{size}"
    os.makedirs(directory, 0o700, exist_ok=True)
    for slot in range(1, total // size):
        fd = os.open(f"{directory}/{slot}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            continue
        return slot, fd
    raise IdMapError(
        f"cannot map {size} IDs for --userns auto: all of the {total} subordinate IDs are taken",
        hint="give a smaller --userns auto:size=N, or ask for a larger range in /etc/subuid",
    )
