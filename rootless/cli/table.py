"""Columns aligned by spaces, as Docker prints tables.

The rules of Go's elastic tab stops: a cell is text that a tab ends; neighbouring lines that have a cell
in the same place form a column as wide as its widest cell.  What follows a line's last tab is not padded.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_WIDTH = 10
PADDING = 3


def align(text: str, *, min_width: int = MIN_WIDTH, padding: int = PADDING) -> str:
    """TEXT with its tabs made into the spaces that align its columns."""
    lines = [line.split("\t") for line in text.split("\n")]
    if len({len(line) for line in lines if line != [""]}) == 1:
        return _even(lines, min_width, padding)
    widths: list[list[int]] = [[0] * (len(line) - 1) for line in lines]
    _measure(lines, widths, 0, len(lines), 0, min_width, padding)
    return "\n".join(
        "".join(f"{cell:<{width}}" for cell, width in zip(line, sizes)) + line[-1]
        for line, sizes in zip(lines, widths)
    )


def _even(lines: list[list[str]], min_width: int, padding: int) -> str:
    """The common case: every line has the same number of cells."""
    rows = [line for line in lines if line != [""]]
    columns = list(zip(*rows))[:-1]
    widths = [max(min_width, max(map(len, column)) + padding) for column in columns]
    form = "".join(f"%-{width}s" for width in widths) + "%s"
    return "\n".join(form % tuple(line) if line != [""] else "" for line in lines)


def _measure(
    lines: Sequence[Sequence[str]],
    widths: list[list[int]],
    start: int,
    end: int,
    column: int,
    min_width: int,
    padding: int,
) -> None:
    at = start
    while at < end:
        if len(widths[at]) <= column:
            at += 1
            continue
        last = at
        width = min_width
        while last < end and len(widths[last]) > column:
            width = max(width, len(lines[last][column]) + padding)
            last += 1
        for row in range(at, last):
            widths[row][column] = width
        _measure(lines, widths, at, last, column + 1, min_width, padding)
        at = last
