"""Go's fmt.Sprintf over template values: verbs, flags, width, precision, and its notes on mistakes."""

from __future__ import annotations

from . import golex, govalue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

LIMIT = 1_000_000  # Go refuses wider fields too


class _Spec:
    """One %... of a format."""

    __slots__ = ("flags", "precision", "width")

    def __init__(self) -> None:
        self.flags = ""
        self.width = -1
        self.precision = -1


def join(values: Sequence[Any]) -> str:
    """fmt.Sprint: a space between two values where neither is text."""
    out: list[str] = []
    for at, value in enumerate(values):
        if at and not isinstance(value, str) and not isinstance(values[at - 1], str):
            out.append(" ")
        out.append(govalue.show(value))
    return "".join(out)


def sprintf(form: str, *values: Any) -> str:
    """fmt.Sprintf; a wrong verb or a missing value is noted in the text, as Go does."""
    out: list[str] = []
    at = used = 0
    while True:
        percent = form.find("%", at)
        if percent < 0:
            out.append(form[at:])
            break
        out.append(form[at:percent])
        spec = _Spec()
        at = percent + 1
        while form[at : at + 1] and form[at] in "+-# 0":
            spec.flags += form[at]
            at += 1
        at, spec.width, used, note = _amount(form, at, values, used)
        if note:
            out.append("%!(BADWIDTH)")
        elif spec.width < -1:
            spec.flags += "-"
            spec.width = -spec.width
        if form[at : at + 1] == ".":
            at, spec.precision, used, note = _amount(form, at + 1, values, used)
            if note or spec.precision < -1:
                out.append("%!(BADPREC)")
                spec.precision = -1
            elif spec.precision < 0:
                spec.precision = 0
        verb = form[at : at + 1]
        at += 1
        if not verb:
            out.append("%!(NOVERB)")
            break
        if verb == "%":
            out.append("%")
        elif used >= len(values):
            out.append(f"%!{verb}(MISSING)")
        else:
            out.append(_one(spec, verb, values[used]))
            used += 1
    if used < len(values):
        extra = ", ".join(f"{govalue.kind(v)}={govalue.show(v)}" for v in values[used:])
        out.append(f"%!(EXTRA {extra})")
    return "".join(out)


def _amount(form: str, at: int, values: Sequence[Any], used: int) -> tuple[int, int, int, bool]:
    """(place after it, the width or precision or -1, values used, whether it is bad)."""
    if form[at : at + 1] == "*":
        value = values[used] if used < len(values) else None
        good = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LIMIT
        return at + 1, int(value) if good else -1, used + 1, not good  # type: ignore[arg-type]
    end = at
    while form[end : end + 1].isascii() and form[end : end + 1].isdigit():
        end += 1
    if end == at:
        return at, -1, used, False
    number = int(form[at:end][:12])
    return end, number if number <= LIMIT else -1, used, number > LIMIT


def _one(spec: _Spec, verb: str, value: Any) -> str:
    if verb == "T":
        return _fill(spec, govalue.kind(value), zero=False)
    text = _format(spec, verb, value)
    if text is None:
        if value is None:
            return f"%!{verb}(<nil>)"
        return f"%!{verb}({govalue.kind(value)}={govalue.show(value)})"
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return _fill(spec, text, zero=number)


def _fill(spec: _Spec, text: str, *, zero: bool) -> str:
    if spec.width <= len(text):
        return text
    if "-" in spec.flags:
        return text.ljust(spec.width)
    if "0" in spec.flags and zero and text.strip("+-")[:1].isalnum():
        sign = text[:1] if text[:1] in ("+", "-", " ") else ""
        return sign + text[len(sign) :].rjust(spec.width - len(sign), "0")
    return text.rjust(spec.width)


def _format(spec: _Spec, verb: str, value: Any) -> str | None:
    """VALUE by one verb, without its width; None where the verb does not go with it."""
    if isinstance(value, (list, tuple)) and verb != "v":
        parts = [_one(spec, verb, item) for item in value]
        return f"[{' '.join(parts)}]"
    if verb == "v":
        return _plus(spec, value, govalue.show(value)) if not isinstance(value, str) else value
    if isinstance(value, bool):
        return govalue.show(value) if verb == "t" else None
    if isinstance(value, int):
        return _integer(spec, verb, value)
    if isinstance(value, float):
        return _float(spec, verb, value)
    if isinstance(value, str):
        return _text(spec, verb, value)
    return govalue.show(value) if verb == "s" and value is not None else None


def _plus(spec: _Spec, value: Any, text: str) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and text[:1] not in ("-", "+"):
        if "+" in spec.flags:
            return "+" + text
        if " " in spec.flags:
            return " " + text
    return text


def _integer(spec: _Spec, verb: str, value: int) -> str | None:
    if verb == "d":
        text = str(abs(value))
    elif verb in ("x", "X", "o", "b"):
        text = format(abs(value), verb)
        if "#" in spec.flags:
            text = {"x": "0x", "X": "0X", "o": "0", "b": "0b"}[verb] + text
    elif verb in ("c", "q", "U"):
        good = 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000
        c = chr(value) if good else "\ufffd"
        if verb == "U":
            return f"U+{value:04X}"
        return c if verb == "c" else f"'{_escaped(c)}'"
    else:
        return None
    text = text.rjust(max(spec.precision, 0), "0")
    return f"-{text}" if value < 0 else _plus(spec, value, text)


def _escaped(c: str) -> str:
    return "\\'" if c == "'" else '"' if c == '"' else golex.quote(c)[1:-1]


def _float(spec: _Spec, verb: str, value: float) -> str | None:
    if verb in ("f", "F"):
        text = f"{value:.{6 if spec.precision < 0 else spec.precision}f}"
    elif verb in ("e", "E"):
        text = f"{value:.{6 if spec.precision < 0 else spec.precision}{verb}}"
    elif verb in ("g", "G"):
        text = govalue.show_float(value, spec.precision or (1 if spec.precision == 0 else -1))
        text = text.upper() if verb == "G" else text
    else:
        return None
    return _plus(spec, value, text)


def _text(spec: _Spec, verb: str, value: str) -> str | None:
    if verb == "s":
        return value if spec.precision < 0 else value[: spec.precision]
    if verb == "q":
        body = value if spec.precision < 0 else value[: spec.precision]
        if "#" in spec.flags and "`" not in body and body.isprintable():
            return f"`{body}`"
        return golex.quote(body)
    if verb in ("x", "X"):
        digits = value.encode("utf-8", "surrogateescape").hex(
            *((" ",) if " " in spec.flags else ())
        )
        return digits.upper() if verb == "X" else digits
    return None
