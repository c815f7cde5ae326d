"""UDP from containers to the outside.

The first datagram of a flow reaches a listener by TPROXY, which leaves its addresses as they were.  A flow
has two sockets from then on, both connected: one in the host's namespace to where it goes, and one in the
realm that has that very address as its own, so that the kernel gives it all that follows and the container
sees answers from whom it asked.  What routers say upstream (ICMP) is handed on.  A flow ends when it has been
idle, or makes room for others.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address
from struct import Struct
from sys import byteorder

from . import datagrams, errqueue, frames, uplink
from .flows import Flow, FlowTable
from .gate import transparent
from .loop import ERROR, IN
from .policy import ALLOW, PROHIBIT, decide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .frames import Reason
    from .loop import Loop
    from .policy import Policy
    from .realm import Realm
    from .uplink import Uplink

    Address = tuple[str, int]

_IP_TTL, _IP_RECVTTL, _IP_RECVORIGDSTADDR, _IP_TRANSPARENT = 2, 12, 20, 19  # linux/in.h
_IPV6_RECVHOPLIMIT, _IPV6_HOPLIMIT, _IPV6_RECVORIGDSTADDR, _IPV6_TRANSPARENT = 51, 52, 74, 75
_BURST = 64
_BUFFER = 1 << 20
_IDLE, _IDLE_NAMES = 60.0, 10.0  # seconds; a question to a name server has one answer
_LOW_TTL = 32  # below: somebody looks for the way, and wants to know where it ends
_STOCK = 16  # sockets made in the realm at a time
_ports = Struct("!HH")
_sockaddr4 = Struct("!2xH4s")
_sockaddr6 = Struct("!2xH4x16s")


class Datagrams(Flow):
    """One flow: CLIENT sends to TARGET."""

    __slots__ = ("_loop", "client", "reply", "target", "ttl", "upstream")

    def __init__(
        self,
        loop: Loop,
        key: bytes,
        client: Address,
        target: Address,
        upstream: socket.socket,
        reply: socket.socket,
    ) -> None:
        source = socket.inet_pton(upstream_family(client[0]), client[0])
        super().__init__(key, source, _IDLE_NAMES if target[1] == 53 else _IDLE)
        self._loop = loop
        self.client = client
        self.target = target
        self.upstream = upstream
        self.reply = reply
        self.ttl = 0

    def end(self) -> None:
        """Close both sockets."""
        for sock in (self.upstream, self.reply):
            self._loop.remove(sock.fileno())
            sock.close()

    def quote(self, body: bytes = b"") -> bytes:
        """A packet of this flow as the container sent it, for an ICMP error to be about."""
        return quote(self.client, self.target, body)


def upstream_family(address: str) -> int:
    """The address family of an address as text."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def quote(client: Address, target: Address, body: bytes = b"") -> bytes:
    """The datagram with BODY that CLIENT sent to TARGET."""
    family = upstream_family(client[0])
    source, destination = (socket.inet_pton(family, end[0]) for end in (client, target))
    return frames.datagram(source, client[1], destination, target[1], body)


