"""--network-opt fast=connect, whole: containers whose connections are the host's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from networld import HOST, OUTSIDE, NetWorld
from rig import busybox, until

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "busybox")
FAST = ("--network-opt", "fast=connect")
HOLD = (
    "import socket; s = socket.create_server(('', 8000)); print('ready', flush=True)\n"
    "kept = []\n"
    "while True:\n"
    " c, a = s.accept(); c.sendall((a[0] + '\\n').encode()); kept.append(c)"
)
# Says what the peer says of it, then whether its own namespace knows the connection (port 8000 is 1F40).
ASK = (
    f"(sleep 2) | nc {OUTSIDE} 8000 > /tmp/said & sleep 0.7; cat /tmp/said; "
    "grep -c ':1F40 01' /proc/net/tcp; kill %1"
)


@pytest.fixture(scope="module")
def net() -> Iterator[NetWorld]:
    world = NetWorld()
    busybox(world)
    yield world
    for name in world.names():
        world("rm", "-f", name)
    world.close()


@pytest.fixture(scope="module")
def far(net: NetWorld) -> Iterator[str]:
    """A server of the outside that holds its connections."""
    process = net.start("python3", "-c", HOLD, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    yield OUTSIDE
    process.kill()
    process.wait()
    process.stdout.close()


def test_connections_are_made_by_the_host(net: NetWorld, far: str) -> None:
    assert far == OUTSIDE
    assert net.out("run", "--rm", "busybox", "sh", "-c", ASK).split() == [HOST, "1"]
    for words in ((), ("--init",), ("--user", "1000"), ("--userns", "keep-id"), ("--read-only",)):
        tmp = ("--tmpfs", "/tmp")
        out = net.out("run", "--rm", *FAST, *tmp, *words, "busybox", "sh", "-c", ASK)
        assert out.split() == [HOST, "0"], words


def test_refusals_and_other_containers_as_always(net: NetWorld) -> None:
    net("network", "create", "front")
    net("run", "-d", "--name", "web", "--network", "front", "busybox", "httpd", "-f", "-h", "/etc")
    run = ("run", "--rm", *FAST, "--network", "front", "busybox")
    assert net.out(*run, "wget", "-qO-", "http://web/group").startswith("root")
    done = net(*run, "nc", OUTSIDE, "8001", check=False)
    assert "Connection refused" in done.stderr
    done = net(*run, "nc", "-w", "2", "169.254.169.254", "80", check=False)
    assert done.returncode != 0
    done = net(*run, "nc", "-w", "2", "127.0.0.1", "80", check=False)
    assert "Connection refused" in done.stderr
    net("rm", "-f", "web")
    net("network", "rm", "front")


def test_what_runs_in_it_later_and_after_a_restart(net: NetWorld, far: str) -> None:
    assert far == OUTSIDE
    net("run", "-d", "--name", "fast", *FAST, "busybox", "sleep", "600")
    assert net.out("exec", "fast", "sh", "-c", ASK).split() == [HOST, "0"]
    net("restart", "-t", "0", "fast")
    assert net.out("exec", "fast", "sh", "-c", ASK).split() == [HOST, "0"]
    net("rm", "-f", "fast")


def test_networks_taken_and_given_while_it_runs(net: NetWorld, far: str) -> None:
    assert far == OUTSIDE
    net("network", "create", "--internal", "inner")
    net("run", "-d", "--name", "moved", *FAST, "busybox", "sleep", "600")
    reach = ("exec", "moved", "sh", "-c", ASK)
    assert net.out(*reach).split() == [HOST, "0"]
    net("network", "connect", "inner", "moved")
    net("network", "disconnect", "bridge", "moved")
    assert HOST not in net(*reach, check=False).stdout
    net("network", "connect", "bridge", "moved")
    assert net.out(*reach).split() == [HOST, "0"]
    net("rm", "-f", "moved")
    net("network", "rm", "inner")


def test_what_cannot_be(net: NetWorld) -> None:
    for words, phrase in (
        (("--network", "host"), "cannot use fast=connect with network host"),
        (("--userns", "single"), "cannot use fast=connect in a container of one ID"),
    ):
        done = net("run", "--rm", *FAST, *words, "busybox", "true", check=False)
        assert done.returncode == 125 and phrase in done.stderr
    net("network", "create", "--opt", f"egress=allow tcp {OUTSIDE}:8000", "narrow")
    done = net("run", "--rm", *FAST, "--network", "narrow", "busybox", "true", check=False)
    assert done.returncode == 0 or "network narrow: it has egress rules" in done.stderr
    net("network", "rm", "narrow")


def test_its_end_is_told(net: NetWorld) -> None:
    net("run", "-d", "--name", "lost", *FAST, "busybox", "sleep", "600")
    monitor = int(net.out("inspect", "-f", "{{.State.Pid}}", "lost"))
    with open(f"/proc/{monitor}/stat", encoding="ascii") as file:
        parent = int(file.read().rpartition(")")[2].split()[1])
    beside = [
        int(name)
        for name in filter(str.isdigit, os.listdir("/proc"))
        if _is(int(name), parent, "connects")
    ]
    (pid,) = beside
    os.kill(pid, 9)
    until(lambda: "connect fails with ENOSYS" in net("logs", "lost").stderr)
    done = net("exec", "lost", "true", check=False)
    assert done.returncode == 0
    net("rm", "-f", "lost")


def _is(pid: int, parent: int, name: str) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            head, _, tail = file.read().rpartition(")")
    except OSError:
        return False
    return head.endswith(f"({name}") and int(tail.split()[1]) == parent
