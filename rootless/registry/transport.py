"""HTTP to one registry host: scheme, certificates, proxies, retries, redirects and tokens.

Plain HTTP is spoken only to this machine's loopback and to registries the configuration calls
insecure, and there only where HTTPS does not answer.  A redirect to another host does not get
our Authorization.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import time
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3

from rootless import __version__
from rootless.errors import RegistryAuthError, RegistryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .credentials import Credentials

HUB_HOST = "registry-1.docker.io"
MAX_REDIRECTS = 5
MAX_ANSWER = 1 << 20
RETRIES = 3
BACKOFF = 0.25
TIMEOUT = urllib3.Timeout(connect=15, read=60)
RETRY_STATUS = (500, 502, 503, 504)


def is_loopback(host: str) -> bool:
    """Whether HOST (with or without port) is this machine by name or number."""
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    return name in ("localhost", "[::1]", "::1") or name.startswith("127.")


def ca_files(host: str, env: Mapping[str, str]) -> list[str]:
    """Certificates that vouch for HOST alone: ca.crt or *.crt of its certs.d directories."""
    home = env.get("HOME", "/nonexistent")
    config = env.get("XDG_CONFIG_HOME") or f"{home}/.config"
    found = []
    for base in (
        f"{config}/rootless/certs.d",
        f"{config}/docker/certs.d",
        f"{home}/.docker/certs.d",
        "/etc/containers/certs.d",
        "/etc/docker/certs.d",
    ):
        try:
            names = sorted(os.listdir(f"{base}/{host}"))
        except OSError:
            continue
        found += [f"{base}/{host}/{name}" for name in names if name.endswith(".crt")]
    return found


def tls_context(host: str, env: Mapping[str, str], *, verify: bool = True) -> ssl.SSLContext:
    """Verification for HOST: its certs.d, else $SSL_CERT_FILE, else the system's certificates."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    wanted = ca_files(host, env)
    if not wanted and env.get("SSL_CERT_FILE"):
        wanted = [env["SSL_CERT_FILE"]]
    for path in wanted:
        try:
            context.load_verify_locations(path)
        except (OSError, ssl.SSLError) as error:
            raise RegistryError(f"cannot use certificate {path}: {error}") from None
    return context


