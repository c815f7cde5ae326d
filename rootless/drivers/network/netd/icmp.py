"""ping from containers: echo requests go out by the host's ping sockets, where the administrator allows them.

``net.ipv4.ping_group_range`` says whose groups may; it holds for IPv6 too.  Others are told that it is
prohibited, which is the truth.  A flow is one container's identifier towards one address; the kernel has an
identifier of its own for the socket, so both are translated.  What routers say is handed on, so that
traceroute finds its way.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address
from struct import Struct

from . import errqueue, frames, uplink
from .flows import Flow, FlowTable
from .loop import IN
from .policy import ALLOW, PROHIBIT, decide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .frames import Echo, Packet
    from .loop import Loop
    from .policy import Policy
    from .uplink import Uplink

_BURST = 64
_IDLE = 30.0
_header = Struct("!BBHHH")


class Echoes(Flow):
    """One program's requests to one address."""

    __slots__ = ("_loop", "ident", "sock", "target", "ttl")

    def __init__(
        self, loop: Loop, key: bytes, packet: Packet, ident: int, sock: socket.socket
    ) -> None:
        super().__init__(key, packet.source, _IDLE)
        self._loop = loop
        self.target = packet.destination
        self.ident = ident
        self.sock = sock
        self.ttl = 0

    def end(self) -> None:
        """Close the socket."""
        self._loop.remove(self.sock.fileno())
        self.sock.close()


class Pinger:
    """Relays echoes; see above."""

    def __init__(
        self,
        loop: Loop,
        up: Uplink,
        policies: Callable[[str], Policy | None],
        per_source: int,
        total: int,
    ) -> None:
        self._loop = loop
        self._up = up
        self._policies = policies
        self._flows: FlowTable[Echoes] = FlowTable(loop, per_source, total)

    def __len__(self) -> int:
        return len(self._flows)

    def forget(self, source: bytes) -> None:
        """A container's address is no more: its flows end."""
        self._flows.forget(source)

    def close(self) -> None:
        """Relay no more."""
        self._flows.clear()

    def packet(self, packet: Packet) -> None:
        """ICMP left the realm; raises ValueError where it is no echo request."""
        request = frames.echo(packet)
        policy = self._policies(str(ip_address(packet.source)))
        verdict = decide(policy, "icmp", ip_address(packet.destination), 0)
        if verdict.action != ALLOW:
            if verdict.action == PROHIBIT:
                self._up.refuse(packet, frames.PROHIBITED)
            return
        key = packet.source + packet.destination + request.ident.to_bytes(2, "big")
        flow = self._flows.get(key)
        if flow is None:
            flow = self._open(key, packet, request, verdict.address)
        if flow is not None:
            self._flows.touch(flow)
            self._send(flow, packet, request)

    def _open(self, key: bytes, packet: Packet, request: Echo, address: str) -> Echoes | None:
        if not self._flows.has_room(packet.source):
            return None
        try:
            sock = _connected(address)
        except OSError as error:
            reason = uplink.reason_of(error.errno or 0)
            if reason is not None:
                self._up.refuse(packet, reason)
            return None
        flow = Echoes(self._loop, key, packet, request.ident, sock)
        self._flows.add(flow)
        self._loop.add(sock.fileno(), IN, lambda _: self._answers(flow))
        return flow

    def _send(self, flow: Echoes, packet: Packet, request: Echo) -> None:
        if packet.ttl != flow.ttl:  # the realm took one off when it sent the packet here
            flow.ttl = packet.ttl
            if packet.version == 4:
                flow.sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, packet.ttl)
            else:
                flow.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, packet.ttl)
        message = (
            _header.pack(8 if packet.version == 4 else 128, 0, 0, 0, request.seq) + request.body
        )
        for _ in range(2):
            try:
                flow.sock.send(message)
                return
            except BlockingIOError:
                return
            except OSError as error:
                if not self._reports(flow):  # else it was about an earlier one
                    reason = uplink.reason_of(error.errno or 0)
                    if reason is not None:
                        self._up.refuse(packet, reason)
                    return

    def _answers(self, flow: Echoes) -> None:
        for _ in range(_BURST):
            try:
                message = flow.sock.recv(65536)
            except OSError:
                break
            if len(message) >= 8:
                kind, _, _, _, seq = _header.unpack_from(message)
                if kind == (0 if len(flow.source) == 4 else 129):
                    self._up.send(
                        frames.echo_reply(flow.target, flow.source, flow.ident, seq, message[8:])
                    )
        self._reports(flow)

    def _reports(self, flow: Echoes) -> bool:
        reports = errqueue.read(flow.sock)
        for report in reports:
            if len(report.data) < 8:
                continue
            _, _, _, _, seq = _header.unpack_from(report.data)
            sent = frames.echo_request(flow.source, flow.target, flow.ident, seq, report.data[8:])
            self._up.send(frames.unreachable(sent, report.reason, report.by))
        return bool(reports)


def _connected(address: str) -> socket.socket:
    """A ping socket of the host's namespace; raises PermissionError where those are not allowed."""
    if ":" in address:
        family, protocol = socket.AF_INET6, socket.IPPROTO_ICMPV6
    else:
        family, protocol = socket.AF_INET, socket.IPPROTO_ICMP
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, protocol)
    except OSError as error:
        if error.errno == errno.EPROTONOSUPPORT:
            raise PermissionError(errno.EACCES, "no ping sockets") from error
        raise
    try:
        errqueue.enable(sock)
        sock.connect((address, 0))
    except OSError:
        sock.close()
        raise
    return sock
