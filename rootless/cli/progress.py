"""Showing a transfer: nothing, plain lines, or a live display on a terminal.

rich is imported only where a live display is drawn.
"""

from __future__ import annotations

import os
import threading

from rootless.engine.progress import ProgressSink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

# States that come with every chunk; docker prints none of them where there is no terminal.
_MOVING = ("Downloading", "Extracting", "Loading layer")
_REDRAWS = 10.0  # times a second


def sink(*, quiet: bool, stream: TextIO) -> ProgressSink:
    """The display that suits STREAM."""
    if quiet:
        return ProgressSink()
    if stream.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return LiveSink(stream)
    return LineSink(stream)


class LineSink(ProgressSink):
    """One line per change of state, as docker prints them where there is no terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def event(
        self,
        ident: str,
        status: str,
        current: int = 0,  # noqa: ARG002
        total: int = 0,  # noqa: ARG002
    ) -> None:
        """Print the state unless it repeats with every chunk."""
        if status not in _MOVING:
            self.line(f"{ident}: {status}")

    def line(self, text: str) -> None:
        """Print TEXT."""
        with self._lock:
            self._stream.write(text + "\n")
            self._stream.flush()


class LiveSink(ProgressSink):
    """A row per layer, redrawn in place: its state, and a bar while bytes move."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.table import Table

        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._table = Table
        self._rows: dict[str, tuple[str, int, int]] = {}
        self._lock = threading.Lock()
        self._live = Live(
            console=self._console, get_renderable=self._draw, refresh_per_second=_REDRAWS
        )

    def event(self, ident: str, status: str, current: int = 0, total: int = 0) -> None:
        """Move the row of IDENT."""
        with self._lock:
            self._rows[ident] = (status, current, total)

    def line(self, text: str) -> None:
        """Print TEXT above the rows."""
        self._console.print(text, soft_wrap=True)

    def _draw(self) -> Any:
        from rich.progress_bar import ProgressBar

        from .units import human_size

        grid = self._table.grid(padding=(0, 1))
        with self._lock:
            rows = list(self._rows.items())
        # What does not fit would scroll away: of too many rows those that still move are shown.
        room = max(1, self._console.height - 2)
        if len(rows) > room:
            rows = [row for row in rows if row[1][0] in _MOVING][:room] or rows[-room:]
        for ident, (status, current, total) in rows:
            if total and status in _MOVING and current:
                bar = ProgressBar(total=total, completed=current, width=30)
                grid.add_row(f"{ident}:", status, bar, f"{human_size(current)}/{human_size(total)}")
            else:
                grid.add_row(f"{ident}:", status, "", "")
        return grid

    def __enter__(self) -> LiveSink:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
