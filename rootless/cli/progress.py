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

_QUIET_STATES = ("Downloading", "Extracting", "Verifying Checksum")


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

    def event(self, ident: str, status: str, _current: int = 0, _total: int = 0) -> None:
        """Print the state unless it repeats with every chunk."""
        if status not in _QUIET_STATES:
            self.line(f"{ident}: {status}")

    def line(self, text: str) -> None:
        """Print TEXT."""
        with self._lock:
            self._stream.write(text + "\n")
            self._stream.flush()


class LiveSink(ProgressSink):
    """A bar per layer, redrawn in place."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        self._console = Console(file=stream)
        self._progress = Progress(
            TextColumn("{task.fields[ident]}: {task.description}"),
            BarColumn(bar_width=30),
            DownloadColumn(),
            console=self._console,
        )
        self._tasks: dict[str, Any] = {}
        self._lock = threading.Lock()

    def event(self, ident: str, status: str, current: int = 0, total: int = 0) -> None:
        """Move the bar of IDENT."""
        with self._lock:
            task = self._tasks.get(ident)
            if task is None:
                task = self._progress.add_task(status, total=total or 1, ident=ident)
                self._tasks[ident] = task
            if total:
                self._progress.update(task, description=status, completed=current, total=total)
            elif status in ("Pull complete", "Already exists", "Download complete"):
                amount = self._progress.tasks[task].total or 1
                self._progress.update(task, description=status, completed=amount)
            else:
                self._progress.update(task, description=status)

    def line(self, text: str) -> None:
        """Print TEXT above the bars."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def __enter__(self) -> LiveSink:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
