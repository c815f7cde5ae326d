"""Addresses of one network: which are taken, and which is next.

Pure.  Next fit: an address that was given back is used again only when the others were, so that what still has
the old owner in mind meets nobody.  Owns no persistence; the endpoints that live say what is taken.
"""

from __future__ import annotations

import ipaddress

from rootless.errors import ConflictError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

    from rootless.plan.network import Subnet

    Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


class Pool:
    """The addresses of one subnet."""

    def __init__(self, subnet: Subnet) -> None:
        self.network = ipaddress.ip_network(subnet.subnet)
        self.gateway = subnet.gateway
        ranged = ipaddress.ip_network(subnet.ip_range) if subnet.ip_range else self.network
        self._first = int(ranged.network_address)
        self._count = ranged.num_addresses
        self._next = 0
        self._taken: set[int] = set()
        self._reserved = {int(ipaddress.ip_address(address)) for address in subnet.aux.values()}
        if subnet.gateway:
            self._reserved.add(int(ipaddress.ip_address(subnet.gateway)))
        self._reserved.add(int(self.network.network_address))
        if self.network.version == 4 and self.network.prefixlen < 31:
            self._reserved.add(int(self.network.broadcast_address))

    @property
    def prefix(self) -> int:
        """Bits of the network part."""
        return self.network.prefixlen

    def take(self, wanted: str = "", liked: str = "") -> str:
        """Take the WANTED address, or LIKED if it is free, or the next; raises ConflictError."""
        if wanted:
            return self._take_wanted(wanted)
        if liked:
            number = self._number(liked)
            if number is not None and self._free(number):
                self._taken.add(number)
                return liked
        for step in range(self._count):
            offset = (self._next + step) % self._count
            number = self._first + offset
            if self._free(number):
                self._next = offset + 1
                self._taken.add(number)
                return str(self._address(number))
            if step > len(self._taken) + len(self._reserved):
                break
        raise ConflictError(f"no available addresses on network {self.network}")

    def release(self, address: str) -> None:
        """Give an address back."""
        number = self._number(address)
        if number is not None:
            self._taken.discard(number)

    def _take_wanted(self, wanted: str) -> str:
        number = self._number(wanted)
        if number is None or number in (
            int(self.network.network_address),
            int(self.network.broadcast_address) if self.network.version == 4 else -1,
        ):
            raise ConflictError(f"no configured subnet contains IP address {wanted}")
        if number in self._taken or number == self._gateway_number():
            raise ConflictError("address already in use")
        self._taken.add(number)
        return str(self._address(number))

    def _gateway_number(self) -> int:
        return int(ipaddress.ip_address(self.gateway)) if self.gateway else -1

    def _free(self, number: int) -> bool:
        return number not in self._taken and number not in self._reserved

    def _address(self, number: int) -> Address:
        if self.network.version == 6:
            return ipaddress.IPv6Address(number)
        return ipaddress.IPv4Address(number)

    def _number(self, address: str) -> int | None:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return None
        return int(found) if found in self.network else None
