"""The network parts of a container's JSON: NetworkSettings, PortBindings, ExposedPorts, Links.

What a container has comes from the network service's report (endpoints.py), what it asked for from its record.
"""

from __future__ import annotations

from rootless.errors import RootlessError
from rootless.plan import ports
from rootless.plan.network import DEFAULT_NETWORK, EndpointWish

from . import endpoints, listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from .context import Context

    Bindings = dict[str, list[dict[str, str]]]


def port_bindings(publish: Iterable[str]) -> Bindings:
    """The values of --publish as Docker's PortBindings."""
    found: Bindings = {}
    for port in ports.readable(publish):
        outside = str(port.host_port or "")
        if port.host_end:
            outside = f"{port.host_port}-{port.host_end}"
        found.setdefault(f"{port.container_port}/{port.protocol}", []).append(
            {"HostIp": port.host_ip, "HostPort": outside}
        )
    return found


def exposed(request: Mapping[str, Any], image: Mapping[str, Any]) -> dict[str, Any]:
    """Docker's ExposedPorts: what the image or --expose names, and what is published."""
    names = ports.exposed(request.get("expose") or (), image.get("exposed_ports") or {})
    names += port_bindings(request.get("publish") or ())
    return {name: {} for name in sorted(set(names))}


def links(request: Mapping[str, Any]) -> list[str] | None:
    """--link on the default network, as Docker shows it."""
    found = []
    for text in request.get("links") or ():
        name, _, alias = text.partition(":")
        found.append(f"/{name}:/{alias}")
    return found or None


def settings(
    ctx: Context,
    directory: str,
    request: Mapping[str, Any],
    image: Mapping[str, Any],
    *,
    running: bool,
) -> dict[str, Any]:
    """NetworkSettings of the container whose DIRECTORY this is."""
    report = endpoints.report(directory) if running else endpoints.NOTHING
    wishes = {values["network"]: values for values in request.get("endpoints") or ()}
    wishes = {DEFAULT_NETWORK if name == "default" else name: wishes[name] for name in wishes}
    networks = {
        name: _endpoint(ctx, name, EndpointWish(**wishes.get(name, {"network": name})), report)
        for name in listing.networks(request)
    }
    main = networks.get(DEFAULT_NETWORK, {}) if DEFAULT_NETWORK in report["networks"] else {}
    return {
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": "",
        "Ports": _ports(directory, request, image) if running else {},
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": main.get("EndpointID", ""),
        "Gateway": main.get("Gateway", ""),
        "GlobalIPv6Address": main.get("GlobalIPv6Address", ""),
        "GlobalIPv6PrefixLen": main.get("GlobalIPv6PrefixLen", 0),
        "IPAddress": main.get("IPAddress", ""),
        "IPPrefixLen": main.get("IPPrefixLen", 0),
        "IPv6Gateway": main.get("IPv6Gateway", ""),
        "MacAddress": main.get("MacAddress", ""),
        "Networks": networks,
    }


def _ports(
    directory: str, request: Mapping[str, Any], image: Mapping[str, Any]
) -> dict[str, list[dict[str, str]] | None]:
    """Where each port of a running container is published; null for one that is only exposed."""
    found: dict[str, list[dict[str, str]] | None] = {}
    for number, protocol, address, outside in listing.ports(directory, request, image):
        name = f"{number}/{protocol}"
        if address:
            bindings = found.get(name) or []
            found[name] = [*bindings, {"HostIp": address, "HostPort": str(outside)}]
        else:
            found.setdefault(name, None)
    return found


def _endpoint(
    ctx: Context, name: str, wish: EndpointWish, report: endpoints.Report
) -> dict[str, Any]:
    """One network of a container: what was asked, and what it has of it."""
    has = report["networks"].get(name, {})
    return {
        "IPAMConfig": _asked(wish),
        "Links": list(wish.links) or None,
        "Aliases": list(wish.aliases) or None,
        "MacAddress": has.get("mac", wish.mac),
        "DriverOpts": dict(wish.driver_opts) or None,
        "GwPriority": wish.gw_priority,
        "NetworkID": has.get("network_id") or _id_of(ctx, name),
        "EndpointID": has.get("endpoint_id", ""),
        "Gateway": has.get("gateway", ""),
        "IPAddress": has.get("ip", ""),
        "IPPrefixLen": has.get("prefix", 0),
        "IPv6Gateway": has.get("gateway6", ""),
        "GlobalIPv6Address": has.get("ip6", ""),
        "GlobalIPv6PrefixLen": has.get("prefix6", 0),
        "DNSNames": list(has.get("dns_names") or ()) or None,
    }


def _asked(wish: EndpointWish) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for key, value in (
        ("IPv4Address", wish.ip),
        ("IPv6Address", wish.ip6),
        ("LinkLocalIPs", list(wish.link_local_ips)),
    ):
        if value:
            found[key] = value
    return found or None


def _id_of(ctx: Context, name: str) -> str:
    try:
        return ctx.networks.get(name).id
    except RootlessError:
        return ""
