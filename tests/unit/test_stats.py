"""Stats: formulas, control group files and their absence, processes, what is unknown, the table's shapes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.cli import rows, stats, units
from rootless.engine import processes
from rootless.engine import stats as engine
from rootless.linux import proc

MACHINE = engine.machine_memory()


@pytest.fixture
def child() -> Iterator[int]:
    """A process that stands for a container's first one."""
    process = subprocess.Popen(["sleep", "60"])
    yield process.pid
    process.kill()
    process.wait()


def state(pid: int, cgroup: str = "") -> dict[str, Any]:
    return {"pid": pid, "pidStart": proc.starttime(pid) or 0, "cgroup": cgroup}


def group(tmp_path: Path, **files: str) -> str:
    content = {
        "cpu.stat": "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n",
        "memory.current": "10485760\n",
        "memory.stat": "anon 5\nfile 7000000\ninactive_file 2097152\nactive_file 3\n",
        "memory.max": "67108864\n",
        "pids.current": "7\n",
        "io.stat": "8:0 rbytes=1000 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n253:1 rbytes=5 wbytes=1\n",
    }
    content.update({key.replace("_", ".", 1): value for key, value in files.items()})
    for name, text in content.items():
        if text != "absent":
            (tmp_path / name).write_text(text)
    return str(tmp_path)


def sample(pid: int, cgroup: str = "") -> engine.Sample:
    return engine.Sampler().take({"x": state(pid, cgroup)})["x"]


# from a control group


def test_memory_is_usage_without_inactive_file(child: int, tmp_path: Path) -> None:
    found = sample(child, group(tmp_path))
    assert (found.memory, found.limit) == (10485760 - 2097152, 67108864)
    assert engine.memory_percent(found) == pytest.approx(8388608 * 100 / 67108864)


def test_inactive_file_larger_than_usage_is_not_taken_off(child: int, tmp_path: Path) -> None:
    directory = group(tmp_path, memory_stat="inactive_file 20000000\n")
    assert sample(child, directory).memory == 10485760


@pytest.mark.parametrize("limit", ["max\n", f"{MACHINE * 2}\n", "absent"])
def test_the_limit_is_at_most_the_machines(child: int, tmp_path: Path, limit: str) -> None:
    assert sample(child, group(tmp_path, memory_max=limit)).limit == MACHINE


def test_counters_of_a_group(child: int, tmp_path: Path) -> None:
    found = sample(child, group(tmp_path))
    assert (found.cpu, found.pids, found.read, found.written) == (2_500_000_000, 7, 1005, 21)


def test_what_a_group_does_not_count_is_summed_over_processes(child: int, tmp_path: Path) -> None:
    directory = group(tmp_path, memory_current="absent", pids_current="absent", io_stat="absent")
    found = sample(child, directory)
    assert found.cpu == 2_500_000_000
    assert found.pids == 1 and found.memory is not None and 0 < found.memory < 64 << 20
    assert found.limit == MACHINE and found.read is not None


# percent


def test_cpu_percent_is_of_one_processor() -> None:
    before, after = engine.Sample(), engine.Sample()
    before.at, after.at = 1_000_000_000, 3_000_000_000
    before.cpu, after.cpu = 500_000_000, 4_500_000_000
    assert engine.cpu_percent(before, after) == 200.0
    # Docker's words: delta cpu / delta system * online CPUs * 100; the system's time is that of all CPUs.
    online = os.cpu_count() or 1
    assert (4_000_000_000 / (2_000_000_000 * online)) * online * 100 == 200.0


def test_cpu_percent_of_one_sample_is_none_yet_and_never_negative() -> None:
    before, after = engine.Sample(), engine.Sample()
    before.at, after.at, before.cpu, after.cpu = 0, 10, 100, 50
    assert engine.cpu_percent(None, after) == 0.0
    assert engine.cpu_percent(before, after) == 0.0
    after.cpu = None
    assert engine.cpu_percent(before, after) is None


# from processes

BUSY = """
import os, sys, time
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
if os.fork() == 0:
    burn(0.3)
    os._exit(0)
os.wait()
burn(0.2)
print("done", flush=True)
sys.stdin.read()
"""


def test_processor_time_has_that_of_children_that_ended() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == b"done\n"
        found = sample(process.pid).cpu
        assert found is not None and 0.45e9 <= found < 5e9
    finally:
        process.communicate()


