"""The control socket: one request per connection, one answer, the end.

A request is a line of JSON with ``op``; with it may come a descriptor, the network namespace of a container.

    attach      AttachRequest's fields, and the namespace; from the launcher of the container, whose pid the
                kernel tells.  Answer: ``ok``, ``ok COUNT NAMES`` with listening sockets, or one line
                that says why not
    connect     container, wish (EndpointWish's fields).  Answer: JSON, ok or error, slug and hint
    disconnect  container, network.  Likewise
    status      what the service is and does, as JSON
    realm       the user and the network namespace that it serves, as descriptors with an empty object
    stop        end; containers keep their interfaces

Clients are of the same user (the directory of the socket is private), and yet nothing they send may end the
service: what is too long or too slow is cut off.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct

from rootless.errors import RootlessError, UsageError

from .loop import IN, OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import FileIO
    from typing import Any, Callable, Union

    from .loop import Loop, Timer

    Handed = Union[socket.socket, FileIO]

    # (operation's name, its values, pid of the client, its descriptors) -> answer
    Handler = Callable[[str, dict[str, Any], int, list[int]], Any]

LIMIT = 1 << 18  # bytes of a request
PATIENCE = 10.0  # seconds for a client to say what it wants, and to read the answer


class Control:
    """Serves the listening socket; HANDLER answers."""

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        handler: Handler,
        log: Callable[[str], object],
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._handler = handler
        self._log = log
        self.clients = 0
        listener.setblocking(False)
        loop.add(listener.fileno(), IN, lambda _: self._accept())

    def close(self) -> None:
        """Accept no more."""
        self._loop.remove(self._listener.fileno())
        self._listener.close()

    def pending(self) -> bool:
        """Whether somebody waits to be accepted."""
        import select

        return bool(select.select([self._listener], [], [], 0)[0])

    def _accept(self) -> None:
        for _ in range(64):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._log(f"cannot accept a client: {error}")
                return
            self.clients += 1
            _Client(self, self._loop, connection)

    def answer(self, line: bytes, pid: int, fds: list[int]) -> tuple[bytes, list[Handed]]:
        """The answer to a request, and the descriptors that go with it."""
        plain = False
        try:
            try:
                values = json.loads(line)
                name = values.pop("op")
                plain = name == "attach"
            except (ValueError, AttributeError, KeyError, TypeError):
                raise UsageError("cannot read request: it is no JSON object with op") from None
            try:
                found = self._handler(name, values, pid, fds)
            except (KeyError, TypeError, ValueError) as error:
                raise UsageError(f"cannot read request {name!r}: {error}") from None
            if plain:
                return _handed(found)
            return (_line({}), found) if name == "realm" else (_line(found), [])
        except RootlessError as error:
            text = error.message + (f" ({error.hint})" if error.hint and plain else "")
            slug, hint = error.slug, error.hint
        except OSError as error:
            text, slug, hint = str(error.strerror or error), "host", ""
        self._log(f"refused: {text}")
        if plain:
            return (" ".join(text.split()) + "\n").encode(), []
        return _line({"error": text, "slug": slug, "hint": hint}), []


def _handed(found: list[tuple[str, socket.socket]]) -> tuple[bytes, list[Handed]]:
    """The answer to a launcher, whose container inherits the sockets FOUND."""
    if not found:
        return b"ok\n", []
    names = ":".join(name for name, _ in found)
    return f"ok {len(found)} {names}\n".encode(), [sock for _, sock in found]


def _line(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode() + b"\n"


class _Client:
    """A connection: reads until the line's end, answers, closes."""

    def __init__(self, control: Control, loop: Loop, connection: socket.socket) -> None:
        self._control = control
        self._loop = loop
        self._socket = connection
        self._data = b""
        self._fds: list[int] = []
        self._handed: list[Handed] = []
        connection.setblocking(False)
        self._timer: Timer = loop.call_later(PATIENCE, self._end)
        loop.add(connection.fileno(), IN, lambda _: self._read())

    def _read(self) -> None:
        try:
            data, notes, _, _ = self._socket.recvmsg(1 << 16, socket.CMSG_SPACE(16))
        except BlockingIOError:
            return
        except OSError:
            self._end()
            return
        for level, kind, body in notes:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found = array.array("i")
                found.frombytes(body[: len(body) - len(body) % found.itemsize])
                self._fds += found.tolist()
        self._data += data
        if b"\n" in self._data or (not data and self._data):
            self._serve()
        elif not data or len(self._data) > LIMIT or len(self._fds) > 4:
            self._end()

    def _serve(self) -> None:
        line, fds = self._data.split(b"\n", 1)[0], self._fds
        self._data, self._fds = b"", []
        peer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid = struct.unpack("=iII", peer)[0]
        try:
            answer, self._handed = self._control.answer(line, pid, fds)
        finally:
            for fd in fds:
                os.close(fd)
        self._data = answer
        self._loop.remove(self._socket.fileno())
        self._loop.add(self._socket.fileno(), OUT, lambda _: self._write())
        self._write()

    def _write(self) -> None:
        try:
            notes = []
            if self._handed:
                fds = array.array("i", [sock.fileno() for sock in self._handed])
                notes = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds.tobytes())]
            sent = self._socket.sendmsg([self._data], notes)
            self._drop_handed()
            self._data = self._data[sent:]
        except BlockingIOError:
            return
        except OSError:
            self._data = b""
        if not self._data:
            self._end()

    def _drop_handed(self) -> None:
        for sock in self._handed:
            sock.close()
        self._handed = []

    def _end(self) -> None:
        if self._socket.fileno() < 0:
            return
        self._timer.cancel()
        self._loop.remove(self._socket.fileno())
        self._socket.close()
        for fd in self._fds:
            os.close(fd)
        self._fds = []
        self._drop_handed()
        self._control.clients -= 1
