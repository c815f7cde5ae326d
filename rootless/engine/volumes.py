"""Volumes: made, shown, removed, pruned, exported, imported; and swept when their container is gone.

In use is a volume that a container's record refers to.  Both sides hold the volume's lock where it matters
(store/volumes.py says how), so no lock is held over all containers.
"""

from __future__ import annotations

import os
import time

from rootless.drivers import volume as drivers
from rootless.errors import ConflictError, NotFoundError, RootlessError, UsageError
from rootless.store import volumes as stores

from . import events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from rootless.store.volumes import Volume

    from .context import Context

WORKER = os.path.join(os.path.dirname(stores.__file__), "volumeworker.py")


def create(
    ctx: Context,
    name: str = "",
    *,
    driver: str = "local",
    labels: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    ephemeral: bool = False,
) -> tuple[Volume, bool]:
    """(the volume, whether it was made now); NAME "" draws one and marks the volume anonymous.

    A volume of that name is given back if it has the same driver and options, or none were asked for.
    Raises UsageError, ConflictError, NotFoundError (of the driver), HostError, NoSpaceError.
    """
    asked = dict(options or {})
    wanted = drivers.driver(driver)
    if name:
        stores.check(name)
    try:
        wanted.check(asked)
    except RootlessError as error:
        shown = f"create {name}: " if name else "create volume: "
        raise type(error)(shown + error.message, hint=error.hint, exit_code=1) from None
    marks = dict(labels or {})
    if not name:
        name = os.urandom(32).hex()
        marks[stores.ANONYMOUS] = ""
    volume, made = ctx.volumes.create(
        name, driver=driver, labels=marks, options=asked, ephemeral=ephemeral
    )
    if not made and (volume.driver != driver or (asked and asked != volume.options)):
        raise ConflictError(
            f"create {name}: conflict: volume name must be unique: "
            "there is one with another driver or other options"
        )
    if made:
        events.volume(ctx, "create", name, driver)
    return volume, made


def users(ctx: Context) -> dict[str, list[str]]:
    """Volume name -> IDs of the containers that refer to it, running or not."""
    found: dict[str, list[str]] = {}
    for container, _ in ctx.containers.scan():
        try:
            mounts = container.record["request"].get("mounts") or []
        except NotFoundError:
            continue  # removed while we looked
        for name in {mount["source"] for mount in mounts if mount.get("type") == "volume"}:
            found.setdefault(name, []).append(container.id)
    return found


def timestamp(volume: Volume) -> str:
    """When it was made, as `volume inspect` shows it: RFC 3339 with the local offset."""
    moment = time.localtime(volume.created)
    offset = time.strftime("%z", moment)
    zone = "Z" if offset in ("+0000", "") else f"{offset[:3]}:{offset[3:]}"
    return time.strftime("%Y-%m-%dT%H:%M:%S", moment) + zone


def inspect(ctx: Context, name: str) -> dict[str, Any]:
    """A volume in Docker's JSON; raises NotFoundError."""
    volume = ctx.volumes.get(name)
    return {
        "CreatedAt": timestamp(volume),
        "Driver": volume.driver,
        "Labels": dict(volume.labels) or None,
        "Mountpoint": volume.data_dir,
        "Name": volume.name,
        "Options": dict(volume.options) or None,
        "Scope": "local",
    }


def remove(ctx: Context, name: str) -> None:
    """Remove a volume with its content; raises NotFoundError, ConflictError where it is in use."""
    lock = ctx.volumes.lock(name)
    try:
        using = users(ctx).get(name)
        if using:
            raise ConflictError(f"remove {name}: volume is in use - [{', '.join(sorted(using))}]")
        driver = ctx.volumes.get(name).driver
        gone = ctx.volumes.trash(name)
    finally:
        os.close(lock)
    events.volume(ctx, "destroy", name, driver)
    ctx.remove_trees([gone])


def drop(ctx: Context, names: Iterable[str]) -> list[str]:
    """Remove those of the volumes that nobody uses; their names."""
    gone = []
    for name in names:
        try:
            remove(ctx, name)
        except (ConflictError, NotFoundError):
            continue
        gone.append(name)
    return gone


def anonymous_of(ctx: Context, record: Mapping[str, Any]) -> list[str]:
    """Names of the anonymous volumes that a container refers to."""
    found = []
    for mount in record["request"].get("mounts") or []:
        if mount.get("type") != "volume":
            continue
        try:
            if ctx.volumes.get(mount["source"]).anonymous:
                found.append(str(mount["source"]))
        except RootlessError:
            continue
    return found


def doom(ctx: Context, names: Iterable[str]) -> None:
    """Note that volumes go with their container, so that a sweep ends what is begun now."""
    for name in names:
        try:
            ctx.volumes.get(name).mark_ephemeral(True)
        except NotFoundError:
            continue


def sweep(ctx: Context) -> None:
    """Remove what crashes left: half-made volumes, and those whose container is gone."""
    doomed = [volume.name for volume in ctx.volumes.all() if volume.ephemeral]
    if doomed:
        using = users(ctx)
        drop(ctx, [name for name in doomed if name not in using])
    ctx.remove_trees(ctx.volumes.leftovers())


# content


def _content(ctx: Context, name: str) -> tuple[Volume, str]:
    """(the volume, the directory of the host that holds its content); raises UsageError for a tmpfs."""
    volume = ctx.volumes.get(name)
    backing = drivers.driver(volume.driver).backing(volume.options, volume.data_dir)
    if backing.type != "bind":
        raise UsageError(
            f"cannot reach the content of volume {name}: it is a {backing.type}, "
            "which is there only in a running container",
            exit_code=1,
        )
    return volume, backing.source


def _work(
    ctx: Context, what: str, verb: str, word: str, fds: Mapping[int, int] | None = None
) -> None:
    """Run the worker's VERB as root of the realm; raises what it reports."""
    from rootless.store import worker

    worker.run(worker.command(WORKER, verb, word), ctx.run_in_realm, "", what, fds)


def settle(ctx: Context, volume: Volume) -> None:
    """Put in place what a worker had ready when it was killed."""
    if volume.pending:
        _work(ctx, f"put the content of volume {volume.name} in place", "settle", volume.dir)


def export(ctx: Context, name: str, sink: int) -> None:
    """Write a volume's content as a tar stream to the descriptor SINK."""
    lock = ctx.volumes.hold(name)
    try:
        volume, directory = _content(ctx, name)
        settle(ctx, volume)
        _work(ctx, f"export volume {name}", "export", directory, {1: sink})
    finally:
        os.close(lock)


def import_tar(ctx: Context, name: str, source: int) -> None:
    """Unpack the tar stream from the descriptor SOURCE into a volume, over what is there.

    Owners are kept.  All of it is unpacked before anything is replaced.
    """
    lock = ctx.volumes.hold(name)
    try:
        volume, directory = _content(ctx, name)
        if directory != volume.data_dir:
            raise UsageError(
                f"cannot import into volume {name}: it is {directory} of the host",
                hint="unpack the archive there with rootless unshare tar",
                exit_code=1,
            )
        _work(ctx, f"import into volume {name}", "import", volume.dir, {0: source})
    finally:
        os.close(lock)
