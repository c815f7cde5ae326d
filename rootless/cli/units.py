"""Sizes, durations and times as Docker writes and reads them.

Points in time are integers: nanoseconds since 1970-01-01 UTC.  Durations are nanoseconds too.
"""

from __future__ import annotations

import time

from rootless.errors import UsageError

SECOND = 1_000_000_000
ZERO_TIME = "0001-01-01T00:00:00Z"

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
_DURATION_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}


def human_size(size: float, digits: int = 3) -> str:
    """SIZE bytes in powers of 1000 with DIGITS significant digits: ``1.23MB``, ``0B``."""
    unit = 0
    while size >= 1000.0 and unit < len(_DECIMAL) - 1:
        size /= 1000.0
        unit += 1
    return f"{size:.{digits}g}{_DECIMAL[unit]}"


def binary_size(size: float) -> str:
    """SIZE bytes in powers of 1024 with four significant digits: ``1.205MiB``, ``0B``."""
    unit = 0
    while size >= 1024.0 and unit < len(_BINARY) - 1:
        size /= 1024.0
        unit += 1
    return f"{size:.4g}{_BINARY[unit]}"


def human_duration(seconds: float) -> str:
    """A duration in the rough words of `ps`: ``About a minute``, ``3 weeks``."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 14:
        return f"{hours // 24} days"
    if hours < 24 * 60:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{hours // 24 // 365} years"


def parse_duration(text: str) -> int | None:
    """Nanoseconds of a Go duration (``1h30m``, ``-1.5s``, ``0``), or None where it is not one."""
    rest = text
    sign = 1
    if rest[:1] in ("+", "-"):
        sign = -1 if rest[0] == "-" else 1
        rest = rest[1:]
    if rest == "0":
        return 0
    if not rest:
        return None
    total = 0
    while rest:
        number = 0
        while number < len(rest) and rest[number] in "0123456789.":
            number += 1
        unit = number
        while unit < len(rest) and rest[unit] not in "0123456789.":
            unit += 1
        scale = _DURATION_UNITS.get(rest[number:unit])
        whole, _, part = rest[:number].partition(".")
        if scale is None or not (whole or part) or "." in part:
            return None
        total += int(whole or "0") * scale
        if part:
            total += int(part) * scale // 10 ** len(part)
        rest = rest[unit:]
    return sign * total if total < 1 << 63 else None


def format_time(nanoseconds: int) -> str:
    """A point in time as RFC 3339 in UTC, with the fraction's trailing zeros left out."""
    if not nanoseconds:
        return ZERO_TIME
    seconds, rest = divmod(nanoseconds, SECOND)
    clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return f"{clock}{fraction}Z"


def fixed_time(text: str) -> str:
    """The RFC 3339 time TEXT with a nine-digit fraction, as `logs -t` prints it."""
    head, dot, tail = text.rstrip("Z").partition(".")
    return f"{head}.{tail:0<9}Z" if dot else f"{head}.000000000Z"


def local_time(nanoseconds: int) -> str:
    """A point in time as `ps` shows CreatedAt: local, with zone offset and zone name."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(nanoseconds // SECOND))


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 to a date of the Gregorian calendar; ValueError where it is none."""
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    length = (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    if not 1 <= month <= 12 or not 1 <= day <= length[month - 1]:
        raise ValueError("no such day")
    before = year - 1
    days = before * 365 + before // 4 - before // 100 + before // 400 + sum(length[: month - 1])
    return days + day - 1 - 719162


def _number(text: str, width: int, top: int) -> int:
    if len(text) != width or not (text.isascii() and text.isdigit()) or int(text) > top:
        raise ValueError(f"bad number {text!r}")
    return int(text)


def _zone(text: str) -> tuple[str, int | None]:
    """(the text before a zone, its offset in seconds or None where there is no zone)."""
    if text[-1:] in ("Z", "z"):
        return text[:-1], 0
    at = max(text.rfind("+"), text.rfind("-"))
    if at < 10:
        return text, None
    hours, colon, minutes = text[at + 1 :].partition(":")
    if not colon:
        raise ValueError("a zone is written +hh:mm")
    offset = _number(hours, 2, 23) * 3600 + _number(minutes, 2, 59) * 60
    return text[:at], offset if text[at] == "+" else -offset


def parse_time(text: str, *, local: bool = False) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time; ValueError where it is not one.

    With LOCAL also shorter forms (to the minute, the hour, the day) and without zone, as local time.
    """
    body, offset = _zone(text)
    date, t, clock = body.partition("T")
    parts = date.split("-")
    pieces = clock.split(":") if t else []
    if len(parts) != 3 or (not local and (len(pieces) != 3 or offset is None)) or len(pieces) > 3:
        raise ValueError(f"not a time: {text!r}")
    year, month, day = (
        _number(parts[0], 4, 9999),
        _number(parts[1], 2, 12),
        _number(parts[2], 2, 31),
    )
    hour = _number(pieces[0], 2, 23) if t else 0
    minute = _number(pieces[1], 2, 59) if len(pieces) > 1 else 0
    second, nanos = 0, 0
    if len(pieces) == 3:
        whole, dot, fraction = pieces[2].partition(".")
        second = _number(whole, 2, 60)
        if dot:
            _number(fraction, max(1, len(fraction)), 10**18)
            nanos = int(fraction[:9].ljust(9, "0"))
    days = _days(year, month, day)
    if offset is None:
        when = (year, month, day, hour, minute, second, 0, 0, -1)
        return int(time.mktime(when)) * SECOND + nanos
    return (days * 86400 + hour * 3600 + minute * 60 + second - offset) * SECOND + nanos


def parse_since(flag: str, text: str, now: int) -> int:
    """What --since and --until take: a time, a Go duration before NOW, or unix seconds[.nanos]."""
    ago = parse_duration(text)
    if ago is not None and text not in ("0", "+0", "-0"):
        return now - ago
    try:
        if text[:1] != "-" and "-" in text:
            return parse_time(text, local=True)
        whole, _, fraction = text.partition(".")
        digits = whole.removeprefix("-")
        if digits.isascii() and digits.isdigit() and (not fraction or fraction.isdigit()):
            return int(whole) * SECOND + int(fraction[:9].ljust(9, "0"))
    except (ValueError, OverflowError):
        pass
    raise UsageError(
        f'invalid value for "{flag}": failed to parse value as time or duration: "{text}"',
        exit_code=1,
    )
