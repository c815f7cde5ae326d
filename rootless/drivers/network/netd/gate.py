"""The SYN gate: a container's connect() succeeds when the upstream connection did, and fails as that failed.

A SYN that leaves the realm is held here while the host's namespace connects to where it wants to go.

    connected    the SYN enters the realm again, at up0, where TPROXY gives it to the listener below; the
                 accepted connection finds its upstream by addresses and ports, and both go to the pumps
    refused      a reset
    unreachable  the ICMP error of the same meaning; a policy that forbids it is one too
    timed out    silence, as upstream was silent: the container's kernel retransmits and gives up by itself

Nothing but this module sends SYNs into up0, so entering there is what admits a flow; no set of admitted flows
has to be kept in the kernel.  Retransmissions never make a second connection.  Other segments that arrive
belong to no connection any more, for instance of a relay that died: they are reset so that nobody hangs.
"""

from __future__ import annotations

import errno
import socket
import time
from collections import deque
from functools import partial
from ipaddress import ip_address
from struct import Struct

from . import frames, uplink
from .flows import Flow, FlowTable
from .loop import IN, OUT
from .policy import ALLOW, PROHIBIT, decide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .frames import Packet, Segment
    from .loop import Loop
    from .policy import Policy
    from .pump import Flow as Carried
    from .pump import Pumps
    from .realm import Realm
    from .relay import RelayConfig
    from .uplink import Uplink

_IP_TRANSPARENT, _IPV6_TRANSPARENT = 19, 75  # linux/in.h, linux/in6.h
_LINGER_RESET = Struct("ii").pack(1, 0)
_BACKLOG = 4096
_BURST = 64
_PAUSE = 0.2  # seconds without accepting where descriptors ran out
# The kernel gives up connecting after 127 s by default, then tells; this is only for one that waits longer.
_CONNECTING = 300.0
_ADMITTED = 10.0  # a client that does not answer the SYN-ACK is gone
_RECENT = 3.0  # a repeated SYN can wait in the packet socket while the first is answered
GRACE = 1.0  # seconds for the connections of a container that ended to end as it did that
_PATIENCE = 3.0  # how long a held SYN is safe from newer ones of the same container
# Short of something here: silence, and the container's kernel tries again.
_SCARCE = (
    *(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN),
    *(errno.EADDRNOTAVAIL, errno.EADDRINUSE, errno.ETIMEDOUT),
)
_ports = Struct("!HH")


class _Recent:
    """What was remembered lately, and a little longer; nothing is counted, so that it costs no time."""

    __slots__ = ("_new", "_old", "_turn")

    def __init__(self) -> None:
        self._new: dict[bytes, int] = {}
        self._old: dict[bytes, int] = {}
        self._turn = 0.0

    def put(self, key: bytes, value: int) -> None:
        now = time.monotonic()
        if now - self._turn > _RECENT:
            self._old, self._new, self._turn = self._new, {}, now
        self._new[key] = value

    def get(self, key: bytes) -> int:
        return self._new.get(key, self._old.get(key, -1))


class Held(Flow):
    """A SYN and the upstream socket that it waits for."""

    __slots__ = ("_loop", "admitted", "packet", "seq", "upstream", "watched")

    def __init__(
        self, loop: Loop, key: bytes, packet: Packet, seq: int, upstream: socket.socket
    ) -> None:
        super().__init__(key, packet.source, _CONNECTING)
        self._loop = loop
        self.packet = packet
        self.seq = seq
        self.upstream = upstream
        self.watched = False
        self.admitted = False

    def unwatch(self) -> None:
        """The loop has no more to do with its socket."""
        if self.watched:
            self._loop.remove(self.upstream.fileno())
            self.watched = False

    def end(self) -> None:
        """Give up: upstream learns that nobody is there."""
        self.unwatch()
        abort(self.upstream)


