"""Our own uplink: connections are made again in the host's namespace by the network service (netd/).

No TUN device and no foreign program; a container's connect() succeeds or fails as the one that was made for it.
"""

from __future__ import annotations

from .base import Probe, UplinkDriver, judge_bridges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts


class RelayUplink(UplinkDriver):
    """TPROXY in the realm, sockets in the host's namespace, splice in between."""

    name = "relay"

    def probe(self, facts: HostFacts) -> Probe:
        """Usable where one connection was seen to be relayed."""
        bridges = judge_bridges(facts)
        if not bridges.usable:
            return bridges
        if not facts.net_relay:
            return Probe(
                False,
                facts.net_relay_error,
                "an administrator can run: modprobe -a af_packet nft_tproxy nft_socket nft_fib_inet",
            )
        return Probe(True)