def test_threads_and_descendants_are_counted() -> None:
    script = (
        "import threading, sys, subprocess\n"
        "for _ in range(3): threading.Thread(target=sys.stdin.read, daemon=True).start()\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "print('up', flush=True)\nsys.stdin.read()\nchild.kill(); child.wait()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        assert sample(process.pid).pids == 5
    finally:
        process.communicate()


def test_files_of_processes_that_may_not_be_read_are_unknown(
    child: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = engine._Process.read
    monkeypatch.setattr(
        engine._Process, "read", lambda self, name: None if name == "io" else real(self, name)
    )
    found = sample(child)
    assert found.read is None and found.written is None
    assert found.memory is not None and found.pids == 1


def test_a_pid_that_is_anothers_by_now_gives_nothing(child: int) -> None:
    wrong = {**state(child), "pidStart": (proc.starttime(child) or 0) - 1}
    assert engine.Sampler().take({"x": wrong, "y": state(child)}).keys() == {"y"}


def test_a_snapshot_lists_processes_by_descent(child: int) -> None:
    assert processes.Snapshot().of(child) == [child]
    assert child in processes.Snapshot().of(os.getpid())


# the network

DEV = b"""\
Inter-|   Receive                            |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs
    lo:  900 9 0 0 0 0 0 0  900 9 0 0 0 0 0 0
  eth0: 1054 5 0 0 0 0 0 0   70 1 0 0 0 0 0 0
  eth1:1000000000000 5 0 0 0 0 0 0 8 1 0 0 0 0 0 0
"""


def test_interfaces_without_lo() -> None:
    assert engine.interfaces(DEV) == (1000000001054, 78)
    assert engine.interfaces(None) == (None, None)
    assert engine.interfaces(b"a\nb\n") == (0, 0)


def test_on_the_hosts_network_there_is_none_of_its_own(child: int) -> None:
    found = sample(child)
    assert (found.received, found.sent) == (0, 0)


# shapes


def row(**values: Any) -> stats.Row:
    found = stats.Row("web", "ab" * 32, "web")
    found.before, found.after = engine.Sample(), engine.Sample()
    found.before.at, found.after.at, found.before.cpu = 0, 10**9, 0
    given = {
        "cpu": 5_000_000, "memory": 1 << 20, "limit": 2 << 30, "received": 1054, "sent": 0,
        "read": 4096, "written": 2_500_000, "pids": 3, **values,
    }  # fmt: skip
    for name, value in given.items():
        setattr(found.after, name, value)
    return found


def test_the_table() -> None:
    text = rows.render(stats.make_sheet(trunc=True), [row()], "")
    header, line = text.splitlines()
    titles = "CONTAINER ID NAME CPU % MEM USAGE / LIMIT MEM % NET I/O BLOCK I/O PIDS"
    assert " ".join(header.split()) == titles
    shown = "abababababab web 0.50% 1MiB / 2GiB 0.05% 1.05kB / 0B 4.1kB / 2.5MB 3"
    assert " ".join(line.split()) == shown
    for title, value in (("NAME", "web"), ("MEM USAGE", "1MiB"), ("BLOCK", "4.1kB"), ("PIDS", "3")):
        assert line[header.index(title) :].startswith(value)


def test_json_has_dockers_keys() -> None:
    text = rows.render(stats.make_sheet(trunc=False), [row()], "json")
    assert json.loads(text) == {
        "BlockIO": "4.1kB / 2.5MB",
        "CPUPerc": "0.50%",
        "Container": "web",
        "ID": "ab" * 32,
        "MemPerc": "0.05%",
        "MemUsage": "1MiB / 2GiB",
        "Name": "web",
        "NetIO": "1.05kB / 0B",
        "PIDs": "3",
    }


def test_unknown_is_told_as_such() -> None:
    unknown = row(cpu=None, memory=None, received=None, read=None, pids=None)
    form = "{{.CPUPerc}} {{.MemUsage}} {{.MemPerc}} {{.NetIO}} {{.BlockIO}} {{.PIDs}}"
    assert (
        rows.render(stats.make_sheet(trunc=True), [unknown], form) == "-- -- / 2GiB -- -- -- --\n"
    )
    unknown.after = None
    assert rows.render(stats.make_sheet(trunc=True), [unknown], form) == "-- -- / -- -- -- -- --\n"


def test_a_stopped_container_uses_nothing() -> None:
    stopped = stats.Row("web", "ab" * 32, "web")
    stopped.after = engine.nothing()
    form = "{{.CPUPerc}} {{.MemUsage}} {{.MemPerc}} {{.NetIO}} {{.BlockIO}} {{.PIDs}}"
    text = rows.render(stats.make_sheet(trunc=True), [stopped], form)
    assert text == "0.00% 0B / 0B 0.00% 0B / 0B 0B / 0B 0\n"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        *((0, "0B"), (1023, "1023B"), (1024, "1KiB"), (1263534, "1.205MiB")),
        *((2 << 30, "2GiB"), (1 << 90, "1024YiB")),
    ],
)  # fmt: skip
def test_binary_sizes(size: float, text: str) -> None:
    assert units.binary_size(size) == text


