"""D-Bus messages, made: method calls as bytes, and the addresses of buses.

Little endian, protocol version 1.  Only what goes out is here; what comes in is read by the launcher, which
sends these.  Nothing is known of what the messages mean.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_CALL = 1
_FIXED = {
    "y": "<B",
    "b": "<I",
    "n": "<h",
    "q": "<H",
    "i": "<i",
    "u": "<I",
    "x": "<q",
    "t": "<Q",
    "d": "<d",
}
_ALIGN = {"y": 1, "g": 1, "v": 1, "n": 2, "q": 2, "x": 8, "t": 8, "d": 8, "(": 8, "{": 8}
MAX_SIZE = 1 << 20
_PAIRS = {"(": ")", "{": "}"}


def _one(signature: str, at: int) -> int:
    """The index after the complete type that begins at AT."""
    kind = signature[at]
    if kind == "a":
        return _one(signature, at + 1)
    if kind not in _PAIRS:
        return at + 1
    at += 1
    while signature[at] != _PAIRS[kind]:
        at = _one(signature, at)
    return at + 1


def split(signature: str) -> list[str]:
    """The complete types that a signature is made of."""
    found, at = [], 0
    while at < len(signature):
        end = _one(signature, at)
        found.append(signature[at:end])
        at = end
    return found


def _put(out: bytearray, kind: str, value: Any) -> None:
    out += bytes(-len(out) % _ALIGN.get(kind[0], 4))
    if kind in _FIXED:
        out += struct.pack(_FIXED[kind], value)
    elif kind in ("s", "o"):
        data = value.encode()
        if b"\0" in data:
            raise ValueError(f"a string of a D-Bus message holds a NUL: {value!r}")
        out += struct.pack("<I", len(data)) + data + b"\0"
    elif kind == "g":
        data = value.encode()
        out += bytes((len(data),)) + data + b"\0"
    elif kind == "v":
        inner, content = value
        _put(out, "g", inner)
        _put(out, inner, content)
    elif kind[0] == "a":
        _put_array(out, kind[1:], value)
    else:
        for inner, content in zip(split(kind[1:-1]), value):
            _put(out, inner, content)


def _put_array(out: bytearray, kind: str, values: Sequence[Any]) -> None:
    head = len(out)
    out += bytes(4)
    out += bytes(-len(out) % _ALIGN.get(kind[0], 4))
    start = len(out)
    for value in values:
        _put(out, kind, value)
    struct.pack_into("<I", out, head, len(out) - start)


def marshal(signature: str, values: Sequence[Any]) -> bytes:
    """VALUES as the body of a message; a variant is (signature, value)."""
    out = bytearray()
    for kind, value in zip(split(signature), values):
        _put(out, kind, value)
    return bytes(out)


def call(
    serial: int,
    destination: str,
    path: str,
    interface: str,
    member: str,
    signature: str = "",
    values: Sequence[Any] = (),
    *,
    reply: bool = True,
) -> bytes:
    """A method call.  Raises ValueError for one that is too large or has a NUL in a string."""
    body = marshal(signature, values)
    fields = [(1, ("o", path)), (2, ("s", interface)), (3, ("s", member)), (6, ("s", destination))]
    if signature:
        fields.append((8, ("g", signature)))
    out = bytearray(struct.pack("<cBBBII", b"l", _CALL, 0 if reply else 1, 1, len(body), serial))
    _put_array(out, "(yv)", fields)
    out += bytes(-len(out) % 8)
    if len(out) + len(body) > MAX_SIZE:
        raise ValueError(f"a D-Bus message of {len(out) + len(body)} bytes is too large")
    return bytes(out) + body


def addresses(text: str) -> list[str]:
    """Paths of the Unix sockets in a list of bus addresses (DBUS_SESSION_BUS_ADDRESS); others are left out."""
    found = []
    for one in text.split(";"):
        transport, _, rest = one.partition(":")
        keys = dict(part.partition("=")[::2] for part in rest.split(","))
        path = keys.get("path", "")
        if transport == "unix" and path.startswith("/"):
            found.append(_unescape(path))
    return found


def _unescape(text: str) -> str:
    parts = text.split("%")
    out = [parts[0].encode()]
    for part in parts[1:]:
        try:
            out.append(bytes((int(part[:2], 16),)) + part[2:].encode())
        except ValueError:
            out.append(b"%" + part.encode())
    return b"".join(out).decode("utf-8", "surrogateescape")
