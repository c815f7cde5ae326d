"""Containers with a network of their own: pasta or slirp4netns beside them, as podman has it.

Joins the drivers with a container's record.  Such a program is told of ports when it starts, so that one that
the caller left open is chosen when the container is created, and kept.
"""

from __future__ import annotations

from rootless.errors import HostError
from rootless.plan import attach, netmode, network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.plan.image import ImageConfig
    from rootless.plan.network import Port
    from rootless.plan.request import Placement, RunRequest

    from .context import Context


def settle(ctx: Context, request: RunRequest, image: ImageConfig) -> None:
    """Refuse what the container's program cannot do, and put the ports that it publishes into REQUEST.

    Raises UsageError, HostError.
    """
    ports = [_chosen(port) for port in attach.published(request, image)]
    request.publish = [_text(port) for port in ports]
    request.publish_all = False
    _driver_plan(ctx, request, ports, "/nonexistent")


def plan(ctx: Context, request: RunRequest, image: ImageConfig, place: Placement) -> None:
    """Put on PLACE how the container's program is started."""
    ports = attach.published(request, image)
    place.network_program = _driver_plan(ctx, request, ports, place.run_dir)


def _driver_plan(
    ctx: Context, request: RunRequest, ports: list[Port], directory: str
) -> tuple[list[Any], list[Any], str]:
    from rootless.drivers import network as drivers

    options = netmode.options(request.network)
    driver = drivers.driver(network.mode(request.network))
    beside = driver.plan(options, ports, request.mac, directory, ctx.facts)
    return list(beside.before), list(beside.after), beside.nameserver


def _chosen(port: Port) -> Port:
    """PORT with a host port: the one that is asked for, or one that is free now."""
    import socket

    types = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
    if port.protocol not in types or (port.host_port and not port.host_end):
        return port
    address = port.host_ip or "0.0.0.0"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    last = max(port.host_port, port.host_end)
    for number in range(port.host_port, last + 1):
        with socket.socket(family, types[port.protocol]) as one:
            try:
                one.bind((address, number))
            except OSError:
                continue
            found = one.getsockname()[1]
        return network.Port(port.host_ip, found, port.container_port, port.protocol, port.activate)
    wanted = f"{port.host_port}-{last}" if last else "any"
    raise HostError(f"cannot publish port {port.container_port}: none of {wanted} is free")


def _text(port: Port) -> str:
    """PORT as -p has it."""
    where = (
        f"[{port.host_ip}]:" if ":" in port.host_ip else f"{port.host_ip}:" if port.host_ip else ""
    )
    activate = ",activate" if port.activate else ""
    return f"{where}{port.host_port}:{port.container_port}/{port.protocol}{activate}"
