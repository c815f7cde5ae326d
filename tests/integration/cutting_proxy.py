"""A TCP proxy in front of a server that breaks or slows connections as a test asks."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

CHUNK = 16384


class CuttingProxy:
    """Forwards to TARGET; of the next ``cuts`` connections that bring more than ``limit`` bytes each breaks.

    ``delay`` seconds pass before each piece of an answer.  After ``dies_after`` bytes in all, it is gone.
    """

    def __init__(self, target: str, limit: int, cuts: int, delay: float = 0.0) -> None:
        name, _, port = target.partition(":")
        self._target = (name, int(port))
        self.limit = limit
        self.cuts = cuts
        self.delay = delay
        self.dies_after = 1 << 60
        self.done = 0
        self.brought = 0
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    def _start(self, what: object, *args: object) -> None:
        thread = threading.Thread(target=what, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
                server = socket.create_connection(self._target)
            except OSError:
                return
            self._sockets += [client, server]
            self._start(self._forward, client, server, False)
            self._start(self._forward, server, client, True)

    def _forward(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        seen = 0
        try:
            while True:
                data = source.recv(CHUNK)
                if not data:
                    break
                if answers:
                    time.sleep(self.delay)
                    seen += len(data)
                    self.brought += len(data)
                    if self.brought > self.dies_after:
                        self._listener.shutdown(socket.SHUT_RDWR)
                        break
                    if seen > self.limit and self.done < self.cuts:
                        self.done += 1
                        break
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other direction was quicker

    def stop(self) -> None:
        """End it with all its connections."""
        for one in (self._listener, *self._sockets):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(10)
        for one in (self._listener, *self._sockets):
            one.close()


@contextmanager
def cutting(target: str, limit: int, cuts: int, delay: float = 0.0) -> Iterator[CuttingProxy]:
    """A proxy for one test."""
    proxy = CuttingProxy(target, limit, cuts, delay)
    try:
        yield proxy
    finally:
        proxy.stop()
