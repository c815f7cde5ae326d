"""How much room things take, counted where all of it can be read: in the realm.

Bytes are those in regular files, hard links counted once, as Docker counts them; blocks of a directory
itself, holes and shared extents are not considered.
"""

from __future__ import annotations

import os

from rootless.store import worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.store.containers import Container

    from .context import Context


def measure(ctx: Context, paths: Sequence[str]) -> list[tuple[int, int]]:
    """(bytes, inodes) below each of PATHS; (0, 0) for one that is not there."""
    if not any(os.path.lexists(path) for path in paths):
        return [(0, 0)] * len(paths)
    argv = worker.command(worker.FILES, "usage", *paths)
    found = worker.run(argv, ctx.run_in_realm, "", "count disk usage")
    return [(int(size), int(inodes)) for size, inodes in found["usage"]]


def writable(ctx: Context, containers: Sequence[Container]) -> list[int]:
    """Bytes that each container has written: its writable layer, for the copy driver what it changed."""
    plain = [one for one in containers if one.record.get("driver") != "copy"]
    uppers = [f"{ctx.paths.containers}/{one.id}/upper" for one in plain]
    sizes = dict(zip((one.id for one in plain), measure(ctx, uppers))) if plain else {}
    found = []
    for one in containers:
        if one.id in sizes:
            found.append(sizes[one.id][0])
        else:
            from . import files

            found.append(files.changed_bytes(ctx, one))
    return found
