"""HTTP to one registry host: scheme, proxies, retries, redirects, and what it takes to be let in.

Plain HTTP is spoken only to this machine's loopback and to registries the configuration calls
insecure, and there only where HTTPS is not spoken.  An untrusted certificate is an error on loopback too: on a
shared machine anyone may listen there.  Authorization goes to the registry's own host alone.
"""

from __future__ import annotations

import base64
import socket
import threading
from urllib.parse import urljoin, urlsplit

import urllib3

from rootless import __version__
from rootless.errors import RegistryAuthError, RegistryError

from . import failures, tls, tokens
from .proxies import is_loopback, proxy_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Any
    from urllib.parse import SplitResult

    from .credentials import Credentials

HUB = "docker.io"
HUB_HOST = "registry-1.docker.io"
MAX_REDIRECTS = 5
RETRIES = 4
BACKOFF = 0.25  # seconds before the first retry; doubles
MAX_WAIT = 10.0  # seconds that a Retry-After may ask for
CONNECT_TIMEOUT = 15.0
READ_TIMEOUT = 60.0
_WORTH_DRAINING = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)
RETRIED = (429, 500, 502, 503, 504)


class Transport:
    """Requests to one registry.  Safe to share between threads."""

    def __init__(
        self,
        domain: str,
        env: Mapping[str, str],
        credentials: Credentials | None,
        insecure: Collection[str] = (),
    ) -> None:
        self.domain = domain
        self.host = HUB_HOST if domain == HUB else domain
        self.credentials = credentials
        self._env = env
        self._insecure = frozenset(insecure)
        self._tokens: dict[str, str] = {}
        self._basic = False
        self._pools: dict[tuple[str, str], urllib3.PoolManager] = {}
        self._lock = threading.Lock()
        self._choosing = threading.Lock()
        self._live: set[Any] = set()
        self._stopped = threading.Event()
        self._scheme = ""

    # asking

    def get(self, path: str, scope: str, *, accept: Sequence[str] = (), start: int = 0) -> Any:
        """GET a path of the registry, its body not yet read; START skips bytes where the server can.

        Any status may come back.  Raises RegistryError where no answer came, RegistryAuthError where
        credentials are wanted that we do not have.
        """
        headers = {"Accept": ", ".join(accept)} if accept else {}
        if start:
            headers["Range"] = f"bytes={start}-"
        known = self._authorization(scope)
        response = self._send(path, {**headers, **known})
        if response.status != 401:
            return response
        challenge = tokens.challenge(response.headers.get_all("WWW-Authenticate") or [])
        if not challenge or (known and self._basic):
            return response
        self.release(response)
        return self._send(path, {**headers, **self._answer(challenge, scope)})

    def send(
        self,
        method: str,
        target: str,
        scope: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Any] | None = None,
        retry: bool = True,
    ) -> Any:
        """Any other request: to a path of the registry or a URL that it gave; BODY gives the body anew.

        RETRY: the same request may be made again where its connection broke, or the server was busy.  Any
        status may come back; raises as get() does.
        """
        if not self._scheme:
            self.release(self.get("/v2/", scope))
        parts = self._split(urljoin(f"{self._scheme}://{self.host}", target))
        url, ours = parts.geturl(), (parts.scheme, parts.netloc) == (self._scheme, self.host)
        secure = parts.scheme == "https" or (
            parts.scheme == "http" and self._plain_allowed(parts.netloc)
        )
        if not secure or not parts.netloc or (self._scheme == "https" and parts.scheme != "https"):
            raise RegistryError(
                f"cannot follow {self.domain} to {url[:200]!r}: it is not an HTTPS URL"
            )
        known = self._authorization(scope) if ours else {}
        retries = RETRIES if retry else 0
        given = {**(headers or {}), **known}
        response = self._attempt(method, url, given, body=body, retries=retries)
        if response.status != 401 or not ours:
            return response
        challenge = tokens.challenge(response.headers.get_all("WWW-Authenticate") or [])
        if not challenge or (known and self._basic):
            return response
        self.release(response)
        given = {**(headers or {}), **self._answer(challenge, scope)}
        return self._attempt(method, url, given, body=body, retries=retries)

    def release(self, response: Any) -> None:
        """Give the connection back; what is left of the body is read only if it is little."""
        with self._lock:
            self._live.discard(response)
        left = response.length_remaining
        if left is None or left > _WORTH_DRAINING:
            response.close()
            return
        response.drain_conn()
        response.release_conn()

    def abort(self) -> None:
        """Break every transfer under way, from another thread; they raise RegistryError."""
        self._stopped.set()
        with self._lock:
            live = list(self._live)
        for response in live:
            sock = _socket_of(response)
            if sock is not None:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self) -> None:
        """Close idle connections; the transport may still be used."""
        with self._lock:
            for pool in self._pools.values():
                pool.clear()

    def wait(self, seconds: float) -> None:
        """Pause before another attempt; raises RegistryError after abort()."""
        if self._stopped.wait(seconds):
            raise RegistryError(f"cannot access {self.domain}: the transfer was given up")

    # who we are

    def _authorization(self, scope: str) -> dict[str, str]:
        if self._basic:
            return {"Authorization": self._basic_header()}
        token = self._tokens.get(scope)
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _basic_header(self) -> str:
        assert self.credentials is not None
        pair = f"{self.credentials.user}:{self.credentials.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()

    def _answer(self, challenge: tokens.Challenge, scope: str) -> dict[str, str]:
        """The headers that answer a challenge."""
        if challenge.kind == "bearer":
            token = self._tokens[scope] = tokens.fetch(self, challenge, scope)
            return {"Authorization": f"Bearer {token}"}
        if self.credentials is None or not self.credentials.user:
            raise RegistryAuthError(
                f"cannot access {self.domain}: it wants a user name and a password",
                hint=f"run docker login {self.domain}, or put them into ~/.docker/config.json",
            )
        self._basic = True
        return {"Authorization": self._basic_header()}

    def ask_token(self, url: str, fields: Mapping[str, str] | None) -> Any:
        """The answer of a token server: to a POST of FIELDS, or to a GET with our password."""
        parts = self._split(url)
        if parts.scheme != "https" and not (
            parts.scheme == "http" and self._plain_allowed(parts.netloc)
        ):
            raise RegistryAuthError(
                f"cannot get a token for {self.domain}: {url[:200]!r} is not an HTTPS URL"
            )
        if fields is not None:
            return self._attempt("POST", url, {}, fields)
        named = self.credentials is not None and self.credentials.user
        return self._follow(url, {"Authorization": self._basic_header()} if named else {})

    # how we get there

    def _plain_allowed(self, host: str) -> bool:
        return is_loopback(host) or host in self._insecure

    def _send(self, path: str, headers: dict[str, str]) -> Any:
        if not self._scheme:
            with self._choosing:
                if not self._scheme:
                    return self._first(path, headers)
        return self._follow(f"{self._scheme}://{self.host}{path}", headers)

    def _first(self, path: str, headers: dict[str, str]) -> Any:
        """The first request, which finds out the scheme."""
        try:
            response = self._follow(f"https://{self.host}{path}", headers)
        except failures.Unreachable as error:
            if error.certificate or not self._plain_allowed(self.host):
                raise
            response = self._follow(f"http://{self.host}{path}", headers)
            if response.status == 400 and not error.plain:  # it speaks HTTPS, but not with us
                self.release(response)
                raise
            self._scheme = "http"
        else:
            self._scheme = "https"
        return response

    def _follow(self, url: str, headers: dict[str, str]) -> Any:
        for _ in range(MAX_REDIRECTS + 1):
            response = self._attempt("GET", url, headers)
            if response.status not in _REDIRECTS:
                return response
            location = response.headers.get("Location", "")
            self.release(response)
            self._split(location)  # urljoin fails on what is no URL
            target = urljoin(url, location)
            here, there = urlsplit(url), self._split(target)
            secure = there.scheme == "https" or (
                there.scheme == "http" and self._plain_allowed(there.netloc)
            )
            if not secure or not there.netloc:
                raise RegistryError(
                    f"cannot follow {self.domain} to {target[:200]!r}: it is not an HTTPS URL"
                )
            if (here.scheme, here.netloc) != (there.scheme, there.netloc):
                headers = {k: v for k, v in headers.items() if k != "Authorization"}
            url = target
        raise RegistryError(f"cannot access {self.domain}: more than {MAX_REDIRECTS} redirects")

    def _split(self, url: str) -> SplitResult:
        try:
            return urlsplit(url)
        except ValueError:
            raise RegistryError(f"cannot access {self.domain}: {url[:200]!r} is no URL") from None

    def _attempt(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        fields: Mapping[str, str] | None = None,
        body: Callable[[], Any] | None = None,
        retries: int = RETRIES,
    ) -> Any:
        """One request with retries, its answer whatever it is; raises Unreachable."""
        host = urlsplit(url).netloc
        options: dict[str, Any] = {"headers": {"User-Agent": f"rootless/{__version__}", **headers}}
        if fields is not None:
            options.update(fields=dict(fields), encode_multipart=False)
        for attempt in range(retries + 1):
            self.wait(0)
            pause = BACKOFF * 2**attempt
            if body is not None:
                options["body"] = body()
            try:
                response = self._pool(url).request(
                    method, url, preload_content=False, redirect=False, **options
                )
            except urllib3.exceptions.LocationParseError:
                raise RegistryError(
                    f"cannot access {self.domain}: {url[:200]!r} is no URL"
                ) from None
            except (urllib3.exceptions.HTTPError, OSError) as error:
                failed = failures.unreachable(host, error)
                if attempt == retries or not failed.worth_retrying:
                    raise failed from None
            else:
                told = _retry_after(response)
                if response.status not in RETRIED or attempt == retries or told > MAX_WAIT:
                    with self._lock:
                        self._live.add(response)
                    return response
                self.release(response)
                pause = max(pause, told)
            self.wait(pause)
        raise AssertionError  # the loop returns or raises

    def _pool(self, url: str) -> urllib3.PoolManager:
        host, proxy = urlsplit(url).netloc, proxy_for(url, self._env)
        with self._lock:
            pool = self._pools.get((host, proxy))
            if pool is None:
                pool = self._pools[host, proxy] = self._make_pool(host, proxy)
            return pool

    def _make_pool(self, host: str, proxy: str) -> urllib3.PoolManager:
        context = tls.context(host, self._env, verify=host not in self._insecure)
        if not hasattr(urllib3, "BaseHTTPResponse"):
            # Before version 2 it compares names itself, and tells OpenSSL none where the host is an IP address.
            context.check_hostname = False
        options: dict[str, Any] = {
            "ssl_context": context,
            "timeout": urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT),
            "retries": False,
            "maxsize": 8,
        }
        if not proxy:
            return urllib3.PoolManager(**options)
        user = urlsplit(proxy).username
        if user:
            pair = f"{user}:{urlsplit(proxy).password or ''}"
            options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=pair)
        return urllib3.ProxyManager(proxy, **options)


def _retry_after(response: Any) -> float:
    text = response.headers.get("Retry-After", "").strip()
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _socket_of(response: Any) -> Any:
    """The socket under a response, which neither urllib3 nor http.client gives to its callers."""
    reader = getattr(getattr(response, "_fp", None), "fp", None)
    return getattr(getattr(reader, "raw", None), "_sock", None)
