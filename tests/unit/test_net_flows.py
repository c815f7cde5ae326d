"""The table of flows: its bounds, and at whose expense they are kept."""

from __future__ import annotations

import pytest

from rootless.drivers.network.netd import flows
from rootless.drivers.network.netd.flows import Flow, FlowTable
from rootless.drivers.network.netd.loop import Loop


class Noted(Flow):
    ended: list[str] = []

    def end(self) -> None:
        self.ended.append(self.key.decode())


@pytest.fixture
def loop() -> object:
    Noted.ended = []
    loop = Loop()
    yield loop
    loop.close()


def fill(table: FlowTable[Noted], source: str, *names: str) -> list[bool]:
    found = []
    for name in names:
        room = table.has_room(source.encode())
        found.append(room)
        if room:
            table.add(Noted(name.encode(), source.encode(), 60.0))
    return found


def test_a_source_at_its_bound_loses_its_longest_idle(loop: Loop) -> None:
    table: FlowTable[Noted] = FlowTable(loop, 3, 100)
    fill(table, "a", "1", "2", "3")
    fill(table, "b", "x")
    first = table.get(b"1")
    assert first is not None
    table.touch(first)
    fill(table, "a", "4", "5")
    assert Noted.ended == ["2", "3"]
    assert (table.of(b"a"), table.of(b"b"), len(table)) == (3, 1, 4)


def test_a_full_table_is_at_the_expense_of_who_has_most(loop: Loop) -> None:
    table: FlowTable[Noted] = FlowTable(loop, 10, 5)
    fill(table, "a", "1", "2", "3", "4")
    fill(table, "b", "x")
    assert fill(table, "c", "y", "z") == [True, True]
    assert Noted.ended == ["1", "2"]


def test_who_is_too_fast_is_refused_but_not_for_others(loop: Loop) -> None:
    table: FlowTable[Noted] = FlowTable(loop, 2, 3, patience=60.0)
    assert fill(table, "a", "1", "2", "3") == [True, True, False]
    assert fill(table, "b", "x", "y") == [True, True]
    assert Noted.ended == ["1"]


def test_idle_flows_end_and_then_nothing_wakes_up(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "_SWEEP", 0.01)
    table: FlowTable[Noted] = FlowTable(loop, 10, 10)
    fill(table, "a", "1", "2")
    first = table.get(b"1")
    assert first is not None
    first.idle = 0.0
    loop.call_later(0.1, loop.stop)
    loop.run()
    assert Noted.ended == ["1"]
    table.forget(b"a")
    assert Noted.ended == ["1", "2"]
    loop.call_later(0.1, loop.stop)
    loop.run()
    assert table._timer is None


def test_what_is_taken_or_replaced(loop: Loop) -> None:
    table: FlowTable[Noted] = FlowTable(loop, 10, 10)
    fill(table, "a", "1", "2")
    flow = table.get(b"1")
    assert flow is not None
    table.take(flow)
    table.take(flow)
    table.drop(flow)
    assert Noted.ended == []
    fill(table, "b", "2")  # the same key
    assert Noted.ended == ["2"]
    assert (table.of(b"a"), table.of(b"b")) == (0, 1)
    table.clear()
    assert len(table) == 0
