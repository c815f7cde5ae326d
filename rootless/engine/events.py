"""What the engine tells of what it does: Docker's events, with Docker's attributes.

A container's start and end are told by its monitor, which is there then; it reads what it needs to know of the
container from ``<run directory>/events`` (see helpers/monitor_events.c), written here.  All else is told by
the command that does it, once it is done.
"""

from __future__ import annotations

import os

from rootless import jsonc
from rootless.errors import RootlessError
from rootless.plan.network import DEFAULT_NETWORK, mode
from rootless.store import events as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from rootless.plan.network import NetworkDef
    from rootless.store.containers import Container
    from rootless.store.events import Event

    from .context import Context

LINES = "events"  # in a container's run directory
_LINES_MAX = 128 << 10  # what a monitor reads of it
_MANY = 60_000  # characters of a container's attributes


def attributes(name: str, record: Mapping[str, Any]) -> dict[str, str]:
    """What every event of a container says of it: its labels, image and name."""
    request = record.get("request") or {}
    labels = (record.get("image_config") or {}).get("labels") or {}
    image = str(record.get("image") or request.get("rootfs") or "")
    return {**labels, **(request.get("labels") or {}), "image": image, "name": name}


def of_container(container: Container, action: str, **more: str) -> Event:
    """An event of a container, to be written by :func:`tell`."""
    return (
        "container",
        action,
        container.id,
        {**attributes(container.name, container.record), **more},
    )


def tell(ctx: Context, *events: Event) -> None:
    """Write events."""
    ctx.events.append(*events)


def container(ctx: Context, about: Container, action: str, **more: str) -> None:
    """Tell what was done with a container."""
    tell(ctx, of_container(about, action, **more))


def of_image(action: str, image_id: str, name: str) -> Event:
    """An event of an image, to be written by :func:`tell`."""
    return "image", action, image_id, {"name": name}


def image(ctx: Context, action: str, image_id: str, name: str = "", *, known: str = "") -> None:
    """Tell what was done with an image that is there (under the name KNOWN): its labels are told, too."""
    try:
        config = ctx.images.resolve(known or image_id).config.get("config") or {}
    except RootlessError:
        config = {}  # it was fast to go
    labels = config.get("Labels") or {}
    tell(ctx, ("image", action, image_id, {**labels, "name": name or image_id}))


def network(ctx: Context, action: str, about: NetworkDef, container_id: str = "") -> None:
    """Tell what was done with a network."""
    tell(ctx, of_network(about, action, container_id))


def of_network(about: NetworkDef, action: str, container_id: str = "") -> Event:
    """An event of a network; CONTAINER_ID is who was connected or taken off."""
    found = {"name": about.name, "type": about.driver}
    if container_id:
        found["container"] = container_id
    return "network", action, about.id, found


def volume(ctx: Context, action: str, name: str, driver: str = "local") -> None:
    """Tell that a volume was made or removed."""
    tell(ctx, ("volume", action, name, {"driver": driver}))


def pruned(ctx: Context, kind: str, freed: int) -> None:
    """Tell that objects of a kind were pruned, and the bytes that this gave back."""
    tell(ctx, (kind, "prune", "", {"reclaimed": str(freed)}))


# what a monitor is told


def options(ctx: Context, run_dir: str) -> dict[str, Any]:
    """The options of a monitor that are about events; RUN_DIR is the container's."""
    return {
        "events": ctx.events.path,
        "events_max_size": ctx.events.max_size,
        "event_lines": f"{run_dir}/{LINES}",
    }


def write_lines(
    ctx: Context, name: str, record: Mapping[str, Any], run_dir: str, *, anew: bool = True
) -> None:
    """Put what a container's monitor is to tell into RUN_DIR; without ANEW only where there is something."""
    path = f"{run_dir}/{LINES}"
    if not anew and not os.path.exists(path):
        return
    temporary = f"{path}.{os.getpid()}" if not anew else path
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, _lines(ctx, name, record).encode())
        finally:
            os.close(fd)
        if not anew:
            os.rename(temporary, path)
    except OSError:
        pass  # it ended meanwhile, or the disk is full: its events say less


def _lines(ctx: Context, name: str, record: Mapping[str, Any]) -> str:
    own = attributes(name, record)
    text = jsonc.dumps(own)
    if len(text) > _MANY:
        text = jsonc.dumps(store.essential(own))
    lines = [f"A{text[1:-1]}\n"]
    size = len(lines[0])
    for first, last in _others(ctx, record):
        pair = f"U{store.prefix(*first)}\n", f"D{store.prefix(*last)}\n"
        size += len(pair[0]) + len(pair[1])
        if size < _LINES_MAX:
            lines += pair
    return "".join(lines)


def _others(ctx: Context, record: Mapping[str, Any]) -> Iterable[tuple[Event, Event]]:
    """(at its start, at its end) of what a container uses: its volumes, then its networks."""
    request = record.get("request") or {}
    container_id = str(record["id"])
    for mount in request.get("mounts") or ():
        if mount.get("type") == "volume":
            yield _mounted(container_id, mount)
    for name in network_names(request):
        try:
            about = ctx.networks.get(name)
        except Exception:
            continue
        yield (
            of_network(about, "connect", container_id),
            of_network(about, "disconnect", container_id),
        )


def _mounted(container_id: str, mount: Mapping[str, Any]) -> tuple[Event, Event]:
    name = str(mount["source"])
    word = "volume-driver="
    given = [flag[len(word) :] for flag in mount.get("flags") or () if flag.startswith(word)]
    driver = (given or ["local"])[-1]
    first = {
        "container": container_id,
        "destination": str(mount["destination"]),
        "driver": driver,
        "propagation": str(mount.get("propagation") or ""),
        "read/write": "false" if mount.get("readonly") else "true",
    }
    return (
        ("volume", "mount", name, first),
        ("volume", "unmount", name, {"container": container_id, "driver": driver}),
    )


def network_names(request: Mapping[str, Any]) -> list[str]:
    """The networks that a container is on, by name; its mode where that is host or none."""
    wanted = str(request.get("network") or "")
    kind = mode(wanted)
    if kind in ("none", "host"):
        return [kind]
    if kind != "bridge" or request.get("unplugged"):
        return []
    plain = DEFAULT_NETWORK if wanted in ("", "default") else wanted
    return [str(one["network"]) for one in request.get("endpoints") or ()] or [plain]
