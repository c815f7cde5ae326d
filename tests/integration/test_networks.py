"""Containers on networks, whole: rootless itself, its service, an outside beyond one wire."""

from __future__ import annotations

import concurrent.futures
import glob
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from networld import HOST, OUTSIDE, OUTSIDE6, NetWorld
from rig import busybox, until

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "busybox")
ECHO = (
    "import socket, sys; s = socket.create_server((sys.argv[1], int(sys.argv[2])), "
    "family=socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET); print('ready', flush=True)\n"
    "while True:\n"
    " c, a = s.accept(); c.sendall((a[0] + '\\n').encode()); c.close()"
)


@pytest.fixture(scope="module")
def net() -> Iterator[NetWorld]:
    world = NetWorld()
    busybox(world)
    yield world
    for name in world.names():
        world("rm", "-f", name)
    world.close()


def server(net: NetWorld, address: str, port: int) -> subprocess.Popen[str]:
    """A server of the outside that tells each client its address; it listens already."""
    found = net.start("python3", "-c", ECHO, address, str(port), stdout=subprocess.PIPE)
    assert found.stdout is not None and found.stdout.readline() == "ready\n"
    return found


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def status(net: NetWorld) -> dict[str, Any]:
    """What the network service says of itself."""
    script = (
        "import socket, sys, glob; s = socket.socket(socket.AF_UNIX); s.connect(glob.glob(sys.argv[1])[0]); "
        's.sendall(b\'{"op":"status"}\\n\'); print(s.makefile().read())'
    )
    out = net.near("python3", "-c", script, f"{net.runtime}/rootless/*/net/*/sock").stdout
    found: dict[str, Any] = json.loads(out)
    return found


def address_of(net: NetWorld, name: str, network: str = "bridge") -> str:
    (found,) = json.loads(net.out("inspect", name))
    return str(found["NetworkSettings"]["Networks"][network]["IPAddress"])


def test_a_container_has_an_address_and_a_way_out(net: NetWorld) -> None:
    out = net.out(
        "run", "--rm", "busybox", "sh", "-c", "ip -4 -o addr show eth0; ip route; cat /etc/hosts"
    )
    assert "inet 172.17.0." in out
    assert "default via 172.17.0.1 dev eth0" in out
    far = server(net, OUTSIDE, 8000)
    try:
        assert net.out("run", "--rm", "busybox", "nc", OUTSIDE, "8000") == HOST
    finally:
        end(far)
    done = net("run", "--rm", "busybox", "nc", OUTSIDE, "8001", check=False)
    assert "Connection refused" in done.stderr
    done = net("run", "--rm", "busybox", "nc", "-w", "9", "10.9.0.77", "8001", check=False)
    assert "No route to host" in done.stderr, "nobody has that address on the wire"


def test_ipv6_where_the_network_has_it(net: NetWorld) -> None:
    net("network", "create", "--ipv6", "six")
    far = server(net, OUTSIDE6, 8000)
    try:
        out = net.out("run", "--rm", "--network", "six", "busybox", "nc", OUTSIDE6, "8000")
        assert out == "fd09::1"
    finally:
        end(far)
    net("network", "rm", "six")


def test_names_on_a_network_of_ones_own(net: NetWorld) -> None:
    net("network", "create", "front")
    words = ["--network", "front", "--network-alias", "www", "--name", "web"]
    net("run", "-d", *words, "busybox", "httpd", "-f", "-p", "80", "-h", "/etc")
    for name in ("web", "www", "web.front"):
        out = net.out(
            "run", "--rm", "--network", "front", "busybox", "wget", "-qO-", f"http://{name}/group"
        )
        assert out.startswith("root")
    done = net("run", "--rm", "busybox", "nslookup", "web", check=False)
    assert done.returncode != 0, "not from another network"
    done = net("network", "rm", "front", check=False)
    assert "has active endpoints" in done.stderr
    net("rm", "-f", "web")
    net("network", "rm", "front")


def test_networks_do_not_reach_each_other(net: NetWorld) -> None:
    net("network", "create", "left")
    net("network", "create", "--internal", "inner")
    net(
        "run", "-d", "--name", "target", "--network", "left", "busybox", "httpd", "-f", "-h", "/etc"
    )
    where = address_of(net, "target", "left")
    done = net("run", "--rm", "busybox", "nc", "-w", "2", where, "80", check=False)
    assert done.returncode != 0
    far = server(net, OUTSIDE, 8000)
    try:
        done = net(
            "run",
            "--rm",
            "--network",
            "inner",
            "busybox",
            "nc",
            "-w",
            "2",
            OUTSIDE,
            "8000",
            check=False,
        )
        assert done.returncode != 0 and HOST not in done.stdout
    finally:
        end(far)
    net("rm", "-f", "target")
    net("network", "rm", "left", "inner")


