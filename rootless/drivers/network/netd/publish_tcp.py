"""One published TCP port on one address of the host: accept, connect to the container, hand both to the pumps.

The container is connected to without waiting; if it refuses, the pumps reset the client.  Accepting has a
budget for each round of the loop, pauses while there are no descriptors, and is bounded for each container and
for all.
"""

from __future__ import annotations

import errno
import socket
import threading
import time

from .loop import IN
from .publish_source import Route, route
from .pump import reset_socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from .loop import Loop, Timer
    from .publish_dial import Dialer
    from .publish_source import Target
    from .pump import Flow, Pumps

BACKLOG = 4096  # the kernel cuts it to net.core.somaxconn
BURST = 16  # connections accepted in one round of the loop
PAUSE = 0.1  # seconds, while nothing can be accepted
COMPLAIN = 60.0  # seconds between two lines in the log about it
GRACE = 1.0  # seconds from a container's end to that of connections that it did not end
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Service:
    """What ports work with.

    most  connections at a time: more would leave no descriptors for containers that start
    """

    __slots__ = ("dialer", "log", "loop", "most", "pumps")

    def __init__(
        self,
        loop: Loop,
        dialer: Dialer,
        pumps: Pumps,
        most: int,
        log: Callable[[str], object],
    ) -> None:
        self.loop = loop
        self.dialer = dialer
        self.pumps = pumps
        self.most = most
        self.log = log


class Connections:
    """The connections to one container; it may have half of those that may be."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = threading.Lock()  # the pumps' threads report the ends
        self._open: dict[object, Flow | None] = {}

    def full(self) -> bool:
        """Whether one more would be too many."""
        most = self._service.most
        return len(self._open) >= most // 2 or self._service.pumps.count >= most

    def carry(self, client: socket.socket, upstream: socket.socket) -> None:
        """Carry bytes between a client and the container."""
        key = object()
        with self._lock:
            self._open[key] = None
        flow = self._service.pumps.join(client, upstream, lambda: self._over(key), connecting=True)
        with self._lock:
            if key in self._open:
                self._open[key] = flow

    def close(self) -> None:
        """The container has ended: so do its connections, after it had time to end them itself."""
        if self._open:
            self._service.loop.call_later(GRACE, self._leave)

    def _over(self, key: object) -> None:
        with self._lock:
            self._open.pop(key, None)

    def _leave(self) -> None:
        with self._lock:
            flows = [flow for flow in self._open.values() if flow is not None]
        for flow in flows:
            self._service.pumps.leave(flow)


class StreamPort:
    """A listening socket of the host, and the container's PORT behind it."""

    protocol = socket.IPPROTO_TCP

    def __init__(
        self,
        service: Service,
        listener: socket.socket,
        port: int,
        target: Callable[[], Target],
        connections: Connections,
    ) -> None:
        self._service = service
        self._listener = listener
        self._port = port
        self._target = target
        self._connections = connections
        self._resting: Timer | None = None
        self._complained = -COMPLAIN
        service.loop.add(listener.fileno(), IN, self._accept)

    def close(self) -> None:
        """Listen no more; what was accepted goes on."""
        if self._resting is not None:
            self._resting.cancel()
        self._service.loop.remove(self._listener.fileno())
        self._listener.close()

    def _accept(self, _: int) -> None:
        for _ in range(BURST):
            if self._connections.full():
                self._rest("there are too many connections")
                return
            try:
                client, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._rest(str(error.strerror))
                    return
                continue  # that connection is gone
            self._serve(client, address)
            if self._resting is not None:
                return

    def _serve(self, client: socket.socket, address: tuple[Any, ...]) -> None:
        way = self._route(address[0])
        if way is None:  # the container is on no network
            reset_socket(client)
            return
        try:
            upstream = self._service.dialer.dial(
                socket.SOCK_STREAM, self.protocol, way, address[1] if way.own else 0, self._port
            )
        except OSError as error:
            reset_socket(client)
            if error.errno in EXHAUSTED:
                self._rest(str(error.strerror))
            return
        self._connections.carry(client, upstream)

    def _route(self, client: str) -> Route | None:
        return route(client, self._target())

    def _rest(self, why: str) -> None:
        """Accept nothing for a while: clients wait in the backlog."""
        if self._resting is not None:
            return
        now = time.monotonic()
        if now - self._complained > COMPLAIN:
            self._complained = now
            self._service.log(f"cannot accept connections for port {self._port}: {why}")
        self._service.loop.remove(self._listener.fileno())
        self._resting = self._service.loop.call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        if self._connections.full():
            self._resting = self._service.loop.call_later(PAUSE, self._resume)
            return
        self._resting = None
        self._service.loop.add(self._listener.fileno(), IN, self._accept)
