"""Health probes by the monitor: Docker's rules, and probes that hang, fork or never stop talking."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

import pytest
from monitor_rig import ENV, Rig, alive, libexec, listen, rig, status_kb, until

from rootless.plan import tape
from rootless.runtime.monitor import Client

__all__ = ["libexec", "rig"]

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
HEALTH = "c/health.json"
SLEEP = "trap 'exit 7' TERM; while :; do sleep 0.1; done"


def write_probe(rig: Rig, argv: list[str]) -> None:
    """A tape that runs ARGV as `exec` would, without any namespace to enter."""
    ops: list[Any] = [
        ("join_proc", (0, 0, 0)),
        ("clone", (0, 0, "", "", "", "")),
        ("setsid", ()),
        ("pdeathsig", (9,)),
        ("exec", ("", argv, [*ENV, f"D={rig.directory}"], 4)),
    ]
    (rig.directory / "run").mkdir(exist_ok=True)
    Path(rig.path("run/health")).write_bytes(tape.encode(ops))


def split(values: dict[str, Any]) -> dict[str, Any]:
    """The options of a monitor, those of health in a dict of their own."""
    health = {
        key[7:].replace("_", "-"): value for key, value in values.items() if key[:7] == "health_"
    }
    return {"health": health, **{key: v for key, v in values.items() if key[:7] != "health_"}}


def start(rig: Rig, probe: str, life: str = SLEEP, **changes: Any) -> Client:
    """A container whose health the shell script PROBE tells; every 50 ms unless said else."""
    write_probe(rig, ["/bin/sh", "-c", probe])
    values: dict[str, Any] = {
        "health_tape": rig.path("run/health"),
        "health_file": rig.path(HEALTH),
        "health_interval": 50,
        "health_timeout": 20000,
    }
    client = rig.shell(life, **split({**values, **changes}))
    client.attach(stdin=False, stdout=False, stderr=False)
    listen(client, b"P")
    return client


def health(rig: Rig) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(Path(rig.path(HEALTH)).read_text())
    except FileNotFoundError:
        return {"Status": "", "FailingStreak": 0, "Log": []}
    return value


def await_health(rig: Rig, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    value: dict[str, Any] = until(lambda: (lambda h: h if wanted(h) else None)(health(rig)))
    return value


def flip(rig: Rig, name: str) -> None:
    (rig.directory / name).touch()


def stop(client: Client) -> None:
    client.kill(9, manual_stop=True)
    listen(client)


def test_healthy_after_the_first_success(rig: Rig) -> None:
    client = start(rig, "echo fine; echo too >&2")
    found = await_health(rig, lambda h: h["Status"] == "healthy")
    assert found["FailingStreak"] == 0
    entry = found["Log"][0]
    assert set(entry) == {"Start", "End", "ExitCode", "Output"}
    assert (entry["ExitCode"], entry["Output"]) == (0, "fine\ntoo\n")
    assert STAMP.fullmatch(entry["Start"]) and STAMP.fullmatch(entry["End"])
    assert entry["Start"] <= entry["End"]
    stop(client)


def test_it_starts_as_starting_and_waits_one_interval(rig: Rig) -> None:
    client = start(rig, "touch $D/probed", health_interval=3600000)
    assert health(rig) == {"Status": "starting", "FailingStreak": 0, "Log": []}
    time.sleep(0.3)
    assert not os.path.exists(rig.path("probed"))
    stop(client)


def test_unhealthy_after_retries_and_healthy_again(rig: Rig) -> None:
    client = start(rig, "test -e $D/good", health_retries=3)
    for streak in (1, 2):
        found = await_health(rig, lambda h, at_least=streak: h["FailingStreak"] >= at_least)
        if found["FailingStreak"] < 3:
            assert found["Status"] == "starting"
    await_health(rig, lambda h: h["Status"] == "unhealthy" and h["FailingStreak"] >= 3)
    found = await_health(rig, lambda h: h["FailingStreak"] >= 7)
    assert len(found["Log"]) == 5
    assert [entry["Start"] for entry in found["Log"]] == sorted(e["Start"] for e in found["Log"])
    flip(rig, "good")
    assert await_health(rig, lambda h: h["Status"] == "healthy")["FailingStreak"] == 0
    stop(client)


def test_one_failure_of_a_healthy_container_changes_nothing(rig: Rig) -> None:
    client = start(rig, "test ! -e $D/bad", health_retries=1000000)
    await_health(rig, lambda h: h["Status"] == "healthy")
    flip(rig, "bad")
    assert await_health(rig, lambda h: h["FailingStreak"] >= 2)["Status"] == "healthy"
    stop(client)


def test_failures_while_it_starts_do_not_count(rig: Rig) -> None:
    client = start(
        rig, "test -e $D/good", health_retries=1, health_start_period=3600000,
        health_start_interval=50, health_interval=3600000,
    )  # fmt: skip
    found = await_health(rig, lambda h: len(h["Log"]) >= 3)
    assert (found["Status"], found["FailingStreak"]) == ("starting", 0)
    flip(rig, "good")
    found = await_health(rig, lambda h: h["Status"] == "healthy")
    # From now on the interval is the long one, though the start period is not over.
    time.sleep(0.3)
    assert len(health(rig)["Log"]) == len(found["Log"])
    stop(client)


def test_the_start_period_ends_with_the_first_success(rig: Rig) -> None:
    client = start(
        rig, "test ! -e $D/bad", health_retries=1, health_start_period=3600000,
        health_start_interval=50,
    )  # fmt: skip
    await_health(rig, lambda h: h["Status"] == "healthy")
    flip(rig, "bad")
    await_health(rig, lambda h: h["Status"] == "unhealthy")
    stop(client)


def test_a_probe_that_hangs_is_killed_with_all_it_started(rig: Rig) -> None:
    script = (
        "echo before; setsid sh -c 'echo $$ >$D/pids; (setsid sleep 1000 & echo $! >>$D/pids);"
        " exec sleep 1000' & sleep 1000"
    )
    client = start(rig, script, health_timeout=1000, health_timeout_text="1s", health_retries=1)
    found = await_health(rig, lambda h: h["Status"] == "unhealthy")
    entry = found["Log"][0]
    assert entry["ExitCode"] == -1
    assert entry["Output"] == "Health check exceeded timeout (1s): before\n"
    pids = [int(word) for word in Path(rig.path("pids")).read_text().split()]
    assert len(pids) >= 2
    for pid in pids[:2]:
        until(lambda pid=pid: not alive(pid))
    stop(client)


def test_a_time_out_without_a_word(rig: Rig) -> None:
    client = start(rig, "sleep 1000", health_timeout=100, health_timeout_text="100ms")
    found = await_health(rig, lambda h: bool(h["Log"]))
    assert found["Log"][0]["Output"] == "Health check exceeded timeout (100ms)"
    stop(client)


def test_what_a_probe_leaves_is_killed(rig: Rig) -> None:
    client = start(rig, "(setsid sleep 1000 & echo $! >$D/left); exit 0", health_interval=200)
    await_health(rig, lambda h: h["Status"] == "healthy")
    left = int(Path(rig.path("left")).read_text())
    until(lambda: not alive(left))
    assert health(rig)["Status"] == "healthy"
    stop(client)


BOMB = """
import os, time
for _ in range(200):
    if os.fork() == 0:
        os.setsid()
        time.sleep(1000)
