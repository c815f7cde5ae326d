"""Threads that carry bytes between two connected sockets, both ways, until both have ended.

``Pumps.join`` takes two sockets over and closes them at the end.  Each direction ends by itself: what one
side shuts down for writing is shut down for the other side after its last byte.  A reset of one side is a
reset of the other; so is a connection that cannot be made, where the second socket is still connecting.

Bytes are copied through a buffer of the thread, and spliced through a pipe while a direction carries much:
a flow that is idle costs neither.  A direction whose sink takes no more reads no more.  Sockets are watched
edge-triggered and served in turns, each with a budget, so that no flow starves others.  Sockets that keep
messages apart (SOCK_SEQPACKET, SCTP) are carried message by message.  Knows nothing of addresses.
"""

from __future__ import annotations

import _socket
import collections
import os
import select
import socket
import struct
import threading

from rootless.linux.splice import splice

from .pipes import Pipes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .pipes import Pipe

EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
BUFFER = 64 << 10  # copied at once
BUDGET = 1 << 20  # bytes of one direction in one turn
MUCH = 128 << 10  # a turn that carried so many is followed by one with a pipe
HELD_MOST = 8 << 20  # bytes that wait for sinks in one thread: beyond it ways read little
LITTLE = 2 << 10  # at a time
PIPES = 16  # of one thread
SPLICED = 1 << 20  # asked for in one splice
RESET = struct.pack("ii", 1, 0)  # linger: close() sends a reset
_kind, _family = _socket.socket.type.__get__, _socket.socket.family.__get__
KEEPALIVE = ((socket.TCP_KEEPIDLE, 600), (socket.TCP_KEEPINTVL, 60), (socket.TCP_KEEPCNT, 5))


class _Way:
    """One direction of a flow.

    pipe, held   the pipe that bytes are in, and how many
    rest         bytes that were read into memory and not taken by the sink yet
    much         the last turn carried much
    ended        the source has ended, and the sink was told
    broken       a side was reset: the sink is told so, and not that the source ended
    """

    __slots__ = (
        "broken",
        "ended",
        "held",
        "much",
        "pipe",
        "rest",
        "sink",
        "sink_fd",
        "source",
        "source_fd",
    )

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source, self.source_fd = source, source.fileno()
        self.sink, self.sink_fd = sink, sink.fileno()
        self.pipe: Pipe | None = None
        self.held = 0
        self.rest = b""
        self.much = False
        self.ended = False
        self.broken = False


class Flow:
    """Two directions.

    connecting  the socket that is not connected yet
    messages    what is sent at once arrives at once
    leaving     there is nobody behind the second socket any more
    """

    __slots__ = (
        "back",
        "closed",
        "connecting",
        "done",
        "forth",
        "leaving",
        "messages",
        "worker",
    )

    def __init__(
        self,
        a: socket.socket,
        b: socket.socket,
        connecting: bool,
        messages: bool,
        done: Callable[[], object] | None,
        worker: _Worker,
    ) -> None:
        self.worker = worker
        self.leaving = False
        self.forth = _Way(a, b)
        self.back = _Way(b, a)
        self.connecting = b if connecting else None
        self.done = done
        self.messages = messages
        self.closed = False


class _Ended(Exception):
    """A side of a flow was reset or broke; both are closed by a reset."""


