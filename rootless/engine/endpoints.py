"""What containers have of the networks they are on: the report that the network service keeps for each.

``<container>/network.json`` is written when the container is connected and whenever that changes, and goes
with its process.  It is believed only in the boot it is of and while that process is alive.
"""

from __future__ import annotations

from rootless import jsonc
from rootless.errors import NotFoundError
from rootless.linux import proc
from rootless.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.store.containers import Container

    from .context import Context

    Report = dict[str, Any]

NOTHING: Report = {"networks": {}, "ports": []}


def report(directory: str) -> Report:
    """What a container has now: ``networks`` (name -> endpoint) and ``ports``; nothing if it does not run.

    An endpoint has network_id, endpoint_id, mac, ip, prefix, gateway, ip6, prefix6, gateway6, aliases,
    dns_names, interface; a port has host_ip, host_port, container_port, protocol.
    """
    try:
        found = jsonc.loads(files.read(f"{directory}/network.json"))
        fresh = found["boot"] == proc.boot_id() and proc.pid_alive(found["pid"], found["start"])
        return found if fresh else NOTHING
    except (OSError, ValueError, KeyError, TypeError):
        return NOTHING


def on_networks(ctx: Context) -> dict[str, list[tuple[Container, dict[str, Any]]]]:
    """Network ID -> (container, endpoint) of all that are on it now."""
    found: dict[str, list[tuple[Container, dict[str, Any]]]] = {}
    for container, _ in ctx.containers.scan():
        for endpoint in report(container.dir)["networks"].values():
            found.setdefault(str(endpoint.get("network_id")), []).append((container, endpoint))
    return found


def referred(ctx: Context) -> set[str]:
    """Names of the networks that some container is to be on, running or not."""
    from rootless.plan import attach
    from rootless.plan.request import RunRequest

    names: set[str] = set()
    for container, _ in ctx.containers.scan():
        try:
            request = RunRequest.from_dict(container.record["request"])
        except NotFoundError:
            continue  # removed while we looked
        names |= {wish.network for wish in attach.wishes(request)}
    return names
