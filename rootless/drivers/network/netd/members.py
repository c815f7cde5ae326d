"""Who is on which network, under which names: the service's picture of its containers, and the answers for DNS.

Pure but for descriptors that a ``Member`` owns.  Changed by endpoints.py alone.
"""

from __future__ import annotations

import os
import socket

from rootless.plan.network import DEFAULT_NETWORK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.plan.network import AttachRequest, EndpointWish, NetworkDef

    from .watch import Watch


class Endpoint:
    """One container on one network.

    id         64 hex digits
    index      of the interface, the same on both sides
    interface  its name in the container
    ip, ip6    "" where the network has no such subnet
    prefix...  bits of the network part
    """

    __slots__ = (
        "id",
        "index",
        "interface",
        "ip",
        "ip6",
        "mac",
        "network",
        "prefix",
        "prefix6",
        "wish",
    )

    def __init__(self, network: NetworkDef, wish: EndpointWish, id: str) -> None:  # noqa: A002
        self.network = network
        self.wish = wish
        self.id = id
        self.index = 0
        self.interface = ""
        self.mac = ""
        self.ip = ""
        self.ip6 = ""
        self.prefix = 0
        self.prefix6 = 0

    def gateway(self, version: int) -> str:
        """The network's gateway for IPv4 (4) or IPv6 (6), "" where nothing leaves it."""
        subnet = self.network.of_version(version)
        return "" if subnet is None or self.network.internal else subnet.gateway

    def address(self, version: int) -> str:
        """Its address, IPv4 (4) or IPv6 (6)."""
        return self.ip6 if version == 6 else self.ip

    def to_dict(self, names: list[str]) -> dict[str, Any]:
        """What inspect shows of it."""
        return {
            "network_id": self.network.id,
            "endpoint_id": self.id,
            "mac": self.mac,
            "ip": self.ip,
            "prefix": self.prefix,
            "gateway": self.gateway(4),
            "ip6": self.ip6,
            "prefix6": self.prefix6,
            "gateway6": self.gateway(6),
            "aliases": self.wish.aliases,
            "dns_names": names,
            "interface": self.interface,
            "gw_priority": self.wish.gw_priority,
        }


class Member:
    """A container that runs: its process, its namespace and its endpoints in the order of their making."""

    __slots__ = ("endpoints", "handed", "net_fd", "pid", "ports", "request", "start", "watch")

    def __init__(self, request: AttachRequest, pid: int, start: int, net_fd: int) -> None:
        self.request = request
        self.pid = pid
        self.start = start
        self.net_fd = net_fd
        self.watch: Watch | None = None
        self.endpoints: dict[str, Endpoint] = {}
        self.ports: list[dict[str, Any]] = []
        self.handed: list[
            tuple[str, socket.socket]
        ] = []  # for the container to inherit, with names

    def close(self) -> None:
        """Close its descriptors."""
        if self.watch is not None:
            self.watch.close()
        for _, sock in self.handed:
            sock.close()
        os.close(self.net_fd)

    def ranked(self) -> list[Endpoint]:
        """Its endpoints, that of highest priority first, then by name; those on internal networks last."""
        return sorted(
            self.endpoints.values(),
            key=lambda one: (one.network.internal, -one.wish.gw_priority, one.network.name),
        )

    def main(self) -> Endpoint | None:
        """The endpoint with the default route."""
        return next(iter(self.ranked()), None)

    def gateways(self) -> list[str]:
        """Its default routes, at most one per family."""
        found = []
        for version in (4, 6):
            for one in self.ranked():
                if one.gateway(version) and one.address(version):
                    found.append(one.gateway(version))
                    break
        return found

    def names(self, endpoint: Endpoint) -> list[str]:
        """The names under which others on the endpoint's network find it."""
        if endpoint.network.name == DEFAULT_NETWORK:
            return []
        request = self.request
        names = [request.name, *endpoint.wish.aliases, request.id[:12], request.hostname]
        return list(dict.fromkeys(name for name in names if name))


class Members:
    """All containers of the service, by ID, and names by network."""

    def __init__(self) -> None:
        self.by_id: dict[str, Member] = {}
        self._names: dict[str, dict[str, list[Endpoint]]] = {}  # network ID -> name -> endpoints
        self._addresses: dict[str, tuple[Member, Endpoint]] = {}

    def enter(self, member: Member, endpoint: Endpoint) -> None:
        """Let an endpoint that is ready be found."""
        known = self._names.setdefault(endpoint.network.id, {})
        for name in member.names(endpoint):
            known.setdefault(name.lower(), []).append(endpoint)
        for address in filter(None, (endpoint.ip, endpoint.ip6)):
            self._addresses[address] = (member, endpoint)

    def leave(self, member: Member, endpoint: Endpoint) -> None:
        """Let an endpoint be found no more."""
        known = self._names.get(endpoint.network.id, {})
        for name in member.names(endpoint):
            found = known.get(name.lower(), [])
            if endpoint in found:
                found.remove(endpoint)
            if not found:
                known.pop(name.lower(), None)
        if not known:
            self._names.pop(endpoint.network.id, None)
        for address in filter(None, (endpoint.ip, endpoint.ip6)):
            self._addresses.pop(address, None)

    def on_network(self, network_id: str) -> list[tuple[Member, Endpoint]]:
        """The endpoints of a network."""
        return [
            (member, endpoint)
            for member in self.by_id.values()
            for endpoint in member.endpoints.values()
            if endpoint.network.id == network_id
        ]

    def network_of(self, address: str) -> NetworkDef | None:
        """The network on which ADDRESS is a container's."""
        found = self._addresses.get(address)
        return found[1].network if found else None

    # What DNS asks; CONTAINER is the ID of who asks.

    def lookup(self, container: str, name: str, kind: int) -> list[str] | None:
        """Addresses (KIND 4 or 6) of a name on the container's networks; None if nobody there has that name."""
        member = self.by_id.get(container)
        if member is None:
            return None
        found: list[Endpoint] = []
        for own in member.endpoints.values():
            known = self._names.get(own.network.id, {})
            bare = self._without_network(name.lower(), own.network.name.lower())
            found += known.get(bare) or known.get(self._linked(own, bare), [])
        if not found:
            return None
        return [one.address(kind) for one in dict.fromkeys(found) if one.address(kind)]

    @staticmethod
    def _without_network(name: str, network: str) -> str:
        return name[: -len(network) - 1] if name.endswith("." + network) else name

    @staticmethod
    def _linked(own: Endpoint, alias: str) -> str:
        for link in own.wish.links:
            target, _, given = link.partition(":")
            if (given or target).lower() == alias:
                return target.lower()
        return ""

    def reverse(self, container: str, address: str) -> str | None:
        """NAME.NETWORK of an address on one of the container's networks."""
        member = self.by_id.get(container)
        found = self._addresses.get(address)
        if member is None or found is None or found[1].network.name == DEFAULT_NETWORK:
            return None
        other, endpoint = found
        if endpoint.network.name not in member.endpoints:
            return None
        return f"{other.request.name or other.request.id[:12]}.{endpoint.network.name}"

    def external(self, container: str) -> bool:
        """Whether names of the outside are looked up for it: not if all its networks are internal."""
        member = self.by_id.get(container)
        return member is not None and any(
            not one.network.internal for one in member.endpoints.values()
        )
