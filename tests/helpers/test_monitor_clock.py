"""Steps of the machine's clock disturb no timer of the monitor: stop, restart, health."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from monitor_rig import HELPERS, HERE, Rig, libexec, listen, until
from test_monitor_health import await_health, health, split, write_probe

__all__ = ["libexec"]
DAY = 86400


@pytest.fixture(scope="module")
def stepped(libexec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Helper programs with a monitor whose clock can be stepped."""
    to = tmp_path_factory.mktemp("stepped") / "build"
    shutil.copytree(libexec, to)
    sources = sorted([*HELPERS.glob("monitor*.c"), *HELPERS.glob("log*.c")])
    words = ["cc", "-std=gnu11", "-O1", "-Wl,--wrap=clock_gettime", "-o", str(to / "monitor")]
    subprocess.run([*words, *map(str, sources), str(HERE / "stepped_clock.c")], check=True)
    return to


@pytest.fixture
def rig(tmp_path: Path, stepped: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, stepped)
    yield made
    step(made, 0)
    made.close()


def step(rig: Rig, seconds: int) -> None:
    """Put the clock off by SECONDS."""
    new = rig.libexec / "clock.new"
    new.write_text(str(seconds))
    new.rename(rig.libexec / "clock")


def start(rig: Rig, script: str, **changes: Any) -> Any:
    client = rig.shell(script, **changes)
    client.attach(stdin=False, stdout=False, stderr=False)
    listen(client, b"P")
    return client


def test_the_stand_in_steps(rig: Rig) -> None:
    step(rig, -DAY)
    client = start(rig, "exit 0")
    assert listen(client).exit == 0
    shown = rig.state()["startedAt"]
    assert shown[:10] == time.strftime("%Y-%m-%d", time.gmtime(time.time() - DAY))


@pytest.mark.parametrize("seconds", [DAY, -DAY])
def test_a_stop_takes_its_time_and_no_more(rig: Rig, seconds: int) -> None:
    ready = rig.libexec / f"ready{seconds}"
    client = start(rig, f"trap '' TERM; : >'{ready}'; while :; do sleep 0.1; done")
    until(ready.exists)
    begun = time.monotonic()
    client.stop(15, 2)
    step(rig, seconds)
    assert listen(client).exit == 137
    assert time.monotonic() - begun >= 1.9


@pytest.mark.parametrize("seconds", [DAY, -DAY])
def test_restarts_go_on_and_their_delay_is_kept(rig: Rig, seconds: int) -> None:
    start(rig, "exit 1", restart="always")
    until(lambda: rig.state()["restartCount"] >= 2)
    step(rig, seconds)
    at, begun = rig.state()["restartCount"], time.monotonic()
    until(lambda: rig.state()["restartCount"] >= at + 2)
    # The delay doubles from 100 ms; that a life seems to have lasted for a day does not make it start over.
    assert time.monotonic() - begun >= 0.3
    client = rig.connect()
    client.kill(9, manual_stop=True)
    listen(client, b"G")


@pytest.mark.parametrize("seconds", [DAY, -DAY])
def test_probes_go_on_and_none_is_timed_out(rig: Rig, seconds: int) -> None:
    write_probe(rig, ["/bin/sh", "-c", "sleep 0.2"])
    client = start(
        rig,
        "sleep 1000",
        **split(
            {
                "health_tape": rig.path("run/health"),
                "health_file": rig.path("c/health.json"),
                "health_interval": 50,
                "health_start_period": 3600000,
                "health_start_interval": 50,
            }
        ),
    )
    await_health(rig, lambda h: bool(h["Log"]))
    step(rig, seconds)
    last = health(rig)["Log"][-1]["Start"]
    found = await_health(rig, lambda h: sum(e["Start"] != last for e in h["Log"]) >= 4)
    assert {entry["ExitCode"] for entry in found["Log"]} == {0}
    assert found["Status"] == "healthy"
    client.kill(9, manual_stop=True)
    listen(client)