def test_a_published_port_and_who_comes(net: NetWorld) -> None:
    script = "while true; do nc -l -p 9000 -e sh -c 'cat /proc/net/tcp /proc/net/tcp6'; done"
    net("run", "-d", "--name", "pub", "-p", "9100:9000", "busybox", "sh", "-c", script)
    assert net.out("port", "pub") == "9000/tcp -> 0.0.0.0:9100\n9000/tcp -> [::]:9100"
    ask = (
        "import socket, sys; print(socket.create_connection((sys.argv[1], 9100)).makefile().read())"
    )
    # /proc/net/tcp of the container: the peer's address, in the kernel's order of bytes.
    assert "0200090A" in net.outside("python3", "-c", ask, HOST).stdout
    assert "010011AC" in net.near("python3", "-c", ask, "127.0.0.1").stdout, "the gateway"
    again = net("run", "--rm", "-p", "9100:1", "busybox", "true", check=False)
    assert again.returncode == 125
    assert "Bind for 0.0.0.0:9100 failed: port is already allocated" in again.stderr
    net("rm", "-f", "pub")
    net("run", "--rm", "-p", "9100:1", "busybox", "true")


def test_a_port_that_is_handed_over(net: NetWorld) -> None:
    """The program inherits a socket of the host's: LISTEN_FDS, and no relay between it and its clients."""
    script = "echo $LISTEN_FDS $LISTEN_FDNAMES $LISTEN_PID $$; readlink /proc/self/fd/3; sleep 1000"
    net("run", "-d", "--name", "act", "-p", "9150:80/tcp,activate", "busybox", "sh", "-c", script)
    until(lambda: "socket:" in net.out("logs", "act"))
    first = net.out("logs", "act").split("\n")[0]
    assert first == "1 80-tcp 1 1"
    assert "9150" in net.out("port", "act")
    ask = "import socket, sys; socket.create_connection((sys.argv[1], 9150)); print('in')"
    assert net.outside("python3", "-c", ask, HOST).stdout == "in\n"
    again = net("run", "--rm", "-p", "9150:1", "busybox", "true", check=False)
    assert again.returncode == 125 and "address already in use" in again.stderr
    net("rm", "-f", "act")
    assert net.outside("python3", "-c", ask, HOST, check=False).returncode != 0


def test_connecting_and_disconnecting_while_it_runs(net: NetWorld) -> None:
    net("network", "create", "side")
    net("run", "-d", "--name", "mover", "busybox", "sleep", "1000")
    net(
        "run", "-d", "--name", "server", "--network", "side", "busybox", "httpd", "-f", "-h", "/etc"
    )
    net("network", "connect", "--alias", "moved", "side", "mover")
    assert net.out("exec", "mover", "wget", "-qO-", "http://server/group").startswith("root")
    assert "eth1" in net.out("exec", "mover", "ip", "addr")
    assert net.out("exec", "server", "ping", "-c", "1", "moved")
    net("network", "disconnect", "side", "mover")
    assert "eth1" not in net.out("exec", "mover", "ip", "addr")
    assert net("exec", "mover", "nslookup", "server", check=False).returncode != 0
    net("rm", "-f", "mover", "server")
    net("network", "rm", "side")


def test_a_users_edits_of_hosts_survive_a_restart(net: NetWorld) -> None:
    net("run", "-d", "--name", "edited", "busybox", "sleep", "1000")
    net("exec", "edited", "sh", "-c", "echo 192.0.2.1 printer >> /etc/hosts")
    before = address_of(net, "edited")
    net("restart", "-t", "0", "edited")
    text = net.out("exec", "edited", "cat", "/etc/hosts")
    assert "192.0.2.1 printer" in text
    assert address_of(net, "edited") == before, "the address is the one it had"
    assert text.count(before) == 1
    net("rm", "-f", "edited")