class Gate:
    """Connects for containers; see above."""

    def __init__(
        self,
        loop: Loop,
        realm: Realm,
        up: Uplink,
        policies: Callable[[str], Policy | None],
        pumps: Pumps,
        config: RelayConfig,
    ) -> None:
        self._loop = loop
        self._realm = realm
        self._up = up
        self._policies = policies
        self._pumps = pumps
        self._config = config
        self._held: FlowTable[Held] = FlowTable(loop, config.held_each, config.held, _PATIENCE)
        # Connections that the pumps have, by source.
        self._open: dict[bytes, dict[object, Carried]] = {}
        self._ended: deque[tuple[bytes, object]] = deque()  # of these; filled by the pumps' threads
        self._joined = _Recent()  # initial sequence numbers
        self._listeners: list[socket.socket] = []

    def __len__(self) -> int:
        return len(self._held)

    def start(self) -> dict[str, int]:
        """Listen for admitted connections; gives the ports, "tcp4" and "tcp6" where there is IPv6."""
        ports = {}
        for name, family in (("tcp4", socket.AF_INET), ("tcp6", socket.AF_INET6)):
            try:
                listener = transparent(self._realm, family, socket.SOCK_STREAM)
            except OSError as error:
                if family == socket.AF_INET:
                    raise
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
                continue  # a kernel without IPv6
            listener.listen(_BACKLOG)
            self._listeners.append(listener)
            self._watch(listener)
            ports[name] = listener.getsockname()[1]
        return ports

    def forget(self, source: bytes) -> None:
        """A container's address is no more: nothing is held for it, and its connections end.

        They have time to end as the container did that.  One that was killed, or is off the network, says
        nothing any more, and what waits for it upstream would do so until keepalive finds out.
        """
        self._held.forget(source)
        self._note_ends()
        left = list(self._open.pop(source, {}).values())
        if left:
            self._loop.call_later(GRACE, self._leave, left)

    def _leave(self, flows: list[Carried]) -> None:
        for flow in flows:
            self._pumps.leave(flow)

    def close(self) -> None:
        """Hold and accept no more."""
        self._held.clear()
        for listener in self._listeners:
            self._loop.remove(listener.fileno())
            listener.close()
        self._listeners.clear()

    def packet(self, packet: Packet) -> None:
        """A TCP segment left the realm; raises ValueError where it is none."""
        segment = frames.segment(packet)
        key = packet.source + packet.destination + _ports.pack(segment.sport, segment.dport)
        held = self._held.get(key)
        if segment.flags & frames.RST:
            if held is not None and segment.seq in (held.seq, (held.seq + 1) & 0xFFFFFFFF):
                self._held.drop(held)
            return
        policy = self._policies(str(ip_address(packet.source)))
        if policy is None:
            return
        if segment.flags & (frames.SYN | frames.ACK) != frames.SYN:
            self._up.send(frames.reset(packet, segment))
        elif held is not None and segment.seq == held.seq:
            if held.admitted:  # it, or its answer, was lost
                self._up.send(frames.seal(held.packet))
        elif segment.seq != self._joined.get(key):
            self._syn(packet, segment, key, policy)

    def _syn(self, packet: Packet, segment: Segment, key: bytes, policy: Policy) -> None:
        verdict = decide(policy, "tcp", ip_address(packet.destination), segment.dport)
        if verdict.action != ALLOW:
            if verdict.action == PROHIBIT:
                self._up.refuse(packet, frames.PROHIBITED)
            return
        old = self._held.get(key)
        if old is not None:  # the client began anew with the same port
            self._held.drop(old)
        if not self._may_open(packet.source) or not self._held.has_room(packet.source):
            return
        upstream, error = _connect(verdict.address, segment.dport)
        if upstream is None:
            self._failed(packet, segment, error)
            return
        held = Held(self._loop, key, packet, segment.seq, upstream)
        self._held.add(held)
        held.watched = True
        self._loop.add(upstream.fileno(), OUT, lambda _: self._connected(held, segment))

    def _connected(self, held: Held, segment: Segment) -> None:
        held.unwatch()
        error = held.upstream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._held.drop(held)
            self._failed(held.packet, segment, error)
            return
        held.admitted = True
        held.idle = _ADMITTED
        self._held.touch(held)
        self._up.send(frames.seal(held.packet))

    def _failed(self, packet: Packet, segment: Segment, error: int) -> None:
        if error in (errno.ECONNREFUSED, errno.ECONNRESET):
            self._up.send(frames.reset(packet, segment))
        elif error not in _SCARCE:
            reason = uplink.reason_of(error) or frames.HOST_UNREACHABLE
            self._up.refuse(packet, reason)

    def _watch(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            self._loop.add(listener.fileno(), IN, lambda _: self._accept(listener))

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_BURST):
            try:
                client, peer = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no descriptors: what waits in the backlog can wait
                self._loop.remove(listener.fileno())
                self._loop.call_later(_PAUSE, self._watch, listener)
                return
            self._admit(client, peer)

    def _admit(self, client: socket.socket, peer: tuple[str, int]) -> None:
        try:
            local = client.getsockname()
            key = socket.inet_pton(client.family, peer[0])
            key += socket.inet_pton(client.family, local[0]) + _ports.pack(peer[1], local[1])
        except OSError:
            key = b""
        held = self._held.get(key)
        if held is None or not held.admitted:
            abort(client)
            return
        self._held.take(held)
        self._joined.put(key, held.seq)
        which = object()
        done = partial(self._ended.append, (held.source, which))
        flow = self._pumps.join(held.upstream, client, done)
        self._open.setdefault(held.source, {})[which] = flow

    def _may_open(self, source: bytes) -> bool:
        """Whether SOURCE may have one more connection; if not, its SYN is repeated, perhaps with more luck."""
        self._note_ends()
        mine = len(self._open.get(source, ())) + self._held.of(source)
        return mine < self._config.connections_each

    def _note_ends(self) -> None:
        while self._ended:
            source, which = self._ended.popleft()
            mine = self._open.get(source, {})
            mine.pop(which, None)
            if not mine:
                self._open.pop(source, None)


def transparent(realm: Realm, family: int, kind: int) -> socket.socket:
    """A socket for TPROXY, bound to some port of the realm's loopback.

    Nobody reaches it by that address, for containers cannot send there; bound to all addresses it would
    also be what a lookup finds for connections to its port anywhere in the world.
    """
    sock = realm.socket(family, kind)
    try:
        if family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
            sock.bind(("127.0.0.1", 0))
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
            sock.bind(("::1", 0))
    except OSError:
        sock.close()
        raise
    return sock


def abort(sock: socket.socket) -> None:
    """Close a TCP socket with a reset."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    except OSError:
        pass
    sock.close()


def _connect(address: str, port: int) -> tuple[socket.socket | None, int]:
    """A socket of the host's namespace that is connecting, or what was the matter."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        return None, error.errno or errno.ENOBUFS
    number = sock.connect_ex((address, port))
    if number in (0, errno.EINPROGRESS):
        return sock, 0
    sock.close()
    return None, number
