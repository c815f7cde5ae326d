"""rootless logs."""

from __future__ import annotations

import os
import sys
import time

from rootless.engine import logs as reading
from rootless.engine.context import Context
from rootless.errors import NotFoundError, RootlessError

from . import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rootless.store.containers import Container

    from .parse import Parsed

ACTIVE = ("running", "restarting", "paused")


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Show what a container has printed."""
    ctx = Context.load(env)
    container = ctx.containers.resolve(args.args[0])
    reader = _reader(container)
    now = time.time_ns()
    since = units.parse_since("since", args.get("since"), now) if args.get("since") else 0
    until = units.parse_since("until", args.get("until"), now) if args.get("until") else 0
    path = f"{container.dir}/{container.id}-json.log"
    tail = _tail(args.get("tail"))

    def alive() -> bool:
        try:
            return ctx.containers.read_state(container.id)["status"] in ACTIVE
        except (NotFoundError, OSError):
            return False

    if reader == "journal":
        from rootless.engine import logjournal

        logjournal.check(container.id, container.name)
        blocks = logjournal.read(
            container.id, tail=tail, follow=bool(args.get("follow")), alive=alive
        )
    elif args.get("follow"):
        blocks = reading.follow(path, alive, tail=tail, since=since, deadline=until)
    else:
        blocks = reading.read(path, tail=tail, since=since)
    printer = _Printer(since, until, bool(args.get("timestamps")), bool(args.get("details")))
    for block in blocks:
        if not printer.show(block):
            break
    return 0


def _reader(container: Container) -> str:
    """How the container's log is read, "files" or "journal"; raises RootlessError where it cannot be."""
    name = str((container.record.get("request") or {}).get("log_driver") or "json-file")
    if name == "json-file":
        return "files"
    from rootless.drivers import log as drivers

    reader = drivers.driver(name).reader
    if not reader:
        raise RootlessError(
            f"cannot read logs of container {container.name}: "
            "configured logging driver does not support reading",
            exit_code=1,
        )
    return reader


def _tail(text: str) -> int:
    """Lines to show, -1 for all: what is negative or no number means all."""
    digits = text.removeprefix("+")
    return int(digits[:18]) if digits.isascii() and digits.isdigit() else -1


def _bound(instant: int) -> str:
    return units.fixed_time(units.format_time(instant)) if instant else ""


class _Printer:
    """Writes entries to the two output streams in the order they were logged."""

    def __init__(self, since: int, until: int, timestamps: bool, details: bool) -> None:
        self.since = _bound(since)
        self.until = _bound(until)
        self.timestamps = timestamps
        self.details = details
        self.fresh = {1: True, 2: True}  # whether the stream is at the start of a line
        sys.stdout.flush()

    def show(self, block: list[dict[str, Any]]) -> bool:
        """Write a block of entries; False once nothing later can be wanted."""
        pending: list[str] = []
        current = 1
        more = True
        plain = not (self.timestamps or self.details)
        for entry in block:
            if self.since or self.until:
                when = units.fixed_time(str(entry.get("time") or ""))
                if self.since and when < self.since:
                    continue
                if self.until and when > self.until:
                    more = False
                    break
            stream = 2 if entry.get("stream") == "stderr" else 1
            if stream != current:
                _put(current, pending)
                pending = []
                current = stream
            text = entry["log"]
            pending.append(text if plain else self._decorated(entry, stream, text))
        _put(current, pending)
        return more

    def _decorated(self, entry: dict[str, Any], stream: int, text: str) -> str:
        """TEXT with its time and attributes before it, where it begins a line."""
        fresh = self.fresh[stream]
        self.fresh[stream] = text.endswith("\n")
        if not fresh:
            return text
        parts = []
        if self.timestamps:
            parts.append(units.fixed_time(str(entry.get("time") or "")))
        if self.details:
            attributes = entry.get("attrs") or {}
            parts.append(",".join(f"{key}={attributes[key]}" for key in sorted(attributes)))
        return f"{' '.join(parts)} {text}"


def _put(fd: int, texts: list[str]) -> None:
    if not texts:
        return
    data = memoryview("".join(texts).encode("utf-8", "surrogatepass"))
    while data:
        data = data[os.write(fd, data) :]