def test_the_service_is_killed(net: NetWorld) -> None:
    """Containers run on, the service is back with ports and names, and nobody loses an address."""
    net("network", "create", "safe")
    net(
        "run",
        "-d",
        "--name",
        "one",
        "--network",
        "safe",
        "-p",
        "9200:80",
        "busybox",
        "httpd",
        "-f",
        "-h",
        "/etc",
    )
    net("run", "-d", "--name", "two", "--network", "safe", "busybox", "sleep", "1000")
    before = status(net)
    os.kill(before["pid"], signal.SIGKILL)
    page = f"http://{address_of(net, 'one', 'safe')}/group"
    assert net.out("exec", "two", "wget", "-qO-", page).startswith("root"), "the bridge carries on"
    after = status(net)
    assert after["pid"] != before["pid"]
    assert after["containers"] == before["containers"]
    assert net.out("exec", "two", "wget", "-qO-", "http://one/group").startswith("root")
    out = net.outside(
        "python3",
        "-c",
        f"import urllib.request as r; print(r.urlopen('http://{HOST}:9200/group').read().decode())",
    ).stdout
    assert out.startswith("root")
    net("rm", "-f", "one", "two")
    net("network", "rm", "safe")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_holder_of_the_realm_is_killed(net: NetWorld, number: int) -> None:
    """The service has the namespaces still: those who come later share them with those who are there."""
    net("network", "create", "held")
    net("run", "-d", "--name", "first", "--network", "held", "busybox", "httpd", "-f", "-h", "/etc")
    before = status(net)
    pid = holder(net)
    spaces = [os.stat(f"/proc/{pid}/ns/{kind}").st_ino for kind in ("user", "net")]
    os.kill(pid, number)
    while os.path.exists(f"/proc/{pid}"):
        time.sleep(0.01)
    page = "http://first/group"
    reached = net.out("run", "--rm", "--network", "held", "busybox", "wget", "-qO-", page)
    assert reached.startswith("root")
    assert holder(net) != pid
    assert [os.stat(f"/proc/{holder(net)}/ns/{kind}").st_ino for kind in ("user", "net")] == spaces
    assert status(net)["pid"] == before["pid"]
    net("rm", "-f", "first")
    net("network", "rm", "held")


def holder(net: NetWorld) -> int:
    """The process that keeps the realm's namespaces."""
    out = net.near("sh", "-c", f"cat {net.runtime}/rootless/*/realm/????????????????").stdout
    return int(out.split()[0])


def test_the_service_is_killed_while_it_attaches(net: NetWorld) -> None:
    """Mostly between its record and its answer: the launcher asks the next service, and is served."""
    net("network", "create", "torn")
    net("run", "-d", "--name", "torn", "--network", "torn", "busybox", "sleep", "1000")
    records = Path(glob.glob(f"{net.runtime}/rootless/*/net/*/state/endpoints")[0])
    for number in range(4):
        pid, before = status(net)["pid"], set(os.listdir(records))
        words = ["run", "-d", "--name", f"torn{number}", "--network", "torn", "busybox"]
        command = [*net.argv, *words, "httpd", "-f", "-h", "/etc"]
        start = subprocess.Popen(
            command, env=net.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 20
        while not set(os.listdir(records)) - before and time.monotonic() < deadline:
            pass
        os.kill(pid, signal.SIGKILL)
        _, said = start.communicate(timeout=60)
        assert start.returncode == 0, said
    found = status(net)["containers"]
    assert len({one["networks"]["torn"] for one in found.values()}) == len(found) == 5
    for number in range(4):
        page = net.out("exec", "torn", "wget", "-qO-", f"http://torn{number}/group")
        assert page.startswith("root")
        links = net.out("exec", f"torn{number}", "ip", "-o", "-4", "addr")
        assert address_of(net, f"torn{number}", "torn") in links
    net("rm", "-f", "torn", *(f"torn{number}" for number in range(4)))
    net("network", "rm", "torn")


def test_two_hundred_at_once_have_addresses_of_their_own(net: NetWorld) -> None:
    """... which others get when they were killed: the network has room for 253."""
    count = 200
    net("network", "create", "--subnet", "10.66.0.0/24", "crowd")

    def start(name: str) -> None:
        net("run", "-d", "--name", name, "--network", "crowd", "busybox", "sleep", "1000")

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        list(pool.map(start, [f"many{n}" for n in range(count)]))
    found = status(net)["containers"]
    assert len({one["networks"]["crowd"] for one in found.values()}) == len(found) == count
    told = json.loads(net.out("inspect", *(f"many{n}" for n in range(count))))
    assert {one["NetworkSettings"]["Networks"]["crowd"]["IPAddress"] for one in told} == {
        one["networks"]["crowd"] for one in found.values()
    }
    for one in told:
        os.kill(one["State"]["Pid"], signal.SIGKILL)
    until(lambda: not status(net)["containers"])
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(start, [f"later{n}" for n in range(60)]))
    found = status(net)["containers"]
    assert len({one["networks"]["crowd"] for one in found.values()}) == 60
    net("rm", "-f", *(f"many{n}" for n in range(count)), *(f"later{n}" for n in range(60)))
    net("network", "rm", "crowd")


