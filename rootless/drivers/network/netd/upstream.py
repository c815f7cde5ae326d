"""Questions to other name servers: retries, the next server, TCP, and answers that are checked.

Runs in the loop.  Each try has a socket of its own, connected, so that the kernel drops what others send,
with a port and an ID that are random; an answer must repeat the question.  A server has a second to answer,
then the next is asked as well, and whoever answers first is taken.  Each asker has a bounded share of questions
that are under way; more wait in its own queue, so that none starves the others.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import time
from collections import deque

from rootless.drivers.network.netd import dnswire
from rootless.drivers.network.netd.loop import IN, OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from rootless.drivers.network.netd.dnswire import Question
    from rootless.drivers.network.netd.loop import Loop, Timer

    Reply = Callable[["bytes | None"], object]
    MakeSocket = Callable[[int, int], socket.socket]

PORT = 53
PATIENCE = 1.0  # seconds until the next server is asked as well
DEADLINE = 4.5  # seconds for all; the C library asks again after 5
TRIES = 4
UNDER_WAY = 64  # questions of one asker, fewer where many ask or few descriptors are allowed
WAITING = 1024
_SILENT = 3  # times that a server did not answer, after which others are asked first,
_AVOIDED = 30.0  # for so many seconds
_NOT_AN_ANSWER = (dnswire.SERVFAIL, dnswire.REFUSED, dnswire.FORMERR, dnswire.NOTIMP)


class Health:
    """Which servers of one namespace do not answer."""

    __slots__ = ("_silent",)

    def __init__(self) -> None:
        self._silent: dict[str, tuple[int, float]] = {}

    def heard(self, server: str) -> None:
        """SERVER answered."""
        if self._silent:
            self._silent.pop(server, None)

    def missed(self, server: str) -> None:
        """SERVER let somebody wait."""
        times = self._silent.get(server, (0, 0.0))[0] + 1
        self._silent[server] = (times, time.monotonic() + _AVOIDED)

    def ordered(self, servers: list[str]) -> list[str]:
        """SERVERS as given, those last that were silent several times and lately."""
        if not self._silent:
            return servers
        now = time.monotonic()
        return sorted(servers, key=lambda server: self._is_silent(server, now))

    def _is_silent(self, server: str, now: float) -> bool:
        times, until = self._silent.get(server, (0, 0.0))
        return times >= _SILENT and now < until


class Asker:
    """One who asks: what of it is under way and waits, and how its sockets are made."""

    __slots__ = (
        "_starting",
        "_upstream",
        "closed",
        "health",
        "make_socket",
        "under_way",
        "waiting",
    )

    def __init__(self, upstream: Upstream, make_socket: MakeSocket, health: Health) -> None:
        self._upstream = upstream
        self.make_socket = make_socket
        self.health = health
        self.under_way: set[_Exchange] = set()
        self.waiting: deque[_Exchange] = deque()
        self.closed = False
        self._starting = False

    def start_waiting(self) -> None:
        """Start what may be under way; one that ends at once calls this again, to no effect."""
        if self._starting:
            return
        self._starting = True
        self._upstream.busy.add(self)
        while self.waiting and len(self.under_way) < self._upstream.share():
            self.waiting.popleft().start()
        if not self.under_way:
            self._upstream.busy.discard(self)
        self._starting = False

    def close(self) -> None:
        """Drop everything; nobody is called any more."""
        self.closed = True
        self._upstream.busy.discard(self)
        self.waiting.clear()
        for exchange in list(self.under_way):
            exchange.abandon()
        self.under_way.clear()


class Upstream:
    """Asks servers for askers."""

    def __init__(self, loop: Loop, *, port: int = PORT, patience: float = PATIENCE) -> None:
        self.loop = loop
        self.port = port
        self.patience = patience
        self.busy: set[Asker] = set()
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = min(4096, descriptors // 8) // TRIES  # questions of all

    def share(self) -> int:
        """How many questions of one asker may be under way now; those of others are not interrupted."""
        return max(2, min(UNDER_WAY, self._most // max(1, len(self.busy))))

    def ask(
        self,
        asker: Asker,
        message: bytes,
        question: Question,
        servers: list[str],
        reply: Reply,
        *,
        tcp: bool = False,
    ) -> None:
        """Send MESSAGE to SERVERS and call REPLY(answer), once; None where there is none.

        The answer has the ID of the question and is what a server sent, otherwise.
        """
        if not servers or len(asker.waiting) >= WAITING:
            reply(None)
            return
        asker.waiting.append(_Exchange(self, asker, message, question, servers, reply, tcp))
        asker.start_waiting()


class _Exchange:
    """One question on its way through the servers."""

    def __init__(
        self,
        upstream: Upstream,
        asker: Asker,
        message: bytes,
        question: Question,
        servers: list[str],
        reply: Reply,
        tcp: bool,
    ) -> None:
        self.upstream = upstream
        self.asker = asker
        self.message = message
        self.question = question
        self._servers = servers
        self._reply = reply
        self._tcp = tcp
        self._deadline = time.monotonic() + DEADLINE
        self._tries: set[_Try] = set()
        self._number = 0  # of the next try
        self._refusing: set[str] = set()
        self._failure: bytes | None = None
        self._timer: Timer | None = None

    def start(self) -> None:
        """Begin with the first server."""
        self.asker.under_way.add(self)
        if time.monotonic() >= self._deadline:  # it waited too long for its turn
            self._finish(None)
            return
        self._servers = self.asker.health.ordered(self._servers)
        self._next()

    def abandon(self) -> None:
        """Close everything."""
        if self._timer is not None:
            self._timer.cancel()
        for one in self._tries:
            one.close()
        self._tries.clear()

    def heard(self, one: _Try, answer: bytes) -> None:
        """ONE brought an answer that is to this question."""
        self.asker.health.heard(one.server)
        if dnswire.rcode_of(answer) in _NOT_AN_ANSWER:
            self._failure = answer
            self.failed(one)
        elif dnswire.is_truncated(answer) and not one.tcp:
            self._failure = answer
            self._drop(one)
            self._try(one.server, tcp=True)
        else:
            self._finish(answer)

    def failed(self, one: _Try) -> None:
        """ONE will bring nothing any more; the next server is asked at once."""
        self._refusing.add(one.server)
        self._drop(one)
        self._next()

    def _drop(self, one: _Try) -> None:
        one.close()
        self._tries.discard(one)

    def _next(self) -> None:
        """Ask the next server that is not known to fail; without any, and none that may answer yet, end."""
        for _ in self._servers:
            if self._number >= max(TRIES, len(self._servers)):
                break
            server = self._servers[self._number % len(self._servers)]
            self._number += 1
            if server not in self._refusing:
                self._try(server, tcp=self._tcp)
                return
        if self._tries:
            self._wait()
        else:
            self._finish(None)

    def _try(self, server: str, *, tcp: bool) -> None:
        try:
            self._tries.add((_TcpTry if tcp else _UdpTry)(self, server))
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # no fault of the server
                self._number = TRIES + len(self._servers)
            self._refusing.add(server)
            self._next()
            return
        self._wait()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        left = max(0.0, self._deadline - time.monotonic())
        self._timer = self.upstream.loop.call_later(min(self.upstream.patience, left), self._late)

    def _late(self) -> None:
        for one in self._tries:
            if not one.late:
                one.late = True
                self.asker.health.missed(one.server)
        if time.monotonic() >= self._deadline:
            self._finish(None)
        else:
            self._next()

    def _finish(self, answer: bytes | None) -> None:
        self.abandon()
        self.asker.under_way.discard(self)
        if self.asker.closed:
            return
        answer = answer or self._failure
        self._reply(dnswire.with_id(answer, self.question.id) if answer else None)
        self.asker.start_waiting()


class _Try:
    """One server asked once, by a socket of its own."""

    tcp = False

    def __init__(self, exchange: _Exchange, server: str, kind: int) -> None:
        self.late = False
        self.exchange = exchange
        self.server = server
        self.id = int.from_bytes(os.urandom(2), "big")
        self.message = dnswire.with_id(exchange.message, self.id)
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        self.socket = exchange.asker.make_socket(family, kind)
        try:
            self.begin(address_of(server, exchange.upstream.port))
        except OSError:
            self.socket.close()
            raise

    def begin(self, address: tuple[object, ...]) -> None:
        """Connect and send what can be sent."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the socket; may be called again."""
        if self.socket.fileno() >= 0:
            self.exchange.upstream.loop.remove(self.socket.fileno())
            self.socket.close()

    def is_ours(self, answer: bytes) -> bool:
        """Whether ANSWER is one to what was asked here."""
        return dnswire.answers(answer, self.exchange.question, self.id)


