"""What is killed, wiped or reused under a running container."""

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

from rootless.linux import proc

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "busybox")


@pytest.fixture
def rl() -> Iterator[World]:
    world = World()
    try:
        busybox(world)
        yield world
    finally:
        world.close()


def directory(rl: World, name: str) -> str:
    return f"{rl.home}/.local/share/rootless/containers/{rl.out('inspect', '-f', '{{.Id}}', name)}"


def state(rl: World, name: str) -> dict[str, Any]:
    with open(f"{directory(rl, name)}/state.json", encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
    return found


def test_the_monitor_is_killed_while_it_logs(rl: World) -> None:
    rl("run", "-d", "--name", "web", "--restart", "always", "busybox", "sh", "-c",
       "i=0; while :; do echo line $i; i=$((i+1)); done")  # fmt: skip
    until(lambda: rl.out("logs", "--tail", "1", "web"))
    found = state(rl, "web")
    os.kill(found["monitorPid"], signal.SIGKILL)
    until(
        lambda: not proc.pid_alive(found["pid"], found["pidStart"]), 30
    )  # it goes with its monitor
    assert rl.out("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "web") == "exited 255"
    lines = rl.out("logs", "web").split("\n")
    assert lines[:-1] == [f"line {i}" for i in range(len(lines) - 1)]
    assert rl.out("system", "resume") == "web"
    before = len(lines)
    until(lambda: len(rl.out("logs", "web").split("\n")) > before + 100, 30)
    # The new life's first line stands alone, whatever the kill has cut off before it.
    assert rl.out("logs", "web").split("\n").count("line 0") == 2


def test_a_stranger_with_the_old_pid_is_not_touched(rl: World) -> None:
    """The state names a process that is not the container's: no signal reaches it, nobody enters it."""
    rl("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    found = state(rl, "web")
    os.kill(found["monitorPid"], signal.SIGKILL)
    until(lambda: not proc.pid_alive(found["pid"], found["pidStart"]), 30)
    stranger = os.posix_spawn("/bin/sleep", ["/bin/sleep", "1000"], dict(os.environ))
    try:
        with open(f"{directory(rl, 'web')}/state.json", "w", encoding="utf-8") as file:
            json.dump({**found, "pid": stranger, "monitorPid": stranger}, file)
        assert rl.out("inspect", "-f", "{{.State.Status}}", "web") == "exited"
        rl("kill", "web", code=1)
        rl("exec", "web", "true", code=1)
        rl("top", "web", code=1)
        rl("stop", "web")
        rl("rm", "-f", "web")
        assert proc.starttime(stranger) is not None
    finally:
        os.kill(stranger, signal.SIGKILL)
        os.waitpid(stranger, 0)


def test_a_realm_record_that_names_a_stranger_is_not_believed(rl: World) -> None:
    rl("run", "--rm", "busybox", "true")
    (key,) = os.listdir(f"{rl.runtime}/rootless")
    records = f"{rl.runtime}/rootless/{key}/realm"
    (record,) = (name for name in os.listdir(records) if "." not in name)
    with open(f"{records}/{record}", encoding="ascii") as file:
        holder, start = file.read().split()
    with open(f"{records}/{record}", "w", encoding="ascii") as file:
        file.write(f"{os.getpid()} {start}\n")
    try:
        assert rl.out("run", "--rm", "busybox", "id", "-u") == "0"
    finally:
        os.kill(int(holder), signal.SIGTERM)


def test_wiped_and_restarted_by_its_policy(rl: World) -> None:
    """The monitor has kept its tapes: it needs nothing of the runtime directory to go on."""
    rl("run", "-d", "--name", "web", "--restart", "always", "busybox", "sh", "-c",
       "echo here; sleep 1000")  # fmt: skip
    shutil.rmtree(f"{rl.runtime}/rootless")
    os.kill(state(rl, "web")["pid"], signal.SIGKILL)
    until(lambda: rl.out("logs", "web") == "here\nhere", 30)
    assert rl.out("exec", "web", "echo", "in") == "in"
    rl("stop", "-t", "0", "web")
    assert rl.out("inspect", "-f", "{{.State.Status}}", "web") == "exited"


def test_wiped_under_a_container_on_a_network(rl: World) -> None:
    """The service's socket is gone with it: the monitor cannot restart it, a start can."""
    rl("run", "-d", "--name", "web", "--network", "bridge", "--restart", "always", "busybox",
       "sleep", "1000")  # fmt: skip
    found = state(rl, "web")
    shutil.rmtree(f"{rl.runtime}/rootless")
    os.kill(found["pid"], signal.SIGKILL)
    until(lambda: rl.out("inspect", "-f", "{{.State.Status}}", "web") == "exited", 30)
    assert "network service" in rl.out("inspect", "-f", "{{.State.Error}}", "web")
    rl("start", "web")
    assert "eth0" in rl.out("exec", "web", "ip", "-o", "link")


def test_a_runtime_directory_that_moved(rl: World) -> None:
    """A login by another way: XDG_RUNTIME_DIR is another directory, containers are the same."""
    rl("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    other = f"{rl.top}/other"
    os.mkdir(other, 0o700)
    env = {"XDG_RUNTIME_DIR": other}
    try:
        assert rl.out("ps", "--format", "{{.Names}} {{.State}}", env=env) == "web running"
        assert rl.out("exec", "web", "echo", "in", env=env) == "in"
        rl("stop", "-t", "0", "web", env=env)
        rl("start", "web", env=env)
        rl("rm", "-f", "web", env=env)
    finally:
        for name in os.listdir(f"{other}/rootless"):
            records = f"{other}/rootless/{name}/realm"
            for record in os.listdir(records) if os.path.isdir(records) else ():
                if "." not in record:
                    with open(f"{records}/{record}", encoding="ascii") as file:
                        os.kill(int(file.read().split()[0]), signal.SIGTERM)


def test_restarts_by_policy_leave_one_of_everything(rl: World) -> None:
    rl("run", "-d", "--name", "web", "--restart", "always", "busybox", "sleep", "1000")
    monitor = state(rl, "web")["monitorPid"]
    descriptors = len(os.listdir(f"/proc/{monitor}/fd"))
    for count in range(1, 6):
        os.kill(state(rl, "web")["pid"], signal.SIGKILL)
        until(lambda count=count: state(rl, "web")["restartCount"] == count
              and state(rl, "web")["status"] == "running", 30)  # fmt: skip
    assert len(os.listdir(f"/proc/{monitor}/fd")) == descriptors
    time.sleep(0.1)
    children = [
        pid for pid, _ in rl.processes() if (proc.stat_fields(pid) or ["", ""])[1] == str(monitor)
    ]
    assert (
        children == []
    )  # its only child is the container's, whose command line has nothing of ours