class _Worker:
    """One thread with an epoll of its own."""

    def __init__(self, name: str, log: Callable[[str], object]) -> None:
        self._log = log
        self._epoll = select.epoll()
        self._flows: dict[int, Flow] = {}
        self._joining: collections.deque[Flow | None] = collections.deque()
        self._buffer = bytearray(BUFFER)
        self._view = memoryview(self._buffer)
        self._pipes = Pipes(PIPES)
        self._held = 0
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._epoll.register(self._wake_read, select.EPOLLIN)
        self._running = True
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def count(self) -> int:
        return len(self._flows) // 2 + len(self._joining)

    def join(self, flow: Flow | None) -> None:
        """Serve FLOW from now on, or let it leave; None ends the thread.  May be called by any thread."""
        self._joining.append(flow)
        if len(self._joining) == 1:  # else who made it so has woken the thread, or is about to
            try:
                os.write(self._wake_write, b"\0")
            except BlockingIOError:
                pass

    def close(self) -> None:
        self.join(None)
        self._thread.join()

    def _run(self) -> None:
        again: dict[Flow, None] = {}
        while self._running:
            turns: dict[Flow, None] = {}
            for fd, _ in self._epoll.poll(0 if again else -1):
                if fd == self._wake_read:
                    self._admit(turns)
                elif fd in self._flows:
                    turns[self._flows[fd]] = None
            turns.update(again)
            again = {flow: None for flow in turns if not flow.closed and self._turn(flow)}
        for flow in set(self._flows.values()):
            self._close(flow, reset=True)
        self._pipes.close()
        self._epoll.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _admit(self, turns: dict[Flow, None]) -> None:
        os.read(self._wake_read, 4096)
        while self._joining:
            flow = self._joining.popleft()
            if flow is None:
                self._running = False
            elif not flow.closed:
                if self._flows.get(flow.forth.source_fd) is not flow:
                    self._register(flow)
                if flow.leaving:  # no event will tell
                    turns[flow] = None

    def _register(self, flow: Flow) -> None:
        try:
            for way in (flow.forth, flow.back):
                self._flows[way.source_fd] = flow
                self._epoll.register(way.source_fd, EDGES)
        except OSError as error:  # fs.epoll.max_user_watches
            self._log(f"cannot watch a connection: {error}")
            self._close(flow, reset=True)

    def _turn(self, flow: Flow) -> bool:
        """Carry what there is; True if the budget ended before it did."""
        try:
            if flow.connecting is not None and not _connected(flow) and not flow.leaving:
                return False
            more = not flow.leaving and self._carry(flow, flow.forth)
            more = self._carry(flow, flow.back) or more
        except _Ended:
            self._last_words(flow)
            self._close(flow, reset=True)
            return False
        except Exception as error:  # one flow's; the others go on
            self._log(f"cannot carry a connection: {error!r}")
            self._close(flow, reset=True)
            return False
        if flow.back.ended and (flow.forth.ended or flow.leaving):
            self._close(flow, reset=False)
            return False
        if flow.leaving and not (more or flow.back.held or flow.back.rest):
            self._close(flow, reset=True)  # nothing waits for its sink, and nothing will come
            return False
        return more

    def _last_words(self, flow: Flow) -> None:
        """What a side said before it was reset, such as a server that did not read all and answered."""
        for way in (flow.forth, flow.back):
            way.broken = True
            try:
                self._carry(flow, way)
            except Exception:  # it is over anyway
                pass

    def _carry(self, flow: Flow, way: _Way) -> bool:
        if way.ended:
            return False
        step = self._pass_message if flow.messages else self._splice if way.much else self._copy
        moved = 0
        while moved < BUDGET:
            count = step(way)
            if count < 0:
                break
            moved += count
        way.much = moved >= MUCH
        if way.pipe is not None and not way.held:
            self._pipes.give(way.pipe)
            way.pipe = None
        return moved >= BUDGET

    # Steps: how many bytes were read, or -1 if nothing more can be done now.

    def _copy(self, way: _Way) -> int:
        if not self._flushed(way):
            return -1
        try:
            count = way.source.recv_into(self._view, BUFFER if self._held < HELD_MOST else LITTLE)
        except BlockingIOError:
            return -1
        except OSError as error:
            raise _Ended from error
        if count == 0:
            return self._end(way)
        sent = self._send(way, self._view[:count])
        if sent < count:
            way.rest = bytes(self._view[sent:count])
            self._held += count - sent
        return count

    def _splice(self, way: _Way) -> int:
        if not self._flushed(way):
            return -1
        if way.pipe is None:
            way.pipe = self._pipes.take()
            if way.pipe is None:
                return self._copy(way)
        try:
            count = splice(way.source_fd, way.pipe.write, SPLICED)
        except BlockingIOError:
            return -1
        except OSError as error:
            raise _Ended from error
        if count == 0:
            return self._end(way)
        way.held = count
        return count

    def _pass_message(self, way: _Way) -> int:
        if not self._flushed(way):
            return -1
        try:
            data = way.source.recv(BUFFER)
        except BlockingIOError:
            return -1
        except OSError as error:
            raise _Ended from error
        if not data:
            return self._end(way)
        if self._send(way, data) == 0:
            way.rest = data
            self._held += len(data)
        return len(data)

    def _flushed(self, way: _Way) -> bool:
        """Give the sink what was read before; False if it does not take all."""
        while way.rest:
            sent = self._send(way, way.rest)
            if not sent:
                return False
            way.rest = way.rest[sent:]
            self._held -= sent
        while way.held and way.pipe is not None:
            try:
                way.held -= splice(way.pipe.read, way.sink_fd, way.held)
            except BlockingIOError:
                return False
            except OSError as error:
                raise _Ended from error
        return True

    @staticmethod
    def _send(way: _Way, data: bytes | memoryview) -> int:
        try:
            return way.sink.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _Ended from error

    @staticmethod
    def _end(way: _Way) -> int:
        way.ended = True
        if not way.broken:
            try:
                way.sink.shutdown(socket.SHUT_WR)
            except OSError:  # it has ended, too
                pass
        return -1

    def _close(self, flow: Flow, reset: bool) -> None:
        flow.closed = True
        for way in (flow.forth, flow.back):
            self._flows.pop(way.source_fd, None)
            self._held -= len(way.rest)
            if way.pipe is not None:
                self._pipes.give(way.pipe, empty=not way.held)
            if reset:
                reset_socket(way.source)
            else:
                way.source.close()
        if flow.done is not None:
            try:
                flow.done()
            except Exception as error:
                self._log(f"cannot finish a connection: {error!r}")


