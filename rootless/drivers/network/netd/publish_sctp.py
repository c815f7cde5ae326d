"""One published SCTP port: as TCP, but message by message, and clients appear as the network's gateway.

SCTP has no IP_TRANSPARENT, and its associations may have several addresses on either side.
"""

from __future__ import annotations

import socket

from .publish_source import Route, route
from .publish_tcp import StreamPort


class SctpPort(StreamPort):
    """A listening SCTP socket of the host, and the container's port behind it."""

    protocol = socket.IPPROTO_SCTP

    def _route(self, client: str) -> Route | None:
        return route("::1" if ":" in client else "127.0.0.1", self._target())
