"""What routers said about datagrams that a socket sent: the kernel's error queue (IP_RECVERR).

Used for sockets of the host's namespace whose errors are handed on to a container.
"""

from __future__ import annotations

import socket
from struct import Struct
from sys import byteorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .frames import Reason

_IP_RECVERR = 11  # linux/in.h, the option and its control message
_IPV6_RECVERR = 25
_MSG_ERRQUEUE = 0x2000
_FROM_ICMP = (2, 3)  # linux/errqueue.h: SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6
_ABOUT_SIZE = ((2, 3, 4), (3, 2, 0))
_error = Struct("=IBBBBII")  # struct sock_extended_err; the address of who sent it follows


class Report:
    """REASON as on the wire, BY the router's address (b"" for the host itself), what DATA it is about."""

    __slots__ = ("by", "data", "reason")

    def __init__(self, reason: Reason, by: bytes, data: bytes) -> None:
        self.reason = reason
        self.by = by
        self.data = data


def enable(sock: socket.socket) -> None:
    """Have the kernel keep what it is told about SOCK's datagrams."""
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)


def read(sock: socket.socket, limit: int = 16) -> list[Report]:
    """The reports that wait; not the kernel's own errors, and not about sizes, which it sees to."""
    found = []
    for _ in range(limit):
        try:
            data, ancillary, _, _ = sock.recvmsg(2048, 512, _MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except OSError:
            break
        for _, _, message in ancillary:
            if len(message) < _error.size:
                continue
            _, origin, kind, code, _, _, _ = _error.unpack_from(message)
            if origin in _FROM_ICMP and (origin, kind, code) not in _ABOUT_SIZE:
                by = _offender(message[_error.size :])
                found.append(Report(((kind, code), (kind, code)), by, data))
    return found


def _offender(address: bytes) -> bytes:
    """The address in a struct sockaddr, but none of loopback, which no packet may come from."""
    family = int.from_bytes(address[:2], byteorder)
    if family == socket.AF_INET and len(address) >= 8:
        return b"" if address[4] in (0, 127) else address[4:8]
    if family == socket.AF_INET6 and len(address) >= 24:
        return address[8:24] if any(address[8:23]) else b""
    return b""