class Transport:
    """Requests to one registry, with what it takes to be let in.  Safe to share between threads."""

    def __init__(
        self,
        domain: str,
        env: Mapping[str, str],
        credentials: Credentials | None,
        insecure: Sequence[str] = (),
    ) -> None:
        self.domain = domain
        self.host = HUB_HOST if domain == "docker.io" else domain
        self._credentials = credentials
        self._tokens: dict[str, str] = {}
        self._basic = False
        self._plain_allowed = is_loopback(self.host) or self.host in insecure
        verify = self.host not in insecure
        self._pool = self._make_pool(env, tls_context(self.host, env, verify=verify))
        self._foreign = self._make_pool(env, tls_context("", env))
        self._scheme = ""

    @staticmethod
    def _make_pool(env: Mapping[str, str], context: ssl.SSLContext) -> urllib3.PoolManager:
        options: dict[str, Any] = {
            "ssl_context": context,
            "timeout": TIMEOUT,
            "retries": False,
            "maxsize": 8,
            "headers": {"User-Agent": f"rootless/{__version__}"},
        }
        proxy = env.get("HTTPS_PROXY") or env.get("https_proxy")
        if proxy:
            return _ProxyChoice(proxy, env, options)
        return urllib3.PoolManager(**options)

    def get(self, path: str, scope: str, *, accept: Sequence[str] = (), start: int = 0) -> Any:
        """GET a path of the registry, its body not yet read; START skips bytes where it can.

        Raises RegistryError when it can't be reached, RegistryAuthError when it refuses us.  Other
        statuses are the caller's.
        """
        headers = {"Accept": ", ".join(accept)} if accept else {}
        if start:
            headers["Range"] = f"bytes={start}-"
        response = self._authorized(path, scope, headers)
        if response.status in (401, 403):
            body = response.read(4096)
            response.release_conn()
            raise self._refused(response, body)
        return response

    def _authorized(self, path: str, scope: str, headers: dict[str, str]) -> Any:
        token = self._tokens.get(scope)
        if token:
            headers = {**headers, "Authorization": f"Bearer {token}"}
        elif self._basic:
            headers = {**headers, "Authorization": self._basic_header()}
        response = self._send(path, headers)
        if response.status != 401:
            return response
        challenge = response.headers.get("WWW-Authenticate", "")
        response.drain_conn()
        kind = challenge.partition(" ")[0].lower()
        if kind == "bearer":
            self._tokens[scope] = self._fetch_token(parse_challenge(challenge), scope)
            authorization = f"Bearer {self._tokens[scope]}"
        elif kind == "basic" and self._credentials and self._credentials.user:
            self._basic = True
            authorization = self._basic_header()
        else:
            raise RegistryAuthError(
                f"cannot access {self.domain}: it wants a user name and a password",
                hint=f"docker login {self.domain}, or put them into ~/.docker/config.json",
            )
        return self._send(path, {**headers, "Authorization": authorization})

    def _basic_header(self) -> str:
        assert self._credentials is not None
        pair = f"{self._credentials.user}:{self._credentials.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()

    def _refused(self, response: Any, body: bytes) -> RegistryAuthError:
        detail = error_text(body) or f"status {response.status}"
        who = f" as {self._credentials.user}" if self._credentials else ""
        return RegistryAuthError(
            f"cannot access {self.domain}{who}: {detail}",
            hint="check the user name and the password" if self._credentials else "",
        )

    def _fetch_token(self, challenge: Mapping[str, str], scope: str) -> str:
        realm = challenge.get("realm", "")
        if not realm:
            raise RegistryAuthError(f"cannot get a token for {self.domain}: it names no realm")
        query = {"service": challenge.get("service", ""), "scope": scope}
        headers = {}
        if self._credentials and self._credentials.user:
            headers["Authorization"] = self._basic_header()
        if self._credentials and self._credentials.identity_token:
            fields = {
                **query,
                "grant_type": "refresh_token",
                "client_id": "rootless",
                "refresh_token": self._credentials.identity_token,
            }
            response = self._attempt("POST", realm, headers, urlencode(fields))
        else:
            separator = "&" if "?" in realm else "?"
            response = self._attempt("GET", realm + separator + urlencode(query), headers)
        body = response.read(MAX_ANSWER)
        response.release_conn()
        if response.status in (401, 403):
            raise self._refused(response, body)
        try:
            answer = json.loads(body)
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if response.status != 200 or not isinstance(token, str):
            raise RegistryAuthError(
                f"cannot get a token for {self.domain} from {urlsplit(realm).netloc}: "
                f"status {response.status}"
            )
        return token

    def _send(self, path: str, headers: dict[str, str]) -> Any:
        if self._scheme:
            return self._follow(f"{self._scheme}://{self.host}{path}", headers)
        try:
            response = self._follow(f"https://{self.host}{path}", headers)
            self._scheme = "https"
        except RegistryError:
            if not self._plain_allowed:
                raise
            # Credentials may go in clear only where the user or loopback allows plain HTTP at all.
            response = self._follow(f"http://{self.host}{path}", headers)
            self._scheme = "http"
        return response

    def _follow(self, url: str, headers: dict[str, str]) -> Any:
        for _ in range(MAX_REDIRECTS + 1):
            response = self._attempt("GET", url, headers)
            if response.status not in (301, 302, 303, 307, 308):
                return response
            target = urljoin(url, response.headers.get("Location", ""))
            response.drain_conn()
            here, there = urlsplit(url), urlsplit(target)
            if there.scheme not in ("http", "https") or (
                here.scheme == "https" and there.scheme == "http" and not self._plain_allowed
            ):
                raise RegistryError(f"cannot follow {self.domain} to {target}: not a safe scheme")
            if (here.scheme, here.netloc) != (there.scheme, there.netloc):
                headers = {k: v for k, v in headers.items() if k != "Authorization"}
            url = target
        raise RegistryError(f"cannot access {self.domain}: more than {MAX_REDIRECTS} redirects")

    def _attempt(self, method: str, url: str, headers: dict[str, str], body: str = "") -> Any:
        pool = self._pool if urlsplit(url).netloc == self.host else self._foreign
        headers = {"User-Agent": f"rootless/{__version__}", **headers}
        if body:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        for attempt in range(RETRIES + 1):
            last = attempt == RETRIES
            try:
                response = pool.request(
                    method, url, headers=headers, body=body or None, preload_content=False,
                    redirect=False,
                )  # fmt: skip
            except urllib3.exceptions.HTTPError as error:
                if last or not _worth_retrying(error):
                    raise RegistryError(unreachable(urlsplit(url).netloc, error)) from None
            else:
                if last or response.status not in RETRY_STATUS:
                    return response
                response.drain_conn()
            time.sleep(BACKOFF * 2**attempt)
        raise AssertionError  # the loop returns or raises


