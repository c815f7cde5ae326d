"""Which container has which addresses, and when they are free again: not before its interface is gone.

An interface takes the kernel tens of milliseconds to remove, which is done beside (bridges.py).  Until then
frames for its address may still be led to it.  So whoever wants, or liked, exactly that address waits; all
others get another.  Used by the loop's thread alone.
"""

from __future__ import annotations

import ipaddress

from rootless.errors import ConflictError, UsageError

from .ipam import Pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from typing import Callable

    from rootless.plan.network import NetworkDef

    from .members import Endpoint

PATIENCE = 2.0  # seconds for an interface to go


class Addresses:
    """The addresses of all networks."""

    def __init__(self, log: Callable[[str], object]) -> None:
        self._log = log
        self._pools: dict[str, list[Pool]] = {}  # network ID -> one per subnet
        self._last: dict[tuple[str, str], tuple[str, str]] = {}  # container, network -> addresses
        self._going: dict[Endpoint, threading.Event] = {}

    def take(self, container: str, endpoint: Endpoint) -> None:
        """Give ENDPOINT the addresses that it wishes, or had, or the next; raises ConflictError, UsageError."""
        network, wish = endpoint.network, endpoint.wish
        liked = self._last.get((container, network.id), ("", ""))
        for version, wanted in ((4, wish.ip), (6, wish.ip6)):
            pools = [pool for pool in self._pools_of(network) if pool.network.version == version]
            if wanted and not pools:
                self.give_back(endpoint)
                raise UsageError(
                    f"no configured subnet or ip-range contain the IP address {wanted}"
                )
            if not pools:
                continue
            try:
                address, prefix = self._one(network, pools, wanted, liked[version == 6])
            except BaseException:
                self.give_back(endpoint)
                raise
            if version == 6:
                endpoint.ip6, endpoint.prefix6 = address, prefix
            else:
                endpoint.ip, endpoint.prefix = address, prefix
        self._last[container, network.id] = (endpoint.ip, endpoint.ip6)

    def _one(
        self, network: NetworkDef, pools: list[Pool], wanted: str, liked: str
    ) -> tuple[str, int]:
        going = [one for one in self._going if one.network.id == network.id]
        self._await([one for one in going if (wanted or liked or None) in (one.ip, one.ip6)])
        try:
            return _take(pools, wanted, liked)
        except ConflictError:
            if wanted or not going:
                raise
        self._await(going)  # the network is full but for these
        return _take(pools, wanted, liked)

    def _await(self, going: list[Endpoint]) -> None:
        for one in going:
            if one in self._going:
                self._going[one].wait(PATIENCE)
                self.gone(one)

    def give_back(self, endpoint: Endpoint) -> None:
        """Let others have ENDPOINT's addresses; its interface is gone, or was never made."""
        for pool in self._pools_of(endpoint.network):
            for address in filter(None, (endpoint.ip, endpoint.ip6)):
                pool.release(address)

    def going(self, endpoint: Endpoint, gone: threading.Event) -> None:
        """ENDPOINT's interface is being removed, GONE will be set."""
        self._going[endpoint] = gone

    def gone(self, endpoint: Endpoint) -> None:
        """Give the addresses of an interface back that was going; told twice is fine."""
        if self._going.pop(endpoint, None) is not None:
            self.give_back(endpoint)

    def adopt(self, endpoint: Endpoint) -> None:
        """Take the addresses that an earlier service gave."""
        for pool in self._pools_of(endpoint.network):
            for address in filter(None, (endpoint.ip, endpoint.ip6)):
                try:
                    if ipaddress.ip_address(address) in pool.network:
                        pool.take(address)
                except ConflictError as error:
                    self._log(f"address {address} is in use twice: {error}")

    def _pools_of(self, network: NetworkDef) -> list[Pool]:
        if network.id not in self._pools:
            self._pools[network.id] = [Pool(subnet) for subnet in network.subnets]
        return self._pools[network.id]


def _take(pools: list[Pool], wanted: str, liked: str) -> tuple[str, int]:
    """An address of the first pool that can give one: (address, prefix)."""
    problem: ConflictError | None = None
    for pool in pools:
        try:
            return pool.take(wanted, liked), pool.prefix
        except ConflictError as error:
            problem = problem or error
    assert problem is not None
    raise problem
