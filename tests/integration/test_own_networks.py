"""--network pasta and --network slirp4netns: a program beside each container, for as long as it lives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
from networld import HOST, OUTSIDE, NetWorld
from rig import busybox, until
from test_networks import end, server

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "busybox", "net-tun")
# Not as the first process, which cannot be ended from inside.
NC = ("sh", "-c", 'timeout 4 nc "$@"; true', "nc")
SERVE = "while :; do echo here | nc -l -p 80; done"
PROGRAMS = [
    pytest.param(name, marks=pytest.mark.requires(name)) for name in ("pasta", "slirp4netns")
]


@pytest.fixture(scope="module")
def net() -> Iterator[NetWorld]:
    world = NetWorld()
    busybox(world)
    yield world
    for name in world.names():
        world("rm", "-f", name)
    world.close()


@pytest.fixture(params=PROGRAMS)
def name(request: pytest.FixtureRequest, net: NetWorld) -> Iterator[str]:
    yield request.param
    for one in net.names():
        net("rm", "-f", one)
    until(lambda: not programs(net, request.param))


def programs(net: NetWorld, name: str) -> list[int]:
    """Processes of the program that a monitor of this world has started."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = _words(pid)
            if words[0].endswith(f"/{name}") and any(
                net.top in word for word in _words(parent(pid))
            ):
                found.append(int(pid))
        except OSError:
            continue
    return found


def _words(pid: str) -> list[str]:
    with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
        return file.read().split("\0")


def parent(pid: str) -> str:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()[1]


def ask(net: NetWorld, port: int = 8080) -> str:
    done: subprocess.CompletedProcess[str] = net.outside(
        "busybox", "timeout", "3", "nc", HOST, str(port), check=False
    )
    return done.stdout


def test_a_container_reaches_the_outside(net: NetWorld, name: str) -> None:
    far = server(net, OUTSIDE, 8000)
    try:
        done = net("run", "--rm", "--network", name, "busybox", *NC, OUTSIDE, "8000", check=False)
        assert done.stdout == f"{HOST}\n", done.stderr
    finally:
        end(far)
    assert not programs(net, name)


def test_it_has_an_interface_and_a_name_server_of_its_own(net: NetWorld, name: str) -> None:
    out = net.out(
        "run", "--rm", "--network", name, "busybox", "sh", "-c", "cat /etc/resolv.conf; ip addr"
    )
    assert f"nameserver {'169.254.1.1' if name == 'pasta' else '10.0.2.3'}\n" in out
    assert "inet 10.0.2.100/24" in out or (name == "pasta" and f"inet {HOST}/24" in out)
    out = net.out("run", "--rm", "--network", name, "--dns", "192.0.2.9", "busybox",
                  "cat", "/etc/resolv.conf")  # fmt: skip
    assert "nameserver 192.0.2.9" in out
    assert out.count("nameserver") == 1


def test_ports_are_published_and_shown(net: NetWorld, name: str) -> None:
    net("run", "-d", "--name", "kept", "--network", name, "-p", "8080:80", "-p", "127.0.0.1::81/udp",
        "busybox", "sh", "-c", SERVE)  # fmt: skip
    until(lambda: ask(net) == "here\n")
    shown = net.out("port", "kept").splitlines()
    assert "80/tcp -> 0.0.0.0:8080" in shown
    (chosen,) = [line for line in shown if line.startswith("81/udp -> 127.0.0.1:")]
    assert int(chosen.rpartition(":")[2]) >= 1024
    assert "0.0.0.0:8080->80/tcp" in net.out("ps", "--format", "{{.Ports}}")
    (found,) = json.loads(net.out("inspect", "kept"))
    assert found["HostConfig"]["NetworkMode"] == name
    assert found["NetworkSettings"]["Ports"]["80/tcp"] == [
        {"HostIp": "0.0.0.0", "HostPort": "8080"}
    ]
    # The same one is published after a restart, as the old program is gone before the new one comes.
    for _ in range(3):
        net("restart", "-t", "0", "kept")
        assert len(programs(net, name)) == 1
    until(lambda: ask(net) == "here\n")
    assert net.out("port", "kept").splitlines() == shown


def test_a_taken_port_is_an_error_before_anything_runs(net: NetWorld, name: str) -> None:
    net(
        "run",
        "-d",
        "--name",
        "first",
        "--network",
        name,
        "-p",
        "8080:80",
        "busybox",
        "sleep",
        "1000",
    )
    done = net("run", "--name", "second", "--network", name, "-p", "8080:80", "busybox",
               "echo", "ran", check=False)  # fmt: skip
    assert done.returncode in (125, 128), done.stderr
    assert "ran" not in done.stdout
    assert "8080" in done.stderr or "ind" in done.stderr
    assert len(programs(net, name)) == 1


def test_the_program_goes_with_the_container(net: NetWorld, name: str) -> None:
    net(
        "run",
        "-d",
        "--name",
        "kept",
        "--network",
        name,
        "-p",
        "8080:80",
        "busybox",
        "sleep",
        "1000",
    )
    assert len(programs(net, name)) == 1
    net("kill", "kept")
    until(lambda: net.out("inspect", "-f", "{{.State.Status}}", "kept") == "exited")
    assert not programs(net, name)
    net("start", "kept")
    (pid,) = programs(net, name)
    monitor = int(parent(str(pid)))
    os.kill(monitor, signal.SIGKILL)
    until(lambda: not programs(net, name))


def test_a_program_that_dies_is_in_the_log(net: NetWorld, name: str) -> None:
    net("run", "-d", "--name", "kept", "--network", name, "busybox", "sleep", "1000")
    (pid,) = programs(net, name)
    os.kill(pid, signal.SIGKILL)
    until(lambda: "the program of this container's network has ended" in net("logs", "kept").stderr)
    assert net.out("inspect", "-f", "{{.State.Status}}", "kept") == "running"


@pytest.mark.parametrize(
    ("network", "wanted"),
    [
        ("slirp4netns:bogus=1", "unknown option for slirp4netns: 'bogus'"),
        ("slirp4netns:mtu=1", "invalid slirp4netns option mtu=1"),
        ("pasta:--netns=/x", "invalid pasta option --netns=/x"),
        ("pasta:--no-such-option", "pasta failed: "),
    ],
)
@pytest.mark.requires("pasta", "slirp4netns")
def test_options_that_make_no_sense(net: NetWorld, network: str, wanted: str) -> None:
    done = net("run", "--rm", "--network", network, "busybox", "true", check=False)
    assert done.returncode in (125, 128)
    assert wanted in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.requires("slirp4netns")
def test_options_reach_the_program(net: NetWorld) -> None:
    network = "slirp4netns:mtu=1400,cidr=10.77.0.0/24,enable_ipv6=false"
    out = net.out("run", "--rm", "--network", network, "busybox", "ip", "addr", "show", "tap0")
    assert "mtu 1400" in out
    assert "inet 10.77.0.100/24" in out
