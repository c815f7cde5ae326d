"""What went wrong between us and a registry, as one sentence.

The HTTP library nests exceptions; the cause is looked for by type and errno in the whole chain.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import ssl

import urllib3

from rootless.errors import RegistryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Unreachable(RegistryError):
    """No answer came; ``certificate``, ``plain`` and ``worth_retrying`` say what may follow.

    certificate     the server's certificate was refused
    plain           the server does not speak TLS
    worth_retrying  the same request may succeed in a moment
    """

    def __init__(self, message: str, *, hint: str = "", kind: str = "") -> None:
        super().__init__(message, hint=hint)
        self.certificate = kind == "certificate"
        self.plain = kind == "plain"
        self.worth_retrying = kind in ("broken", "timeout", "busy")


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    queue: list[object] = [error]
    while queue and len(seen) < 32:
        one = queue.pop(0)
        if not isinstance(one, BaseException) or one in seen:
            continue
        seen.append(one)
        yield one
        queue += [getattr(one, "reason", None), one.__cause__, one.__context__, *one.args]


def unreachable(host: str, error: BaseException) -> Unreachable:
    """The error for a request to HOST that ended without an answer."""
    reason, hint, kind = _explain(host, error)
    return Unreachable(f"cannot reach registry {host}: {reason}", hint=hint, kind=kind)


def _explain(host: str, error: BaseException) -> tuple[str, str, str]:
    chain = list(_chain(error))
    for one in chain:
        # The second is urllib3's own before version 2, for a name that does not match.
        told = getattr(one, "verify_message", "")
        if (
            isinstance(one, ssl.SSLCertVerificationError)
            or type(one).__name__ == "CertificateError"
        ):
            return (
                f"its certificate cannot be trusted ({str(told or one).rstrip('.')})",
                f"put its authority's certificate into ~/.config/rootless/certs.d/{host}/ca.crt",
                "certificate",
            )
    for one in chain:
        if isinstance(one, ssl.SSLEOFError):
            return "the connection was closed during the TLS handshake", "", "broken"
        if isinstance(one, ssl.SSLError):
            return _explain_tls(host, one)
        if isinstance(one, socket.gaierror):
            kind = "busy" if one.errno == socket.EAI_AGAIN else ""
            return "its name cannot be resolved", "", kind
        refused = isinstance(one, urllib3.exceptions.NewConnectionError)  # by class a timeout too
        timeouts = (TimeoutError, socket.timeout, urllib3.exceptions.TimeoutError)
        if isinstance(one, timeouts) and not refused:
            return "ETIMEDOUT (it does not answer)", "", "timeout"
        if isinstance(one, urllib3.exceptions.ProxyError):
            continue
        if isinstance(one, OSError) and one.errno:
            name = errno.errorcode.get(one.errno, str(one.errno))
            kind = "broken" if one.errno in (errno.ECONNRESET, errno.EPIPE) else ""
            return f"{name} ({os.strerror(one.errno).lower()})", "", kind
    if any(isinstance(one, urllib3.exceptions.ProtocolError) for one in chain):
        return "the connection broke", "", "broken"
    return (str(chain[-1]).strip() or type(error).__name__)[:200], "", ""


def _explain_tls(host: str, error: ssl.SSLError) -> tuple[str, str, str]:
    # What OpenSSL 1.1 and 3 say when the bytes that came are not a TLS record.
    plain = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL")
    text = error.reason or str(error)
    if any(word in text.upper().replace(" ", "_") for word in plain):
        return (
            "it does not speak HTTPS",
            f"add {host} to registry.insecure to use plain HTTP",
            "plain",
        )
    return f"TLS failed ({text.lower().replace('_', ' ')})", "", ""


def error_of(body: bytes) -> tuple[str, str]:
    """(code, message) of a registry's error document, "" where there is none; text made harmless."""
    try:
        document = json.loads(body)
        listed = document.get("errors")
        first = listed[0] if listed else document
        code, message = str(first.get("code") or ""), str(first.get("message") or "")
        message = message or str(document.get("details") or "")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "", ""
    clean = "".join(char if char.isprintable() else " " for char in message.lower())
    return code.upper()[:64], clean[:200].strip().rstrip(".")
