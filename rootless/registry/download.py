"""One URL of HTTP fetched, as ADD and remote contexts want it.

It goes over the proxies, certificates and retries of the registry client, without its credentials.  Plain HTTP
is spoken only where the URL itself says so: one of HTTPS is never led to it.  A user and password in the URL
are told to its own host alone.
"""

from __future__ import annotations

import base64
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3

from rootless.errors import RegistryError

from . import failures
from .transport import Transport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

CHUNK = 256 << 10


class _Plain(Transport):
    """A transport to anywhere that the first URL leads."""

    def __init__(self, host: str, env: Mapping[str, str], *, plain: bool) -> None:
        super().__init__(host, env, None)
        self._plain = plain

    def _plain_allowed(self, host: str) -> bool:  # noqa: ARG002
        return self._plain


class Answer:
    """What a server said: its status and headers (names in lower case), and the body in chunks, once."""

    def __init__(self, transport: Transport, response: Any, url: str) -> None:
        self._transport = transport
        self._response = response
        self._url = url
        self.status = int(response.status)
        self.headers = {str(key).lower(): str(value) for key, value in response.headers.items()}

    def chunks(self) -> Iterator[bytes]:
        """The body; raises RegistryError where it breaks off."""
        told = self.headers.get("content-length", "")
        left = int(told) if told.isascii() and told.isdigit() else -1
        try:
            for data in self._response.stream(CHUNK, decode_content=False):
                left -= len(data) if left >= 0 else 0
                yield data
        except (urllib3.exceptions.HTTPError, OSError) as error:
            failed = failures.unreachable(self._transport.host, error)
            raise _told(failed, self._transport.host, self._url) from None
        if left > 0:
            raise RegistryError(f"cannot fetch {self._url}: {left} bytes of it did not come")

    def close(self) -> None:
        """Give the connection back."""
        self._transport.release(self._response)
        self._transport.close()


def get(url: str, env: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
    """GET a URL, redirects followed; any other status may come back.  Raises RegistryError."""
    try:
        parts = urlsplit(url)
        host, user, password = parts.netloc.rpartition("@")[2], parts.username, parts.password
    except ValueError:
        raise RegistryError(f"cannot fetch {url[:200]!r}: it is no URL") from None
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise RegistryError(f"cannot fetch {url[:200]!r}: it is no URL of HTTP")
    wanted = dict(headers or {})
    if user:
        pair = f"{unquote(user)}:{unquote(password or '')}".encode()
        wanted["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    scheme = parts.scheme.lower()
    clean = urlunsplit((scheme, host, parts.path or "/", parts.query, ""))
    transport = _Plain(host, env, plain=scheme == "http")
    try:
        return Answer(transport, transport._follow(clean, wanted), clean)
    except RegistryError as error:
        raise _told(error, host, clean) from None


def _told(error: RegistryError, host: str, url: str) -> RegistryError:
    """ERROR in the words of one who fetches a URL."""
    message = error.message
    for start in (f"cannot reach registry {host}: ", f"cannot access {host}: "):
        if message.startswith(start):
            message = message[len(start) :]
    return RegistryError(f"cannot fetch {url}: {message}", hint=error.hint)
