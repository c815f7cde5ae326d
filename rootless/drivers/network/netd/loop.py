"""The event loop of the network service: epoll, timers and calls from other threads.

Level-triggered unless asked otherwise.  Callbacks run one after the other and must not block; what one of them
raises is reported to ``on_error`` and ends nothing.  Knows nothing of networks.
"""

from __future__ import annotations

import heapq
import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

IN, OUT = select.EPOLLIN, select.EPOLLOUT
ERROR = select.EPOLLERR | select.EPOLLHUP


class Timer:
    """A call that is due; cancel() takes it back."""

    __slots__ = ("args", "callback", "due")

    def __init__(self, due: float, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.due = due
        self.callback: Callable[..., object] | None = callback
        self.args = args

    def cancel(self) -> None:
        """Never call; what was called already stays called."""
        self.callback = None
        self.args = ()

    def __lt__(self, other: Timer) -> bool:
        return self.due < other.due


class Loop:
    """Calls back what waits for descriptors and times."""

    def __init__(self, on_error: Callable[[BaseException], object] | None = None) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[int], object]] = {}
        self._timers: list[Timer] = []
        self._soon: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._running = False
        self.on_error = on_error
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.add(self._wake_read, IN, lambda _: os.read(self._wake_read, 4096))

    def add(self, fd: int, events: int, callback: Callable[[int], object]) -> None:
        """Call CALLBACK(events) whenever FD is ready for EVENTS (IN, OUT, EPOLLET ...) or broken."""
        self._epoll.register(fd, events)
        self._watched[fd] = callback

    def modify(self, fd: int, events: int) -> None:
        """Wait for other EVENTS of FD."""
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Forget FD, to be called before it is closed; one that is not watched is fine."""
        if self._watched.pop(fd, None) is not None:
            try:
                self._epoll.unregister(fd)
            except OSError:  # closed before
                pass

    def call_later(self, seconds: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Call CALLBACK(*ARGS) once, SECONDS from now."""
        timer = Timer(time.monotonic() + seconds, callback, args)
        heapq.heappush(self._timers, timer)
        return timer

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Call CALLBACK(*ARGS) in the loop; may be called by any thread."""
        self._soon.append((callback, args))
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:  # it is being woken anyway
            pass

    def run(self) -> None:
        """Serve until stop()."""
        self._running = True
        while self._running:
            for fd, events in self._epoll.poll(self._patience()):
                callback = self._watched.get(fd)
                if callback is not None:  # else removed by a callback of this round
                    self._call(callback, (events,))
            while self._soon:
                self._call(*self._soon.pop(0))
            self._due()

    def stop(self) -> None:
        """Let run() return after this round."""
        self._running = False

    def close(self) -> None:
        """Close the loop's own descriptors; those that were added are their owners'."""
        self._epoll.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _patience(self) -> float:
        while self._timers and self._timers[0].callback is None:
            heapq.heappop(self._timers)
        if self._soon:
            return 0
        return max(0.0, self._timers[0].due - time.monotonic()) if self._timers else -1

    def _due(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0].due <= now:
            timer = heapq.heappop(self._timers)
            if timer.callback is not None:
                self._call(timer.callback, timer.args)

    def _call(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        try:
            callback(*args)
        except Exception as error:
            if self.on_error is None:
                raise
            self.on_error(error)
