"""A registry that misbehaves on request: an HTTP server whose every answer the test writes."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Optional


class Request:
    """What came in."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self.method = handler.command
        self.path = handler.path
        self.headers = handler.headers
        length = int(handler.headers.get("Content-Length") or 0)
        self.body = handler.rfile.read(length)


class Answer:
    """What goes out; ``cut`` ends the connection after that many bytes of the body."""

    def __init__(
        self,
        status: int = 200,
        body: bytes = b"",
        cut: Optional[int] = None,
        **headers: str,
    ) -> None:
        self.status = status
        self.body = body
        self.cut = cut
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


Respond = Callable[[Request], Answer]


class FakeRegistry:
    """A running server; ``seen`` are the requests in order."""

    def __init__(self, respond: Respond, context: Optional[ssl.SSLContext] = None) -> None:
        self.seen: list[Request] = []
        self._open: list[socket.socket] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _do(self) -> None:
                request = Request(self)
                fake.seen.append(request)
                answer = respond(request)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in answer.headers:
                    self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if self.command == "HEAD":
                    return
                self.wfile.write(answer.body if answer.cut is None else answer.body[: answer.cut])
                self.close_connection = self.close_connection or answer.cut is not None

            do_GET = do_POST = do_HEAD = do_PUT = do_PATCH = _do

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = False  # so that server_close() waits for their ends

            def get_request(self) -> tuple[socket.socket, Any]:
                pair = super().get_request()
                fake._open.append(pair[0])
                return pair

            def handle_error(self, *_: object) -> None:
                """Say nothing of clients that went away, or did not speak TLS."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()

    @property
    def paths(self) -> list[str]:
        """Paths in the order they were asked for."""
        return [request.path for request in self.seen]

    def stop(self) -> None:
        """End the server."""
        self._server.shutdown()
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended
        self._server.server_close()
        self._thread.join()


@contextmanager
def serving(respond: Respond, context: Optional[ssl.SSLContext] = None) -> Iterator[FakeRegistry]:
    """A registry for one test."""
    registry = FakeRegistry(respond, context)
    try:
        yield registry
    finally:
        registry.stop()
