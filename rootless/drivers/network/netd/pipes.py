"""Pipes to splice through: a bounded number, of a size that the user's share allows.

One pool belongs to one thread.  ``take`` gives a pipe that is empty, or None: then bytes are copied.  What is
given back must be empty again; a few are kept open for the next who asks.
"""

from __future__ import annotations

import os

from rootless.linux.splice import pipe_size, resize_pipe

WANTED = 256 << 10  # bytes; 64 pages, where each piece of a packet takes up one
LEAST = 64 << 10  # what a new pipe holds, unless the user's share of pages is used up
KEPT = 8  # idle ones


class Pipe:
    """One pipe: read end, write end and what it holds."""

    __slots__ = ("read", "size", "write")

    def __init__(self) -> None:
        self.read, self.write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.size = pipe_size(self.write)
        if self.size < WANTED:
            try:
                self.size = resize_pipe(self.write, WANTED)
            except OSError:  # over the user's share (fs.pipe-user-pages-soft): it stays as it is
                pass

    def close(self) -> None:
        """Close both ends; bytes in it are lost."""
        os.close(self.read)
        os.close(self.write)


class Pipes:
    """At most LIMIT pipes that are open at a time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._idle: list[Pipe] = []
        self._out = 0

    def take(self) -> Pipe | None:
        """An empty pipe, or None if there are too many or the user has no pages left."""
        if self._idle:
            self._out += 1
            return self._idle.pop()
        if self._out >= self._limit:
            return None
        try:
            pipe = Pipe()
        except OSError:  # no descriptors
            return None
        if pipe.size < LEAST:
            pipe.close()
            return None
        self._out += 1
        return pipe

    def give(self, pipe: Pipe, empty: bool = True) -> None:
        """Take PIPE back; one that is not EMPTY is closed."""
        self._out -= 1
        if empty and len(self._idle) < KEPT:
            self._idle.append(pipe)
        else:
            pipe.close()

    def close(self) -> None:
        """Close the idle ones."""
        while self._idle:
            self._idle.pop().close()
