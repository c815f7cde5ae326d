"""What is seen of a container with a control group: stats from its files, top and events of a paused one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cgrouprig import World, until

pytestmark = pytest.mark.requires("userns", "subid", "busybox")

BUSY = ("sh", "-c", "while :; do :; done")


@pytest.fixture
def world(tmp_path: Path, libexec: str) -> Iterator[World]:
    made = World(tmp_path, libexec, "cgroupfs")
    yield made
    made.close()


def stats(world: World, *names: str) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(world.out("stats", "--no-stream", "--format", "json", *names))
    return row


def usage(group: Path) -> int:
    """Microseconds of processor time, by the kernel."""
    return int((group / "cpu.stat").read_text().split()[1])


def test_processor_time_is_the_groups(world: World) -> None:
    world.start("web", *BUSY)
    group = Path(world.state("web")["cgroup"])
    stats(world)  # the sample of before
    used, since = usage(group), time.monotonic()
    until(lambda: usage(group) - used > 1_000_000)
    told = float(stats(world)["CPUPerc"].rstrip("%"))
    used, passed = usage(group) - used, time.monotonic() - since
    # What is told is of a little more time at both ends, in which other processes ran, too.
    assert told == pytest.approx(used / passed / 1e4, rel=0.25)


def test_a_paused_container_is_seen_and_uses_no_time(world: World) -> None:
    world.start("web", *BUSY)
    world("pause", "web")
    stats(world)
    time.sleep(0.15)
    row = stats(world, "web")
    assert row["CPUPerc"] == "0.00%" and row["PIDs"] == "1"
    header, line = world.out("top", "web").splitlines()
    assert header.split()[:2] == ["UID", "PID"] and "while :" in line
    world("unpause", "web")
    actions = world.out(
        *(
            "events",
            "--since",
            "1h",
            "--until",
            "0s",
            "-f",
            "container=web",
            "--format",
            "{{.Action}}",
        )
    ).split()
    assert actions[-3:] == ["pause", "top", "unpause"]
    world("rm", "-f", "web")


def test_children_and_sessions_are_counted(world: World) -> None:
    world.start("web", "sh", "-c", "sleep 999 & sleep 999 & wait")
    until(lambda: stats(world)["PIDs"] == "3")
    world("exec", "-d", "web", "sleep", "999")
    until(lambda: stats(world)["PIDs"] == "4")
    world("rm", "-f", "web")
