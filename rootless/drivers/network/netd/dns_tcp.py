"""The DNS server's connections from one container: length-prefixed messages, RFC 7766.

Nobody can hold more than its share: connections, questions of one connection that wait for an answer,
bytes that it does not read, and time.  Beyond that the connection that was idle longest goes, or the one
that does it.
"""

from __future__ import annotations

import socket
import time

from rootless.drivers.network.netd.loop import ERROR, IN, OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from rootless.drivers.network.netd.loop import Loop

    Reply = Callable[[bytes], object]
    # Takes a message and what to call with the answer; False ends the connection.
    Asked = Callable[[bytes, Reply], bool]

MOST = 64  # connections of one container
IDLE = 10.0  # seconds
PIPELINED = 32  # questions of a connection that wait for an answer
_UNREAD = 256 * 1024  # bytes of answers
_ROUND = 16  # new connections, and messages of one, per round of the loop


class Connections:
    """The connections to LISTENER, which is closed with them."""

    def __init__(
        self, loop: Loop, listener: socket.socket, asked: Asked, *, idle: float = IDLE
    ) -> None:
        self.loop = loop
        self.asked = asked
        self.idle = idle
        self._listener = listener
        self._open: dict[_Connection, None] = {}  # the one that was idle longest is first
        loop.add(listener.fileno(), IN, self._accept)

    def close(self) -> None:
        """Close everything."""
        self.loop.remove(self._listener.fileno())
        self._listener.close()
        for connection in list(self._open):
            connection.close()

    def used(self, connection: _Connection) -> None:
        """CONNECTION did something."""
        self._open.pop(connection, None)
        self._open[connection] = None

    def closed(self, connection: _Connection) -> None:
        """CONNECTION is no more."""
        self._open.pop(connection, None)

    def _accept(self, _events: int) -> None:
        for _ in range(_ROUND):
            try:
                client, _ = self._listener.accept()
            except OSError:  # none left, or no descriptors; those who wait in the backlog time out
                return
            client.setblocking(False)
            if len(self._open) >= MOST:
                next(iter(self._open)).close()
            self.used(_Connection(self, client))


class _Connection:
    """One connection; what is not whole yet, and what was not sent yet."""

    def __init__(self, owner: Connections, client: socket.socket) -> None:
        self._owner = owner
        self._socket = client
        self._received = bytearray()
        self._unsent = bytearray()
        self._waiting = 0  # questions without an answer yet
        self._events = IN
        self._ended = False  # the client sends no more
        self._taking = False
        self._more = False  # whole messages are left for the next round
        self._last = time.monotonic()
        owner.loop.add(client.fileno(), IN, self._ready)
        self._timer = owner.loop.call_later(owner.idle, self._check_idle)

    def close(self) -> None:
        """Close it; answers that come later are dropped."""
        if self._socket.fileno() < 0:
            return
        self._timer.cancel()
        self._owner.loop.remove(self._socket.fileno())
        self._socket.close()
        self._owner.closed(self)

    def _check_idle(self) -> None:
        """Close it where no whole message came for long; bytes of one do not count."""
        left = self._last + self._owner.idle - time.monotonic()
        if left <= 0:
            self.close()
        else:
            self._timer = self._owner.loop.call_later(left, self._check_idle)

    def _ready(self, events: int) -> None:
        if events & ERROR:
            self.close()
        elif events & IN:
            self._read()
        else:
            self._go_on()

    def _read(self) -> None:
        try:
            data = self._socket.recv(16384)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._ended = not data
        self._received += data
        self._go_on()

    def _go_on(self) -> None:
        """Take messages, send answers, and wait for what there is to wait for."""
        if self._socket.fileno() < 0:
            return
        self._more = False
        self._taking = True
        for _ in range(_ROUND):
            if not self._take():
                break
        else:
            self._more = True
            self._owner.loop.call_later(0, self._go_on)  # after the others
        self._taking = False
        self._flush()

    def _take(self) -> bool:
        """Hand over a message, if one is whole and not too many wait for answers."""
        received = self._received
        if self._socket.fileno() < 0 or self._waiting >= PIPELINED or len(received) < 2:
            return False
        size = int.from_bytes(received[:2], "big") + 2
        if len(received) < size:
            return False
        message = bytes(received[2:size])
        del received[:size]
        self._waiting += 1
        self._last = time.monotonic()
        self._owner.used(self)
        if not self._owner.asked(message, self._reply):
            self.close()
        return True

    def _reply(self, answer: bytes) -> None:
        self._waiting -= 1
        self._unsent += len(answer).to_bytes(2, "big") + answer
        if not self._taking:
            self._go_on()

    def _flush(self) -> None:
        if self._socket.fileno() < 0:
            return
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if len(self._unsent) > _UNREAD or (self._ended and not self._more and self._is_done()):
            self.close()
            return
        reading = not self._ended and not self._more and self._waiting < PIPELINED
        events = (IN if reading else 0) | (OUT if self._unsent else 0)
        if events != self._events:
            self._events = events
            self._owner.loop.modify(self._socket.fileno(), events)

    def _is_done(self) -> bool:
        return not self._waiting and not self._unsent