open(os.environ["D"] + "/forked", "w")
time.sleep(1000)
"""


def test_a_probe_that_forks_is_ended_whole(rig: Rig) -> None:
    write_probe(rig, [sys.executable, "-I", "-S", "-c", BOMB])
    client = rig.shell(
        SLEEP,
        **split(
            {
                "health_tape": rig.path("run/health"),
                "health_file": rig.path(HEALTH),
                "health_interval": 3600000,
                "health_timeout": 3000,
                "health_retries": 1,
            }
        ),
    )
    client.attach(stdin=False, stdout=False, stderr=False)
    listen(client, b"P")

    def count() -> int:
        listed = subprocess.run(["ps", "axeww"], capture_output=True, text=True, check=True).stdout
        tag = f"D={rig.directory}"
        return sum(tag in line and "time.sleep" in line for line in listed.splitlines())

    assert rig.connect().probe() == ("unhealthy", False)
    assert os.path.exists(rig.path("forked"))
    assert health(rig)["Log"][0]["ExitCode"] == -1
    assert count() == 0  # the result is told when all of it has ended
    assert rig.state()["status"] == "running"
    stop(client)


def test_a_probe_that_prints_without_end(rig: Rig) -> None:
    client = start(rig, "yes 0123456789", health_timeout=1500, health_timeout_text="1.5s")
    monitor_pid = until(lambda: rig.state()["monitorPid"])
    before = status_kb(monitor_pid, "VmRSS")
    found = await_health(rig, lambda h: bool(h["Log"]))
    output = found["Log"][0]["Output"]
    prefix = "Health check exceeded timeout (1.5s): "
    assert output.startswith(prefix + "0123456789\n") and output.endswith("...")
    assert len(output) == len(prefix) + 4096 + 3
    assert status_kb(monitor_pid, "VmRSS") < before + 300
    stop(client)


def test_output_is_cut_and_any_bytes_are_text(rig: Rig) -> None:
    client = start(
        rig, "printf '\\377\\000\"\\\\\\n\\303\\251'; head -c 5000 /dev/zero | tr '\\0' a"
    )
    found = await_health(rig, lambda h: bool(h["Log"]))
    output = found["Log"][0]["Output"]
    assert output.startswith('�\0"\\\né' + "a" * 100) and output.endswith("a...")
    stop(client)


def test_a_probe_that_cannot_start(rig: Rig) -> None:
    write_probe(rig, ["/no/such/program"])
    client = rig.shell(
        SLEEP,
        **split(
            {
                "health_tape": rig.path("run/health"),
                "health_file": rig.path(HEALTH),
                "health_interval": 50,
                "health_retries": 1,
            }
        ),
    )
    client.attach(stdin=False, stdout=False, stderr=False)
    until(lambda: os.path.exists(rig.path(HEALTH)))
    found = await_health(rig, lambda h: h["Status"] == "unhealthy")
    assert found["Log"][0]["ExitCode"] == -1
    assert "no such file or directory" in found["Log"][0]["Output"]
    stop(client)


def test_a_signal_that_ends_a_probe(rig: Rig) -> None:
    client = start(rig, "kill -9 $$", health_retries=1)
    found = await_health(rig, lambda h: h["Status"] == "unhealthy")
    assert found["Log"][0]["ExitCode"] == 137
    stop(client)


def test_a_minder_that_the_container_kills(rig: Rig) -> None:
    client = start(rig, "kill -9 $PPID; sleep 1000", health_retries=1)
    found = await_health(rig, lambda h: h["Status"] == "unhealthy")
    assert found["Log"][0]["ExitCode"] == 137
    stop(client)


def test_a_restart_starts_over(rig: Rig) -> None:
    client = start(
        rig, "test -e $D/once || { touch $D/once; exit 0; }; exit 1",
        restart="always", health_interval=300, health_retries=100,
    )  # fmt: skip
    await_health(rig, lambda h: h["Status"] == "healthy")
    client.kill(15)
    until(lambda: rig.state().get("restartCount") == 1 and rig.state()["status"] == "running")
    assert health(rig)["Status"] == "starting"
    stop(client)


@pytest.mark.parametrize("action", ["kill", "stop", "restart"])
def test_what_is_done_with_an_unhealthy_container(rig: Rig, action: str) -> None:
    client = start(rig, "exit 1", health_retries=2, health_on_failure=action, health_interval=100)
    if action == "restart":
        until(lambda: rig.state().get("restartCount", 0) >= 2)
        stop(client)
        assert rig.state()["exitCode"] in (7, 137)
        return
    assert listen(client).exit == (137 if action == "kill" else 7)
    assert rig.state()["status"] == "exited" and not rig.state()["manualStop"]


def test_killed_by_its_health_it_is_restarted_by_its_policy(rig: Rig) -> None:
    client = start(
        rig, "exit 1", health_retries=1, health_on_failure="kill", restart="on-failure",
        health_interval=100,
    )  # fmt: skip
    until(lambda: rig.state().get("restartCount", 0) >= 1)
    stop(client)


def test_stopped_for_its_health_it_is_not_restarted(rig: Rig) -> None:
    client = start(rig, "exit 1", health_retries=1, health_on_failure="stop", restart="always")
    assert listen(client).exit == 7


def test_a_probe_on_request(rig: Rig) -> None:
    client = start(rig, "test -e $D/good", health_interval=3600000, health_retries=1)
    asker = rig.connect()
    assert asker.probe() == ("unhealthy", False)
    flip(rig, "good")
    assert asker.probe() == ("healthy", True)
    assert len(health(rig)["Log"]) == 2
    stop(client)


def test_no_probe_where_there_is_no_check_or_no_life(rig: Rig) -> None:
    client = rig.shell("sleep 1; exit 1", restart="always")
    client.attach(stdin=False, stdout=False, stderr=False)
    listen(client, b"P")
    assert rig.connect().probe() == 22
    stop(client)


def test_an_end_of_the_container_answers_who_waits_for_a_probe(rig: Rig) -> None:
    client = start(rig, "touch $D/begun; sleep 1000", health_interval=3600000, restart="always")
    asker = rig.connect()
    asker._send(b"H")
    until(lambda: os.path.exists(rig.path("begun")))
    client.kill(9)
    assert asker._expect(b"V")[0] == 0
    stop(client)


def test_a_full_disk_does_not_hold_probes_up(rig: Rig) -> None:
    os.mkdir(rig.path(HEALTH) + ".tmp")  # cannot be written
    write_probe(rig, ["/bin/sh", "-c", f"echo x >>{rig.path('count')}"])
    client = rig.shell(
        SLEEP,
        **split(
            {
                "health_tape": rig.path("run/health"),
                "health_file": rig.path(HEALTH),
                "health_interval": 50,
            }
        ),
    )
    client.attach(stdin=False, stdout=False, stderr=False)
    until(lambda: os.path.exists(rig.path("count")) and os.stat(rig.path("count")).st_size >= 6)
    os.rmdir(rig.path(HEALTH) + ".tmp")
    until(lambda: os.path.exists(rig.path(HEALTH)) and health(rig)["Status"] == "healthy")
    stop(client)


def test_the_monitor_leaves_no_descriptor_and_no_process_behind(rig: Rig) -> None:
    client = start(rig, "exit 0", health_interval=10)
    monitor_pid = until(lambda: rig.state()["monitorPid"])
    await_health(rig, lambda h: len(h["Log"]) == 5)

    def descriptors() -> int:
        found = []
        for _ in range(100):
            found.append(len(os.listdir(f"/proc/{monitor_pid}/fd")))
            time.sleep(0.005)
        return min(found)

    first = descriptors()
    assert descriptors() <= first
    zombies = subprocess.run(
        ["ps", "--no-headers", "-o", "stat", "--ppid", str(monitor_pid)],
        capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    assert sum(word.startswith("Z") for word in zombies) <= 1
    stop(client)


def test_a_stop_while_a_probe_runs(rig: Rig) -> None:
    client = start(rig, "echo $$ >$D/pid; exec sleep 1000")
    pid = int(until(lambda: (rig.directory / "pid").exists() and Path(rig.path("pid")).read_text()))
    client.stop(signal.SIGTERM, 10)
    assert listen(client).exit == 7
    until(lambda: not alive(pid))


def frozen(rig: Rig, value: str) -> None:
    """What cgroup.freeze of the container's group says; a plain directory stands in for it."""
    (rig.directory / "group").mkdir(exist_ok=True)
    Path(rig.path("group/cgroup.freeze")).write_text(f"{value}\n")


