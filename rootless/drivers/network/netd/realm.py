"""The thread in the realm's network namespace: it makes sockets there and does what must be done there.

``call`` runs a function in that thread and gives back what it returns; it takes some tens of microseconds.
``begin`` does not wait for that, so that the caller can do something else meanwhile.  ``within`` does it in a
container's namespace, which the thread enters and leaves again.  Sockets that were made are used by the loop.
There is one such thread, so that calls never overlap.

The process must have joined the realm's user namespace before, while it had one thread.
"""

from __future__ import annotations

import queue
import socket
import threading
from typing import cast

from rootless.linux import netns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, TypeVar

    T = TypeVar("T")


class Call:
    """A function that the thread runs, or has run."""

    __slots__ = ("args", "done", "error", "function", "result")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.function = function
        self.args = args
        self.done = threading.Lock()
        self.done.acquire()
        self.result: Any = None
        self.error: BaseException | None = None

    def wait(self) -> Any:
        """What it returned, once; raises what it raised."""
        self.done.acquire()
        if self.error is not None:
            raise self.error
        return self.result


class Realm:
    """The realm's network namespace, NET_FD, for others to work in."""

    def __init__(self, net_fd: int) -> None:
        self.net_fd = net_fd
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="realm", daemon=True)
        self._thread.start()
        self.call(netns.setns, net_fd, netns.NEWNET)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """FUNCTION(*ARGS) in the realm's namespace; raises what it raises."""
        return cast("T", self.begin(function, *args).wait())

    def begin(self, function: Callable[..., Any], *args: Any) -> Call:
        """Have FUNCTION(*ARGS) run in the realm's namespace; the caller has to wait() for it some time."""
        call = Call(function, args)
        self._calls.put(call)
        return call

    def within(self, net_fd: int, function: Callable[..., T], *args: Any) -> T:
        """FUNCTION(*ARGS) in the network namespace NET_FD, which must be below the realm's user namespace."""
        return cast("T", self.call(self._within, net_fd, function, args))

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A non-blocking socket of the realm's namespace."""
        return self.call(_make, family, kind, protocol)

    def close(self) -> None:
        """End the thread; the namespace is not its."""
        self._calls.put(None)
        self._thread.join()

    def _within(self, net_fd: int, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        netns.setns(net_fd, netns.NEWNET)
        try:
            return function(*args)
        finally:
            netns.setns(self.net_fd, netns.NEWNET)

    def _serve(self) -> None:
        while True:
            call = self._calls.get()
            if call is None:
                return
            try:
                call.result = call.function(*call.args)
            except BaseException as error:
                call.error = error
            call.done.release()


def _make(family: int, kind: int, protocol: int) -> socket.socket:
    return socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