class UdpRelay:
    """Relays datagrams; see above."""

    def __init__(
        self,
        loop: Loop,
        realm: Realm,
        up: Uplink,
        policies: Callable[[str], Policy | None],
        per_source: int,
        total: int,
    ) -> None:
        self._loop = loop
        self._realm = realm
        self._up = up
        self._policies = policies
        self._flows: FlowTable[Datagrams] = FlowTable(loop, per_source, total)
        self._listeners: list[socket.socket] = []
        self._buffer = bytearray(datagrams.MOST)
        self._view = memoryview(self._buffer)
        self._stock: dict[int, list[socket.socket]] = {socket.AF_INET: [], socket.AF_INET6: []}

    def __len__(self) -> int:
        return len(self._flows)

    def start(self) -> dict[str, int]:
        """Listen for first datagrams; gives the ports, "udp4" and "udp6" where there is IPv6."""
        ports = {}
        for name, family in (("udp4", socket.AF_INET), ("udp6", socket.AF_INET6)):
            try:
                listener = transparent(self._realm, family, socket.SOCK_DGRAM)
            except OSError as error:
                if family == socket.AF_INET or error.errno not in (
                    errno.EAFNOSUPPORT,
                    errno.EADDRNOTAVAIL,
                ):
                    raise
                continue
            _tell_target_and_ttl(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._listeners.append(listener)
            self._loop.add(listener.fileno(), IN, self._reader(listener))
            ports[name] = listener.getsockname()[1]
        return ports

    def forget(self, source: bytes) -> None:
        """A container's address is no more: its flows end."""
        self._flows.forget(source)

    def close(self) -> None:
        """Relay no more."""
        self._flows.clear()
        for listener in self._listeners:
            self._loop.remove(listener.fileno())
            listener.close()
        self._listeners.clear()
        for stock in self._stock.values():
            while stock:
                stock.pop().close()

    def _reader(self, listener: socket.socket) -> Callable[[int], None]:
        return lambda _: self._first(listener)

    def _first(self, listener: socket.socket) -> None:
        for _ in range(_BURST):
            try:
                data, ancillary, _, client = listener.recvmsg(65536, 256)
            except OSError:
                return
            target, ttl = _target_and_ttl(ancillary)
            if target is not None:
                self._datagram(client[:2], target, data, ttl)

    def _datagram(self, client: Address, target: Address, data: bytes, ttl: int) -> None:
        family = upstream_family(client[0])
        source = socket.inet_pton(family, client[0])
        key = source + socket.inet_pton(family, target[0]) + _ports.pack(client[1], target[1])
        flow = self._flows.get(key)
        if flow is None:
            policy = self._policies(client[0])
            verdict = decide(policy, "udp", ip_address(target[0]), target[1])
            if verdict.action != ALLOW:
                if verdict.action == PROHIBIT:
                    self._refuse(quote(client, target, data), frames.PROHIBITED)
                return
            flow = self._open(key, source, client, target, verdict.address, data)
            if flow is None:
                return
        if ttl != flow.ttl and (ttl < _LOW_TTL or flow.ttl):
            flow.ttl = ttl
            _set_ttl(flow.upstream, ttl)
        self._send(flow, data)

    def _open(
        self, key: bytes, source: bytes, client: Address, target: Address, address: str, data: bytes
    ) -> Datagrams | None:
        if not self._flows.has_room(source):
            return None
        upstream = reply = None
        try:
            upstream = _connected((address, target[1]))
            reply = self._reply(client, target)
        except OSError as error:
            for sock in (upstream, reply):
                if sock is not None:
                    sock.close()
            reason = uplink.reason_of(error.errno or 0) if upstream is None else None
            if reason is not None:
                self._refuse(quote(client, target, data), reason)
            return None
        flow = Datagrams(self._loop, key, client, target, upstream, reply)
        self._flows.add(flow)
        self._loop.add(upstream.fileno(), IN, lambda events: self._answers(flow, events))
        self._loop.add(reply.fileno(), IN, lambda _: self._more(flow))
        return flow

    def _reply(self, client: Address, target: Address) -> socket.socket:
        """A socket of the realm that is TARGET, to CLIENT."""
        family = upstream_family(client[0])
        stock = self._stock[family]
        if not stock:
            stock += self._realm.call(_make, family)
        sock = stock.pop()
        try:
            sock.bind(target)
            sock.connect(client)
        except OSError:
            sock.close()
            raise
        return sock

    def _more(self, flow: Datagrams) -> None:
        """The container sent more."""
        self._flows.touch(flow)
        for _ in range(_BURST):
            try:
                count, size = datagrams.receive(flow.reply, self._buffer)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # the container refused an answer
                continue
            self._send(flow, self._view[:count], size)

    def _answers(self, flow: Datagrams, events: int) -> None:
        """Upstream answered."""
        self._flows.touch(flow)
        for _ in range(_BURST):
            try:
                count, size = datagrams.receive(flow.upstream, self._buffer)
            except BlockingIOError:
                break
            except OSError:  # an ICMP error; what it says waits in the queue
                events |= ERROR
                break
            try:
                datagrams.give(flow.reply, self._view[:count], size)
            except OSError:  # refused, or no room: lost, as on any wire
                pass
        if events & ERROR:
            self._reports(flow)

    def _send(self, flow: Datagrams, data: bytes | memoryview, size: int = 0) -> None:
        for _ in range(2):
            try:
                datagrams.give(flow.upstream, data, size)
                return
            except BlockingIOError:
                return
            except OSError as error:
                # The first is perhaps the kernel's way to tell of an earlier datagram.
                if not self._reports(flow):
                    reason = uplink.reason_of(error.errno or 0)
                    if reason is not None and error.errno != errno.ECONNREFUSED:
                        self._refuse(flow.quote(bytes(data[: size or None])), reason)
                        return

    def _reports(self, flow: Datagrams) -> bool:
        """Hand on what routers said; whether there was anything."""
        reports = errqueue.read(flow.upstream)
        for report in reports:
            self._up.send(frames.unreachable(flow.quote(report.data), report.reason, report.by))
        return bool(reports)

    def _refuse(self, packet: bytes, reason: Reason) -> None:
        self._up.send(frames.unreachable(packet, reason))


def _tell_target_and_ttl(listener: socket.socket) -> None:
    if listener.family == socket.AF_INET:
        listener.setsockopt(socket.IPPROTO_IP, _IP_RECVORIGDSTADDR, 1)
        listener.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
    else:
        listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVORIGDSTADDR, 1)
        listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVHOPLIMIT, 1)


def _target_and_ttl(ancillary: list[tuple[int, int, bytes]]) -> tuple[Address | None, int]:
    """Where a datagram was to go, and its time to live (0 if unknown)."""
    target, ttl = None, 0
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_RECVORIGDSTADDR:
            port, address = _sockaddr4.unpack_from(data)
            target = (socket.inet_ntop(socket.AF_INET, address), port)
        elif level == socket.IPPROTO_IPV6 and kind == _IPV6_RECVORIGDSTADDR:
            port, address = _sockaddr6.unpack_from(data)
            target = (socket.inet_ntop(socket.AF_INET6, address), port)
        elif (level, kind) in (
            (socket.IPPROTO_IP, _IP_TTL),
            (socket.IPPROTO_IPV6, _IPV6_HOPLIMIT),
        ):
            ttl = int.from_bytes(data[:4], byteorder)
    return target, ttl


def _set_ttl(sock: socket.socket, ttl: int) -> None:
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl or -1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl or -1)


def _connected(target: Address) -> socket.socket:
    """A socket of the host's namespace to TARGET."""
    sock = socket.socket(upstream_family(target[0]), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        errqueue.enable(sock)
        datagrams.take_many(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        sock.connect(target)
    except OSError:
        sock.close()
        raise
    return sock


def _make(family: int) -> list[socket.socket]:
    """In the realm: sockets that may have any address as theirs."""
    made = []
    try:
        for _ in range(_STOCK):
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            made.append(sock)
            datagrams.take_many(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            if family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    except OSError:
        for sock in made:
            sock.close()
        raise
    return made
