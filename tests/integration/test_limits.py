"""Limits on a host whose containers have no control group with controllers: what can be is, the rest is told.

The lanes with controllers are tests/vm and, for those that a version 2 mount has here, test_limits_group.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from rig import World, busybox, until

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "busybox")

CPUS = sorted(os.sched_getaffinity(0))
ONE = str(CPUS[-1])
ALL = ",".join(map(str, CPUS))


@pytest.fixture(scope="module")
def rl() -> Iterator[World]:
    world = World()
    world.env["ROOTLESS_CGROUP_DRIVER"] = "none"
    try:
        busybox(world)
        yield world
    finally:
        world.close()


@pytest.fixture
def sleeper(rl: World) -> Iterator[str]:
    """A container that sleeps, with what a test asks of it added by update."""
    name = f"sleeper{time.monotonic_ns()}"
    rl("run", "-d", "--name", name, "busybox", "sleep", "1000")
    yield name
    rl("rm", "-f", name, check=False)


def inspected(rl: World, name: str) -> dict[str, Any]:
    (found,) = json.loads(rl.out("inspect", name))
    return dict(found)


def limits(rl: World, name: str) -> dict[str, tuple[Any, Any, str]]:
    return {
        one["Name"]: (one["Requested"], one["Enforced"], one["By"])
        for one in inspected(rl, name)["Limits"]
    }


def pids(rl: World, name: str) -> list[int]:
    """The processes of a container."""
    return [int(line.split()[1]) for line in rl.out("top", name).splitlines()[1:]]


def allowed(rl: World, name: str) -> str:
    """The CPUs of a new process in a container, as the kernel says."""
    return rl.out("exec", name, "grep", "Cpus_allowed_list", "/proc/self/status").split()[1]


def first(rl: World, name: str) -> set[int]:
    """The CPUs of a container's first process."""
    return os.sched_getaffinity(int(rl.out("inspect", "-f", "{{.State.Pid}}", name)))


