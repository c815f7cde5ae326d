"""The way out of a realm: TCP, UDP and ping from containers, by sockets of the host's namespace.

Puts together the packet socket on the realm's uplink (``uplink``), the SYN gate (``gate``), datagrams
(``udp``) and echoes (``icmp``).  What leads flows here is in ``rules``, for the ports that ``Outbound.start``
gives.
"""

from __future__ import annotations

import resource
from ipaddress import ip_address

from . import frames
from .gate import Gate
from .icmp import Pinger
from .udp import UdpRelay
from .uplink import Uplink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .frames import Packet
    from .loop import Loop
    from .policy import Policy
    from .pump import Pumps
    from .realm import Realm


class RelayConfig:
    """Bounds on what containers may keep open, of which descriptors are the scarcest.

    held, held_each    SYNs that wait for upstream, in all and for one container
    connections_each   TCP connections of one container, which have two descriptors each
    flows, flows_each  UDP flows, likewise
    pings, pings_each  ICMP echo flows
    """

    __slots__ = (
        "connections_each",
        "flows",
        "flows_each",
        "held",
        "held_each",
        "pings",
        "pings_each",
    )

    def __init__(self, descriptors: int = 0) -> None:
        """Bounds that suit so many DESCRIPTORS, by default what the process may have."""
        descriptors = descriptors or resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if descriptors < 0:  # RLIM_INFINITY
            descriptors = 1 << 20
        self.held = min(8192, descriptors // 8)
        self.held_each = min(2048, self.held // 2)
        self.connections_each = descriptors // 8
        self.flows = min(8192, descriptors // 8)
        self.flows_each = min(1024, self.flows // 2)
        self.pings = min(512, descriptors // 32)
        self.pings_each = min(64, self.pings // 2)


class Outbound:
    """All that leaves one realm."""

    def __init__(
        self,
        loop: Loop,
        realm: Realm,
        policies: Callable[[str], Policy | None],
        pumps: Pumps,
        config: RelayConfig | None = None,
    ) -> None:
        """POLICIES gives what a source address may do, None for one that is nobody's."""
        config = config or RelayConfig()
        self._policies = policies
        self._up = Uplink(loop, realm, self._other)
        self._gate = Gate(loop, realm, self._up, policies, pumps, config)
        self._udp = UdpRelay(loop, realm, self._up, policies, config.flows_each, config.flows)
        self._ping = Pinger(loop, self._up, policies, config.pings_each, config.pings)
        self._up.handlers.update(
            {
                frames.TCP: self._gate.packet,
                frames.ICMP: self._ping.packet,
                frames.ICMP6: self._ping.packet,
            }
        )

    def start(self) -> dict[str, int]:
        """Listen; gives the ports for ``rules``.  Raises OSError."""
        try:
            ports = {**self._gate.start(), **self._udp.start()}
            self._up.start()
        except OSError:
            self.close()
            raise
        return ports

    def counts(self) -> dict[str, int]:
        """How much is open: SYNs that are held, flows of UDP, of ping."""
        return {"held": len(self._gate), "udp": len(self._udp), "ping": len(self._ping)}

    def forget(self, address: str) -> None:
        """A container's ADDRESS is no more: what it has open here ends."""
        source = ip_address(address).packed
        for part in (self._gate, self._udp, self._ping):
            part.forget(source)

    def close(self) -> None:
        """End everything but the connections that the pumps have."""
        for part in (self._up, self._gate, self._udp, self._ping):
            part.close()

    def _other(self, packet: Packet) -> None:
        """A protocol that is not relayed."""
        if self._policies(str(ip_address(packet.source))) is not None:
            self._up.refuse(packet, frames.PROTOCOL_UNREACHABLE)
