"""Showing a build: plain lines, lines that are redrawn on a terminal, JSON, or nothing."""

from __future__ import annotations

import os
import threading
import time

from rootless import jsonc
from rootless.engine.buildprogress import Display, Vertex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

_ROWS = 6  # lines of output shown of a running step


def display(kind: str, stream: TextIO) -> Display:
    """The display called KIND; "auto" is tty on a terminal and plain else."""
    if kind == "auto":
        kind = os.environ.get("BUILDKIT_PROGRESS", "auto")
    if kind == "auto":
        fit = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        kind = "tty" if fit else "plain"
    if kind == "quiet":
        return Display()
    if kind == "rawjson":
        return JsonDisplay(stream)
    return TtyDisplay(stream) if kind == "tty" else PlainDisplay(stream)


def clean(line: bytes) -> str:
    """A line of a command's output without what would move a terminal's cursor."""
    text = line.decode("utf-8", "replace").rstrip("\r")
    text = text.rpartition("\r")[2]
    return "".join(c if c.isprintable() or c == "\t" else "?" for c in text)


class LineDisplay(Display):
    """Cuts output into lines."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._rest: dict[int, bytes] = {}
        self._out = threading.RLock()

    def printed(self, vertex: Vertex, data: bytes) -> None:
        """Give whole lines on."""
        with self._out:
            *lines, rest = (self._rest.get(vertex.number, b"") + data).split(b"\n")
            self._rest[vertex.number] = rest
            for line in lines:
                self.line(vertex, clean(line))

    def flush(self, vertex: Vertex) -> None:
        """Give on what had no newline."""
        rest = self._rest.pop(vertex.number, b"")
        if rest:
            self.line(vertex, clean(rest))

    def line(self, vertex: Vertex, text: str) -> None:
        """A whole line."""

    def write(self, text: str) -> None:
        """Put text out at once."""
        with self._out:
            self._stream.write(text)
            self._stream.flush()


class PlainDisplay(LineDisplay):
    """Every line with the number of what it belongs to."""

    def began(self, vertex: Vertex) -> None:
        """Name it."""
        self.write(f"#{vertex.number} {vertex.name}\n")

    def line(self, vertex: Vertex, text: str) -> None:
        """A line of its output, with the time since it began."""
        self.write(f"#{vertex.number} {vertex.seconds:.3f} {text}\n")

    def ended(self, vertex: Vertex) -> None:
        """How it ended."""
        self.flush(vertex)
        if vertex.error:
            self.write(f"#{vertex.number} ERROR: {vertex.error}\n")
        elif vertex.cached:
            self.write(f"#{vertex.number} CACHED\n")
        else:
            self.write(f"#{vertex.number} DONE {vertex.seconds:.1f}s\n")

    def warning(self, text: str, where: str = "") -> None:
        """One line."""
        self.write(f"WARNING: {text}\n" + (f"{where}\n" if where else ""))


class JsonDisplay(LineDisplay):
    """One JSON object a line, in the shapes of BuildKit's status stream."""

    def _vertex(self, vertex: Vertex) -> dict[str, object]:
        now = time.time() - time.monotonic()
        found: dict[str, object] = {
            "digest": f"#{vertex.number}",
            "name": vertex.name,
            "started": _stamp(now + vertex.began),
        }
        if vertex.ended:
            found["completed"] = _stamp(now + vertex.ended)
        if vertex.cached:
            found["cached"] = True
        if vertex.error:
            found["error"] = vertex.error
        return found

    def began(self, vertex: Vertex) -> None:
        """A vertex with a start."""
        self.write(jsonc.dumps({"vertexes": [self._vertex(vertex)]}) + "\n")

    def ended(self, vertex: Vertex) -> None:
        """The vertex, completed."""
        self.write(jsonc.dumps({"vertexes": [self._vertex(vertex)]}) + "\n")

    def printed(self, vertex: Vertex, data: bytes) -> None:
        """A log entry, its data in base64."""
        import binascii

        text = binascii.b2a_base64(data, newline=False).decode()
        entry = {
            "vertex": f"#{vertex.number}",
            "stream": 1,
            "data": text,
            "timestamp": _stamp(time.time()),
        }
        self.write(jsonc.dumps({"logs": [entry]}) + "\n")

    def warning(self, text: str, where: str = "") -> None:
        """A warning."""
        self.write(jsonc.dumps({"warnings": [{"short": text, "detail": where}]}) + "\n")


def _stamp(seconds: float) -> str:
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{int(seconds % 1 * 1e9):09d}Z"


class TtyDisplay(LineDisplay):
    """A line for each thing, redrawn in place; below those that run, the last lines of their output."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._began = time.monotonic()
        self._all: list[Vertex] = []
        self._lines: dict[int, list[str]] = {}
        self._drawn = 0
        self._warnings: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def began(self, vertex: Vertex) -> None:
        """A new line."""
        with self._out:
            self._all.append(vertex)

    def line(self, vertex: Vertex, text: str) -> None:
        """Remember the last lines."""
        self._lines[vertex.number] = [*self._lines.get(vertex.number, []), text][-_ROWS:]

    def ended(self, vertex: Vertex) -> None:
        """Its output is shown no more."""
        with self._out:
            self.flush(vertex)

    def warning(self, text: str, where: str = "") -> None:  # noqa: ARG002
        """Shown at the end."""
        self._warnings.append(text)

    def _loop(self) -> None:
        while not self._stop.wait(0.1):
            self._draw(last=False)

    def _draw(self, *, last: bool) -> None:
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except OSError:
            size = os.terminal_size((80, 24))
        with self._out:
            done = sum(1 for vertex in self._all if vertex.ended)
            state = "FINISHED" if last else ""
            took = time.monotonic() - self._began
            rows = [f"[+] Building {took:.1f}s ({done}/{len(self._all)}) {state}".rstrip()]
            for vertex in self._all:
                rows.append(_row(vertex, size.columns))
                if not vertex.ended:
                    rows += [f" => => # {line}" for line in self._lines.get(vertex.number, [])]
            if not last and len(rows) > size.lines - 1:
                rows = rows[:1] + rows[-(size.lines - 2) :]
            up = f"\x1b[{self._drawn}A" if self._drawn else ""
            body = "".join(f"\x1b[2K{row[: size.columns - 1]}\n" for row in rows)
            extra = "\x1b[0J"
            self._drawn = len(rows)
            self.write(f"\r{up}{body}{extra}")

    def close(self) -> None:
        """Draw it all once more."""
        self._stop.set()
        self._thread.join()
        self._draw(last=True)
        if self._warnings:
            self.write(f"\n {len(self._warnings)} warnings found:\n")
            self.write("".join(f" - {text}\n" for text in self._warnings))


def _row(vertex: Vertex, columns: int) -> str:
    mark = "ERROR " if vertex.error else "CACHED " if vertex.cached else ""
    right = f"{vertex.seconds:.1f}s"
    room = max(20, columns - len(right) - 6)
    left = f" => {mark}{vertex.name}"[:room]
    return f"{left:<{room}} {right}"
