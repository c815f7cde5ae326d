"""Freeing the build cache: records of steps, layers that only they name, cache mounts, and what was fetched."""

from __future__ import annotations

import fcntl
import os
import time

from rootless.store.buildcache import BuildCache
from rootless.store.layers import drop_lock, take_lock

from . import buildusage, garbage, usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .buildusage import Item
    from .context import Context


def prune(
    ctx: Context,
    *,
    all: bool = False,  # noqa: A002
    before: float | None = None,
    wanted: Callable[[Item], bool] | None = None,
    keep: int = 0,
) -> tuple[list[str], int]:
    """Forget what was not used since BEFORE (seconds since 1970; None: all): (what went, bytes freed).

    Without ALL, steps whose layers an image has stay, and so do cache mounts and what was fetched.  WANTED
    chooses among the rest; with KEEP, what was used longest ago goes until no more bytes than that are left.
    """
    cache = BuildCache(ctx.paths)
    limit = time.time() if before is None else before
    places = [ctx.paths.images, ctx.paths.layers, cache.mounts, cache.directory]
    stored = [path for path in places if os.path.isdir(path)]
    sizes = sum(size for size, _ in usage.measure(ctx, stored))
    found = buildusage.items(ctx)
    left = sum(item.size for item in found if not item.shared)
    gone = []
    for item in reversed(found):
        if keep and left <= keep:
            break
        plain = item.kind == buildusage.STEP and not item.shared
        if item.used > limit or not (all or plain) or (wanted is not None and not wanted(item)):
            continue
        if _remove(ctx, cache, item):
            gone.append(item.id)
            left -= 0 if item.shared else item.size
    if wanted is None and not keep:
        _forget_contents(cache, limit)
    garbage.collect(ctx)
    stored = [path for path in stored if os.path.isdir(path)]
    return gone, max(0, sizes - sum(size for size, _ in usage.measure(ctx, stored)))


def _forget_contents(cache: BuildCache, limit: float) -> None:
    """Forget what steps chose of layers: it costs nothing but room for a line each."""
    for record in list(cache.records()):
        if buildusage.is_content(record) and record["used"] <= limit:
            cache.forget(record["key"])


def _remove(ctx: Context, cache: BuildCache, item: Item) -> bool:
    """Take one thing away; False where a build holds it."""
    if item.kind == buildusage.STEP:
        cache.forget(item.key)
        return True
    if item.kind == buildusage.MOUNT:
        return _locked(ctx, f"{item.paths[0]}.lock", item)
    lock = f"{item.paths[0]}/lock"
    if item.kind == buildusage.GIT:
        lock = f"{cache.directory}/git/{item.key}.lock"
    fd = take_lock(lock, wait=False)
    if fd < 0:
        return False
    try:
        ctx.remove_trees(item.paths)
    finally:
        drop_lock(lock, fd)
    return True


def _locked(ctx: Context, lock: str, item: Item) -> bool:
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ctx.remove_trees(item.paths)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
