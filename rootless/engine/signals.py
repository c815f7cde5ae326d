"""Signal names and numbers, without the enum machinery of the signal module."""

from __future__ import annotations

import _signal

from rootless.errors import UsageError

_BY_NAME = {
    name[3:]: int(getattr(_signal, name))
    for name in dir(_signal)
    if name.startswith("SIG") and not name.startswith("SIG_")
}


def number(text: str) -> int:
    """The number of a signal given as 9, KILL, SIGKILL, RTMIN+3 or rtmax-1; raises UsageError."""
    word = text.strip().upper()
    if word.isdigit() and 0 < int(word) <= int(_signal.SIGRTMAX):
        return int(word)
    word = word.removeprefix("SIG")
    if word in _BY_NAME:
        return _BY_NAME[word]
    for base, sign in (("RTMIN", "+"), ("RTMAX", "-")):
        name, found, offset = word.partition(sign)
        if name == base and found and offset.isdigit():
            value = _BY_NAME[base] + (int(offset) if sign == "+" else -int(offset))
            if _BY_NAME["RTMIN"] <= value <= _BY_NAME["RTMAX"]:
                return value
    raise UsageError(f"invalid signal: {text}")
