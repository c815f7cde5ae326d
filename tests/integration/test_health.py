"""Health checks of real containers, as users see them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rig import TOP, World, busybox, until

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "busybox")

QUICK = ("--health-interval", "100ms", "--health-retries", "2")


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


def health(rl: World, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(rl.out("inspect", "-f", "{{json .State.Health}}", name))
    return found


def await_status(rl: World, name: str, status: str) -> dict[str, Any]:
    until(lambda: health(rl, name)["Status"] == status, 30)
    return health(rl, name)


def test_from_starting_to_healthy_to_unhealthy(rl: World) -> None:
    rl(
        "run",
        "-d",
        "--name",
        "c1",
        *QUICK,
        "--health-cmd",
        "test -e /good && echo yes",
        "busybox",
        "sleep",
        "1000",
    )
    assert (
        "(health: starting)" in rl.out("ps", "--format", "{{.Status}}") or health(rl, "c1")["Log"]
    )
    await_status(rl, "c1", "unhealthy")
    assert "(unhealthy)" in rl.out("ps", "--format", "{{.Status}}")
    assert rl.out("ps", "-q", "--filter", "health=unhealthy")
    rl("exec", "c1", "touch", "/good")
    found = await_status(rl, "c1", "healthy")
    assert found["Log"][-1]["Output"] == "yes\n"
    assert "(healthy)" in rl.out("ps", "--format", "{{.Status}}")
    assert not rl.out("ps", "-q", "--filter", "health=unhealthy")
    rl("stop", "-t", "0", "c1")
    assert health(rl, "c1")["Status"] == "unhealthy"
    assert "health" not in rl.out("ps", "-a", "--format", "{{.Status}}")


def test_changes_are_events_and_the_same_again_is_none(rl: World) -> None:
    rl(
        "run",
        "-d",
        "--name",
        "events",
        *QUICK,
        "--health-cmd",
        "test -e /good",
        "busybox",
        "sleep",
        "1000",
    )
    await_status(rl, "events", "unhealthy")
    rl("exec", "events", "touch", "/good")
    await_status(rl, "events", "healthy")
    until(lambda: len(health(rl, "events")["Log"]) == 5)
    shown = rl.out(
        "events", "--since", "10m", "--until", str(int(time.time()) + 1), "--filter", "container=events",
        "--filter", "event=health_status", "--format", "{{.Action}}",
    )  # fmt: skip
    assert shown.split("\n") == ["health_status: unhealthy", "health_status: healthy"]


def test_a_probe_is_a_process_of_the_container(rl: World) -> None:
    script = "id -u; pwd; echo $A; cat /proc/1/comm; grep -e Seccomp: -e NoNew /proc/self/status"
    rl(
        "run", "-d", "--name", "c1", "--health-interval", "100ms", "--health-cmd", script, "-u", "app",
        "-w", "/tmp", "-e", "A=b", "--security-opt", "no-new-privileges", "busybox", "sleep", "1000",
    )  # fmt: skip
    found = await_status(rl, "c1", "healthy")
    shown = found["Log"][0]["Output"].split("\n")
    assert shown[:4] == ["1000", "/tmp", "b", "sleep"]
    assert "Seccomp:\t2" in shown and "NoNewPrivs:\t1" in shown


def test_containment(rl: World) -> None:
    """What hangs, forks and lets go of everything is gone with the probe, and the container runs on."""
    script = "for i in 1 2 3; do setsid sh -c 'sleep 2345 & sleep 2345' & done; yes; sleep 2345"
    rl(
        "run", "-d", "--name", "c1", "--health-interval", "200ms", "--health-timeout", "1s",
        "--health-cmd", script, "busybox", "sleep", "1000",
    )  # fmt: skip
    until(lambda: health(rl, "c1")["Log"], 30)
    entry = health(rl, "c1")["Log"][0]
    assert entry["ExitCode"] == -1
    assert entry["Output"].startswith("Health check exceeded timeout (1s): y\ny\n")
    assert len(entry["Output"]) < 4200

    def left() -> int:
        return rl.out("exec", "c1", "ps", "-o", "args").count("sleep 2345")

    rl("exec", "c1", "true")
    until(lambda: left() == 0, 30)


def with_check(layout: str, check: dict[str, Any]) -> None:
    """Put a health check into the only image of an OCI layout."""

    def changed(descriptor: dict[str, Any], change: Callable[[Any], None]) -> dict[str, Any]:
        with open(f"{layout}/blobs/{descriptor['digest'].replace(':', '/')}", "rb") as file:
            document = json.load(file)
        change(document)
        data = json.dumps(document).encode()
        name = hashlib.sha256(data).hexdigest()
        with open(f"{layout}/blobs/sha256/{name}", "wb") as file:
            file.write(data)
        return {**descriptor, "digest": f"sha256:{name}", "size": len(data)}

    def into_manifest(manifest: Any) -> None:
        manifest["config"] = changed(
            manifest["config"], lambda config: config["config"].update(Healthcheck=check)
        )

    with open(f"{layout}/index.json", "rb") as file:
        index = json.load(file)
    index["manifests"] = [changed(one, into_manifest) for one in index["manifests"]]
    with open(f"{layout}/index.json", "w", encoding="utf-8") as text:
        json.dump(index, text)


def test_the_images_check(rl: World) -> None:
    layout = f"{rl.top}/checked"
    subprocess.run(
        [sys.executable, f"{TOP}/tests/images/busybox.py", layout, "checked:latest"], check=True
    )
    with_check(
        layout, {"Test": ["CMD-SHELL", "test -e /good"], "Interval": 100_000_000, "Retries": 1}
    )
    rl("load", "-i", layout)
    rl("run", "-d", "--name", "c1", "checked", "sleep", "1000")
    await_status(rl, "c1", "unhealthy")
    config = json.loads(rl.out("inspect", "-f", "{{json .Config.Healthcheck}}", "c1"))
    assert config["Test"] == ["CMD-SHELL", "test -e /good"]
    rl("run", "-d", "--name", "d1", "--no-healthcheck", "checked", "sleep", "1000")
    assert json.loads(rl.out("inspect", "-f", "{{json .State}}", "d1")).get("Health") is None
    rl("run", "-d", "--name", "e1", "--health-cmd", "true", "checked", "sleep", "1000")
    await_status(rl, "e1", "healthy")


def test_healthcheck_run(rl: World) -> None:
    rl(
        "run", "-d", "--name", "c1", "--health-interval", "1h", "--health-cmd", "test -e /good",
        "--health-retries", "1", "busybox", "sleep", "1000",
    )  # fmt: skip
    assert rl("healthcheck", "run", "c1", code=1).stdout == "unhealthy\n"
    rl("healthcheck", "run", "--ignore-result", "c1")
    rl("exec", "c1", "touch", "/good")
    assert rl.out("healthcheck", "run", "c1") == ""
    assert len(health(rl, "c1")["Log"]) == 3
    rl("run", "-d", "--name", "d1", "busybox", "sleep", "1000")
    assert "has no defined healthcheck" in rl("healthcheck", "run", "d1", code=125).stderr
    rl("stop", "-t", "0", "c1")
    assert "is not running" in rl("healthcheck", "run", "c1", code=125).stderr


@pytest.mark.parametrize(("action", "code"), [("kill", 137), ("stop", 143)])
def test_on_failure(rl: World, action: str, code: int) -> None:
    rl(
        "run", "-d", "--name", "c1", *QUICK, "--health-cmd", "exit 1", "--health-on-failure", action, "busybox",
        "sh", "-c", "trap 'exit 143' TERM; while :; do sleep 0.1; done",
    )  # fmt: skip
    assert rl.out("wait", "c1") == str(code)


def test_a_restart_is_starting_again(rl: World) -> None:
    rl(
        "run", "-d", "--name", "c1", "--health-interval", "1h", "--health-cmd", "true", "--restart", "always",
        "busybox", "sleep", "1000",
    )  # fmt: skip
    rl("healthcheck", "run", "c1")
    assert health(rl, "c1")["Status"] == "healthy"
    rl("restart", "-t", "0", "c1")
    assert health(rl, "c1") == {"Status": "starting", "FailingStreak": 0, "Log": []}


def test_refusals_leave_nothing(rl: World) -> None:
    for words in (
        ["--health-interval", "5us"],
        ["--health-retries", "-1"],
        ["--no-healthcheck", "--health-cmd", "x"],
        ["--health-on-failure", "nap"],
    ):
        rl("run", *words, "busybox", "true", code=125)
    assert rl.names() == []


@pytest.mark.parametrize("gone", ["everything", "the container's part"])
def test_a_wiped_runtime_directory(rl: World, gone: str) -> None:
    rl("run", "-d", "--name", "c1", "--restart", "always", "--health-interval", "100ms", "--health-cmd", "true",
       "busybox", "sh", "-c", "echo here; sleep 1000")  # fmt: skip
    rl("run", "-d", "--rm", "--name", "d1", "busybox", "sleep", "1000")
    pid = rl.out("inspect", "-f", "{{.State.Pid}}", "c1")
    if gone == "everything":
        shutil.rmtree(f"{rl.runtime}/rootless")
    else:
        (boot,) = os.listdir(f"{rl.runtime}/rootless")
        shutil.rmtree(f"{rl.runtime}/rootless/{boot}/c")
    assert sorted(rl.names()) == ["c1", "d1"]
    assert rl.out("inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "c1") == f"running {pid}"
    assert rl.out("logs", "c1") == "here"
    assert rl.out("exec", "c1", "echo", "inside") == "inside"
    assert rl.out("exec", "d1", "echo", "inside") == "inside"
    before = health(rl, "c1")["Log"]
    until(lambda: health(rl, "c1")["Log"] != before, 30)  # probed on
    rl("kill", "c1")  # by hand: no restart follows
    until(lambda: rl.out("inspect", "-f", "{{.State.Status}}", "c1") == "exited")
    rl("start", "c1")
    rl("stop", "-t", "0", "d1")
    until(lambda: rl.names() == ["c1"])
    rl("rm", "-f", "c1")
    assert rl.names() == []


@pytest.mark.parametrize(
    "flags",
    [
        ("--userns", "single"),
        ("--network", "bridge", "--network-opt", "fast=connect"),
        ("--pid", "host"),
        ("-t",),
        ("--read-only", "--cap-drop", "ALL"),
        ("--privileged",),
        ("--init",),
    ],
    ids=lambda flags: " ".join(flags),
)
def test_containers_of_every_kind(rl: World, flags: tuple[str, ...]) -> None:
    script = "(setsid sleep 3456 &) ; cat /etc/hostname; id -u"
    rl("run", "-d", "--name", "kind", "--hostname", "box", *flags, "--health-interval", "100ms",
       "--health-cmd", script, "busybox", "sleep", "1000")  # fmt: skip
    found = await_status(rl, "kind", "healthy")
    assert found["Log"][0]["Output"] == "box\n0\n"
    until(lambda: len(health(rl, "kind")["Log"]) >= 3)
    assert {entry["ExitCode"] for entry in health(rl, "kind")["Log"]} == {0}
    rl("rm", "-f", "kind")
