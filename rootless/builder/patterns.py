"""Path patterns: those of .dockerignore and --exclude, and the wildcards of COPY's sources.

Pure.  An ignore pattern is cleaned, matches a path or one of its parents, ``**`` stands for any number of
directories; of several that match the last one counts, and ``!`` before it includes again.
"""

from __future__ import annotations

import posixpath
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

WILD = re.compile(r"[*?\[\\]")


def read_ignore(text: str) -> list[str]:
    """The patterns in an ignore file."""
    found = []
    for line in text.removeprefix("\ufeff").splitlines():
        if line.startswith("#"):
            continue
        pattern = line.strip()
        if not pattern:
            continue
        invert = pattern.startswith("!")
        pattern = pattern[1:].strip() if invert else pattern
        if pattern:
            pattern = posixpath.normpath(pattern)
            if pattern.startswith("//"):
                pattern = pattern[1:]
            if len(pattern) > 1 and pattern.startswith("/"):
                pattern = pattern[1:]
        found.append(f"!{pattern}" if invert else pattern)
    return found


class Pattern:
    """One pattern, compiled; ``invert`` if it includes again.  Raises ValueError where it is none."""

    __slots__ = ("_match", "invert", "text")

    def __init__(self, text: str) -> None:
        self.invert = text.startswith("!")
        self.text = posixpath.normpath(text[1:] if self.invert else text)
        if not text.strip("! "):
            raise ValueError(f'illegal exclusion pattern: "{text}"')
        self._match = re.compile(_regex(self.text), re.S).match

    def match(self, path: str) -> bool:
        """Whether PATH itself is meant."""
        return self._match(path) is not None


def _class(pattern: str, at: int) -> tuple[str, int]:
    """A character class that begins at AT, as a regular expression, and where it ends."""
    end = at + 1
    if pattern.startswith("^", end):
        end += 1
    first = end
    while end < len(pattern) and (pattern[end] != "]" or end == first):
        end += 2 if pattern[end] == "\\" else 1
    if end >= len(pattern):
        raise ValueError(f"syntax error in pattern {pattern!r}")
    inside = pattern[at + 1 : end]
    negated = inside.startswith("^")
    inside = (inside[1:] if negated else inside).replace("[", "\\[").replace("&&", "&\\&")
    return f"[{'^' if negated else ''}{inside}]", end + 1


def _regex(pattern: str) -> str:
    out, at = [], 0
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("**", at):
            at += 2
            if pattern.startswith("/", at):
                at += 1
            out.append(".*" if at >= len(pattern) else "(?:.*/)?")
            continue
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            found, at = _class(pattern, at)
            out.append(found)
            continue
        elif char == "\\":
            at += 1
            if at >= len(pattern):
                raise ValueError(f"syntax error in pattern {pattern!r}")
            out.append(re.escape(pattern[at]))
        else:
            out.append(re.escape(char))
        at += 1
    return "".join(out) + r"\Z"


class Matcher:
    """Several patterns together; raises ValueError for one that is none."""

    __slots__ = ("_inverted", "patterns")

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = [Pattern(text) for text in patterns]
        self._inverted = [one for one in self.patterns if one.invert]

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def matches(self, path: str) -> bool:
        """Whether PATH (relative, no "." in it) is left out, by itself or with a parent."""
        found = False
        parents: list[str] | None = None
        for pattern in self.patterns:
            if pattern.invert != found:  # it could not change anything
                continue
            hit = pattern.match(path)
            if not hit:
                if parents is None:
                    parts = path.split("/")
                    parents = ["/".join(parts[:count]) for count in range(1, len(parts))]
                hit = any(map(pattern.match, parents))
            if hit:
                found = not pattern.invert
        return found

    def may_include_below(self, path: str) -> bool:
        """Whether something in the left out directory PATH may be included again."""
        start = f"{path}/"
        for pattern in self._inverted:
            wild = WILD.search(pattern.text)
            fixed = pattern.text if wild is None else pattern.text[: wild.start()]
            if f"{fixed}/".startswith(start) or (wild and start.startswith(fixed)):
                return True
        return False


def glob(pattern: str) -> re.Pattern[str]:
    """One component of a source with wildcards, as Go's filepath.Match has it; raises ValueError."""
    return re.compile(_regex(re.sub(r"\*+", "*", pattern)), re.S)
