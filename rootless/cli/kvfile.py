"""Environment and label files: Docker's line grammar.

UTF-8 only, a byte order mark is skipped, leading space is trimmed, ``#`` comments only at the start of
a line, no quoting, trailing space kept.  ``KEY`` alone takes the caller's value (environment files).
"""

from __future__ import annotations

import os

from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def read(path: str, lookup: Callable[[str], str | None] | None) -> list[str]:
    """The KEY=VALUE lines of the file at PATH; LOOKUP resolves a bare KEY (None: it is dropped)."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise UsageError(f"cannot open {path}: {os.strerror(error.errno or 0).lower()}") from None
    result = []
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            line = raw.decode("utf-8").rstrip("\r").lstrip(" \t")
        except UnicodeDecodeError:
            raise UsageError(
                f"invalid utf8 bytes at line {number} of {path}: {raw[:80]!r}"
            ) from None
        if not line or line.startswith("#"):
            continue
        entry = _entry(line, path, lookup)
        if entry is not None:
            result.append(entry)
    return result


def _entry(line: str, path: str, lookup: Callable[[str], str | None] | None) -> str | None:
    key, equals, _ = line.partition("=")
    if not key:
        raise UsageError(f"invalid line in {path}: no variable name on line {line!r}")
    if any(c.isspace() for c in key.rstrip()) or key != key.rstrip():
        raise UsageError(f"invalid line in {path}: variable {key!r} contains whitespaces")
    if equals or lookup is None:
        return line
    value = lookup(key)
    return None if value is None else f"{key}={value}"


def pairs(flag: str, texts: Iterable[str]) -> dict[str, str]:
    """The ``key=value`` of a flag that may be given several times; raises UsageError."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"invalid argument {text!r} for --{flag}: expected key=value")
        found[key] = value
    return found


def environment(
    files: Iterable[str], flags: Iterable[str], lookup: Callable[[str], str | None]
) -> tuple[list[str], list[str]]:
    """What --env-file and --env say: settings in order (flags last) and names to take away.

    ``-e KEY`` without a value takes the caller's; where the caller has none, the image's is removed.
    """
    values: dict[str, str | None] = {}
    for path in files:
        for entry in read(path, lookup):
            key, _, value = entry.partition("=")
            values[key] = value
    for flag in flags:
        key, equals, value = flag.partition("=")
        if not key:
            raise UsageError(f"invalid environment variable: {flag}")
        values.pop(key, None)
        values[key] = value if equals else lookup(key)
    wanted = [f"{key}={value}" for key, value in values.items() if value is not None]
    return wanted, [key for key, value in values.items() if value is None]


def labels(files: Iterable[str], flags: Iterable[str]) -> dict[str, str]:
    """What --label-file and --label say; flags override files."""
    result: dict[str, str] = {}
    for path in files:
        for entry in read(path, None):
            key, _, value = entry.partition("=")
            result[key] = value
    for flag in flags:
        key, _, value = flag.partition("=")
        if not key:
            raise UsageError(f"invalid label format: {flag!r}")
        result[key] = value
    return result
