"""What every log driver must do; each entry of the registry goes through it, with a monitor that writes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "helpers"))

from log_rig import (
    Entry,
    Side,
    configured,
    file_entries,
    journal_entry,
    plan,
    settle,
    syslog_entry,
)
from monitor_rig import Rig, libexec, listen, output, rig, status_kb, until

from rootless.drivers import log as drivers
from rootless.drivers.log.base import LogDriver, LogInfo
from rootless.errors import RootlessError, UsageError

__all__ = ["libexec", "rig"]

LINE = 16384
TAKERS = {"journald": journal_entry, "syslog": syslog_entry}
LOGGING = [name for name in sorted(drivers.REGISTRY) if drivers.driver(name).logs]


@pytest.fixture(params=sorted(drivers.REGISTRY))
def driver(request: pytest.FixtureRequest) -> LogDriver:
    return drivers.driver(request.param)


def test_it_answers_to_its_name(driver: LogDriver) -> None:
    assert drivers.REGISTRY[driver.name][1] == type(driver).__name__


def test_without_options_it_can_be_planned(driver: LogDriver) -> None:
    driver.check({})
    made = driver.plan({}, LogInfo(id="a" * 64, directory="/d"))
    assert bool(made.words) == driver.logs
    assert bool(made.path) == (driver.reader == "files")


def test_an_unknown_option_is_refused(driver: LogDriver) -> None:
    if driver.name == "none":
        driver.check({"no-such-option": "1"})  # as Docker's
        return
    words = f"unknown log opt 'no-such-option' for {driver.name} log driver"
    with pytest.raises(UsageError, match=words):
        driver.check({"no-such-option": "1"})


@pytest.mark.parametrize("name", LOGGING)
def test_modes_are_checked_in_dockers_words(name: str) -> None:
    found = drivers.driver(name)
    found.check({"mode": "blocking"})
    found.check({"mode": "non-blocking", "max-buffer-size": "4m"})
    for options, words in (
        ({"mode": "often"}, "logger: logging mode not supported: often"),
        ({"max-buffer-size": "4m"}, "only supported with 'mode=non-blocking'"),
        ({"mode": "non-blocking", "max-buffer-size": "big"}, "invalid size: 'big'"),
        ({"labels-regex": "("}, "labels-regex"),
        ({"tag": "{{.Nothing}}"}, "cannot parse tag"),
    ):
        with pytest.raises(RootlessError, match=words):
            found.check(options)
    assert found.plan({}, LogInfo()).words["buffer"] == 0
    assert found.plan({"mode": "non-blocking"}, LogInfo()).words["buffer"] == 1_000_000


class World:
    """A driver, a rig, and whoever takes the log."""

    def __init__(self, rig: Rig, name: str, start: bool = True) -> None:
        self.rig = rig
        self.name = name
        self.side: Side | None = None
        if name in TAKERS:
            self.side = Side(start=start)

    def options(self, **options: str) -> dict[str, Any]:
        made = plan(self.name, options)
        return configured(self.rig, self.side.words(made) if self.side else made)

    def entries(self) -> list[Entry]:
        if self.side is None:
            return file_entries(self.rig)
        settle(lambda: len(self.side.received))  # type: ignore[union-attr]
        return [TAKERS[self.name](data) for data in self.side.received]


@pytest.fixture(params=LOGGING)
def world(request: pytest.FixtureRequest, rig: Rig) -> Iterator[World]:
    made = World(rig, request.param)
    yield made
    if made.side:
        made.side.close()


def test_lines_arrive_with_their_streams(world: World) -> None:
    output(
        world.rig.shell(
            "echo one; sleep 0.2; echo two >&2; sleep 0.2; printf three", **world.options()
        )
    )
    assert [(entry.stream, entry.data) for entry in world.entries()] == [
        ("stdout", b"one"), ("stderr", b"two"), ("stdout", b"three"),
    ]  # fmt: skip


def test_a_huge_line_arrives_in_pieces(world: World) -> None:
    line = bytes(97 + i % 26 for i in range(100_000))
    path = Path(world.rig.path("data"))
    path.write_bytes(line + b"\nnext\n")
    output(world.rig.spawn(["/bin/cat", str(path)], **world.options()))
    entries = world.entries()
    assert [len(entry.data) for entry in entries] == [LINE] * 6 + [100_000 - 6 * LINE, 4]
    assert b"".join(entry.data for entry in entries[:-1]) == line
    if world.name != "syslog":  # which has no word for it
        assert [entry.more for entry in entries] == [True] * 6 + [False, False]


def test_bytes_of_any_value_keep_the_entries_apart(world: World) -> None:
    data = bytes(range(10)) + bytes(range(11, 256)) + b"\n"
    path = Path(world.rig.path("data"))
    path.write_bytes(data * 3 + b"\0\0\n\n")
    output(world.rig.spawn(["/bin/cat", str(path)], **world.options()))
    entries = world.entries()
    assert len(entries) == 5
    assert entries[4].data == b""
    ascii_only = bytes(byte for byte in data[:-1] if byte < 128)
    assert bytes(byte for byte in entries[0].data if byte < 128) == ascii_only
    if world.name in TAKERS:
        assert entries[0].data == data[:-1]


def test_much_output_arrives_whole_and_in_order(world: World) -> None:
    count = 20_000
    client = world.rig.shell(f"seq {count}", **world.options())
    assert listen_to(client) == 0
    numbers = [int(entry.data) for entry in world.entries()]
    assert numbers == list(range(1, count + 1))


def listen_to(client: Any) -> int | None:
    client.attach(stdin=False, stdout=False, stderr=False)
    return listen(client).exit


@pytest.mark.parametrize("name", sorted(TAKERS))
@pytest.mark.parametrize("stuck", [True, False])
def test_without_blocking_nobody_holds_a_container_up(name: str, stuck: bool, rig: Rig) -> None:
    """Whoever takes the log reads nothing, or is gone; a later one is told how many lines are missing."""
    world = World(rig, name, start=not stuck)
    assert world.side is not None
    options = world.options(mode="non-blocking", **{"max-buffer-size": "64k"})
    if not stuck:
        world.side.close()
    client = rig.shell("seq 100000; echo done >&2; read x; echo end", stdin=True, **options)
    client.attach(stdin=True, stdout=False, stderr=True)
    assert listen(client, b"2").err == b"done\n"  # all has been written before the log took any
    pid = client.query()["monitorPid"]
    assert status_kb(pid, "VmRSS") < 1600
    if stuck:
        world.side.thread.start()
    else:
        world.side = Side(directory=world.side.directory)
    side = world.side
    until(lambda: len(side.received) > 20)
    settle(lambda: len(side.received))
    client.stdin(b"\n")
    assert listen(client).exit == 0
    settle(lambda: len(side.received))  # what is on its way when the monitor ends
    texts = [TAKERS[name](data).data for data in side.received]
    side.close()
    lost = [int(text.split()[1]) for text in texts if text.startswith(b"[rootless: ")]
    assert texts[-1] == b"end"
    assert sum(lost) > 0
    assert sum(lost) + len(texts) - len(lost) == 100002


@pytest.mark.parametrize("name", sorted(TAKERS))
def test_blocking_holds_the_container_and_not_its_monitor(name: str, rig: Rig) -> None:
    world = World(rig, name, start=False)
    side = world.side
    assert side is not None
    client = rig.shell("seq 100000; echo done >&2; exec sleep 1000", **world.options())
    client.attach(stdin=False, stdout=False, stderr=True)
    state = rig.await_status("running")
    pipe = f"/proc/{state['pid']}"
    until(lambda: Path(f"{pipe}/syscall").exists() and _is_writing(state["pid"]))
    other = rig.connect()
    assert other.query()["status"] == "running"  # who asks is answered
    side.thread.start()
    assert listen(client, b"2").err == b"done\n"
    client.kill(signal.SIGKILL)
    assert listen(client).exit == 137
    settle(lambda: len(side.received))
    texts = [TAKERS[name](data).data for data in side.received]
    side.close()
    assert texts.count(b"done") == 1  # two streams have no order between them
    assert [text for text in texts if text != b"done"] == [b"%d" % n for n in range(1, 100001)]


def _is_writing(pid: int) -> bool:
    """Whether a child of PID, or PID, waits in a write to a pipe."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path(f"/proc/{name}/stat").read_text()
            waits = Path(f"/proc/{name}/wchan").read_text()
        except OSError:
            continue
        parent = int(stat.rpartition(")")[2].split()[1])
        if pid in (int(name), parent) and "pipe" in waits and "write" in waits:
            return True
    return False


@pytest.mark.parametrize("name", sorted(TAKERS))
def test_a_taker_that_hangs_does_not_keep_the_end(name: str, rig: Rig) -> None:
    world = World(rig, name, start=False)
    assert world.side is not None
    client = rig.shell("seq 100000", **world.options())
    client.attach(stdin=False, stdout=False, stderr=False)
    rig.await_status("running")
    client.kill(signal.SIGKILL)
    assert listen(client).exit == 137
    world.side.close()


def test_an_unknown_driver_is_refused_in_dockers_words() -> None:
    with pytest.raises(UsageError, match="logger: no log driver named 'gelf' is registered"):
        drivers.driver("gelf")
