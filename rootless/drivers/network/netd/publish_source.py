"""Where a published port leads, and as whom its clients appear there.

Pure.  A container sees a client's own address and port, unless its answer would not find the way back: a client
on the host's loopback, one whose address the container takes for a neighbour's, one of an address family that
the container does not have, or any client of a container that has no default route appears as the gateway.
"""

from __future__ import annotations

import functools
import ipaddress
from typing import NamedTuple

LINK_LOCAL6 = ipaddress.IPv6Network("fe80::/10")


class Target(NamedTuple):
    """A container's addresses, "" for none; looked up for each connection.

    gateway, gateway6  of the networks that the addresses belong to
    near               subnets that the container reaches without a gateway
    routed, routed6    it has a default route
    """

    ip: str
    ip6: str
    gateway: str
    gateway6: str
    near: tuple[str, ...] = ()
    routed: bool = True
    routed6: bool = True

    @property
    def address(self) -> str:
        """Its address, IPv4 if it has one."""
        return self.ip or self.ip6


class Route(NamedTuple):
    """Go to ADDRESS as SOURCE; OWN if that is the client's own address, so that its port is kept, too."""

    address: str
    source: str
    own: bool


def route(client: str, target: Target) -> Route | None:
    """The route for a CLIENT's address; None if the container has no address."""
    client = client.partition("%")[0]
    six = ":" in client
    if not (target.ip6 if six else target.ip):
        six = not six
        address = target.ip6 if six else target.ip
        return (
            Route(address, target.gateway6 if six else target.gateway, False) if address else None
        )
    if (target.routed6 if six else target.routed) and not _is_near(client, target.near):
        return Route(target.ip6 if six else target.ip, client, True)
    if six:
        return Route(target.ip6, target.gateway6, False)
    return Route(target.ip, target.gateway, False)


@functools.lru_cache(maxsize=1024)
def _is_near(client: str, near: tuple[str, ...]) -> bool:
    """Whether a container on the subnets NEAR would not send to CLIENT by its gateway."""
    address = ipaddress.ip_address(client)
    return (
        address.is_loopback
        or address.is_unspecified
        or (address.version == 6 and address in LINK_LOCAL6)
        or any(address in subnet for subnet in _parsed(near))
    )


@functools.lru_cache(maxsize=64)
def _parsed(near: tuple[str, ...]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(subnet, strict=False) for subnet in near]
