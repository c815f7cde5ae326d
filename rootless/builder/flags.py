"""Flags of instructions, --name[=value] after the keyword, and the fields of RUN --mount."""

from __future__ import annotations

import re

from .instructions import Mount
from .source import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .lexer import Line

_UNITS = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def duration(text: str) -> int | None:
    """Nanoseconds of a duration such as 1m30s, or None where it is none."""
    total, at = 0.0, 0
    if text == "0":
        return 0
    while match := _PART.match(text, at):
        total += float(match[1]) * _UNITS[match[2]]
        at = match.end()
    return int(total) if at and at == len(text) else None


class Flags:
    """The flags of one line; done() refuses what nobody asked for."""

    __slots__ = ("_asked", "_found", "_line")

    def __init__(self, line: Line) -> None:
        self._line = line
        self._asked: set[str] = set()
        self._found: dict[str, list[tuple[str | None, int]]] = {}
        for text, offset in line.flags:
            name, equals, value = text[2:].partition("=")
            self._found.setdefault(name, []).append((value if equals else None, offset))

    def every(self, name: str) -> list[tuple[str, int]]:
        """All values of a flag that may be repeated, with their offsets."""
        self._asked.add(name)
        out = []
        for value, offset in self._found.get(name, ()):
            if value is None:
                raise self._line.error(f"missing a value on flag: {name}", offset)
            out.append((value, offset))
        return out

    def _one(self, name: str) -> tuple[str | None, int] | None:
        self._asked.add(name)
        found = self._found.get(name, [])
        if len(found) > 1:
            raise self._line.error(f"duplicate flag specified: {name}", found[1][1])
        return found[0] if found else None

    def text(self, name: str) -> str:
        """A flag's value, "" where it is not given."""
        found = self._one(name)
        if found is None:
            return ""
        if found[0] is None:
            raise self._line.error(f"missing a value on flag: {name}", found[1])
        return found[0]

    def choice(self, name: str, known: tuple[str, ...]) -> str:
        """A value out of KNOWN, "" where it is not given."""
        value = self.text(name)
        if value and value not in known:
            offset = self._found[name][0][1]
            raise self._line.error(
                f"{name} {value!r} is not supported: it is one of {', '.join(known)}", offset
            )
        return value

    def boolean(self, name: str) -> bool | None:
        """Whether a flag is set; None where it is not given."""
        found = self._one(name)
        if found is None:
            return None
        value = (found[0] or "true").lower()
        if value not in ("true", "false", "1", "0"):
            raise self._line.error(
                f"expecting boolean value for flag {name}, not: {found[0]}", found[1]
            )
        return value in ("true", "1")

    def duration(self, name: str) -> int:
        """Nanoseconds; 0 where the flag is not given."""
        text = self.text(name)
        if not text:
            return 0
        value = duration(text)
        offset = self._found[name][0][1]
        if value is None:
            raise self._line.error(f"invalid duration {text!r} for {name}", offset)
        if 0 < value < 1_000_000:
            raise self._line.error(f"{name} {text!r} cannot be less than 1ms", offset)
        return value

    def number(self, name: str) -> int:
        """A number from 0; 0 where the flag is not given."""
        text = self.text(name)
        if text and not (text.isascii() and text.isdigit()):
            raise self._line.error(f"invalid number {text!r} for {name}", self._found[name][0][1])
        return int(text or 0)

    def done(self) -> None:
        """Refuse flags that the instruction does not have."""
        for name, found in self._found.items():
            if name not in self._asked:
                close = nearest(name, sorted(self._asked))
                hint = f" (did you mean --{close}?)" if close else ""
                raise self._line.error(f"unknown flag: --{name}{hint}", found[0][1])


# --mount

_COMMON = ("type", "target", "dst", "destination")
_FROM = ("from", "source", "src")
_ACCESS = ("ro", "readonly", "rw", "readwrite")
_IDS = ("id", "uid", "gid", "mode")
_FIELDS: dict[str, tuple[str, ...]] = {
    "bind": (*_FROM, *_ACCESS),
    "cache": (*_FROM, *_ACCESS, *_IDS, "sharing"),
    "tmpfs": ("size",),
    "secret": ("source", "src", *_IDS, "required", "env"),
    "ssh": (*_IDS, "required"),
}
_ALIASES = {
    "dst": "target",
    "destination": "target",
    "src": "source",
    "readonly": "ro",
    "readwrite": "rw",
}
_BARE = ("ro", "rw", "required")
_NUMBERS = ("uid", "gid", "mode")


def mount_of(line: Line, text: str, offset: int) -> Mount:
    """The mount that a --mount flag describes; raises DockerfileError."""
    fields: dict[str, str] = {}
    for word in text.split(","):
        key, equals, value = word.partition("=")
        name = _ALIASES.get(key.lower(), key.lower())
        if not equals and name not in _BARE:
            if not key:
                continue
            raise line.error(f"invalid field {word!r} must be a key=value pair", offset)
        fields[name] = value if equals else "true"
    kind = fields.pop("type", "bind")
    if kind not in _FIELDS:
        known = ", ".join(_FIELDS)
        raise line.error(f"unsupported mount type {kind!r}: it is one of {known}", offset)
    known_fields = {_ALIASES.get(name, name) for name in (*_COMMON, *_FIELDS[kind])}
    for name, value in fields.items():
        if name not in known_fields:
            close = nearest(name, sorted(known_fields))
            hint = f" (did you mean {close}?)" if close else ""
            raise line.error(f"unexpected key {name!r} for a mount of type {kind}{hint}", offset)
        if name in _BARE and value.lower() not in ("true", "false", "1", "0"):
            raise line.error(f"invalid value {value!r} for {name} of a mount", offset)
        if name in _NUMBERS and "$" not in value and not value.isdigit():
            raise line.error(f"invalid value {value!r} for {name} of a mount", offset)
    if kind in ("bind", "cache", "tmpfs") and not fields.get("target"):
        raise line.error(f"a mount of type {kind} needs a target", offset)
    sharing = fields.get("sharing", "shared")
    if sharing not in ("shared", "private", "locked"):
        raise line.error(f"unsupported sharing value {sharing!r}", offset)
    if kind == "secret" and not (fields.get("id") or fields.get("target") or fields.get("source")):
        raise line.error("a mount of type secret needs an id", offset)
    return Mount(kind, fields, offset)
