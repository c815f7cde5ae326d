"""RUN --mount=type=cache,from=: a cache that begins with a copy of what a stage, image or directory has."""

from __future__ import annotations

import os

from rootless import jsonc
from rootless.plan import launch
from rootless.plan.request import RunRequest
from rootless.runtime import realm
from rootless.store import worker

from . import buildsteps, rootfs
from .buildlayers import WORKER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .buildlayers import Workspace
    from .buildnamed import Place


def fill(
    work: Workspace,
    path: str,
    mode: int,
    mount: Mapping[str, str],
    place: Place | None,
    lowers: Sequence[str],
    base: str,
) -> None:
    """Make the cache PATH with what MOUNT names of PLACE, or of LOWERS where that is None.

    BASE is a directory for the work.  Nothing is at PATH before all of it is; of two builds one is first.
    """
    ctx = work.ctx
    outer: list[Any] = []
    inner: list[Any] = []
    if place is None:
        root, ignored = f"{base}/seed", []
        os.makedirs(base, 0o700, exist_ok=True)
        outer, inner = buildsteps.view(work, root, buildsteps.origin(base, lowers))
    else:
        root, ignored = place.directory, place.ignored
    new = f"{path}.new-{os.urandom(4).hex()}"
    inner = [("mkdir_host", (new, mode)), *inner]
    source = {
        "root": root,
        "title": mount["from"],
        "paths": [mount.get("source") or "/"],
        "ignored": list(ignored),
    }
    wanted = {"sources": [source], "inline": [], "dest": "/", "excludes": []}
    argv = worker.command(WORKER, "copy", f"--root={new}", f"--journal={base}/owners")
    ids = rootfs.ids_of(ctx, {"map_key": buildsteps.map_key(ctx)}, RunRequest())
    fd = realm.memfd("request", jsonc.dumps(wanted).encode())

    def begin(argv: Sequence[str], table: Mapping[int, int], _: str) -> int:
        return ctx.play(launch.rootfs_tape(outer, inner, argv, ids), "fill a cache", table)

    try:
        worker.run(argv, begin, "", "fill a cache", {0: fd})
        os.rename(new, path)
    except OSError:
        if not os.path.isdir(path):
            raise
    finally:
        os.close(fd)
        if os.path.isdir(new):
            ctx.remove_trees([new])
