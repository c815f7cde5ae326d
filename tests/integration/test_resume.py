"""After a boot, a logout or a killed monitor: who runs again.

A boot is played: everything is killed at once, the runtime directory is emptied, and the states say that they
are of another boot.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from rig import World, busybox, until

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "busybox")

FOREVER = ("busybox", "sh", "-c", "trap 'exit 143' TERM; while :; do sleep 0.05; done")
STATUS = "{{.State.Status}}"


@pytest.fixture
def rl() -> Iterator[World]:
    world = World()
    try:
        busybox(world)
        yield world
    finally:
        world.close()


def status(rl: World, name: str) -> str:
    return rl.out("inspect", "-f", STATUS, name)


def state_file(rl: World, name: str) -> str:
    identity = rl.out("inspect", "-f", "{{.Id}}", name)
    return f"{rl.home}/.local/share/rootless/containers/{identity}/state.json"


def state(rl: World, name: str) -> dict[str, Any]:
    with open(state_file(rl, name), encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
    return found


def monitors(rl: World) -> list[int]:
    return [pid for pid, line in rl.processes() if "/monitor " in f"{line} " and "--id=" in line]


def die(rl: World, number: int) -> None:
    """Send every monitor a signal and wait for their end."""
    for pid in monitors(rl):
        os.kill(pid, number)
    until(lambda: not monitors(rl), 30)


def boot(rl: World, number: int = signal.SIGKILL) -> None:
    """The machine ends (by SIGTERM orderly) and another boot begins."""
    paths = [state_file(rl, name) for name in rl.names()]
    die(rl, number)
    for path in paths:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        found["bootId"] = "another-boot"
        with open(path, "w", encoding="utf-8") as file:
            json.dump(found, file)
    for pid, line in rl.processes():
        if "libexec/realm" in line:
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(f"{rl.runtime}/rootless")


def make(rl: World) -> None:
    for name, policy in (
        ("always", "always"), ("stopped-always", "always"), ("unless", "unless-stopped"),
        ("stopped-unless", "unless-stopped"), ("failing", "on-failure:5"), ("none", "no"),
    ):  # fmt: skip
        rl("run", "-d", "--name", name, "--restart", policy, *FOREVER)
    rl("create", "--name", "fresh", "--restart", "always", *FOREVER)
    rl("stop", "stopped-always", "stopped-unless")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["power loss", "shutdown"])
def test_the_right_ones_after_a_boot(rl: World, number: int) -> None:
    make(rl)
    boot(rl, number)
    off = {"ROOTLESS_RUN_RESUME": "off"}
    assert rl.out("ps", "-q", env=off) == ""
    started = rl.out("system", "resume").split()
    assert sorted(started) == ["always", "stopped-always", "unless"]
    for name in started:
        assert status(rl, name) == "running"
    assert status(rl, "fresh") == "created"
    assert status(rl, "none") == "exited" and status(rl, "failing") == "exited"
    assert status(rl, "stopped-unless") == "exited"
    assert rl.out("system", "resume") == ""  # nothing is left to do


def test_the_first_command_after_a_boot(rl: World) -> None:
    rl("run", "-d", "--name", "web", "--restart", "unless-stopped", *FOREVER)
    boot(rl)
    rl("ps")
    until(lambda: status(rl, "web") == "running", 30)
    (key,) = os.listdir(f"{rl.runtime}/rootless")
    assert os.path.exists(f"{rl.runtime}/rootless/{key}/resumed")


def test_the_setting_off_leaves_it_to_others(rl: World) -> None:
    rl("run", "-d", "--name", "web", "--restart", "always", *FOREVER)
    boot(rl)
    off = {"ROOTLESS_RUN_RESUME": "off"}
    rl("ps", env=off)
    time.sleep(0.5)
    assert rl.out("inspect", "-f", STATUS, "web", env=off) == "exited"
    rl("rm", "web", env=off)  # or else the clean-up would resume what it removes


def test_a_killed_monitor_without_a_boot(rl: World) -> None:
    rl("run", "-d", "--name", "web", "--restart", "always", *FOREVER)
    rl("run", "-d", "--name", "done", "--restart", "always", *FOREVER)
    rl("run", "-d", "--name", "failing", "--restart", "on-failure:3", *FOREVER)
    rl("stop", "done")
    die(rl, signal.SIGKILL)
    assert status(rl, "web") == "exited"
    assert sorted(rl.out("system", "resume").split()) == ["failing", "web"]
    assert status(rl, "web") == "running"
    assert status(rl, "done") == "exited"


def test_a_stop_by_hand_before_it_is_resumed_counts(rl: World) -> None:
    rl("run", "-d", "--name", "web", "--restart", "unless-stopped", *FOREVER)
    boot(rl)
    off = {"ROOTLESS_RUN_RESUME": "off"}
    rl("stop", "web", env=off)
    assert rl.out("system", "resume") == ""
    assert state(rl, "web")["manualStop"] is True


def test_one_that_cannot_start_does_not_hold_up_the_others(rl: World) -> None:
    source = f"{rl.top}/source"
    os.mkdir(source)
    rl("run", "-d", "--name", "broken", "--restart", "always",
       "--mount", f"type=bind,src={source},dst=/x", *FOREVER)  # fmt: skip
    rl("run", "-d", "--name", "web", "--restart", "always", *FOREVER)
    rl("run", "-d", "--name", "inner", "--restart", "always", "--network", "container:web",
       *FOREVER)  # fmt: skip
    boot(rl)
    os.rmdir(source)
    done = rl("system", "resume", code=1)
    assert done.stdout.split() == ["web", "inner"]
    assert "cannot resume broken: " in done.stderr


def test_starts_by_hand_at_the_same_time(rl: World) -> None:
    rl("create", "--name", "web", *FOREVER)
    processes = [rl.spawn("start", "web") for _ in range(5)]
    assert [process.wait(60) for process in processes] == [0] * 5
    assert len(monitors(rl)) == 1


def test_two_at_once(rl: World) -> None:
    for name in ("one", "two", "three"):
        rl("run", "-d", "--name", name, "--restart", "always", *FOREVER)
    boot(rl)
    processes = [rl.spawn("system", "resume", "-q") for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert all(status(rl, name) == "running" for name in ("one", "two", "three"))
    assert len(monitors(rl)) == 3


def test_fifty_restarts_in_a_row(rl: World) -> None:
    """Each time its network is attached anew; by hand, as the policy's delays would add up to half an hour."""
    rl("run", "-d", "--name", "web", "--network", "bridge", "-p", "127.0.0.1::80", *FOREVER)
    address = rl.out("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web")
    for _ in range(50):
        rl("restart", "-t", "0", "web")
    assert status(rl, "web") == "running"
    assert rl.out("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web") == address
    assert "lo" in rl.out("exec", "web", "ip", "-o", "link") and "eth0" in rl.out(
        "exec", "web", "ip", "-o", "link"
    )
    assert len(monitors(rl)) == 1


def test_restarts_by_policy_keep_the_network(rl: World) -> None:
    rl(
        "run", "-d", "--name", "web", "--network", "bridge", "--restart", "on-failure:4", "busybox",
        "sh", "-c", "ip -o addr show eth0 | grep -o 'inet [0-9.]*'; exit 1",
    )  # fmt: skip
    until(lambda: status(rl, "web") == "exited", 60)
    assert rl.out("inspect", "-f", "{{.RestartCount}} {{.State.ExitCode}}", "web") == "4 1"
    shown = rl.out("logs", "web").split("\n")
    assert len(shown) == 5 and len(set(shown)) == 1