def bridges(net: NetWorld) -> set[str]:
    """The realm's bridges, as the service's thread there sees them."""
    pid = status(net)["pid"]
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/net/dev", encoding="ascii") as file:
            names = {line.split(":")[0].strip() for line in file if ":" in line}
        if "up0" in names:
            return {name for name in names if name.startswith(("br-", "ours"))}
    raise AssertionError("no thread is in the realm")


def test_a_bridge_stays_for_a_while_and_makes_way(net: NetWorld) -> None:
    net("run", "-d", "--name", "keeps", "busybox", "sleep", "1000")
    until(lambda: len(bridges(net)) == 1)
    (default,) = bridges(net)
    words = ["--subnet", "10.67.0.0/24", "--opt", "com.docker.network.bridge.name=ours"]
    net("network", "create", *words, "first")
    net("run", "--rm", "--network", "first", "busybox", "true")
    assert bridges(net) == {default, "ours"}, "the next container would find it there"
    net("network", "rm", "first")
    net("network", "create", *words[:2], "second")
    net("run", "-d", "--name", "heir", "--network", "second", "busybox", "sleep", "1000")
    assert "ours" not in bridges(net), "it would have the addresses of the second"
    assert len(bridges(net)) == 2
    net("rm", "-f", "heir")
    until(lambda: bridges(net) == {default})
    net("rm", "-f", "keeps")
    net("network", "rm", "second")


PATIENT = """
import socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
while True:
    client, _ = listener.accept()
    client.sendall(b"first words\\n")
    print("served", flush=True)
    try:
        while client.recv(4096):
            pass
    except ConnectionError:
        pass
    print("ended", flush=True)
"""


@pytest.mark.parametrize("how", ["killed", "disconnected"])
def test_upstream_learns_that_nobody_is_there(net: NetWorld, how: str) -> None:
    """A container that says nothing any more: what it had open ends in seconds, not by keepalive."""
    words = ["python3", "-c", PATIENT, OUTSIDE, "7300"]
    upstream = net.start(*words, stdout=subprocess.PIPE)
    assert upstream.stdout is not None
    assert upstream.stdout.readline() == "ready\n"
    net("network", "create", "brief")
    reads = f"sleep 1000 | nc {OUTSIDE} 7300"
    net("run", "-d", "--name", "reader", "--network", "brief", "busybox", "sh", "-c", reads)
    try:
        assert upstream.stdout.readline() == "served\n"
        until(lambda: net.out("logs", "reader") == "first words")
        assert status(net)["flows"] == 1
        if how == "killed":
            (found,) = json.loads(net.out("inspect", "reader"))
            os.kill(found["State"]["Pid"], signal.SIGKILL)
        else:
            net("network", "disconnect", "brief", "reader")
        ready, _, _ = select.select([upstream.stdout], [], [], 20)
        assert ready and upstream.stdout.readline() == "ended\n"
    finally:
        end(upstream)
        net("rm", "-f", "reader")
        net("network", "rm", "brief")


def test_it_ends_when_nobody_needs_it(net: NetWorld) -> None:
    net("run", "--rm", "busybox", "true")
    pid = status(net)["pid"]
    until(lambda: not os.path.exists(f"/proc/{pid}"))
    net("run", "--rm", "busybox", "true")


def test_a_container_that_restarts_keeps_port_and_address(net: NetWorld) -> None:
    net(
        "run",
        "-d",
        "--name",
        "again",
        "--restart",
        "always",
        "-p",
        "9300:80",
        "busybox",
        "httpd",
        "-f",
        "-h",
        "/etc",
    )
    before = address_of(net, "again")
    net("exec", "again", "kill", "-9", "1", check=False)
    net("exec", "again", "kill", "1", check=False)
    (found,) = json.loads(net.out("inspect", "again"))
    os.kill(found["State"]["Pid"], signal.SIGKILL)
    until(lambda: json.loads(net.out("inspect", "again"))[0]["RestartCount"] >= 1)
    until(lambda: json.loads(net.out("inspect", "again"))[0]["State"]["Running"])
    until(lambda: address_of(net, "again") == before)
    time.sleep(0)
    assert net.outside(
        "python3", "-c", f"import urllib.request as r; r.urlopen('http://{HOST}:9300/group')"
    )
    net("rm", "-f", "again")
