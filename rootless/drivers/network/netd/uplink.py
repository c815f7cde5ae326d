"""The far end of the realm's way out: frames that leave it are read here, and answers enter it here.

The realm's default route leads into ``up0``; this is a packet socket on its peer ``up1``.  The kernel handles
none of these frames itself, as an ingress chain on up1 drops all.  What is sent enters the realm at up0
and is routed as if it had come from the outside.
"""

from __future__ import annotations

import errno
import fcntl
import socket
from struct import Struct

from . import fragments, frames
from .loop import IN
from .rules import UPLINK, UPLINK_PEER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .frames import Packet, Reason
    from .loop import Loop
    from .realm import Realm

    Handler = Callable[[Packet], object]

_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23  # linux/if_packet.h; the option since 4.20
_SIOCGIFHWADDR = 0x8927
_ifreq = Struct("16s2s6s16s")  # struct ifreq with a hardware address
_BURST = 64  # frames in a round of the loop, so that others have their turn
_BUFFER = 4 << 20

# What a failed connect() or send() is to the sender, so that it meets the same error.
_REASONS: dict[int, Reason] = {
    errno.ENETUNREACH: frames.NET_UNREACHABLE,
    errno.ENETDOWN: frames.NET_UNREACHABLE,
    errno.EHOSTUNREACH: frames.HOST_UNREACHABLE,
    errno.EHOSTDOWN: frames.HOST_UNREACHABLE,
    errno.EINVAL: frames.HOST_UNREACHABLE,
    errno.EACCES: frames.PROHIBITED,
    errno.EPERM: frames.PROHIBITED,
    errno.ENOPROTOOPT: frames.PROTOCOL_UNREACHABLE,
    errno.EPROTONOSUPPORT: frames.PROTOCOL_UNREACHABLE,
    errno.EAFNOSUPPORT: frames.NET_UNREACHABLE,
    errno.ECONNREFUSED: frames.PORT_UNREACHABLE,
}


def reason_of(error: int) -> Reason | None:
    """The ICMP error that stands for an errno of the host; None: silence, the sender tries again."""
    return _REASONS.get(error)


class Uplink:
    """Reads packets from up1, hands them to who handles their protocol, and sends answers."""

    def __init__(self, loop: Loop, realm: Realm, other: Handler) -> None:
        """OTHER gets what has no entry in ``handlers``, which are by protocol."""
        self._loop = loop
        self._realm = realm
        self._socket: socket.socket | None = None
        self._inner = b""  # the address of up0, which resolves none: all frames go to itself
        self._other = other
        self._fragments = fragments.Fragments()
        self._sent = 0
        self.handlers: dict[int, Handler] = {}

    def start(self) -> None:
        """Open the socket; raises OSError where there is no up1."""
        # Without a protocol it receives nothing until it is bound, so nothing of other interfaces.
        sock = self._realm.socket(socket.AF_PACKET, socket.SOCK_RAW)
        try:
            try:
                sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            except OSError:
                pass  # then the few frames that the kernel sends there are read and found foreign
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            sock.bind((UPLINK_PEER, _ETH_P_ALL))
            request = _ifreq.pack(UPLINK.encode(), b"", b"", b"")
            _, _, self._inner, _ = _ifreq.unpack(fcntl.ioctl(sock, _SIOCGIFHWADDR, request))
        except OSError:
            sock.close()
            raise
        self._socket = sock
        self._loop.add(sock.fileno(), IN, self._readable)

    def close(self) -> None:
        """Read no more."""
        if self._socket is not None:
            self._loop.remove(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def send(self, packet: bytes) -> None:
        """Let an IP packet enter the realm; where there is no room for it, it is lost, as on any wire."""
        if self._socket is None:
            return
        self._sent += 1
        try:
            for part in fragments.cut(packet, self._sent):
                self._socket.send(frames.ethernet(self._inner, self._inner, part))
        except OSError:
            pass

    def refuse(self, packet: Packet, reason: Reason) -> None:
        """Answer PACKET with an ICMP error, unless that must not be."""
        if frames.answerable(packet):
            self.send(frames.unreachable(packet.data, reason))

    def _readable(self, _: int) -> None:
        assert self._socket is not None
        for _ in range(_BURST):
            try:
                frame = self._socket.recv(65536 + frames.ETHERNET)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.ENETDOWN, errno.EINTR):  # told once
                    return
                raise
            try:
                packet = self._packet(frame)
                if packet is not None:
                    self.handlers.get(packet.protocol, self._other)(packet)
            except ValueError:
                pass  # hostile or not for us: no answer

    def _packet(self, frame: bytes) -> Packet | None:
        """The packet in FRAME, or the one that it completes; None where more of it is to come."""
        try:
            return frames.parse(frame)
        except ValueError:
            return self._fragments.add(frame)