def test_the_live_table_is_drawn_over_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    from rich.console import Console

    from rootless.cli import livetable

    out = io.StringIO()
    screen = Console(file=out, force_terminal=True, width=120, height=10, legacy_windows=False)
    with livetable.LiveTable(stats.make_sheet(trunc=True), screen) as table:
        table.show([row()])
        table.show([row(pids=12345)])
    text = out.getvalue()
    assert "\x1b[?25l" in text and text.rstrip().endswith("\x1b[?25h")  # the cursor comes back
    assert "12345" in text and "\x1b[1A" in text


def test_a_narrow_terminal_gets_narrow_columns() -> None:
    from rich.console import Console

    from rootless.cli import livetable

    out = io.StringIO()
    screen = Console(file=out, force_terminal=True, width=96, height=10, legacy_windows=False)
    with livetable.LiveTable(stats.make_sheet(trunc=True), screen) as table:
        table.show([row()])
    assert "CONTAINER ID  NAME  CPU %  MEM" in out.getvalue()


def test_sampling_is_monotonic(child: int) -> None:
    sampler = engine.Sampler()
    first = sampler.take({"x": state(child)})["x"]
    time.sleep(0.01)
    second = sampler.take({"x": state(child)})["x"]
    assert second.at > first.at and engine.cpu_percent(first, second) is not None


# samples of earlier calls


def at(seconds: float, cpu: int) -> engine.Sample:
    found = engine.Sample()
    found.at, found.cpu = int(seconds * 1e9), cpu
    return found


def test_an_earlier_call_gives_the_first_sample(tmp_path: Path) -> None:
    path, states = str(tmp_path / "stats"), {"x": {"pidStart": 7}}
    now = time.monotonic()
    engine.History(path).keep({"x": at(now - 2, 100)}, states, {})
    found = engine.History(path).before("x", 7, at(now, 300))
    assert found is not None and found.cpu == 100
    assert engine.History(path).before("x", 8, at(now, 300)) is None  # it was started anew
    assert engine.History(path).before("y", 7, at(now, 300)) is None


@pytest.mark.parametrize("age", [0.01, 61])
def test_samples_too_young_or_too_old_are_of_no_use(tmp_path: Path, age: float) -> None:
    path, states = str(tmp_path / "stats"), {"x": {"pidStart": 7}}
    now = time.monotonic()
    engine.History(path).keep({"x": at(now - age, 100)}, states, {})
    assert engine.History(path).before("x", 7, at(now, 300)) is None


def test_who_asks_in_quick_succession_gets_the_sample_before(tmp_path: Path) -> None:
    path, states = str(tmp_path / "stats"), {"x": {"pidStart": 7}}
    now = time.monotonic()
    for when, cpu in ((now - 5, 1), (now - 0.02, 2), (now - 0.01, 3)):
        engine.History(path).keep({"x": at(when, cpu)}, states, {})
    found = engine.History(path).before("x", 7, at(now, 300))
    assert found is not None and found.cpu == 1


def test_who_has_waited_leaves_both_samples(tmp_path: Path) -> None:
    path, states = str(tmp_path / "stats"), {"x": {"pidStart": 7}}
    now = time.monotonic()
    engine.History(path).keep({"x": at(now, 9)}, states, {"x": at(now - 1, 4)})
    found = engine.History(path).before("x", 7, at(now + 0.1, 300))
    assert found is not None and found.cpu == 4


def test_samples_of_containers_gone_are_forgotten(tmp_path: Path) -> None:
    path = str(tmp_path / "stats")
    now = time.monotonic()
    engine.History(path).keep({"old": at(now - 100, 1)}, {"old": {"pidStart": 1}}, {})
    engine.History(path).keep({"x": at(now, 1)}, {"x": {"pidStart": 1}}, {})
    assert list(json.loads(Path(path).read_text())) == ["x"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"x": 1}', '{"x": [7, [1], 2]}', '{"x": [7, "a", null]}']
)
def test_an_odd_history_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "stats"
    path.write_text(text)
    history = engine.History(str(path))
    assert history.before("x", 7, at(time.monotonic(), 1)) is None
    history.keep({"x": at(time.monotonic(), 1)}, {"x": {"pidStart": 7}}, {})
    assert list(json.loads(path.read_text())) == ["x"]
