"""One published UDP port on one address of the host: a flow for each client, with a socket of the realm.

That socket is the client, to the container: it is bound to the client's own address and connected to the
container's port.  Answers leave from the address that the client sent to, which the kernel tells with each
datagram where the port is published on all addresses.  Flows end when they have been idle, or make room for
others; a container's new address is noticed within a second.
"""

from __future__ import annotations

import socket
import struct
import time

from . import datagrams
from .flows import Flow, FlowTable
from .loop import IN
from .publish_source import route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from .publish_source import Target
    from .publish_tcp import Service

BURST = 64  # datagrams in one round of the loop
BUFFER = 1 << 20
IDLE, IDLE_ANSWERED = 30.0, 120.0  # seconds, as connection tracking has them
MOST, MOST_OF_CLIENT = 4096, 1024  # flows of one port
FRESH = 1.0  # seconds after which the container's address is looked up again
IP_PKTINFO, IPV6_RECVPKTINFO, IPV6_PKTINFO = 8, 49, 50  # linux/in.h, linux/in6.h
_info4 = struct.Struct("@i4s4s")  # interface, local address, address in the header
_info6 = struct.Struct("@16sI")  # address, interface
_LINK_LOCAL6 = b"\xfe\x80"


class Datagrams(Flow):
    """One client's datagrams; OWN if the container sees the client's own address and port."""

    __slots__ = ("_end", "address", "checked", "client", "info", "own", "side")

    def __init__(
        self,
        key: bytes,
        client: tuple[Any, ...],
        info: list[tuple[int, int, bytes]],
        address: str,
        side: socket.socket,
        own: bool,
        end: Callable[[Datagrams], object],
    ) -> None:
        super().__init__(key, client[0].encode(), IDLE)
        self.client = client
        self.info = info
        self.address = address
        self.side = side
        self.own = own
        self.checked = time.monotonic()
        self._end = end

    def end(self) -> None:
        """Close the socket in the realm."""
        self._end(self)


class DatagramPort:
    """A bound socket of the host, and the container's PORT behind it."""

    def __init__(
        self,
        service: Service,
        listener: socket.socket,
        port: int,
        target: Callable[[], Target],
        anywhere: bool,
    ) -> None:
        self._service = service
        self._listener = listener
        self._port = port
        self._target = target
        self._flows: FlowTable[Datagrams] = FlowTable(service.loop, MOST_OF_CLIENT, MOST)
        self._ends: set[tuple[str, int, str]] = set()  # addresses in use as clients
        self._buffer = bytearray(datagrams.MOST)
        self._view = memoryview(self._buffer)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        datagrams.take_many(listener)
        if anywhere and listener.family == socket.AF_INET:
            listener.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        elif anywhere:
            listener.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        service.loop.add(listener.fileno(), IN, self._receive)

    def close(self) -> None:
        """End the port and its flows."""
        self._flows.clear()
        self._service.loop.remove(self._listener.fileno())
        self._listener.close()

    def _receive(self, _: int) -> None:
        for _ in range(BURST):
            try:
                count, ancillary, _, client = self._listener.recvmsg_into([self._buffer], 192)
            except BlockingIOError:
                return
            except OSError:  # of an answer that could not be delivered
                continue
            info = _local(ancillary)
            key = b"%s %d %s" % (client[0].encode(), client[1], info[0][2] if info else b"")
            flow = self._flows.get(key)
            if flow is not None:
                self._flows.touch(flow)
                if flow.seen - flow.checked > FRESH and not self._still(flow):
                    flow = None
            if flow is None:
                flow = self._open(key, client, info)
            if flow is not None:
                try:
                    datagrams.give(flow.side, self._view[:count], datagrams.size_of(ancillary))
                except OSError:  # refused, or no room: lost, as on any wire
                    pass

    def _still(self, flow: Datagrams) -> bool:
        """Whether the container has still the address that FLOW leads to; if not, the flow ends."""
        flow.checked = flow.seen
        way = route(flow.client[0], self._target())
        if way is not None and way.address == flow.address:
            return True
        self._flows.drop(flow)
        return False

    def _open(
        self, key: bytes, client: tuple[Any, ...], info: list[tuple[int, int, bytes]]
    ) -> Datagrams | None:
        way = route(client[0], self._target())
        if way is None or not self._flows.has_room(client[0].encode()):
            return None
        # A client that uses one port towards several addresses of the host is several clients to the container.
        own = way.own and (client[0], client[1], way.address) not in self._ends
        try:
            side = self._service.dialer.dial(
                socket.SOCK_DGRAM, 0, way, client[1] if own else 0, self._port
            )
        except OSError:
            return None
        flow = Datagrams(key, client, info, way.address, side, own, self._close)
        if own:
            self._ends.add((client[0], client[1], way.address))
        self._flows.add(flow)
        self._service.loop.add(side.fileno(), IN, lambda _: self._answer(flow))
        return flow

    def _answer(self, flow: Datagrams) -> None:
        flow.idle = IDLE_ANSWERED
        self._flows.touch(flow)
        for _ in range(BURST):
            try:
                count, size = datagrams.receive(flow.side, self._buffer)
            except BlockingIOError:
                return
            except OSError:  # the container's port is closed; it may open again
                return
            try:
                datagrams.give(self._listener, self._view[:count], size, flow.info, flow.client)
            except OSError:
                pass

    def _close(self, flow: Datagrams) -> None:
        if flow.own:
            self._ends.discard((flow.client[0], flow.client[1], flow.address))
        self._service.loop.remove(flow.side.fileno())
        flow.side.close()


def _local(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """What to send with answers, so that they leave from where the datagram was sent to."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            _, local, _ = _info4.unpack_from(data)
            return [(level, kind, _info4.pack(0, local, bytes(4)))]
        if level == socket.IPPROTO_IPV6 and kind == IPV6_PKTINFO:
            local, interface = _info6.unpack_from(data)
            scope = interface if local.startswith(_LINK_LOCAL6) else 0
            return [(level, kind, _info6.pack(local, scope))]
    return []
