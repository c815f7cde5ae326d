"""What every cgroup driver promises, and the ladder that chooses among them.

In the lane that tests/run makes: only control groups of version 2, a subtree that is the user's.  The systemd
is a real one for the user; to misbehave, and to be seen by what it is asked, another stands in for it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cgrouprig
import pytest
from cgrouprig import World, group_of, pids, until

from rootless.drivers import cgroup
from rootless.linux import proc

pytestmark = pytest.mark.requires("userns", "subid", "dbus-daemon", "busybox", "systemd")

KINDS = {
    "cgroupfs": ("cgroupfs", ""),
    "systemd": ("systemd", "real"),
    "systemd-bus": ("systemd", "bus"),
    "systemd-peer": ("systemd", "peer"),
}


def test_every_driver_has_this_suite() -> None:
    assert {driver for driver, _ in KINDS.values()} | {"none"} == set(cgroup.REGISTRY)


@pytest.fixture(params=[*KINDS])
def world(request: pytest.FixtureRequest, tmp_path: Path, libexec: str) -> Iterator[World]:
    driver, manager = KINDS[request.param]
    made = World(tmp_path, libexec, driver, manager)
    yield made
    made.close()


@pytest.fixture
def bare(tmp_path: Path, libexec: str) -> Iterator[World]:
    made = World(tmp_path, libexec)
    yield made
    made.close()


def gone(world: World) -> bool:
    return not world.groups()


def test_a_container_is_in_a_group_of_its_own(world: World) -> None:
    container = world.start("web")
    state = world.state("web")
    assert f"rootless-{container}" in state["cgroup"]
    assert state["pid"] in pids(state["cgroup"])
    assert state["monitorPid"] not in pids(state["cgroup"])
    world("rm", "-f", "web")
    until(lambda: gone(world))


def test_the_view_from_inside(world: World) -> None:
    assert world.run("cat", "/proc/self/cgroup").splitlines()[-1] == "0::/"
    seen = world.run("ls", "/sys/fs/cgroup").split()
    assert "cgroup.procs" in seen and "cgroup.freeze" in seen
    assert not [name for name in seen if name.startswith(("rootless", "supervisor", "user"))]
    mounts = world.run("cat", "/proc/mounts")
    (line,) = [line for line in mounts.splitlines() if " /sys/fs/cgroup " in line]
    assert line.split()[2] == "cgroup2" and line.split()[3].startswith("ro")
    until(lambda: gone(world))


def test_exec_enters_the_same_group(world: World) -> None:
    world.start("web")
    group = world.state("web")["cgroup"]
    other = f"{world.group}-other"
    os.mkdir(other)
    try:
        run = subprocess.Popen(
            world.command("exec", "web", "sleep", "1000", group=other), env=world.env
        )
        until(lambda: len(pids(group)) == 2)
        assert world.out("exec", "web", "cat", "/proc/self/cgroup").splitlines()[-1] == "0::/"
        world("rm", "-f", "web")
        run.wait(20)
    finally:
        until(lambda: not pids(other))
        os.rmdir(other)
    until(lambda: gone(world))


def test_a_health_check_enters_it_and_rests_with_it(world: World) -> None:
    world.start(
        "web", flags=("--health-interval", "100ms", "--health-cmd", "cat /proc/self/cgroup")
    )

    def log() -> list[dict[str, Any]]:
        found = world.out("inspect", "--format", "{{json .State.Health.Log}}", "web")
        return list(json.loads(found))

    assert until(log)[-1]["Output"].splitlines()[-1] == "0::/"
    group = world.state("web")["cgroup"]
    assert not [name for name in os.listdir(group) if os.path.isdir(f"{group}/{name}")]
    world("pause", "web")
    before = log()
    time.sleep(0.5)
    after = log()
    assert after in (before, [*before[-4:], after[-1]])  # at most one was under way
    world("unpause", "web")
    until(lambda: log()[-1] != after[-1])
    assert {entry["ExitCode"] for entry in log()} == {0}
    world("rm", "-f", "web")
    until(lambda: gone(world))


def test_a_restart_by_the_monitor_makes_it_anew(world: World) -> None:
    world.start("web", "sh", "-c", "exit 3", flags=("--restart", "on-failure:2"))
    assert world.out("wait", "web") == "3"
    assert int(world.out("inspect", "--format", "{{.RestartCount}}", "web")) == 2
    until(lambda: gone(world))
    world("start", "web")
    world("wait", "web")
    until(lambda: gone(world))


def test_a_stopped_container_starts_again(world: World) -> None:
    world.start("web", flags=("--stop-timeout", "0"))
    for _ in range(3):
        world("restart", "web")
        assert os.path.isdir(world.state("web")["cgroup"])
    world("stop", "web")
    assert world.state("web")["cgroup"] == ""
    until(lambda: gone(world))


def test_settings_are_written_before_anything_runs(world: World) -> None:
    world.start("web", flags=("--cgroup-conf", "cgroup.max.descendants=7"))
    group = world.state("web")["cgroup"]
    assert Path(f"{group}/cgroup.max.descendants").read_text() == "7\n"
    assert world.out("exec", "web", "cat", "/sys/fs/cgroup/cgroup.max.descendants") == "7"


def test_a_setting_that_is_refused_fails_the_start_and_leaves_nothing(world: World) -> None:
    done = world(
        *(
            "run",
            "--rm",
            "--strict-limits",
            "--cgroup-conf",
            "cgroup.max.depth=many",
            "--rootfs",
            world.busybox(),
            "true",
        ),
        code=None,
    )
    assert done.returncode == 125
    assert (
        "cannot set cgroup.max.depth to many" in done.stderr and "invalid argument" in done.stderr
    )
    until(lambda: gone(world))
    assert world.out("ps", "-aq") == ""


def test_a_step_of_a_build_with_limits_has_a_group_that_goes_with_it(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM scratch\nCOPY . /\n"
        "RUN --network=none cat /sys/fs/cgroup/cgroup.procs > /procs; cat /proc/self/cgroup > /view\n"
    )
    words = ("-q", "--cpu-shares", "512", "-t", "grouped", "-f", f"{tmp_path}/Dockerfile")
    world("build", *words, world.busybox())
    shown = ("run", "--rm", "--network", "none", "grouped", "cat", "/view", "/procs")
    found = world.out(*shown).split()
    at = found.index("0::/")
    assert found[at + 1] == "1"  # nobody else is in it
    assert "0" not in found[at + 1 :]
    until(lambda: gone(world))


def test_pause_freezes_and_unpause_goes_on(world: World) -> None:
    world.start("web", "sh", "-c", "while :; do echo x; sleep 0.01; done")
    world("pause", "web")
    group = Path(world.state("web")["cgroup"])
    assert "frozen 1" in (group / "cgroup.events").read_text()
    assert world.out("ps", "--format", "{{.State}} {{.Status}}").startswith("paused Up")
    assert "(Paused)" in world.out("ps")
    assert (
        world.out("inspect", "--format", "{{.State.Status}} {{.State.Paused}}", "web")
        == "paused true"
    )
    assert "is already paused" in world("pause", "web", code=1).stderr
    done = world("exec", "web", "true", code=None)
    assert "is paused, unpause the container before exec" in done.stderr
    for words, why in (
        (("start",), "cannot start a paused container, try unpause instead"),
        (("attach",), "you cannot attach to a paused container, unpause it first"),
        (("rm",), "container is paused and must be unpaused first"),
    ):
        assert why in world(*words, "web", code=1).stderr
    before = world.out("logs", "web")
    assert world.out("logs", "web") == before
    world("unpause", "web")
    assert "frozen 0" in (group / "cgroup.events").read_text()
    until(lambda: len(world.out("logs", "web")) > len(before))
    assert "is not paused" in world("unpause", "web", code=1).stderr


@pytest.mark.parametrize(
    "verb", [("stop",), ("kill",), ("kill", "-s", "TERM"), ("rm", "-f"), ("restart",)]
)
def test_what_ends_a_container_thaws_it(world: World, verb: tuple[str, ...]) -> None:
    script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    world.start("web", "sh", "-c", script)
    until(lambda: world.out("logs", "web") == "ready")  # before that, TERM is ignored
    world("pause", "web")
    world(*verb, "web")
    if verb[0] == "rm":
        assert world.out("ps", "-aq") == ""
    elif verb[0] == "restart":
        assert world.out("inspect", "--format", "{{.State.Status}}", "web") == "running"
    else:
        assert world.out("wait", "web") == ("137" if verb == ("kill",) else "5")


def test_a_killed_monitor_leaves_nothing_for_good(world: World) -> None:
    world.start("web")
    state = world.state("web")
    os.kill(state["monitorPid"], signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{state['pid']}"))
    assert (
        world.out("inspect", "--format", "{{.State.Status}} {{.State.Paused}}", "web")
        == "exited false"
    )
    world("start", "web")
    assert world.state("web")["pid"] in pids(world.state("web")["cgroup"])
    os.kill(world.state("web")["monitorPid"], signal.SIGKILL)
    until(lambda: not pids(state["cgroup"]) if os.path.isdir(state["cgroup"]) else True)
    world("rm", "-f", "web")
    until(lambda: gone(world))


def test_a_paused_container_whose_monitor_is_killed(world: World) -> None:
    world.start("web")
    world("pause", "web")
    state = world.state("web")
    os.kill(state["monitorPid"], signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{state['pid']}"))
    world("start", "web")
    assert world.out("inspect", "--format", "{{.State.Status}}", "web") == "running"


@pytest.mark.parametrize("kind", ["cgroupfs", "systemd"])
def test_killed_at_any_moment_nothing_stays(tmp_path: Path, libexec: str, kind: str) -> None:
    world = World(tmp_path, libexec, *KINDS[kind])
    try:
        world.busybox()
        chance = random.Random(7)
        for _ in range(16):
            words = ("run", "-d", "--rootfs", world.busybox(), "sleep", "1000")
            run = subprocess.Popen(world.command(*words), env=world.env, stdout=subprocess.DEVNULL)
            time.sleep(chance.uniform(0.02, 0.25))
            for pid in world.processes():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            run.wait()
        for name in world.out("ps", "-aq").split():
            world("start", name)
            assert world.state(name)["pid"] in pids(world.state(name)["cgroup"])
            world("rm", "-f", name)
        until(lambda: gone(world))
        assert world.run("echo", "in") == "in"
    finally:
        world.close()


@pytest.mark.parametrize("kind", [*KINDS])
def test_a_first_process_that_outlived_its_monitor_is_replaced(
    tmp_path: Path, libexec: str, kind: str
) -> None:
    """One that changes its identity loses the signal that the monitor's death sends, and may ignore SIGTERM."""
    world = World(tmp_path, libexec, *KINDS[kind])
    try:
        become = "echo u:x:5:5::/:/bin/sh >/etc/passwd; exec su -s /bin/sh u -c 'exec sleep 1000'"
        world("run", "-d", "--name", "web", "--rootfs", world.busybox(), "sh", "-c", become)
        before = world.state("web")
        program = Path(f"/proc/{before['pid']}/cmdline")
        until(lambda: program.read_bytes().startswith(b"sleep"))
        os.kill(before["monitorPid"], signal.SIGKILL)
        until(lambda: not os.path.exists(f"/proc/{before['monitorPid']}"))
        assert os.path.exists(f"/proc/{before['pid']}")
        assert world.out("ps", "--format", "{{.State}}") == "running"
        world("restart", "-t", "0", "web")
        assert world.state("web")["pid"] in pids(world.state("web")["cgroup"])
        until(lambda: proc.starttime(before["pid"]) != before["pidStart"])
        world("rm", "-f", "web")
        until(lambda: gone(world))
    finally:
        world.close()