class _UdpTry(_Try):
    def __init__(self, exchange: _Exchange, server: str) -> None:
        super().__init__(exchange, server, socket.SOCK_DGRAM)

    def begin(self, address: tuple[object, ...]) -> None:
        self.socket.connect(address)
        self.socket.send(self.message)
        self.exchange.upstream.loop.add(self.socket.fileno(), IN, self._ready)

    def _ready(self, _events: int) -> None:
        try:
            answer = self.socket.recv(dnswire.LARGE)
        except BlockingIOError:
            return
        except OSError:  # nobody listens there, or no way there
            self.exchange.failed(self)
            return
        if self.is_ours(answer):
            self.exchange.heard(self, answer)


class _TcpTry(_Try):
    tcp = True

    def __init__(self, exchange: _Exchange, server: str) -> None:
        self.received = b""
        super().__init__(exchange, server, socket.SOCK_STREAM)

    def begin(self, address: tuple[object, ...]) -> None:
        self.message = len(self.message).to_bytes(2, "big") + self.message
        number = self.socket.connect_ex(address)
        if number not in (0, errno.EINPROGRESS):
            raise OSError(number, os.strerror(number))
        self.exchange.upstream.loop.add(self.socket.fileno(), OUT, self._ready)

    def _ready(self, _events: int) -> None:
        try:
            if self.message:
                self.message = self.message[self.socket.send(self.message) :]
                if not self.message:
                    self.exchange.upstream.loop.modify(self.socket.fileno(), IN)
                return
            data = self.socket.recv(dnswire.LARGE)
        except BlockingIOError:
            return
        except OSError:
            self.exchange.failed(self)
            return
        self.received += data
        size = int.from_bytes(self.received[:2], "big") + 2
        if len(self.received) >= 2 and len(self.received) >= size:
            answer = self.received[2:size]
            if self.is_ours(answer):
                self.exchange.heard(self, answer)
                return
            data = b""
        if not data:  # the end, or no answer to this
            self.exchange.failed(self)


def address_of(server: str, port: int) -> tuple[object, ...]:
    """What connect() takes; OSError for an interface that does not exist (fe80::1%eth9)."""
    if ":" not in server:
        return (server, port)
    address, _, scope = server.partition("%")
    if not scope:
        return (address, port, 0, 0)
    return (address, port, 0, int(scope) if scope.isdigit() else socket.if_nametoindex(scope))
