"""The functions of --format templates: Go's own and those Docker adds."""

from __future__ import annotations

from . import goprintf, govalue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable


class CallError(Exception):
    """A function cannot do what it was asked; the text says why."""


class Function:
    """What a function takes: from ``least`` to ``most`` values (-1: any) of Go types ``types``."""

    __slots__ = ("least", "most", "run", "types")

    def __init__(
        self, run: Callable[..., Any], least: int, most: int, types: tuple[str, ...] = ()
    ) -> None:
        self.run = run
        self.least = least
        self.most = most
        self.types = types

    def type_at(self, at: int) -> str:
        """The Go type of the value at a place, or an empty text for any."""
        return self.types[at] if at < len(self.types) else ""


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is None:
            raise CallError("index of untyped nil")
        if isinstance(value, dict):
            if not isinstance(key, str):
                raise CallError(f"value has type {govalue.kind(key)}; should be string")
            zero = value.zero if isinstance(value, govalue.Map) else None
            value = value.get(key, zero)
        elif isinstance(value, (list, tuple)):
            value = value[_position(key, len(value))]
        elif isinstance(value, str):
            data = value.encode("utf-8", "surrogateescape")
            value = data[_position(key, len(data))]
        else:
            raise CallError(f"can't index item of type {govalue.kind(value)}")
    return value


def _position(key: Any, length: int) -> int:
    if isinstance(key, bool) or not isinstance(key, int):
        if key is None:
            raise CallError("cannot index slice/array with nil")
        raise CallError(f"cannot index slice/array with type {govalue.kind(key)}")
    if not 0 <= key < length:
        raise CallError(f"index out of range: {key}")
    return int(key)


def _slice(value: Any, *bounds: Any) -> Any:
    if len(bounds) > 3:
        raise CallError(f"too many slice indexes: {len(bounds)}")
    if isinstance(value, str):
        if len(bounds) == 3:
            raise CallError("cannot 3-index slice a string")
        whole: Any = value.encode("utf-8", "surrogateescape")
    elif isinstance(value, (list, tuple)):
        whole = list(value)
    elif value is None:
        raise CallError("slice of untyped nil")
    else:
        raise CallError(f"can't slice item of type {govalue.kind(value)}")
    ends = [0, len(whole)]
    for at, bound in enumerate(bounds):
        place = _position(bound, len(whole) + 1)
        if at < 2:
            ends[at] = place
    if ends[0] > ends[1]:
        raise CallError(f"invalid slice index: {ends[0]} > {ends[1]}")
    part = whole[ends[0] : ends[1]]
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else part


def _len(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, (list, tuple, govalue.Map)):
        return len(value)
    if value is None:
        raise CallError("len of nil pointer")
    raise CallError(f"len of type {govalue.kind(value)}")


def _basic(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str):
        return "string"
    return "" if value is None else "other"


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise CallError("missing argument for comparison")
    for other in others:
        left, right = _basic(first), _basic(other)
        if "" in (left, right):
            if left == right:
                return True
            continue
        if "other" in (left, right):
            raise CallError("non-comparable type " + govalue.show(first))
        if left != right:
            raise CallError("incompatible types for comparison")
        if first == other:
            return True
    return False


def _lt(left: Any, right: Any) -> bool:
    kinds = (_basic(left), _basic(right))
    if kinds[0] in ("", "other", "bool") or kinds[1] in ("", "other", "bool"):
        raise CallError("invalid type for comparison")
    if kinds[0] != kinds[1]:
        raise CallError("incompatible types for comparison")
    return bool(left < right)


def _html(*values: Any) -> str:
    text = goprintf.join(values)
    for c, escaped in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ('"', "&#34;"),
        ("'", "&#39;"),
        ("\0", "\ufffd"),
    ):
        text = text.replace(c, escaped)
    return text


_JS = {
    "\\": "\\\\",
    "'": "\\'",
    '"': '\\"',
    "<": "\\u003C",
    ">": "\\u003E",
    "&": "\\u0026",
    "=": "\\u003D",
}


def _js(*values: Any) -> str:
    return "".join(
        _JS.get(c) or (f"\\u{ord(c):04X}" if ord(c) < 32 or not (c.isprintable()) else c)
        for c in goprintf.join(values)
    )


def _urlquery(*values: Any) -> str:
    safe = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"
    data = goprintf.join(values).encode("utf-8", "surrogateescape")
    return "".join(chr(b) if b in safe else "+" if b == 32 else f"%{b:02X}" for b in data)


def _title(text: str) -> str:
    out: list[str] = []
    inside = False
    for c in text:
        out.append(c if inside else c.upper() if len(c.upper()) == 1 else c)
        inside = c.isalnum() or c == "_" or not (c.isascii() or c.isspace())
    return "".join(out)


def _pad(text: str, before: int, after: int) -> str:
    if not text:
        return text
    if max(before, after) > 1 << 20 or min(before, after) < 0:
        raise CallError("strings: negative Repeat count" if min(before, after) < 0 else "too wide")
    return " " * before + text + " " * after


def _truncate(text: str, length: int) -> str:
    if length < 0:
        raise CallError("slice bounds out of range")
    return text[:length]


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


FUNCTIONS: dict[str, Function] = {
    "and": Function(lambda *_: None, 1, -1),
    "or": Function(lambda *_: None, 1, -1),
    "call": Function(lambda *_: None, 1, -1),
    "not": Function(lambda value: not govalue.truth(value), 1, 1),
    "len": Function(_len, 1, 1),
    "index": Function(_index, 1, -1),
    "slice": Function(_slice, 1, -1),
    "print": Function(lambda *values: goprintf.join(values), 0, -1),
    "println": Function(lambda *values: " ".join(map(govalue.show, values)) + "\n", 0, -1),
    "printf": Function(goprintf.sprintf, 1, -1, ("string",)),
    "html": Function(_html, 0, -1),
    "js": Function(_js, 0, -1),
    "urlquery": Function(_urlquery, 0, -1),
    "eq": Function(_eq, 1, -1),
    "ne": Function(lambda left, right: not _eq(left, right), 2, 2),
    "lt": Function(_lt, 2, 2),
    "le": Function(lambda left, right: _lt(left, right) or left == right, 2, 2),
    "gt": Function(lambda left, right: not (_lt(left, right) or left == right), 2, 2),
    "ge": Function(lambda left, right: not _lt(left, right), 2, 2),
    "json": Function(govalue.to_json, 1, 1),
    "split": Function(_split, 2, 2, ("string", "string")),
    "join": Function(lambda items, glue: glue.join(items), 2, 2, ("[]string", "string")),
    "title": Function(_title, 1, 1, ("string",)),
    "lower": Function(lambda text: text.lower(), 1, 1, ("string",)),
    "upper": Function(lambda text: text.upper(), 1, 1, ("string",)),
    "pad": Function(_pad, 3, 3, ("string", "int", "int")),
    "truncate": Function(_truncate, 2, 2, ("string", "int")),
}
