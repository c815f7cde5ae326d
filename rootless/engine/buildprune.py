"""Freeing the build cache: records of steps, the layers that only they name, and cache mounts."""

from __future__ import annotations

import fcntl
import os
import time

from rootless.errors import RootlessError
from rootless.store.buildcache import BuildCache

from . import garbage, usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context


def prune(
    ctx: Context,
    *,
    all: bool = False,  # noqa: A002
    before: float | None = None,
) -> tuple[list[str], int]:
    """Forget steps not used since BEFORE (seconds since 1970; None: all): (what went, bytes freed).

    Without ALL, steps whose layers an image has stay, and so does what cache mounts hold.
    """
    cache = BuildCache(ctx.paths)
    limit = time.time() if before is None else before
    kept: set[str] = set()
    if not all:
        for image in ctx.images.list():
            try:
                kept.update(image.diff_ids)
            except RootlessError:
                continue
    places = [ctx.paths.images, ctx.paths.layers, cache.mounts, cache.directory]
    stored = [path for path in places if os.path.isdir(path)]
    sizes = sum(size for size, _ in usage.measure(ctx, stored))
    gone = []
    for record in list(cache.records()):
        if record["used"] <= limit and record.get("diff_id") not in kept:
            cache.forget(record["key"])
            gone.append(record["key"][:25])
    if all:
        gone += _mounts(ctx, cache, limit)
    garbage.collect(ctx)
    left = [path for path in stored if os.path.isdir(path)]
    return gone, max(0, sizes - sum(size for size, _ in usage.measure(ctx, left)))


def _mounts(ctx: Context, cache: BuildCache, limit: float) -> list[str]:
    """Remove cache mounts that no build holds."""
    try:
        names = os.listdir(cache.mounts)
    except OSError:
        return []
    gone = []
    for name in sorted(names):
        if name.endswith(".lock") or os.stat(f"{cache.mounts}/{name}").st_mtime > limit:
            continue
        fd = os.open(f"{cache.mounts}/{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ctx.remove_trees([f"{cache.mounts}/{name}"])
            gone.append(f"mount-{name[:19]}")
        except BlockingIOError:
            continue
        finally:
            os.close(fd)
    return gone
