"""Flags of run, exec, ps and logs, each by what the container or the user sees of it."""

from __future__ import annotations

import os
import subprocess
import time
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


def sh(rl: World, script: str, *flags: str, **options: object) -> str:
    """Output of a script in a container that was given FLAGS."""
    return rl.out("run", "--rm", *flags, "busybox", "sh", "-c", script, **options)


@pytest.mark.parametrize(
    ("flags", "script", "seen"),
    [
        (["--hostname", "named"], "hostname; cat /etc/hostname", "named\nnamed"),
        (["--ulimit", "nofile=111:222"], "ulimit -n; ulimit -Hn", "111\n222"),
        (["--cap-drop", "ALL"], "grep CapEff /proc/self/status", "CapEff:\t0000000000000000"),
        (["--cap-drop", "all", "--cap-add", "chown"], "grep CapP /proc/1/status", "CapPrm:\t0000000000000001"),
        (["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1"),
        (["--security-opt", "seccomp=unconfined"], "grep Seccomp: /proc/self/status", "Seccomp:\t0"),
        (["--security-opt", "systempaths=unconfined"], "grep -c ' /proc/' /proc/self/mountinfo; true", "0"),
        (["--entrypoint", "/bin/echo"], "unused", "sh -c unused"),
        (["--init"], "cat /proc/1/cmdline | tr '\\0' ' ' | cut -d' ' -f1", "/sbin/docker-init"),
        (["--network", "none"], "ls /sys/class/net", "lo"),
        (["--userns", "host"], "wc -l < /proc/self/uid_map", "2"),
        (["-e", "A=x y", "-e", "PATH=/bin"], "echo \"$A\" $PATH", "x y /bin"),
        (["--add-host", "db:10.1.2.3"], "grep ^10.1.2.3 /etc/hosts", "10.1.2.3\tdb"),
        (["--dns", "10.9.8.7"], "grep nameserver /etc/resolv.conf", "nameserver 10.9.8.7"),
        (["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj", "500"),
        (["--group-add", "extra", "--group-add", "4242"], "id -G", "0 2000 4242"),
        (["-u", "1234:77"], "id -u; id -g; echo $HOME", "1234\n77\n/"),
        (["--ipc", "none"], "test -e /dev/shm || echo none", "none"),
        (["--sysctl", "kernel.shmmax=4096", "--ipc", "private"], "cat /proc/sys/kernel/shmmax", "4096"),
        (["--mount", "type=tmpfs,dst=/m,tmpfs-mode=0700"], "stat -c %a /m", "700"),
        (["--device", "/dev/zero:/dev/nothing:r"], "head -c 2 /dev/nothing | wc -c", "2"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)  # fmt: skip
def test_what_a_flag_does(rl: World, flags: list[str], script: str, seen: str) -> None:
    assert sh(rl, script, *flags) == seen


@pytest.mark.parametrize("network", ["none", "host"])
def test_the_callers_umask_is_not_the_containers(rl: World, network: str) -> None:
    """077 is common on shared machines; a container's users have to read its root and its /etc all the same."""
    words = [
        "run",
        "--rm",
        "--network",
        network,
        "--user",
        "1000",
        "-v",
        f"umask-{network}:/new/one",
    ]
    script = "stat -c %a / /new /new/one /dev/shm /etc/hosts /etc/hostname /etc/resolv.conf; cat /etc/hosts"
    argv = ["sh", "-c", 'umask 077; exec "$@"', "sh", *rl.argv, *words, "--ipc", "shareable"]
    done = subprocess.run(
        [*argv, "busybox", "sh", "-c", script],
        env=rl.env, cwd="/", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:7] == ["755", "755", "755", "1777", "644", "644", "644"]
    rl("volume", "rm", f"umask-{network}")


def test_a_program_of_the_host_has_the_callers_umask(rl: World) -> None:
    argv = ["sh", "-c", 'umask 027; exec "$@"', "sh", *rl.argv, "unshare", "sh", "-c", "umask"]
    done = subprocess.run(argv, env=rl.env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0027"


def test_sizes(rl: World) -> None:
    assert "2048" in sh(rl, "df -k /dev/shm | tail -n 1", "--shm-size", "2m")
    assert "65536" in sh(rl, "df -k /dev/shm | tail -n 1")


def test_privileged_has_all_capabilities_and_no_filter(rl: World) -> None:
    text = sh(
        rl,
        "grep -e CapEff -e Seccomp: /proc/self/status; mount -t tmpfs x /tmp && echo mounted",
        "--privileged",
    )
    assert "Seccomp:\t0" in text
    assert "mounted" in text
    assert "0000000000000001" not in text


def test_environment_files(rl: World) -> None:
    path = f"{rl.top}/env"
    with open(path, "w", encoding="utf-8") as file:
        file.write("# comment\nFILE=1\nBOTH=file\nTAKEN\n")
    shown = sh(
        rl, "echo $FILE $BOTH $TAKEN", "--env-file", path, "-e", "BOTH=flag", env={"TAKEN": "yes"}
    )
    assert shown == "1 flag yes"
    done = rl("run", "--rm", "--env-file", "/nosuch", "busybox", "true", code=125)
    assert "/nosuch" in done.stderr


def test_cidfile_labels_and_inspect(rl: World) -> None:
    path = f"{rl.top}/cid"
    identity = rl.out(
        "run", "-d", "--cidfile", path, "--name", "labelled", "-l", "a=b", "--label", "c",
        "--stop-signal", "USR1", "--stop-timeout", "1", "busybox", "sleep", "300",
    )  # fmt: skip
    with open(path, encoding="ascii") as file:
        assert file.read() == identity
    assert rl("run", "--cidfile", path, "busybox", "true", code=125)
    labels = rl.out(
        "inspect", "-f", '{{index .Config.Labels "a"}}|{{index .Config.Labels "c"}}', "labelled"
    )
    assert labels == "b|"
    assert (
        rl.out("inspect", "-f", "{{.Config.StopSignal}} {{.Id}}", identity[:8])
        == f"USR1 {identity}"
    )
    for words in (
        ["label=a=b"],
        ["label=c"],
        ["name=label"],
        ["status=running", "ancestor=busybox"],
    ):
        flags = [word for one in words for word in ("-f", one)]
        assert rl.out("ps", "-q", "--no-trunc", *flags) == identity
    assert rl.out("ps", "-q", "-f", "label=a=x") == ""
    rl("stop", "labelled")
    assert rl.out("wait", "labelled") == "137"  # sleep is PID 1 and ignores USR1
    rl("rm", "labelled")


def test_logs(rl: World) -> None:
    script = "echo one; echo two >&2; sleep 1.2; echo three"
    rl("run", "--name", "talker", "busybox", "sh", "-c", script)
    done = rl("logs", "talker")
    assert (done.stdout, done.stderr) == ("one\nthree\n", "two\n")
    assert rl.out("logs", "--tail", "1", "talker") == "three"
    stamped = rl.out("logs", "-t", "--tail", "1", "talker")
    when, text = stamped.split(" ")
    assert text == "three"
    assert len(when) == len("2026-01-01T00:00:00.000000000Z")
    assert rl("logs", "--since", when, "talker").stdout == "three\n"
    early = rl("logs", "--until", "1h", "talker").stdout
    assert early == ""
    rl("start", "talker")
    followed = rl("logs", "-f", "--tail", "0", "talker")
    assert "three" in followed.stdout
    rl("rm", "-f", "talker")


def test_log_limits(rl: World) -> None:
    rl(
        "run", "--name", "rotating", "--log-opt", "max-size=4k", "--log-opt", "max-file=2",
        "busybox", "sh", "-c", "seq 2000",
    )  # fmt: skip
    shown = rl.out("logs", "rotating").splitlines()
    assert shown[-1] == "2000"
    assert 0 < len(shown) < 2000
    rl("rm", "rotating")
    rl("run", "--name", "quiet", "--log-driver", "none", "busybox", "echo", "x")
    assert rl("logs", "quiet", check=False).stdout == ""
    rl("rm", "quiet")


def test_exec_flags(rl: World) -> None:
    rl("run", "-d", "--name", "host1", "busybox", "sleep", "300")
    assert (
        rl.out("exec", "-e", "A=1", "-w", "/tmp", "host1", "sh", "-c", "echo $A; pwd") == "1\n/tmp"
    )
    assert rl.out("exec", "-i", "host1", "cat", input="in") == "in"
    rl("exec", "host1", "nosuch", code=127)
    rl("exec", "host1", "/etc/passwd", code=126)
    rl("exec", "-d", "host1", "touch", "/made")
    until(lambda: rl("exec", "host1", "ls", "/made", check=False).returncode == 0)
    seen = rl.out("exec", "host1", "grep", "-e", "Seccomp:", "-e", "CapEff", "/proc/self/status")
    assert seen == "CapEff:\t00000000a80425fb\nSeccomp:\t2"
    rl("rm", "-f", "host1")


def test_sharing_namespaces(rl: World) -> None:
    rl(
        "run",
        "-d",
        "--name",
        "donor",
        "--ipc",
        "shareable",
        "--network",
        "none",
        "busybox",
        "sleep",
        "300",
    )
    rl("exec", "donor", "touch", "/dev/shm/there")
    assert sh(rl, "ls /dev/shm", "--ipc", "container:donor") == "there"
    assert "sleep 300" in sh(rl, "ps", "--pid", "container:donor")
    net = rl.out("exec", "donor", "readlink", "/proc/self/ns/net")
    assert sh(rl, "readlink /proc/self/ns/net", "--network", "container:donor") == net
    rl("run", "--rm", "--pid", "container:nosuch", "busybox", "true", code=125)
    rl("rm", "-f", "donor")


def test_a_root_filesystem_of_ones_own(rl: World) -> None:
    root = f"{rl.top}/own"
    os.makedirs(f"{root}/bin")
    subprocess.run(["cp", "/bin/busybox", f"{root}/bin/sh"], check=True)
    assert rl.out("run", "--rm", "--rootfs", root, "/bin/sh", "-c", "echo own") == "own"
    rl("run", "--rm", "--rootfs", "/nosuch", "true", code=125)


def test_lists_and_templates(rl: World) -> None:
    rl("create", "--name", "first", "busybox", "true")
    rl("create", "--name", "second", "busybox", "echo", "a long command line of many words")
    assert rl.out("ps", "-a", "--format", "{{.Names}}").splitlines()[:2] == ["second", "first"]
    assert '"Names":"second"' in rl.out("ps", "-a", "-n", "1", "--format", "json").replace(
        ": ", ":"
    )
    table = rl.out("ps", "-a", "--format", "table {{.Names}}\t{{.Image}}").splitlines()
    assert table[0].split() == ["NAMES", "IMAGE"]
    rl("inspect", "-f", "{{.Nope}}", "first", check=False, code=1)
    prefix = rl.out("inspect", "-f", "{{.Id}}", "first")[:10]
    assert rl.out("inspect", "-f", "{{.Name}}", prefix) == "/first"
    rl("inspect", "nosuch", code=1)
    rl("rm", "first", "second")


def test_tags_and_removal_of_images(rl: World) -> None:
    rl("tag", "busybox", "mine:1")
    assert "mine" in rl.out("images", "--format", "{{.Repository}}:{{.Tag}}")
    done = rl("rmi", "mine:1")
    assert done.stdout == "Untagged: mine:1\n"
    rl("create", "--name", "user", "busybox", "true")
    assert "conflict" in rl("rmi", "busybox", code=1).stderr
    rl("rm", "user")
    rl("tag", "busybox", "UPPER:1", code=125, check=False)
    rl("rmi", "nosuch", code=1)


def test_layers_are_derived_and_come_back(rl: World) -> None:
    subprocess.run(
        ["unshare", "--map-root-user", "rm", "-rf", f"{rl.home}/.local/share/rootless/layers"],
        check=False,
    )
    assert sh(rl, "echo back") == "back"


def test_unless_told_otherwise_a_restart_policy_ends_with_a_stop(rl: World) -> None:
    rl("run", "-d", "--name", "always", "--restart", "always", "busybox", "sh", "-c", "sleep 0.1")
    until(lambda: int(rl.out("inspect", "-f", "{{.RestartCount}}", "always")) >= 2)
    rl("stop", "-t", "1", "always")
    time.sleep(0.5)
    assert rl.out("inspect", "-f", "{{.State.Running}}", "always") == "false"
    rl("rm", "always")
