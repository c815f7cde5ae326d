"""rootless stats."""

from __future__ import annotations

import os
import sys
import time

from rootless.engine import stats
from rootless.engine.context import Context
from rootless.errors import NotFoundError
from rootless.store.containers import ACTIVE

from . import units
from .rows import Sheet, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from rootless.engine.stats import Sample
    from rootless.store.eventlog import EventReader

    from .parse import Parsed

EVERY = 1.0  # seconds between two samples
SOON = 0.2  # the second one of a live table
UNKNOWN = "--"


class Row:
    """A container as it is shown: what it was called by, ID, name, and the last two samples of it."""

    __slots__ = ("after", "before", "called", "id", "name")

    def __init__(self, called: str, container_id: str, name: str) -> None:
        self.called = called
        self.id = container_id
        self.name = name
        self.before: Sample | None = None
        self.after: Sample | None = None


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Show what containers use, once or again and again."""
    ctx = Context.load(env)
    form = str(args.get("format") or "")
    sheet = make_sheet(trunc=not args.get("no_trunc"))
    watched = Watched(ctx, args.args, every=bool(args.get("all")))
    if args.get("no_stream"):
        watched.settle()
        sys.stdout.write(render(sheet, watched.rows, form))
        return 0
    if form in ("", "table") and os.isatty(1):
        return _drawn(ctx, watched, sheet)
    clear = "\033[2J\033[H" if os.isatty(1) else ""
    return _follow(ctx, watched, lambda rows: _write(clear + render(sheet, rows, form)))


def _drawn(ctx: Context, watched: Watched, sheet: Sheet) -> int:
    """Draw the table over the one before, on a terminal."""
    from . import cold

    cold.enable("rich")
    from . import livetable

    with livetable.LiveTable(sheet) as table:
        return _follow(ctx, watched, table.show)


def _write(text: str) -> bool:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left is of no use to anyone
        return False
    return True


def _follow(ctx: Context, watched: Watched, show: Callable[[list[Row]], bool]) -> int:
    """Show again every second, and at once when a container comes or goes."""
    from rootless.store.eventlog import EventReader

    with EventReader(ctx.paths.events) as reader:
        reader.watch()
        reader.skip()
        changed: bool | None = True
        while True:
            pause = SOON if changed else EVERY
            changed = _wait(reader, time.time_ns() + int(pause * 1e9))
            if changed is None:
                return 0
            watched.look()
            if not show(watched.rows) or watched.over:
                return 0


def _wait(reader: EventReader, until: int) -> bool | None:
    """Wait until then; True where a container has come or gone meanwhile, None where nobody reads us."""
    while reader.wait(until, 1):
        for block in reader.read():
            if any(event["Type"] == "container" and event["Action"] in COMINGS for event in block):
                return True
    return None if time.time_ns() < until else False


COMINGS = ("create", "start", "die", "destroy", "rename")


class Watched:
    """The containers that are shown: those named, or all that run (with EVERY: all there are)."""

    def __init__(self, ctx: Context, names: list[str], *, every: bool) -> None:
        self._ctx = ctx
        self._names = names
        self._every = every
        self._sampler = stats.Sampler()
        self._states: dict[str, dict[str, Any]] = {}
        self.rows: list[Row] = []
        for name in dict.fromkeys(names):
            one = ctx.containers.resolve(name)
            self.rows.append(Row(name, one.id, one.name))
        self.look()

    @property
    def over(self) -> bool:
        """Whether nothing can come any more: every container that was named is gone."""
        return bool(self._names) and all(row.after is None for row in self.rows)

    def settle(self) -> None:
        """See that there are two samples of what runs: of an earlier call, or in a moment."""
        history = stats.History(f"{self._ctx.paths.runtime_root}/stats")
        running = {row.id: row for row in self.rows if self._states[row.id].get("pid")}
        for row in running.values():
            if row.after is not None:
                row.before = history.before(row.id, self._states[row.id]["pidStart"], row.after)
        if any(row.before is None and row.after is not None for row in running.values()):
            before = {row.id: row.before for row in self.rows}
            time.sleep(EVERY)
            self.look()
            for row in self.rows:
                row.before = before.get(row.id) or row.before
        samples = {row.id: row.after for row in self.rows if row.after and row.id in running}
        history.keep(samples, self._states, {row.id: row.before for row in self.rows})

    def _find(self) -> None:
        """See what containers there are."""
        known = {row.id: row for row in self.rows}
        rows = []
        for container, state in self._ctx.containers.scan(look=False):
            if not self._every and state["status"] not in ACTIVE:
                continue
            try:
                created = os.stat(f"{container.dir}/lock").st_mtime_ns  # made first, never written
            except OSError:
                continue  # removed while we looked
            self._states[container.id] = state
            row = known.get(container.id) or Row(container.id[:12], container.id, container.name)
            row.name = container.name
            rows.append((-created, container.id, row))
        self.rows = [row for _, _, row in sorted(rows, key=lambda one: one[:2])]

    def _read(self) -> None:
        for row in self.rows:
            try:
                self._states[row.id] = self._ctx.containers.read_state(row.id)
            except NotFoundError:
                self._states[row.id] = {}

    def _look_again(self, container_id: str) -> None:
        """What is true of a container whose first process is gone, whatever was read."""
        try:
            state = self._ctx.containers.read_state(container_id)
        except NotFoundError:
            state = {}
        self._states[container_id] = state
        if not self._names and (not state or not (self._every or state["status"] in ACTIVE)):
            self.rows = [row for row in self.rows if row.id != container_id]

    def look(self) -> None:
        """Take a further sample of each: none of one that is gone; one that is stopped uses nothing."""
        self._states = {}
        if self._names:
            self._read()
        else:
            self._find()
        running = {one: state for one, state in self._states.items() if state.get("pid")}
        samples = self._sampler.take(running)
        for container_id in [one for one in running if one not in samples]:
            self._look_again(container_id)
        for row in self.rows:
            row.before, row.after = row.after, samples.get(row.id)
            if row.after is None and self._states[row.id]:
                row.before, row.after = None, stats.nothing()


# the columns


def make_sheet(*, trunc: bool) -> Sheet:
    """The fields of a row."""
    return Sheet(
        {
            "Container": lambda row: row.called,
            "ID": lambda row: row.id[:12] if trunc else row.id,
            "Name": lambda row: row.name,
            "CPUPerc": lambda row: _percent(
                stats.cpu_percent(row.before, row.after) if row.after else None
            ),
            "MemUsage": lambda row: _pair(row.after, "memory", "limit", units.binary_size),
            "MemPerc": lambda row: _percent(stats.memory_percent(row.after) if row.after else None),
            "NetIO": lambda row: _pair(row.after, "received", "sent", units.human_size, both=True),
            "BlockIO": lambda row: _pair(row.after, "read", "written", units.human_size, both=True),
            "PIDs": lambda row: _count(row.after.pids if row.after else None),
        },
        {
            "Container": "CONTAINER",
            "ID": "CONTAINER ID",
            "Name": "NAME",
            "CPUPerc": "CPU %",
            "MemUsage": "MEM USAGE / LIMIT",
            "MemPerc": "MEM %",
            "NetIO": "NET I/O",
            "BlockIO": "BLOCK I/O",
            "PIDs": "PIDS",
        },
        ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"),
        "*container.statsContext",
    )


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f}%"


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)


def _pair(
    sample: Sample | None,
    first: str,
    second: str,
    shown: Callable[[float], str],
    *,
    both: bool = False,
) -> str:
    """``A / B``; BOTH are known or neither is, which is one pair of dashes then, as with Docker."""
    values = [getattr(sample, name) if sample else None for name in (first, second)]
    if both and None in values:
        return UNKNOWN
    return " / ".join(UNKNOWN if value is None else shown(value) for value in values)
