"""Sockets of the realm that are connected to a container, as whoever its client is.

A socket belongs to the namespace of the thread that made it, whoever binds and connects it: the realm's thread
makes a stock of them at a time.  IP_TRANSPARENT lets them have any address as theirs; answers come back by the
rule for ``socket transparent`` (rules.py).
"""

from __future__ import annotations

import errno
import socket

from . import datagrams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .publish_source import Route
    from .realm import Realm

IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75  # linux/in.h, linux/in6.h
IP_BIND_ADDRESS_NO_PORT = 24  # since Linux 4.2
STOCK = 16
DATAGRAM_BUFFER = 1 << 20


class Dialer:
    """Connects to containers."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm
        self._stock: dict[tuple[int, int, int], list[socket.socket]] = {}

    def dial(
        self, kind: int, protocol: int, route: Route, source_port: int, port: int
    ) -> socket.socket:
        """A socket that is connecting along ROUTE to PORT, from SOURCE_PORT if that can be; raises OSError.

        A SOURCE_PORT of 0 is any.  Where the client's own is in use towards the container, it is another.
        """
        while True:
            side = self._take(
                socket.AF_INET6 if ":" in route.address else socket.AF_INET, kind, protocol
            )
            try:
                side.bind((route.source, source_port))
                problem = side.connect_ex((route.address, port))
            except OSError as error:
                problem = error.errno or errno.EIO
            if problem in (0, errno.EINPROGRESS):
                return side
            side.close()
            if not source_port or problem not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                raise OSError(problem, f"cannot reach {route.address} as {route.source}")
            source_port = 0

    def _take(self, family: int, kind: int, protocol: int) -> socket.socket:
        stock = self._stock.setdefault((family, kind, protocol), [])
        if not stock:
            stock += self._realm.call(_make, family, kind, protocol)
        return stock.pop()


def _make(family: int, kind: int, protocol: int) -> list[socket.socket]:
    made: list[socket.socket] = []
    try:
        for _ in range(STOCK):
            made.append(socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol))
            _prepare(made[-1])
    except OSError:
        for side in made:
            side.close()
        raise
    return made


def _prepare(side: socket.socket) -> None:
    side.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if side.type == socket.SOCK_DGRAM:
        side.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DATAGRAM_BUFFER)
        datagrams.take_many(side)
    if side.proto == socket.IPPROTO_SCTP:  # has neither; a gateway's address is the realm's own
        return
    if side.family == socket.AF_INET:
        side.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
    else:
        side.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    side.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