def on_disk(rl: World) -> list[str]:
    """The containers there are, with those that are being made."""
    directory = f"{rl.home}/.local/share/rootless/containers"
    return os.listdir(directory) if os.path.isdir(directory) else []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-m", "1k"], "minimum memory limit allowed is 6MB"),
        (["-m", "6291455"], "minimum memory limit allowed is 6MB"),
        (["-m", "64x"], 'invalid argument "64x" for "-m, --memory" flag: invalid suffix: \'x\''),
        (["-m", "64mbx"], "flag: invalid suffix: 'mbx'"),
        (["-m", "-1"], 'invalid argument "-1" for "-m, --memory" flag: invalid size: \'-1\''),
        (["-m", "64 megs"], "flag: invalid suffix: 'megs'"),
        (["-m", "lots"], "flag: invalid size: 'lots'"),
        (["-m", "6.4.m"], 'flag: strconv.ParseFloat: parsing "6.4.": invalid syntax'),
        (["-m", "64m", "--memory-swap", "32m"], "minimum memoryswap limit should be larger"),
        (["--memory-swap", "64m"], "You should always set the Memory limit"),
        (["--memory-reservation", "1k"], "minimum memory reservation allowed is 6MB"),
        (["-m", "64m", "--memory-reservation", "65m"], "can not be less than memory reservation"),
        (["--memory-swappiness", "101"], "Valid memory swappiness range is 0-100"),
        (["--cpus", "99999"], f"range of CPUs is from 0.01 to {len(CPUS)}.00"),
        (["--cpus", "0.001"], f"as there are only {len(CPUS)} CPUs available"),
        (["--cpus", "1.0000000001"], "value is too precise"),
        (["--cpus", "one"], "failed to parse one as a rational number"),
        (["--cpus", "1", "--cpu-quota", "50000"], "Nano CPUs and CPU Quota cannot both be set"),
        (["--cpu-period", "10"], "CPU cfs period can not be less than 1ms"),
        (["--cpu-quota", "10"], "CPU cfs quota can not be less than 1ms"),
        (["--cpu-rt-runtime", "95000"], "kernel does not support CPU real-time scheduler"),
        (["--cpu-shares", "-1"], "shares: invalid argument"),
        (
            ["--cpuset-cpus", "0-999"],
            "requested CPUs are not available - requested 0-999, available: ",
        ),
        (["--cpuset-cpus", "a"], "invalid value a for cpuset cpus"),
        (["--cpuset-mems", "77"], "requested memory nodes are not available - requested 77"),
        (["--blkio-weight", "5"], "range of blkio weight is from 10 to 1000"),
        (["--blkio-weight", "70000"], "value out of range"),
        (["--blkio-weight-device", "/dev/sda:5"], "invalid weight for device: /dev/sda:5"),
        (["--blkio-weight-device", "sda:50"], "bad format for device path: sda:50"),
        (["--device-read-bps", "/dev/sda"], "bad format: /dev/sda"),
        (["--device-read-bps", "/dev/sda:1q"], "invalid rate for device: /dev/sda:1q"),
        (["--device-write-iops", "/dev/sda:-1"], "invalid rate for device: /dev/sda:-1"),
        (["--device-write-bps", "/dev/nothing:1m"], "cannot limit /dev/nothing: no such file"),
        (
            ["--device-write-bps", "/dev/null:1m"],
            "cannot limit /dev/null: it is not a block device",
        ),
        (["--oom-score-adj", "1001"], "range for oom score adj is [-1000, 1000]"),
        (
            ["--ulimit", "nofile=9:5"],
            "ulimit soft limit must be less than or equal to hard limit: 9 > 5",
        ),
        (["--ulimit", "nofile=-5"], "invalid ulimit"),
        (["--ulimit", "nofile=-1:5"], "soft limit must be less than or equal to hard limit"),
        (["--ulimit", "files=5"], "invalid ulimit type: files"),
        (["--cgroup-conf", "memory.high"], "bad format: memory.high"),
        (["--cgroup-conf", "cgroup.procs=1"], "cgroup.procs is not for a container to say"),
        (["--cgroup-conf", "../memory.max=1"], "not the name of a file of a control group"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused_with_nothing_made(
    rl: World, flags: list[str], words: str
) -> None:
    for verb in ("create", "run"):
        done = rl(verb, "--name", "half", *flags, "busybox", "true", code=125)
        assert words in done.stderr
        assert done.stdout == ""
    assert "half" not in rl.names()
    assert not on_disk(rl)
    rl("create", "--name", "half", "busybox", "true")  # the name is free
    rl("rm", "half")


def test_one_line_warns_of_all_that_is_not_enforced(rl: World) -> None:
    flags = ["-m", "64m", "--cpus", "0.5", "--pids-limit", "50", "--cpuset-cpus", ONE]
    done = rl(
        "run", "--name", "warned", *flags, "--cgroup-conf", "memory.high=50M", "busybox", "true"
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "rootless: warning: not enforced: --memory, --cpus, --pids-limit, --cgroup-conf: "
    )
    seen = inspected(rl, "warned")
    assert {name: seen["HostConfig"][name] for name in ("Memory", "NanoCpus", "PidsLimit")} == {
        "Memory": 64 << 20,
        "NanoCpus": 500_000_000,
        "PidsLimit": 50,
    }
    assert seen["HostConfig"]["MemorySwap"] == 128 << 20  # as Docker settles it
    assert seen["HostConfig"]["CpusetCpus"] == ONE
    assert limits(rl, "warned") == {
        "Memory": (64 << 20, None, ""),
        "NanoCpus": (500_000_000, None, ""),
        "PidsLimit": (50, None, ""),
        "CpusetCpus": (ONE, ONE, "sched_setaffinity"),
        "memory.high": ("50M", None, ""),
    }
    rl("rm", "warned")


def test_no_limit_is_nothing_to_warn_of(rl: World) -> None:
    flags = ["--pids-limit", "-1", "--cpu-quota", "-1", "-m", "0", "--ulimit", "core=0"]
    done = rl("run", "--rm", *flags, "busybox", "true")
    assert done.stderr == ""


def test_what_version_2_lacks_is_said_in_dockers_words(rl: World) -> None:
    flags = ["--memory-swappiness", "10", "--oom-kill-disable", "--kernel-memory", "64m"]
    done = rl("run", "--rm", *flags, "busybox", "true")
    assert [line.partition(".")[0] for line in done.stderr.splitlines()] == [
        "rootless: warning: Your kernel does not support memory swappiness capabilities "
        "or the cgroup is not mounted",
        "rootless: warning: Your kernel does not support kernel memory limit capabilities "
        "or the cgroup is not mounted",
        "rootless: warning: Your kernel does not support OomKillDisable",
    ]


@pytest.mark.parametrize("how", ["flag", "setting"])
def test_strict_limits_refuse_before_anything_is_made(rl: World, how: str) -> None:
    flag = ["--strict-limits"] if how == "flag" else []
    env = {"ROOTLESS_RUN_STRICT_LIMITS": "yes"} if how == "setting" else {}
    for asked, named in (
        (["-m", "64m", "--pids-limit", "9"], "--memory, --pids-limit"),
        (["--memory-swappiness", "5"], "--memory-swappiness"),
        (["--oom-score-adj", "-999"], "--oom-score-adj"),
    ):
        done = rl("run", "--name", "strict", *flag, *asked, "busybox", "true", code=125, env=env)
        assert f"cannot enforce {named}: " in done.stderr
        assert "strict" not in rl.names()


def test_strict_limits_let_through_what_is_enforced(rl: World) -> None:
    flags = ["--strict-limits", "--cpuset-cpus", ONE, "--ulimit", "nofile=50"]
    done = rl("run", "--rm", *flags, "busybox", "grep", "Cpus_allowed_list", "/proc/self/status")
    assert done.stdout.split()[1] == ONE
    assert done.stderr == ""


def test_the_flag_wins_over_the_setting(rl: World) -> None:
    env = {"ROOTLESS_RUN_STRICT_LIMITS": "yes"}
    done = rl("run", "--rm", "--strict-limits=false", "-m", "64m", "busybox", "true", env=env)
    assert "not enforced: --memory" in done.stderr


def test_a_score_that_only_root_may_set_is_told(rl: World) -> None:
    own = int(rl.out("run", "--rm", "busybox", "cat", "/proc/self/oom_score_adj"))
    done = rl("run", "-d", "--name", "score", "--oom-score-adj", "-999", "busybox", "sleep", "1000")
    assert "not enforced: --oom-score-adj: only root may lower the score" in done.stderr
    assert limits(rl, "score")["OomScoreAdj"] == (-999, own, "oom_score_adj")
    rl("rm", "-f", "score")
    rl("run", "-d", "--name", "score", "--oom-score-adj", "900", "busybox", "sleep", "1000")
    assert limits(rl, "score")["OomScoreAdj"] == (900, 900, "oom_score_adj")
    rl("rm", "-f", "score")


def test_ulimits_are_reported(rl: World) -> None:
    rl("create", "--name", "files", "--ulimit", "nofile=50:60", "busybox", "true")
    asked = {"Name": "nofile", "Hard": 60, "Soft": 50}
    assert limits(rl, "files") == {"Ulimits": (asked, asked, "setrlimit")}
    rl("rm", "files")


def test_explain_shows_the_resources_of_the_runtime_spec(rl: World) -> None:
    done = rl(
        "run", "--explain", "-m", "64m", "--cpus", "0.5", "--pids-limit", "9", "busybox", "true"
    )
    spec = json.loads(done.stdout.partition("\n\n")[0])
    assert spec["linux"]["resources"] == {
        "memory": {"limit": 64 << 20, "swap": 128 << 20},
        "cpu": {"quota": 50_000, "period": 100_000},
        "pids": {"limit": 9},
    }


# CPUs without a control group that has them


def test_a_container_and_what_is_executed_in_it_keep_to_their_cpus(rl: World) -> None:
    rl("run", "-d", "--name", "bound", "--cpuset-cpus", ONE, "busybox", "sleep", "1000")
    assert first(rl, "bound") == {int(ONE)}
    assert allowed(rl, "bound") == ONE
    assert limits(rl, "bound") == {"CpusetCpus": (ONE, ONE, "sched_setaffinity")}
    rl("rm", "-f", "bound")


def test_an_update_binds_all_processes_and_a_restart_keeps_it(rl: World) -> None:
    script = "sleep 1000 & sleep 1000 & wait"
    rl("run", "-d", "--name", "moved", "--user", "7", "busybox", "sh", "-c", script)
    until(lambda: len(pids(rl, "moved")) == 3)
    assert rl.out("update", "--cpuset-cpus", ONE, "moved") == "moved"
    assert [os.sched_getaffinity(pid) for pid in pids(rl, "moved")] == [{int(ONE)}] * 3
    assert allowed(rl, "moved") == ONE
    rl("restart", "-t", "0", "moved")
    assert first(rl, "moved") == {int(ONE)}
    rl("rm", "-f", "moved")


def test_a_restart_by_the_monitor_keeps_what_was_updated(rl: World) -> None:
    rl("run", "-d", "--name", "again", "--restart", "always", "busybox", "sleep", "1000")
    rl("update", "--cpuset-cpus", ONE, "again")
    before = rl.out("inspect", "-f", "{{.State.Pid}}", "again")
    rl("exec", "again", "kill", "-9", "1", check=False)
    os.kill(int(before), signal.SIGKILL)
    until(
        lambda: rl.out("inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "again")
        not in (f"running {before}", "restarting 0")
        and rl.out("inspect", "-f", "{{.State.Status}}", "again") == "running"
    )
    until(lambda: first(rl, "again") == {int(ONE)})
    rl("rm", "-f", "again")


def test_health_probes_keep_to_what_was_updated(rl: World) -> None:
    command = "grep Cpus_allowed_list /proc/self/status > /tmp/seen"
    flags = ("--health-cmd", command, "--health-interval", "100ms")
    rl("run", "-d", "--name", "well", *flags, "busybox", "sleep", "1000")
    seen = ("exec", "well", "cat", "/tmp/seen")
    until(lambda: rl(*seen, check=False).stdout.strip())
    rl("update", "--cpuset-cpus", ONE, "well")
    until(lambda: rl(*seen, check=False).stdout.split()[1:] == [ONE])
    rl("rm", "-f", "well")


# update


def status(rl: World, name: str) -> str:
    return rl.out("inspect", "-f", "{{.State.Status}}", name)


def kill_first(rl: World, name: str) -> int:
    """Kill a container's first process, which is no stop; its pid."""
    pid = int(rl.out("inspect", "-f", "{{.State.Pid}}", name))
    os.kill(pid, signal.SIGKILL)
    return pid


def test_a_restart_policy_holds_for_a_container_that_runs(rl: World, sleeper: str) -> None:
    rl("update", "--restart", "on-failure:5", sleeper)
    policy = inspected(rl, sleeper)["HostConfig"]["RestartPolicy"]
    assert policy == {"Name": "on-failure", "MaximumRetryCount": 5}
    pid = kill_first(rl, sleeper)
    until(lambda: rl.out("inspect", "-f", "{{.State.Pid}}", sleeper) not in ("0", str(pid)))
    rl("update", "--restart", "no", sleeper)
    until(lambda: status(rl, sleeper) == "running")
    kill_first(rl, sleeper)
    until(lambda: status(rl, sleeper) == "exited")


def test_a_container_that_removes_itself_is_not_restarted(rl: World) -> None:
    rl("run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "1000")
    done = rl("update", "--restart", "always", "brief", code=1)
    assert "because AutoRemove is enabled for the container" in done.stderr
    assert rl.out("update", "--restart", "no", "brief") == "brief"
    rl("rm", "-f", "brief")


def test_update_changes_what_is_given_and_prints_the_names(rl: World, sleeper: str) -> None:
    rl("create", "--name", "still", "--cpu-shares", "512", "-m", "64m", "busybox", "true")
    done = rl(
        "update", "--cpu-shares", "256", "--memory", "32m", "--restart", "no", "still", sleeper
    )
    names = done.stdout.splitlines()
    assert names[:2] == ["still", sleeper]
    assert names[2].startswith("not enforced: --memory, --cpu-shares: ")
    assert len(names) == 3
    for name in ("still", sleeper):
        config = inspected(rl, name)["HostConfig"]
        assert (config["CpuShares"], config["Memory"]) == (256, 32 << 20)
    assert inspected(rl, "still")["HostConfig"]["MemorySwap"] == 128 << 20
    rl("rm", "still")


@pytest.mark.parametrize(
    ("made", "flags", "words"),
    [
        ([], [], "you must provide one or more flags when using this command"),
        ([], ["-m", "1k"], "minimum memory limit allowed is 6MB"),
        ([], ["--cpus", "9999"], "range of CPUs is from 0.01 to"),
        ([], ["--cpuset-cpus", "0-999"], "requested CPUs are not available"),
        ([], ["--restart", "sometimes"], "invalid restart policy"),
        (["-m", "64m"], ["-m", "200m"], "should be smaller than already set memoryswap limit"),
        (["-m", "64m"], ["--memory-swap", "32m"], "minimum memoryswap limit should be larger"),
        (["--cpus", "1"], ["--cpu-quota", "5000"], "as NanoCPUs has already been set"),
        (["--cpu-quota", "5000"], ["--cpus", "1"], "as CPU Quota has already been set"),
        (["--strict-limits"], ["-m", "64m"], "cannot enforce --memory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_update_refuses_what_docker_refuses(
    rl: World, made: list[str], flags: list[str], words: str
) -> None:
    rl("create", "--name", "kept", *made, "busybox", "true", check=False)
    before = inspected(rl, "kept")["HostConfig"]
    done = rl("update", *flags, "kept", check=False)
    assert (done.returncode in (1, 125), done.stdout) == (True, "")
    assert words in done.stderr
    assert inspected(rl, "kept")["HostConfig"] == before
    rl("rm", "kept")


def test_update_says_what_version_2_lacks_in_dockers_words(rl: World, sleeper: str) -> None:
    said = rl.out("update", "--kernel-memory", "64m", sleeper).splitlines()
    assert said[0] == sleeper
    assert said[1].startswith("Your kernel does not support kernel memory limit capabilities")
    assert len(said) == 2


def test_update_goes_on_after_a_container_that_is_not_there(rl: World, sleeper: str) -> None:
    done = rl("update", "--cpu-shares", "5", "nobody", sleeper, code=1)
    assert "no such container: nobody" in done.stderr
    assert done.stdout.splitlines()[0] == sleeper
    assert inspected(rl, sleeper)["HostConfig"]["CpuShares"] == 5


def test_update_is_an_event(rl: World, sleeper: str) -> None:
    rl("update", "--cpu-shares", "7", sleeper)
    with open(f"{rl.home}/.local/share/rootless/events/events.jsonl", encoding="utf-8") as file:
        events = [json.loads(line) for line in file]
    assert [e["Action"] for e in events if e["Actor"]["Attributes"].get("name") == sleeper][
        -1
    ] == "update"


def test_the_management_form_is_the_same(rl: World, sleeper: str) -> None:
    assert rl.out("container", "update", "--cpu-shares", "9", sleeper).splitlines()[0] == sleeper
    assert inspected(rl, sleeper)["HostConfig"]["CpuShares"] == 9


def test_updates_at_once_leave_one_of_them_whole(rl: World, sleeper: str) -> None:
    """Record and processes agree afterwards, whichever came last."""
    words = [
        ["--cpuset-cpus", cpus, "--cpu-shares", share] for cpus, share in ((ONE, "11"), (ALL, "22"))
    ]
    running = [
        rl.spawn("update", *words[at % 2], sleeper, stdout=subprocess.DEVNULL) for at in range(6)
    ]
    assert [one.wait(60) for one in running] == [0] * 6
    config = inspected(rl, sleeper)["HostConfig"]
    assert (config["CpusetCpus"], str(config["CpuShares"])) in ((ONE, "11"), (ALL, "22"))
    wanted = {int(ONE)} if config["CpusetCpus"] == ONE else set(CPUS)
    assert first(rl, sleeper) == wanted


def test_a_killed_update_leaves_a_container_that_can_be_updated(rl: World, sleeper: str) -> None:
    """kill -9 at any instant: the record is old or new, never torn, and doing it again makes it so."""
    for delay in range(0, 300, 20):
        share = str(100 + delay)
        running = rl.spawn("update", "--cpu-shares", share, "--cpuset-cpus", ONE, sleeper,
                           stdout=subprocess.DEVNULL)  # fmt: skip
        time.sleep(delay / 1000)
        running.kill()
        running.wait()
        config = inspected(rl, sleeper)["HostConfig"]
        assert config["CpuShares"] in {0, *range(100, 101 + delay, 20)}
    rl("update", "--cpu-shares", "5", "--cpuset-cpus", ALL, sleeper)
    assert inspected(rl, sleeper)["HostConfig"]["CpuShares"] == 5
    assert first(rl, sleeper) == set(CPUS)
    rl("restart", "-t", "0", sleeper)
    assert first(rl, sleeper) == set(CPUS)