class Pumps:
    """WORKERS threads that carry flows; on a machine that is busy, more of them have more of its time."""

    def __init__(self, workers: int = 4, log: Callable[[str], object] = lambda _: None) -> None:
        self._workers = [_Worker(f"pump{number}", log) for number in range(workers)]

    @property
    def count(self) -> int:
        """How many flows there are."""
        return sum(worker.count for worker in self._workers)

    def join(
        self,
        a: socket.socket,
        b: socket.socket,
        done: Callable[[], object] | None = None,
        *,
        connecting: bool = False,
    ) -> Flow:
        """Carry bytes between the connected sockets A and B, which are the pumps' from now on.

        B may still be CONNECTING.  DONE is called once both are closed, in a thread of the pumps.  May be
        called by any thread.
        """
        messages = False
        for side in (a, b):
            if side.gettimeout() != 0:  # the call would let other threads go first
                side.setblocking(False)
            # Not side.type and side.family, which look for the enumeration's members.
            if _kind(side) != socket.SOCK_STREAM or side.proto == socket.IPPROTO_SCTP:
                messages = True
            elif _family(side) != socket.AF_UNIX:
                _prepare(side)
        worker = min(self._workers, key=lambda one: one.count)
        flow = Flow(a, b, connecting, messages, done, worker)
        worker.join(flow)
        return flow

    @staticmethod
    def leave(flow: Flow) -> None:
        """Who was behind the second socket is gone, perhaps without a word: deliver what came, then end.

        Nothing is carried towards it any more.  A flow that has ended is fine.
        """
        flow.leaving = True
        flow.worker.join(flow)

    def close(self) -> None:
        """Reset all flows and end the threads."""
        for worker in self._workers:
            worker.close()


def _connected(flow: Flow) -> bool:
    """Whether the connection that FLOW waits for is there; raises _Ended if it cannot be made."""
    side = flow.connecting
    assert side is not None
    if side.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise _Ended
    try:
        side.getpeername()
    except OSError:  # not yet; what is shut down before would never be connected
        return False
    flow.connecting = None
    return True


def _prepare(side: socket.socket) -> None:
    """What a relayed TCP socket needs: send at once what comes, notice a peer that is gone for good."""
    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    side.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        side.setsockopt(socket.IPPROTO_TCP, option, value)


def reset_socket(side: socket.socket) -> None:
    """Close SIDE so that its peer sees a reset."""
    try:
        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    except OSError:
        pass
    side.close()
