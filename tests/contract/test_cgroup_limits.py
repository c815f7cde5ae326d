"""Limits in the files of a real control group: set at the start, changed by update, reported as they are.

The lane that tests/run makes has the core's own files and, where this machine has it free, hugetlb; memory,
CPU, pids and I/O are shown by tests/vm.
"""

from __future__ import annotations

import json
import os
import signal
import site
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cgrouprig
import pytest
from cgrouprig import World, pids, until

pytestmark = pytest.mark.requires("userns", "subid", "dbus-daemon", "busybox")

DEEP = "cgroup.max.depth"


@pytest.fixture(params=["cgroupfs", "systemd"])
def world(request: pytest.FixtureRequest, tmp_path: Path, libexec: str) -> Iterator[World]:
    made = World(tmp_path, libexec, request.param, "peer" if request.param == "systemd" else "")
    yield made
    made.close()


def limits(world: World, name: str) -> dict[str, tuple[Any, Any, str]]:
    (found,) = json.loads(world.out("inspect", name))
    return {o["Name"]: (o["Requested"], o["Enforced"], o["By"]) for o in found["Limits"]}


def value(world: World, name: str, file: str) -> str:
    return Path(f"{world.state(name)['cgroup']}/{file}").read_text().strip()


def again(world: World, name: str) -> None:
    """Kill a container's first process and wait until the monitor has started it anew, in its group."""
    pid = world.state(name)["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: world.state(name)["pid"] not in (0, pid))
    state = world.state(name)
    assert state["pid"] in pids(state["cgroup"])


def begin(world: World, name: str, *flags: str, script: str = "sleep 1000") -> str:
    """What a container that is started in the background is told on stderr."""
    command = ("run", "-d", "--name", name, *flags, "--rootfs", world.busybox(), "sh", "-c", script)
    return world(*command).stderr


def test_what_is_asked_is_in_the_file_and_in_inspect(world: World) -> None:
    assert begin(world, "web", "--strict-limits", "--cgroup-conf", f"{DEEP}=5") == ""
    assert value(world, "web", DEEP) == "5"
    assert limits(world, "web") == {DEEP: ("5", "5", DEEP)}
    assert world.out("exec", "web", "cat", f"/sys/fs/cgroup/{DEEP}") == "5"


def test_inspect_tells_what_somebody_else_has_set(world: World) -> None:
    begin(world, "web", "--cgroup-conf", f"{DEEP}=5")
    Path(f"{world.state('web')['cgroup']}/{DEEP}").write_text("4")
    assert limits(world, "web") == {DEEP: ("5", "4", DEEP)}


def test_of_what_there_is_no_controller_for_one_line_tells(world: World) -> None:
    said = begin(world, "web", "-m", "64m", "--pids-limit", "9", "--cgroup-conf", f"{DEEP}=5")
    (line,) = said.splitlines()
    assert line.startswith(
        "rootless: warning: not enforced: --memory, --pids-limit: "
        "no controller for it is delegated to you (there are: "
    )
    assert limits(world, "web") == {
        "Memory": (64 << 20, None, ""),
        "PidsLimit": (9, None, ""),
        DEEP: ("5", "5", DEEP),
    }


def test_what_the_kernel_refuses_is_told_once_it_runs(world: World) -> None:
    asked = ("--cgroup-conf", f"{DEEP}=many")
    (line,) = begin(world, "web", *asked).splitlines()
    assert line == (
        f"rootless: warning: not enforced: --cgroup-conf {DEEP}: "
        "the kernel refused it (rootless inspect tells more)"
    )
    assert limits(world, "web") == {DEEP: ("many", "max", DEEP)}
    script = "read word; echo $word"
    words = ("run", "--rm", "-i", *asked, "--rootfs", world.busybox(), "sh", "-c", script)
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(world.command(*words), env=world.env, text=True, **pipes) as run:  # type: ignore[call-overload]
        assert run.stderr.readline() == f"{line}\n"
        out, more = run.communicate("here\n")
    assert (out, more, run.returncode) == ("here\n", "", 0)


def test_a_file_that_the_kernel_does_not_have_is_told_before(world: World) -> None:
    asked = ("--cgroup-conf", "cgroup.max.width=3")
    (line,) = begin(world, "web", *asked).splitlines()
    assert line == (
        "rootless: warning: not enforced: --cgroup-conf: "
        "the kernel has no file for it in a control group"
    )
    assert limits(world, "web") == {"cgroup.max.width": ("3", None, "")}
    done = world("create", "--strict-limits", *asked, "--rootfs", world.busybox(), "true", code=125)
    assert "cannot enforce --cgroup-conf: the kernel has no file for it" in done.stderr
    assert len(world.out("ps", "-aq").split()) == 1


def test_strict_limits_fail_the_start_with_the_kernels_reason(world: World) -> None:
    flags = ("--strict-limits", "--cgroup-conf", f"{DEEP}=many")
    done = world("run", "--rm", *flags, "--rootfs", world.busybox(), "true", code=125)
    assert f"cannot set {DEEP} to many" in done.stderr
    assert world.out("ps", "-aq") == ""


def test_an_update_takes_effect_and_lasts(world: World) -> None:
    begin(world, "web", "--restart", "always", "--cgroup-conf", f"{DEEP}=5")
    assert world.out("update", "--cgroup-conf", f"{DEEP}=6", "web") == "web"
    assert value(world, "web", DEEP) == "6"
    assert limits(world, "web") == {DEEP: ("6", "6", DEEP)}
    world("update", "--cgroup-conf", "cgroup.max.descendants=8", "web")
    assert (value(world, "web", DEEP), value(world, "web", "cgroup.max.descendants")) == ("6", "8")
    again(world, "web")
    assert (value(world, "web", DEEP), value(world, "web", "cgroup.max.descendants")) == ("6", "8")
    world("restart", "-t", "0", "web")
    assert (value(world, "web", DEEP), value(world, "web", "cgroup.max.descendants")) == ("6", "8")


def test_an_update_of_a_stopped_container_is_for_its_next_start(world: World) -> None:
    world("create", "--name", "web", "--rootfs", world.busybox(), "sleep", "1000")
    assert world.out("update", "--cgroup-conf", f"{DEEP}=6", "web") == "web"
    assert limits(world, "web") == {DEEP: ("6", "6", DEEP)}
    world("start", "web")
    assert value(world, "web", DEEP) == "6"


def test_an_update_that_the_kernel_refuses_changes_nothing(world: World) -> None:
    begin(world, "web", "--restart", "always", "--cgroup-conf", f"{DEEP}=5")
    flags = ("--cgroup-conf", "cgroup.max.descendants=7", "--cgroup-conf", f"{DEEP}=many")
    done = world("update", *flags, "--restart", "no", "web", code=1)
    assert done.stdout == ""
    assert f"cannot set {DEEP} to many: invalid argument" in done.stderr
    assert (value(world, "web", DEEP), value(world, "web", "cgroup.max.descendants")) == (
        "5",
        "max",
    )
    assert limits(world, "web") == {DEEP: ("5", "5", DEEP)}
    assert world.out("inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", "web") == "always"
    again(world, "web")  # neither is the tape
    assert (value(world, "web", DEEP), value(world, "web", "cgroup.max.descendants")) == (
        "5",
        "max",
    )


def test_a_paused_container_is_updated(world: World) -> None:
    begin(world, "web", "--cgroup-conf", f"{DEEP}=5")
    world("pause", "web")
    assert world.out("update", "--cgroup-conf", f"{DEEP}=6", "web") == "web"
    assert value(world, "web", DEEP) == "6"
    world("unpause", "web")


# Runs the command line, and kills it before the call of that number among those that change something.
FATAL = """
import os, signal, sys
sys.path[:0] = [{top!r}]
sys.path += {site!r}
from rootless.engine import update
left, real = int(sys.argv.pop(1)), update._update
def wrap(call):
    def fatal(*args, **named):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **named)
    return fatal
def begin(*args):
    for name in ("open", "write", "fsync", "rename"):
        setattr(os, name, wrap(getattr(os, name)))
    return real(*args)
update._update = begin
from rootless.__main__ import script
script()
"""


def test_an_update_that_is_killed_at_any_step_leaves_nothing_torn(
    world: World, tmp_path: Path
) -> None:
    """The record is old or new, the kernel's file is never ahead of it, and doing it again makes it so."""
    begin(world, "web", "--restart", "always", "--cgroup-conf", f"{DEEP}=1")
    shim = tmp_path / "fatal"
    shim.write_text(FATAL.format(top=str(cgrouprig.ROOT), site=site.getsitepackages()))
    enter = world.command()[:4]
    seen, number, before = set(), 2, "1"
    for step in range(200):
        words = ("update", "--cgroup-conf", f"{DEEP}={number}", "web")
        command = [*enter, sys.executable, "-I", "-S", str(shim), str(step), *words]
        code = subprocess.run(command, env=world.env, capture_output=True, check=False).returncode
        if code == 0:
            break
        assert code == -signal.SIGKILL
        asked, enforced, by = limits(world, "web")[DEEP]
        now = value(world, "web", DEEP)
        assert (enforced, by) == (now, DEEP)
        assert (asked, now) in ((before, before), (str(number), before), (str(number), str(number)))
        seen.add((asked == before, now == before))
        if asked != before:
            world("update", "--cgroup-conf", f"{DEEP}={number}", "web")
            before, number = value(world, "web", DEEP), number + 1
            assert before == asked
    assert step > 10
    assert seen >= {(True, True), (False, True), (False, False)}
    assert limits(world, "web") == {DEEP: (str(number), str(number), DEEP)}
    again(world, "web")
    assert value(world, "web", DEEP) == str(number)


def test_a_parent_is_reported(world: World) -> None:
    systemd = world.env["ROOTLESS_CGROUP_DRIVER"] == "systemd"
    parent = "batch.slice" if systemd else "batch"
    begin(world, "web", "--cgroup-parent", parent)
    assert limits(world, "web") == {"CgroupParent": (parent, parent, "cgroup")}
    assert f"/{parent}/" in world.state("web")["cgroup"]
    assert world.out("inspect", "-f", "{{.HostConfig.CgroupParent}}", "web") == parent


def test_huge_pages_are_limited(world: World) -> None:
    """The one controller with a resource of its own that a version 2 mount may have beside a hybrid one."""
    if "hugetlb" not in Path(f"{world.group}/cgroup.controllers").read_text().split():
        said = begin(world, "web", "--cgroup-conf", "hugetlb.2MB.max=4M")
        assert "not enforced: --cgroup-conf" in said
        return
    file = "hugetlb.2MB.max"
    assert begin(world, "web", "--strict-limits", "--cgroup-conf", f"{file}=5M") == ""
    assert value(world, "web", file) == str(4 << 20)  # whole pages
    assert limits(world, "web") == {file: ("5M", "5M", file)}
    world("update", "--cgroup-conf", f"{file}=8M", "web")
    assert value(world, "web", file) == str(8 << 20)
