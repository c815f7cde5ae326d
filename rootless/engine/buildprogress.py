"""What a build tells while it works; the fronts show it.  This module shows nothing."""

from __future__ import annotations

import threading
import time


class Vertex:
    """One thing a build does: NUMBER in order of appearance, NAME as shown, and when it began and ended."""

    __slots__ = ("began", "cached", "ended", "error", "lock", "name", "number", "tail")

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.began = time.monotonic()
        self.ended = 0.0
        self.cached = False
        self.error = ""
        self.tail = b""
        self.lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """How long it took, or takes until now."""
        return (self.ended or time.monotonic()) - self.began


class Display:
    """Receives what happens, from several threads; this one is silent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def begin(self, name: str) -> Vertex:
        """Something begins."""
        with self._lock:
            self._count += 1
            vertex = Vertex(self._count, name)
        self.began(vertex)
        return vertex

    def output(self, vertex: Vertex, data: bytes) -> None:
        """It printed DATA; the end of it all is kept for an error."""
        vertex.tail = (vertex.tail + data)[-8192:]
        self.printed(vertex, data)

    def end(self, vertex: Vertex, *, cached: bool = False, error: str = "") -> None:
        """It ended."""
        vertex.ended = time.monotonic()
        vertex.cached, vertex.error = cached, error
        self.ended(vertex)

    # for those who show it

    def began(self, vertex: Vertex) -> None:
        """VERTEX has begun."""

    def printed(self, vertex: Vertex, data: bytes) -> None:
        """VERTEX has printed DATA."""

    def ended(self, vertex: Vertex) -> None:
        """VERTEX has ended."""

    def warning(self, text: str, where: str = "") -> None:
        """Something is worth a remark; WHERE shows the line."""

    def close(self) -> None:
        """Nothing more comes."""
