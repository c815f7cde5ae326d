"""Values as Go sees them: their kinds, their truth, and how fmt prints them.

Also the JSON that Docker prints: HTML characters escaped or not, indented or in one line.
"""

from __future__ import annotations

import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class Map(dict):  # type: ignore[type-arg]
    """A dict that is a Go map[string]...: keys are data, a missing one is no error.

    ``zero`` is what `index` gives for a missing key.
    """

    zero: Any = None


class StrMap(Map):
    """A map[string]string: what is missing is the empty text to `index`."""

    zero = ""


class NilMap(StrMap):
    """A nil map: prints as an empty map, is null in JSON."""


class NilList(list):  # type: ignore[type-arg]
    """A nil slice: prints as an empty list, is null in JSON."""


class Object:
    """A struct whose fields are computed when asked for."""

    type_name = "struct"

    def field(self, name: str) -> Any:
        """The field's value; KeyError where there is none of that name."""
        raise KeyError(name)

    def call(self, name: str, arguments: Sequence[Any]) -> Any:  # noqa: ARG002
        """A method's value for text arguments; KeyError where there is none of that name."""
        raise KeyError(name)

    def plain(self) -> dict[str, Any]:
        """All fields, for {{json .}}."""
        return {}


def kind(value: Any) -> str:
    """The Go type an error message names."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float64"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (list, tuple)):
        return "[]string" if all(isinstance(item, str) for item in value) else "[]interface {}"
    if isinstance(value, Object):
        return value.type_name
    return "map[string]interface {}"


def fits(value: Any, wanted: str) -> bool:
    """Whether VALUE may be given where a function wants the Go type WANTED."""
    if wanted == "[]string":
        return isinstance(value, (list, tuple)) and all(isinstance(i, str) for i in value)
    return kind(value) == wanted


def truth(value: Any) -> bool:
    """Whether `if` takes VALUE as true: not the zero value, not empty."""
    if isinstance(value, Object):
        return True
    if isinstance(value, dict) and not isinstance(value, Map):
        return True  # a struct
    return bool(value)


def show_float(value: float, precision: int = -1) -> str:
    """A float as %v prints it: shortest, with an exponent from 1e6 on and below 1e-4."""
    if value != value:  # noqa: PLR0124  (NaN)
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    if precision >= 0:
        return f"{value:.{precision}g}"
    sign, digits, exponent = _shortest(value)
    if not -4 <= exponent < 6:
        tail = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{tail}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    whole, part = digits[: exponent + 1].ljust(exponent + 1, "0"), digits[exponent + 1 :]
    return f"{sign}{whole}.{part}" if part else f"{sign}{whole}"


def _shortest(value: float) -> tuple[str, str, int]:
    """(sign, significant digits, decimal exponent) of the shortest text that reads back as VALUE."""
    text = repr(value)
    sign = "-" if text[0] == "-" else ""
    mantissa, _, exponent = text.removeprefix("-").partition("e")
    whole, _, part = mantissa.partition(".")
    digits = whole + part
    bare = digits.lstrip("0")
    if not bare:
        return sign, "0", 0
    power = int(exponent or "0") + len(whole) - 1 - (len(digits) - len(bare))
    return sign, bare.rstrip("0"), power


def show(value: Any) -> str:
    """VALUE as %v prints it."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return show_float(value)
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(map(show, value))}]"
    if isinstance(value, Map):
        return f"map[{' '.join(f'{key}:{show(value[key])}' for key in sorted(value))}]"
    if isinstance(value, dict):
        return f"{{{' '.join(show(item) for item in value.values())}}}"
    if isinstance(value, Object):
        return show(value.plain())
    return str(value)


def plain(value: Any) -> Any:
    """VALUE with nil maps and lists as None and objects as dicts: what JSON shows."""
    if isinstance(value, (NilMap, NilList)):
        return None
    if isinstance(value, Object):
        return plain(value.plain())
    if isinstance(value, Map):
        return {key: plain(value[key]) for key in sorted(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def _string(text: str) -> str:
    """TEXT as a JSON string; bytes that are not text become U+FFFD, as Go writes them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = "".join("\ufffd" if 0xD800 <= ord(c) < 0xE000 else c for c in text)
    return str(_json.encode_basestring(text))


def _html_string(text: str) -> str:
    out = _string(text)
    for c, escaped in _HTML.items():
        if c in out:
            out = out.replace(c, escaped)
    return out


def to_json(value: Any) -> str:
    """One line of JSON, nothing but what JSON demands escaped: the `json` function."""
    encode = _json.make_encoder({}, _refuse, _string, None, ":", ",", False, False, True)
    return "".join(encode(plain(value), 0))


def _refuse(value: object) -> object:
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def indented(value: Any, indent: str = "    ", level: int = 0) -> str:
    """JSON over several lines with <, > and & escaped, as `inspect` prints it."""
    if isinstance(value, str):
        return _html_string(value)
    if isinstance(value, dict):
        if not value:
            return "{}"
        inner = indent * (level + 1)
        body = ",\n".join(
            f"{inner}{_html_string(str(key))}: {indented(item, indent, level + 1)}"
            for key, item in value.items()
        )
        return f"{{\n{body}\n{indent * level}}}"
    if isinstance(value, list):
        if not value:
            return "[]"
        inner = indent * (level + 1)
        body = ",\n".join(f"{inner}{indented(item, indent, level + 1)}" for item in value)
        return f"[\n{body}\n{indent * level}]"
    return to_json(value)
