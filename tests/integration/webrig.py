"""A web server of the tests' own: files with ETags and times, and git repositories through git's own CGI."""

from __future__ import annotations

import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BACKEND = "/usr/lib/git-core/git-http-backend"
TIME = "Wed, 21 Oct 2015 07:28:00 GMT"


class Web:
    """Serves FILES (path -> bytes) at ``url``, repositories below REPOSITORIES at ``url``/git/.

    asked  (path, status) of each request; lie: status and headers that a path is answered with
    authorization  what each request for a repository had to say of it
    """

    def __init__(self, repositories: str = "") -> None:
        self.files: dict[str, bytes] = {}
        self.lie: dict[str, tuple[int, dict[str, str]]] = {}
        self.repositories = repositories
        self.asked: list[tuple[str, int]] = []
        self.etags = True
        self.authorization: list[str] = []
        handler = type("Handler", (_Handler,), {"web": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    web: Web
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.web.asked.append((self.path, status))
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if "Content-Length" not in headers and status != 304:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if self.path.startswith("/git/"):
            self._git()
            return
        data = self.web.files.get(self.path)
        if self.path in self.web.lie:
            status, headers = self.web.lie[self.path]
            self._answer(status, data or b"", headers)
            self.close_connection = True
            return
        if data is None:
            self._answer(404, b"", {})
            return
        etag = f'"{hash(data)}"'
        headers = {"ETag": etag, "Last-Modified": TIME} if self.web.etags else {}
        if self.web.etags and self.headers.get("If-None-Match") == etag:
            self._answer(304, b"", headers)
        else:
            self._answer(200, data, headers)

    do_POST = do_GET

    def _git(self) -> None:
        self.web.authorization.append(self.headers.get("Authorization") or "")
        path, _, query = self.path[len("/git") :].partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        env = {
            **os.environ,
            "GIT_PROJECT_ROOT": self.web.repositories,
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type") or "",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol") or "",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }
        done = subprocess.run([BACKEND], input=body, env=env, capture_output=True, check=False)
        head, _, data = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200").split()[0])
        self._answer(status, data, headers)

    def _chunks(self) -> bytes:
        out = b""
        while True:
            size = int(self.rfile.readline(), 16)
            out += self.rfile.read(size)
            self.rfile.readline()
            if not size:
                return out


def git(directory: Any, *words: str) -> str:
    """Run git in a directory, as somebody with a name; what it printed."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_DATE": "2020-02-02T02:02:02Z",
        "GIT_COMMITTER_DATE": "2020-02-02T02:02:02Z",
    }
    who = [
        "-c",
        "user.name=T",
        "-c",
        "user.email=t@example.invalid",
        "-c",
        "init.defaultBranch=main",
    ]
    who += ["-c", "protocol.file.allow=always"]
    argv = ["git", "-C", str(directory), *who, *words]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout.strip()
