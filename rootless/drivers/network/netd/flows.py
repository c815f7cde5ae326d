"""A table of flows with bounds: so many for each source, so many in all, and none idle for too long.

Where a source is at its bound its own oldest has to go; where the table is full, the oldest of the source
that has most. So a container that opens flows without end hurts itself.  Knows nothing of what a flow is.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Generic, TypeVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .loop import Loop, Timer

_SWEEP = 2.0  # seconds


class Flow:
    """What a table holds: under KEY, on account of SOURCE, until idle for IDLE seconds."""

    __slots__ = ("idle", "key", "seen", "source")

    def __init__(self, key: bytes, source: bytes, idle: float) -> None:
        self.key = key
        self.source = source
        self.idle = idle
        self.seen = 0.0

    def end(self) -> None:
        """Called once, when the table has let go of it."""


F = TypeVar("F", bound=Flow)


class FlowTable(Generic[F]):
    """Flows by key; at most PER_SOURCE of one source and TOTAL of all.

    PATIENCE: a source does not replace flows of its own that are younger; then it is refused.
    """

    def __init__(self, loop: Loop, per_source: int, total: int, patience: float = 0.0) -> None:
        self._loop = loop
        self._per_source = per_source
        self._total = total
        self._patience = patience
        self._flows: dict[bytes, F] = {}
        self._sources: dict[bytes, OrderedDict[bytes, F]] = {}  # each from the longest idle on
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._flows)

    def get(self, key: bytes) -> F | None:
        """The flow that is known under KEY."""
        return self._flows.get(key)

    def of(self, source: bytes) -> int:
        """How many SOURCE has."""
        return len(self._sources.get(source, ()))

    def has_room(self, source: bytes) -> bool:
        """Make room for one more of SOURCE, if that may be."""
        mine = self._sources.get(source)
        if mine and len(mine) >= self._per_source:
            crowd = mine
        elif len(self._flows) >= self._total:
            crowd = max(self._sources.values(), key=len)
        else:
            return True
        oldest = next(iter(crowd.values()))
        if crowd is mine and time.monotonic() - oldest.seen < self._patience:
            return False
        self.drop(oldest)
        return True

    def add(self, flow: F) -> None:
        """Enter FLOW, for which there must be room, in the place of one of the same key."""
        old = self._flows.get(flow.key)
        if old is not None:
            self.drop(old)
        flow.seen = time.monotonic()
        self._flows[flow.key] = flow
        self._sources.setdefault(flow.source, OrderedDict())[flow.key] = flow
        if self._timer is None:
            self._timer = self._loop.call_later(_SWEEP, self._sweep)

    def touch(self, flow: F) -> None:
        """It has just been used."""
        flow.seen = time.monotonic()
        self._sources[flow.source].move_to_end(flow.key)

    def take(self, flow: F) -> None:
        """Let go of FLOW without ending it."""
        if self._flows.get(flow.key) is not flow:
            return
        del self._flows[flow.key]
        mine = self._sources[flow.source]
        del mine[flow.key]
        if not mine:
            del self._sources[flow.source]

    def drop(self, flow: F) -> None:
        """Let go of FLOW and end it; one that is not there any more is left alone."""
        if self._flows.get(flow.key) is flow:
            self.take(flow)
            flow.end()

    def forget(self, source: bytes) -> None:
        """End all flows of SOURCE."""
        for flow in list(self._sources.get(source, {}).values()):
            self.drop(flow)

    def clear(self) -> None:
        """End all flows."""
        for flow in list(self._flows.values()):
            self.drop(flow)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        now = time.monotonic()
        for flow in [flow for flow in self._flows.values() if now - flow.seen >= flow.idle]:
            self.drop(flow)
        self._timer = self._loop.call_later(_SWEEP, self._sweep) if self._flows else None
