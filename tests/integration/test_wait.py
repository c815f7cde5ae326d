"""wait --condition: Docker's conditions and podman's."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
from rig import World, busybox, until

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "busybox")


@pytest.fixture(scope="module")
def rl() -> Iterator[World]:
    world = World()
    try:
        busybox(world)
        yield world
    finally:
        world.close()


@pytest.fixture(autouse=True)
def none_left(rl: World) -> Iterator[None]:
    yield
    names = rl.names()
    if names:
        rl("rm", "-f", *names)


class Waiting:
    """`wait` in the background, known to have looked once."""

    def __init__(self, rl: World, name: str, *conditions: str) -> None:
        words = [word for one in conditions for word in ("--condition", one)]
        self.process = rl.spawn("wait", *words, name, stdout=subprocess.PIPE)

        def watches() -> bool:
            base = f"/proc/{self.process.pid}/fdinfo"
            for fd in os.listdir(base):
                try:
                    with open(f"{base}/{fd}", encoding="ascii") as file:
                        if "inotify wd" in file.read():
                            return True
                except OSError:
                    pass
            return self.process.poll() is not None

        until(watches, 30)

    def still(self) -> bool:
        try:
            self.process.wait(0.5)
        except subprocess.TimeoutExpired:
            return True
        return False

    def result(self) -> str:
        out, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return out.decode().strip()


def test_not_running(rl: World) -> None:
    rl("create", "--name", "fresh", "busybox", "true")
    assert rl.out("wait", "fresh") == "0"
    assert rl.out("wait", "--condition", "not-running", "fresh") == "0"


def test_next_exit_of_a_container_that_is_started_later(rl: World) -> None:
    rl("create", "--name", "job", "busybox", "sh", "-c", "exit 3")
    waiting = Waiting(rl, "job", "next-exit")
    assert waiting.still()
    rl("start", "job")
    assert waiting.result() == "3"
    waiting = Waiting(rl, "job", "next-exit")  # it has ended before; the next is meant
    assert waiting.still()
    rl("start", "job")
    assert waiting.result() == "3"


def test_next_exit_sees_an_end_that_is_followed_by_a_restart(rl: World) -> None:
    rl("run", "-d", "--name", "job", "--restart", "always", "busybox", "sleep", "1000")
    waiting = Waiting(rl, "job", "next-exit")
    rl("exec", "job", "kill", "-9", "1", check=False)
    pid = int(rl.out("inspect", "-f", "{{.State.Pid}}", "job"))
    os.kill(pid, signal.SIGKILL)
    assert waiting.result() == "137"
    until(lambda: rl.out("inspect", "-f", "{{.State.Status}}", "job") == "running", 30)


def test_removed(rl: World) -> None:
    rl("run", "-d", "--name", "job", "busybox", "sh", "-c", "exit 4")
    waiting = Waiting(rl, "job", "removed")
    assert waiting.still()
    rl("rm", "-f", "job")
    assert waiting.result() == "4"
    rl("run", "-d", "--rm", "--name", "job", "busybox", "sh", "-c", "sleep 1; exit 5")
    assert Waiting(rl, "job", "removed").result() == "5"


def test_states(rl: World) -> None:
    rl("create", "--name", "job", "busybox", "sleep", "1000")
    waiting = Waiting(rl, "job", "running")
    assert waiting.still()
    rl("start", "job")
    assert waiting.result() == "-1"
    waiting = Waiting(rl, "job", "exited", "healthy")
    rl("stop", "-t", "0", "job")
    assert waiting.result() == "137"


def test_healthy(rl: World) -> None:
    rl("run", "-d", "--name", "job", "--health-interval", "100ms", "--health-retries", "1",
       "--health-cmd", "test -e /good", "busybox", "sleep", "1000")  # fmt: skip
    assert Waiting(rl, "job", "unhealthy").result() == "-1"
    waiting = Waiting(rl, "job", "healthy")
    rl("exec", "job", "touch", "/good")
    assert waiting.result() == "-1"


def test_a_killed_monitor_ends_the_wait(rl: World) -> None:
    rl("run", "-d", "--name", "job", "busybox", "sleep", "1000")
    waiting = Waiting(rl, "job", "next-exit")
    for pid, line in rl.processes():
        if "/monitor " in line and "--id=" in line:
            os.kill(pid, signal.SIGKILL)
    assert waiting.result() == "255"


def test_what_is_no_condition(rl: World) -> None:
    rl("create", "--name", "job", "busybox", "true")
    assert 'invalid condition: "soon"' in rl("wait", "--condition", "soon", "job", code=125).stderr