class _ProxyChoice(urllib3.ProxyManager):
    """A pool that goes through the proxy except for the hosts in NO_PROXY."""

    def __init__(self, proxy: str, env: Mapping[str, str], options: dict[str, Any]) -> None:
        super().__init__(proxy, **options)
        text = env.get("NO_PROXY") or env.get("no_proxy") or ""
        self._direct = [word.strip().lstrip(".") for word in text.split(",") if word.strip()]
        self._pool = urllib3.PoolManager(**options)

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        """As PoolManager.request, direct where NO_PROXY says so, and for this machine."""
        host = urlsplit(url).hostname or ""
        direct = is_loopback(host) or any(
            word in ("*", host) or host.endswith("." + word) for word in self._direct
        )
        if direct:
            return self._pool.request(method, url, *args, **kwargs)
        return super().request(method, url, *args, **kwargs)


def _worth_retrying(error: Exception) -> bool:
    text = str(error)
    refused = "refused" in text or "Name or service" in text or "CERTIFICATE" in text
    wrong_protocol = "WRONG_VERSION_NUMBER" in text or "record layer" in text
    return not (refused or wrong_protocol or isinstance(error, urllib3.exceptions.SSLError))


def unreachable(host: str, error: Exception) -> str:
    """One sentence for a connection that failed."""
    text = str(error)
    if "refused" in text:
        reason = "ECONNREFUSED (connection refused)"
    elif "CERTIFICATE_VERIFY_FAILED" in text:
        reason = "its certificate is not trusted; put its CA into ~/.config/rootless/certs.d/"
        reason += f"{host}/ca.crt"
    elif "Name or service" in text or "resolve" in text or "name resolution" in text:
        reason = "its name cannot be resolved"
    elif "timed out" in text or "Timeout" in type(error).__name__:
        reason = "ETIMEDOUT (it does not answer)"
    else:
        reason = text.rpartition(": ")[2].strip("()'\" ") or type(error).__name__
    return f"cannot reach registry {host}: {reason}"


def parse_challenge(header: str) -> dict[str, str]:
    """The parameters of a WWW-Authenticate header: key="value", separated by commas (RFC 7235)."""
    _, _, rest = header.partition(" ")
    found: dict[str, str] = {}
    while rest:
        key, equals, rest = rest.lstrip(" ,").partition("=")
        if not equals:
            break
        if rest.startswith('"'):
            end = rest.find('"', 1)
            end = len(rest) if end < 0 else end
            value, rest = rest[1:end], rest[end + 1 :]
        else:
            value, _, rest = rest.partition(",")
        found[key.strip().lower()] = value.strip()
    return found


def error_text(body: bytes) -> str:
    """The message of a registry's error document, or ""."""
    try:
        errors = json.loads(body)["errors"]
        first = errors[0]
        return str(first.get("message") or first.get("code") or "").lower()
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return ""
