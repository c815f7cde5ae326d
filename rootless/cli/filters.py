"""--filter name=value: the same name given twice is "or", different names are "and"; label is always "and".

Knows the grammar and the rules for combining; what a name means is the caller's: a function
(row, value) -> bool per name.
"""

from __future__ import annotations

from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    Match = Callable[[Any, str], bool]

# Names of which every value must hold.
_ALL = ("label", "label!")


class Filters:
    """What the --filter flags of one command line ask for."""

    __slots__ = ("wanted",)

    def __init__(self, flags: Iterable[str] | None, known: Iterable[str]) -> None:
        names = set(known)
        self.wanted: dict[str, list[str]] = {}
        for flag in flags or ():
            if not flag:
                continue
            key, equals, value = flag.partition("=")
            key = key.strip().lower()
            if not equals:
                raise UsageError(f"invalid filter '{flag}': bad format (expected name=value)")
            if key not in names:
                raise UsageError(f"invalid filter '{key}'", exit_code=1)
            self.wanted.setdefault(key, []).append(value.strip())

    def __bool__(self) -> bool:
        return bool(self.wanted)

    def get(self, key: str) -> list[str]:
        """The values given for one name."""
        return self.wanted.get(key, [])

    def match(self, row: Any, tests: Mapping[str, Match]) -> bool:
        """Whether ROW passes; a name without a test passes (its caller looks after it)."""
        for key, values in self.wanted.items():
            test = tests.get(key)
            if test is None:
                continue
            combine = all if key in _ALL else any
            if not combine(test(row, value) for value in values):
                return False
        return True


def label(labels: Mapping[str, str], wanted: str) -> bool:
    """Whether ``key`` is among the labels, or ``key=value`` holds."""
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def boolean(flag: str, values: Iterable[str]) -> bool | None:
    """The truth of a yes/no filter, None where it is not given or given both ways."""
    found: set[bool] = set()
    for value in values:
        if value.lower() in ("1", "t", "true"):
            found.add(True)
        elif value.lower() in ("0", "f", "false"):
            found.add(False)
        else:
            raise UsageError(f"invalid filter '{flag}={value}'", exit_code=1)
    return found.pop() if len(found) == 1 else None


def pattern(text: str) -> Callable[[str], bool]:
    """A search for the regular expression TEXT anywhere in a name; plain text needs no `re`."""
    if not any(c in "\\^$.|?*+()[]{}" for c in text):
        return lambda name: text in name
    if not any(c in "\\.|?*+()[]{}" for c in text):  # anchors only: what scripts write most
        return _anchored(text)
    import re

    try:
        compiled = re.compile(text)
    except re.error as error:
        raise UsageError(f"invalid filter 'name={text}': {error}", exit_code=1) from None
    return lambda name: compiled.search(name) is not None


def _anchored(text: str) -> Callable[[str], bool]:
    body = text.removeprefix("^").removesuffix("$")
    if "^" in body or "$" in body:
        return lambda name: False  # noqa: ARG005
    start, end = text[:1] == "^", text[-1:] == "$"
    if start and end:
        return lambda name: name == body
    if start:
        return lambda name: name.startswith(body)
    return lambda name: name.endswith(body)