def paused_rig(rig: Rig, probe: str) -> Client:
    (rig.directory / "run").mkdir(exist_ok=True)
    words = ["run", "/bin/sh", "-c", probe]
    Path(rig.path("run/health")).write_bytes(b"".join(word.encode() + b"\0" for word in words))
    health = {
        "tape": rig.path("run/health"),
        "file": rig.path(HEALTH),
        "interval": 50,
        "timeout": 300,
    }
    client = rig.fake("group", rig.path("group"), "/bin/sh", "-c", SLEEP, health=health)
    client.attach(stdin=False, stdout=False, stderr=False)
    listen(client, b"P")
    return client


def test_a_paused_container_is_not_probed(rig: Rig) -> None:
    frozen(rig, "1")
    client = paused_rig(rig, "exit 0")
    time.sleep(0.5)
    assert health(rig) == {"Status": "starting", "FailingStreak": 0, "Log": []}
    frozen(rig, "0")
    await_health(rig, lambda h: h["Status"] == "healthy")
    stop(client)


def test_a_probe_that_a_pause_holds_up_does_not_count(rig: Rig) -> None:
    frozen(rig, "0")
    client = paused_rig(rig, f"touch {rig.path('begun')}; exec sleep 1000")
    until(lambda: os.path.exists(rig.path("begun")))
    frozen(rig, "1")
    time.sleep(0.6)
    assert health(rig)["Log"] == []
    frozen(rig, "0")
    found = await_health(rig, lambda h: bool(h["Log"]))
    assert found["Log"][0]["Output"].startswith("Health check exceeded timeout")
    stop(client)
