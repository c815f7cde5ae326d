"""Bearer tokens: a registry's challenge and its token server's answer (the distribution project's protocol)."""

from __future__ import annotations

import json
from urllib.parse import urlencode, urlsplit

import urllib3

from rootless.errors import RegistryAuthError

from . import failures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Protocol

    from .credentials import Credentials

    class Asker(Protocol):
        """What a transport gives."""

        domain: str
        credentials: Credentials | None

        def ask_token(self, url: str, fields: Mapping[str, str] | None) -> Any:
            """The token server's answer."""

        def release(self, response: Any) -> None:
            """Give the connection back."""


MAX_ANSWER = 1 << 20
CLIENT_ID = "rootless"


class Challenge:
    """One WWW-Authenticate header: ``kind`` in lower case, and its parameters."""

    __slots__ = ("kind", "parameters")

    def __init__(self, kind: str, parameters: dict[str, str]) -> None:
        self.kind = kind
        self.parameters = parameters


def challenge(headers: Sequence[str]) -> Challenge | None:
    """The challenge to answer of those a server made: Bearer before Basic, None for others."""
    found: dict[str, Challenge] = {}
    for header in headers:
        kind, _, rest = header.strip().partition(" ")
        found.setdefault(kind.lower(), Challenge(kind.lower(), parameters(rest)))
    return found.get("bearer") or found.get("basic")


def parameters(text: str) -> dict[str, str]:
    """key="value" pairs separated by commas, with backslash escapes (RFC 9110, 11.2)."""
    found: dict[str, str] = {}
    rest = text
    while rest:
        key, equals, rest = rest.lstrip(" ,\t").partition("=")
        if not equals:
            break
        rest = rest.lstrip()
        if rest.startswith('"'):
            value, rest = _quoted(rest[1:])
        else:
            value, _, rest = rest.partition(",")
        found[key.strip().lower()] = value.strip()
    return found


def _quoted(text: str) -> tuple[str, str]:
    """(value, what follows) of a quoted string whose opening quote is gone."""
    out, at = "", 0
    while at < len(text) and text[at] != '"':
        at += text[at] == "\\"
        out += text[at : at + 1]
        at += 1
    return out, text[at + 1 :]


def fetch(transport: Asker, asked: Challenge, scope: str) -> str:
    """A token for SCOPE; raises RegistryAuthError."""
    realm = asked.parameters.get("realm", "")
    query = {"scope": scope}
    if asked.parameters.get("service"):
        query["service"] = asked.parameters["service"]
    known = transport.credentials
    if known is not None and known.identity_token:
        query.update(
            grant_type="refresh_token", client_id=CLIENT_ID, refresh_token=known.identity_token
        )
        response = transport.ask_token(realm, query)
    else:
        separator = "&" if "?" in realm else "?"
        # Several scopes are several parameters here, and words of one in the OAuth2 form.
        rest = [(key, value) for key, value in query.items() if key != "scope"]
        several = urlencode([*(("scope", one) for one in scope.split()), *rest])
        response = transport.ask_token(realm + separator + several, None)
    try:
        body = response.read(MAX_ANSWER)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise failures.unreachable(urlsplit(realm).netloc, error) from None
    finally:
        transport.release(response)
    return _token(transport, response.status, body, urlsplit(realm).netloc)


def _token(transport: Asker, status: int, body: bytes, host: str) -> str:
    if status in (401, 403):
        who = f" as {transport.credentials.user}" if transport.credentials else ""
        detail = failures.error_of(body)[1] or f"status {status}"
        raise RegistryAuthError(
            f"cannot log in to {transport.domain}{who}: {detail}",
            hint="check the user name and the password" if transport.credentials else "",
        )
    try:
        answer = json.loads(body) if status == 200 else {}
        token = answer.get("token") or answer.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    good = isinstance(token, str) and token and token.isascii() and token.isprintable()
    if not good:
        reason = "its answer holds none" if status == 200 else f"status {status}"
        raise RegistryAuthError(f"cannot get a token for {transport.domain} from {host}: {reason}")
    return str(token)