def test_many_at_once(world: World) -> None:
    runs = [
        subprocess.Popen(
            world.command("run", "--rm", "--rootfs", world.busybox(), "cat", "/proc/self/cgroup"),
            env=world.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(12)
    ]
    for run in runs:
        out, error = run.communicate(timeout=120)
        assert run.returncode == 0, error
        assert out.splitlines()[-1] == b"0::/"
    until(lambda: gone(world))


def test_a_container_that_may_has_its_own_subtree(world: World) -> None:
    script = (
        "mkdir /sys/fs/cgroup/leaf && echo 1 >/sys/fs/cgroup/leaf/cgroup.procs && "
        "cat /sys/fs/cgroup/leaf/cgroup.procs; echo $$ >/sys/fs/cgroup/leaf/cgroup.procs; "
        "for one in $(cat /sys/fs/cgroup/cgroup.controllers); do "
        "echo +$one >/sys/fs/cgroup/cgroup.subtree_control; done; "
        "echo ready; exec sleep 1000"
    )
    for flags in (
        ("--security-opt", "writable-cgroups=true"),
        ("--privileged",),
        ("--security-opt", "writable-cgroups=true", "--userns", "keep-id"),
    ):
        user = ("--user", "0") if "keep-id" in flags else ()
        world.start("web", "sh", "-c", script, flags=(*flags, *user))
        until(lambda: "ready" in world.out("logs", "web"))
        assert world.out("logs", "web").splitlines()[0] == "1"
        state = world.state("web")
        assert group_of(state["pid"]) == f"{state['cgroup']}/leaf"
        # Who comes later enters too, beside the first process if the group itself holds none any more.
        world("exec", "-d", "web", "sleep", "77")
        until(lambda group=state["cgroup"]: len(pids(group)) == 2)
        # What is left below belongs to the container's IDs, and is no obstacle to the next start.
        os.kill(state["monitorPid"], signal.SIGKILL)
        until(lambda pid=state["pid"]: not os.path.exists(f"/proc/{pid}"))
        world("start", "web")
        assert group_of(world.state("web")["pid"]).startswith(world.state("web")["cgroup"])
        world("rm", "-f", "web")
        until(lambda: gone(world))


def test_host_cgroupns_sees_where_it_is(world: World) -> None:
    line = world.run("cat", "/proc/self/cgroup", flags=("--cgroupns", "host")).splitlines()[-1]
    assert "rootless-" in line
    until(lambda: gone(world))


# One driver each.


def test_none_makes_no_group(bare: World) -> None:
    bare.env["ROOTLESS_CGROUP_DRIVER"] = "none"
    bare.start("web")
    assert bare.state("web")["cgroup"] == ""
    assert group_of(bare.state("web")["pid"]) == bare.group
    done = bare("pause", "web", code=1)
    assert "has no control group: cgroup driver none is in use" in done.stderr
    assert bare.out("exec", "web", "echo", "in") == "in"


def test_auto_takes_the_subtree_where_no_systemd_is(bare: World) -> None:
    bare.start("web")
    assert bare.state("web")["cgroup"].startswith(f"{bare.group}/rootless-")
    # The hierarchy's controllers were handed on, which only works when nobody is in the way.
    assert bare.out("--cgroup-manager", "none", "info", "--format", "{{.CgroupDriver}}") == "none"
    assert bare.out("info", "--format", "{{.CgroupDriver}} {{.CgroupVersion}}") == "cgroupfs 2"


def test_controllers_are_handed_on_and_what_is_in_the_way_moved(bare: World) -> None:
    there = Path(f"{bare.group}/cgroup.controllers").read_text().split()
    bystander = subprocess.Popen(["/bin/sh", "-c", cgrouprig.ENTER, bare.group, "sleep", "1000"])
    until(lambda: bystander.pid in pids(bare.group))
    bare.start("web", flags=("--cgroup-parent", "a/b"))
    group = bare.state("web")["cgroup"]
    assert group.startswith(f"{bare.group}/a/b/rootless-")
    for path in (bare.group, f"{bare.group}/a", f"{bare.group}/a/b"):
        on = Path(f"{path}/cgroup.subtree_control").read_text().split()
        assert set(on) == set(there) & {"cpuset", "cpu", "io", "memory", "hugetlb", "pids"}
    if there:
        assert group_of(bystander.pid) == f"{bare.group}/rootless-inner"
    bare("rm", "-f", "web")
    bystander.kill()
    bystander.wait()


@pytest.mark.parametrize("parent", ["../up", "a/../../b", "cgroup.procs"])
def test_a_parent_outside_is_refused(bare: World, parent: str) -> None:
    done = bare(*("run", "--cgroup-parent", parent, "--rootfs", bare.busybox(), "true"), code=125)
    assert "invalid cgroup parent" in done.stderr
    assert bare.out("ps", "-aq") == ""


def test_what_a_killed_monitor_left_is_swept(bare: World) -> None:
    bare.start("web")
    state = bare.state("web")
    os.kill(state["monitorPid"], signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{state['pid']}"))
    assert os.path.isdir(state["cgroup"])
    bare.start("other")
    bare("rm", "web")
    assert not os.path.exists(state["cgroup"])
    assert os.path.isdir(bare.state("other")["cgroup"])


def test_a_scope_says_what_it_is(tmp_path: Path, libexec: str) -> None:
    world = World(tmp_path, libexec, "auto", "bus")
    try:
        container = world.start(
            "web", flags=("--cgroup-parent", "work.slice", "--stop-timeout", "7")
        )
        (call,) = world.calls()
        assert call[0] == "StartTransientUnit"
        name, mode, pairs, _ = call[1]
        properties = {key: value[1] for key, value in pairs}
        assert (name, mode) == (f"rootless-{container}.scope", "fail")
        state = world.state("web")
        assert properties.pop("PIDs")[0] == state["monitorPid"]
        assert properties == {
            "Description": "rootless container web",
            "Slice": "work.slice",
            "Delegate": True,
            "CollectMode": "inactive-or-failed",
            "TasksMax": (1 << 64) - 1,
            "TimeoutStopUSec": 17_000_000,
        }
        assert f"/work.slice/{name}/container" in state["cgroup"]
        assert group_of(state["monitorPid"]).endswith(f"{name}/supervisor")
        for parent in ("work", "a/b.slice", "-a.slice", "a--b.slice"):
            done = world(
                *("run", "--cgroup-parent", parent, "--rootfs", world.busybox(), "true"), code=125
            )
            assert "should be a valid slice" in done.stderr
        assert len(world.calls()) == 1
    finally:
        world.close()


@pytest.mark.parametrize("driver", ["systemd", "cgroupfs", "none"])
def test_what_containers_share_is_in_no_session(tmp_path: Path, libexec: str, driver: str) -> None:
    """With scopes it has its own, for it outlives who started it; else it stays in the session or job."""
    world = World(tmp_path, libexec, driver, "real")
    try:
        world.start("web", flags=("--network", "bridge"))
        lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in world.processes()}
        (record,) = [one for one in world.runtime.glob("rootless/*/realm/*") if not one.suffix]
        kept = [int(record.read_text().split()[0])]
        kept += [pid for pid, line in lines.items() if b"/netguard" in line or b"/netd/" in line]
        assert len(kept) == 3
        for pid, name in zip(kept, ("realm", "network", "network")):
            group = group_of(pid)
            assert group.startswith(world.group) == (driver != "systemd"), (pid, group)
            assert (f"/app.slice/rootless-{name}-" in group) == (driver == "systemd"), (pid, group)
    finally:
        world.close()


SAID = {
    "refuse": "Not today.",
    "hang": "it does not answer",
    "fail": "its job ended as: failed",
    "lose": "it does not answer",
}


@pytest.mark.parametrize("kind", ["bus", "peer"])
@pytest.mark.parametrize("mode", SAID)
def test_a_systemd_that_will_not_is_no_hang(
    tmp_path: Path, libexec: str, mode: str, kind: str
) -> None:
    if mode != "refuse" and kind == "peer":
        return  # the time that is waited is the same
    world = World(tmp_path, libexec, "systemd")
    try:
        world.start_manager(kind, mode)
        done = world("run", "--rm", "--rootfs", world.busybox(), "true", code=125)
        said = SAID[mode]
        assert "cannot have systemd place rootless-" in done.stderr and said in done.stderr
        assert "\x1b" not in done.stderr
        assert world.out("ps", "-aq") == ""
        # Where nobody insisted on it, the container runs without.
        if mode == "refuse":
            world.env["ROOTLESS_CGROUP_DRIVER"] = "auto"
            world.start("web")
            assert world.state("web")["cgroup"] == ""
            assert "has no control group: cannot have systemd place" in world("logs", "web").stderr
            refused = world(
                *(
                    "run",
                    "--rm",
                    "--cgroup-conf",
                    "cgroup.max.depth=3",
                    "--rootfs",
                    world.busybox(),
                    "true",
                ),
                code=125,
            )
            assert said in refused.stderr
    finally:
        world.close()


def test_a_scope_that_systemd_thinks_alive_is_no_hindrance(tmp_path: Path, libexec: str) -> None:
    """As the real one does at times where all who were to be in it were killed on their way."""
    world = World(tmp_path, libexec, "systemd")
    try:
        world.start_manager("bus", "forget")
        container = world.start("web")
        for _ in range(2):
            state = world.state("web")
            os.kill(state["monitorPid"], signal.SIGKILL)
            until(lambda pid=state["pid"]: not os.path.exists(f"/proc/{pid}"))
            world("start", "web")
            assert world.state("web")["pid"] in pids(world.state("web")["cgroup"])
        stops = [call[1] for call in world.calls() if call[0] == "StopUnit"]
        assert stops == [[f"rootless-{container}.scope", "replace"]] * 2
    finally:
        world.close()


def test_a_systemd_that_is_executed_again(tmp_path: Path, libexec: str) -> None:
    world = World(tmp_path, libexec, "systemd", "real")
    try:
        world.start("web")
        group = world.state("web")["cgroup"]
        for _ in range(3):
            again = subprocess.Popen(["systemctl", "--user", "daemon-reexec"], env=world.env)
            assert world.run("cat", "/proc/self/cgroup").splitlines()[-1] == "0::/"
            again.wait(30)
        assert world.out("inspect", "--format", "{{.State.Status}}", "web") == "running"
        assert world.state("web")["pid"] in pids(group)
        assert world.out("exec", "web", "echo", "in") == "in"
        world("pause", "web")
        subprocess.run(["systemctl", "--user", "daemon-reload"], env=world.env, check=True)
        assert world.out("ps", "--format", "{{.State}}") == "paused"
        world("rm", "-f", "web")
        until(lambda: gone(world))
    finally:
        world.close()


def test_a_scope_is_shown_by_systemctl(tmp_path: Path, libexec: str) -> None:
    world = World(tmp_path, libexec, "auto", "real")
    try:
        container = world.start("web", flags=("--cgroup-parent", "work.slice"))
        words = ["systemctl", "--user", "show", f"rootless-{container}.scope"]
        shown = subprocess.run(
            words, env=world.env, check=True, capture_output=True, text=True
        ).stdout
        assert "\nDescription=rootless container web\n" in shown
        assert "\nSlice=work.slice\n" in shown and "\nDelegate=yes\n" in shown
        # Whoever stops the unit stops the container, with its own signal and time.
        subprocess.run([*words[:2], "stop", words[3]], env=world.env, check=True)
        until(lambda: world.out("inspect", "--format", "{{.State.Status}}", "web") == "exited")
    finally:
        world.close()


def test_a_manager_that_is_executed_again(tmp_path: Path, libexec: str) -> None:
    world = World(tmp_path, libexec, "systemd")
    try:
        world.start_manager("peer", "drop")
        assert world.run("echo", "in") == "in"
        world.start("web")
        world.stop_manager()
        world.start_manager("peer")
        assert world.out("inspect", "--format", "{{.State.Status}}", "web") == "running"
    finally:
        world.close()


def test_no_systemd_at_all_is_told(bare: World) -> None:
    done = bare("--cgroup-manager", "systemd", "run", "--rootfs", bare.busybox(), "true", code=125)
    assert "cannot use cgroup driver systemd: no systemd of user" in done.stderr
    assert "loginctl enable-linger" in done.stderr
    report = bare("doctor").stdout
    assert "cgroupfs" in report and "loginctl enable-linger" in report
