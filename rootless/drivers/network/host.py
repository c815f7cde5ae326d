"""No uplink at all: containers share the host's network, as nodes of clusters expect it anyway.

The last rung.  It works wherever containers do.
"""

from __future__ import annotations

from .base import Probe, UplinkDriver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts


class HostUplink(UplinkDriver):
    """The host's own network namespace."""

    name = "host"
    bridges = False

    def probe(self, facts: HostFacts) -> Probe:  # noqa: ARG002
        """Always usable."""
        return Probe(True, "containers share the host's network")
