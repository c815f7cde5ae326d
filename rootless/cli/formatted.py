"""--format for rows: templates over a Sheet, custom tables with their header line, JSON lines."""

from __future__ import annotations

from . import gofuncs, gotemplate, govalue, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from .rows import Sheet


class _Row(govalue.Object):
    """One row as a template sees it."""

    def __init__(self, sheet: Sheet, row: Any) -> None:
        self.sheet = sheet
        self.row = row
        self.type_name = sheet.type_name

    def field(self, name: str) -> Any:
        """The field's value; KeyError where there is none of that name."""
        return self.sheet.fields[name](self.row)

    def plain(self) -> dict[str, Any]:
        """All fields, sorted by name, as {{json .}} shows them."""
        return {name: get(self.row) for name, get in sorted(self.sheet.fields.items())}

    def call(self, name: str, arguments: Sequence[Any]) -> Any:
        """A field that takes an argument; KeyError where there is none of that name."""
        return self.sheet.methods[name](self.row, *arguments)


class _Header(govalue.Object):
    """What stands for the row when the header line is made."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.type_name = sheet.type_name

    def field(self, name: str) -> Any:
        """The column's header."""
        return self.sheet.headers[name]

    def call(self, name: str, arguments: Sequence[Any]) -> Any:
        """The header of a column that takes an argument: the last part of the argument."""
        if name not in self.sheet.methods:
            raise KeyError(name)
        return str(arguments[0]).rpartition(".")[2].replace("-", " ").replace("_", " ")


def _header_functions() -> dict[str, gofuncs.Function]:
    """In the header line, functions leave their text alone."""

    def first(text: Any, *_: Any) -> Any:
        return text

    return {
        "json": gofuncs.Function(first, 1, 1),
        "split": gofuncs.Function(first, 2, 2),
        "join": gofuncs.Function(first, 2, 2),
        "title": gofuncs.Function(first, 1, 1),
        "lower": gofuncs.Function(first, 1, 1),
        "upper": gofuncs.Function(first, 1, 1),
        "truncate": gofuncs.Function(first, 2, 2),
        "println": gofuncs.Function(first, 1, -1),
    }


def unescape(form: str) -> str:
    """FORM with the ``\\t`` and ``\\n`` a shell passed on made into tab and newline."""
    return form.replace("\\t", "\t").replace("\\n", "\n")


def render(sheet: Sheet, rows: Iterable[Any], form: str) -> str:
    """ROWS as FORM says; raises TemplateError."""
    if form == "json":
        form = "{{json .}}"
    is_table = form == "table" or form.startswith("table ")
    body = unescape(form[len("table") :].strip() if is_table else form)
    template = gotemplate.Template(body)
    lines = []
    if is_table:
        header = gotemplate.Template(body, _header_functions())
        lines.append(header.render(_Header(sheet)))
    lines += [template.render(_Row(sheet, row)) for row in rows]
    text = "\n".join(lines) + "\n" if lines else ""
    return table.align(text) if is_table else text


def value(data: Any, form: str) -> str:
    """One value (`info`, `version`) as the template FORM says; raises TemplateError."""
    if form == "json":
        form = "{{json .}}"
    return gotemplate.Template(unescape(form)).render(data)
