"""A table that is drawn anew in its place on a terminal, by rich."""

from __future__ import annotations

from rich.console import Console
from rich.live import Live
from rich.text import Text

from . import rows as sheets
from . import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .rows import Sheet


class LiveTable:
    """Rows of a sheet on the standard output, over those drawn before; used as a context."""

    def __init__(self, sheet: Sheet, console: Console | None = None) -> None:
        self._sheet = sheet
        self._console = console or Console(highlight=False, markup=False, emoji=False)
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()  # the cursor is shown again

    def show(self, rows: list[Any]) -> bool:
        """Draw ROWS; True, as there is a terminal to draw on."""
        text = sheets.default_table(self._sheet, rows)
        if max(map(len, text.split("\n"))) > self._console.width:
            text = table.align(sheets.tabbed(self._sheet, rows), min_width=0, padding=2)
        drawn = Text(text.rstrip("\n"), no_wrap=False, overflow="fold")
        drawn.stylize("bold", 0, text.index("\n"))
        self._live.update(drawn, refresh=True)
        return True
