"""Rows by --format: the table, a custom table, JSON lines or a Go template, for `ps` and `images`.

A kind of row is a Sheet: the columns' headers and a function for each field.  Without --format no template
machinery is loaded: the default table and -q are written straight from the fields.
"""

from __future__ import annotations

from . import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any


class Sheet:
    """What can be shown about one kind of row.

    fields   name -> function of a row, giving text
    headers  name -> column header
    columns  names of the default table
    methods  name -> function of a row and a text: fields that take an argument, as .Label "x"
    """

    def __init__(
        self,
        fields: Mapping[str, Callable[[Any], str]],
        headers: Mapping[str, str],
        columns: Sequence[str],
        type_name: str,
        methods: Mapping[str, Callable[[Any, str], Any]] | None = None,
    ) -> None:
        self.fields = fields
        self.headers = headers
        self.columns = columns
        self.type_name = type_name
        self.methods = methods or {}


def tabbed(sheet: Sheet, rows: Iterable[Any]) -> str:
    """The table with the sheet's columns, not aligned yet."""
    lines = ["\t".join(sheet.headers[name] for name in sheet.columns)]
    getters = [sheet.fields[name] for name in sheet.columns]
    lines += ["\t".join([get(row) for get in getters]) for row in rows]
    return "\n".join(lines) + "\n"


def default_table(sheet: Sheet, rows: Iterable[Any]) -> str:
    """The table with the sheet's columns."""
    return table.align(tabbed(sheet, rows))


def render(sheet: Sheet, rows: Iterable[Any], form: str) -> str:
    """ROWS as the --format text FORM says; raises TemplateError."""
    if form in ("", "table"):
        return default_table(sheet, rows)
    from . import formatted

    return formatted.render(sheet, rows, form)
