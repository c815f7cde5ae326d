"""Text with positions: a Dockerfile's lines, and errors that show one of them with a caret."""

from __future__ import annotations

from rootless.errors import DockerfileError

_AROUND = 2  # lines shown before and after the one that is meant
_MAX_SHOWN = 200


class Position:
    """A place in a file: line and column from 1."""

    __slots__ = ("column", "line")

    def __init__(self, line: int, column: int = 1) -> None:
        self.line = line
        self.column = column

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Position):
            return NotImplemented
        return (self.line, self.column) == (other.line, other.column)

    def __hash__(self) -> int:
        return hash((self.line, self.column))

    def __repr__(self) -> str:
        return f"{self.line}:{self.column}"


class Source:
    """A Dockerfile: NAME as messages call it, and its lines without their ends."""

    __slots__ = ("lines", "name")

    def __init__(self, text: str, name: str = "Dockerfile") -> None:
        self.name = name
        self.lines = [line.rstrip("\r") for line in text.removeprefix("\ufeff").split("\n")]
        if self.lines and not self.lines[-1]:
            self.lines.pop()

    def error(self, position: Position, message: str, hint: str = "") -> DockerfileError:
        """The error that MESSAGE (a phrase without the place) is, at POSITION."""
        return DockerfileError(
            f"dockerfile parse error on line {position.line}: {message}",
            hint=hint,
            detail=self.excerpt(position),
        )

    def excerpt(self, position: Position, *, caret: bool = True) -> str:
        """The line with its neighbours, and a caret below the column."""
        rule = "-" * 20
        out = [f"{self.name}:{position.line}:{position.column}", rule]
        first = max(1, position.line - _AROUND)
        for number in range(first, min(len(self.lines), position.line + _AROUND) + 1):
            line = _visible(self.lines[number - 1])
            mark = ">>>" if number == position.line else "   "
            out.append(f"{number:4} | {mark} {line}".rstrip())
            if caret and number == position.line:
                before = len(_visible(self.lines[number - 1][: position.column - 1]))
                if before <= _MAX_SHOWN:
                    out.append(f"     |     {' ' * before}^")
        return "\n".join([*out, rule])


def _visible(line: str) -> str:
    """LINE with tabs as blanks and control characters made harmless, cut where it is very long."""
    shown = "".join(
        char if char.isprintable() else "    " if char == "\t" else "?"
        for char in line[: _MAX_SHOWN + 1]
    )
    return shown if len(line) <= _MAX_SHOWN else shown + "..."


def nearest(word: str, known: list[str]) -> str:
    """The word of KNOWN that WORD is most likely meant to be, or ""."""
    best, least = "", 3 if len(word) > 4 else 2
    for candidate in known:
        distance = _distance(word, candidate)
        if distance < least:
            best, least = candidate, distance
    return best


def _distance(one: str, other: str) -> int:
    """Edits (exchanged neighbours are one) that make ONE the OTHER."""
    if abs(len(one) - len(other)) > 3:
        return 99
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, before, row = before, row, [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
