"""Many at once: containers, connections, questions, and floods that must hurt only who makes them."""

from __future__ import annotations

import os
import re
import signal
import subprocess

import pytest
from netapps import CROWD, HOLD, MANY, SERVERS, descriptors, finish, memory, python, started, status
from networld import HOST, OUTSIDE, OUTSIDE6, NetWorld
from rig import until

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "busybox", "mmdebstrap")
FLOWS = 2000


def test_fifty_reach_all(apps: NetWorld) -> None:
    """Each of fifty containers gets a page from each of the others by name, all at the same time.

    It has to ask again at times: that is 2450 neighbours, and the kernel's table has room for 1024 of the whole
    machine (net.ipv4.neigh.default.gc_thresh3), each of which is safe there for its first 5 s.
    """
    count = 50
    shared = f"{apps.top}/shared"
    os.mkdir(shared, 0o777)
    os.chmod(shared, 0o777)
    script = (
        "mkdir /www; echo I am $0 >/www/name; httpd -h /www; until [ -e /shared/go ]; do sleep 0.2; done; "
        f"for n in $(seq 0 {count - 1}); do for try in $(seq 30); do "
        "timeout 3 wget -qO- http://c$n/name && break; done; done >/shared/part.$0; "
        "mv /shared/part.$0 /shared/$0; sleep 1000"
    )
    apps("network", "create", "fifty")
    names = [f"c{n}" for n in range(count)]
    for name in names:
        words = ["--name", name, "--network", "fifty", "-v", f"{shared}:/shared"]
        apps("run", "-d", *words, "busybox", "sh", "-c", script, name)
    with open(f"{shared}/go", "w", encoding="ascii"):
        pass
    until(lambda: all(os.path.exists(f"{shared}/{name}") for name in names), 100)
    for name in names:
        with open(f"{shared}/{name}", encoding="ascii") as file:
            assert file.read().splitlines() == [f"I am {other}" for other in names], name


def test_a_hundred_come_and_go(apps: NetWorld) -> None:
    """run --rm on the default network, a hundred at once; nothing is left of them."""
    with started(apps, *python(CROWD, OUTSIDE, "8000")):
        script = f"echo $0 | nc -w 60 {OUTSIDE} 8000 | head -n 1"
        running = [
            apps.spawn(
                "run", "--rm", "busybox", "sh", "-c", script, f"n{n}",
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            for n in range(100)
        ]  # fmt: skip
        done = [one.communicate(timeout=100) for one in running]
    for n, (out, err) in enumerate(done):
        assert (running[n].returncode, out, err) == (0, b"n%d\n" % n, b"")
    assert not apps.names()
    until(lambda: not status(apps)["containers"])


def test_names_under_load(apps: NetWorld) -> None:
    """dnsperf asks for names of containers as fast as it can: every question has its answer."""
    apps("network", "create", "--ipv6", "names")
    for n in range(3):
        apps("run", "-d", "--name", f"peer{n}", "--network", "names", "busybox", "sleep", "1000")
    questions = "".join(f"peer{n} {kind}\\n" for n in range(3) for kind in ("A", "AAAA"))
    script = f"printf '{questions}' >/tmp/q && dnsperf -s 127.0.0.11 -d /tmp/q -l 3 -c 4 -q 50"
    out = apps.out("run", "--rm", "--network", "names", SERVERS, "sh", "-c", script)
    assert re.search(r"Queries lost: +0 ", out), out
    assert re.search(r"Response codes: +NOERROR \d+ \(100\.00%\)", out), out


def connections(net: NetWorld, client: subprocess.Popen[str], expected: int) -> tuple[int, int]:
    """Memory of the service while EXPECTED connections are open, and after they were used again."""
    assert client.stdin is not None and client.stdout is not None
    assert client.stdout.readline() == f"open {expected}\n"
    first = memory(net)
    assert status(net)["flows"] >= expected
    client.stdin.write("\n")
    client.stdin.flush()
    assert client.stdout.readline() == f"open {expected}\n"
    return first, memory(net)


def test_thousands_of_connections_outward(apps: NetWorld) -> None:
    """Two thousand at a time through the relay, three times: memory is bounded and does not grow."""
    apps("run", "-d", "--name", "client", SERVERS, "sleep", "1000")
    pid = int(status(apps)["pid"])
    before, files = memory(apps), descriptors(pid)
    seen = []
    with started(apps, *python(CROWD, OUTSIDE, "8000")):
        for _ in range(3):
            words = [*apps.argv, "exec", "-i", "client", *python(MANY, OUTSIDE, "8000", str(FLOWS))]
            client = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=apps.env
            )
            try:
                seen += connections(apps, client, FLOWS)
                assert client.wait(60) == 0
            finally:
                finish(client)
            until(lambda: status(apps)["flows"] == 0)
    assert max(seen) < before + 16 * 1024, (before, seen)
    assert seen[-1] < seen[1] + 1024, (before, seen)
    until(lambda: descriptors(pid) <= files + 32)


def test_thousands_of_connections_to_a_published_port(apps: NetWorld) -> None:
    apps(
        "run",
        "-d",
        "--name",
        "crowd",
        "-p",
        "8200:8200",
        SERVERS,
        *python(CROWD, "0.0.0.0", "8200"),
    )
    until(lambda: "ready" in apps("logs", "crowd").stdout)
    pid = int(status(apps)["pid"])
    before, files = memory(apps), descriptors(pid)
    seen = []
    for _ in range(3):
        client = python(MANY, HOST, "8200", str(FLOWS))
        with started(apps, *client, ready="") as process:
            seen += connections(apps, process, FLOWS)
            assert process.wait(60) == 0
        until(lambda: status(apps)["flows"] == 0)
    assert max(seen) < before + 16 * 1024, (before, seen)
    assert seen[-1] < seen[1] + 1024, (before, seen)
    until(lambda: descriptors(pid) <= files + 32)


SYN_FLOOD = """
import os, socket, struct, sys
def total(data):
    words = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    words = (words >> 16) + (words & 0xFFFF)
    return ~(words + (words >> 16)) & 0xFFFF
sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
own = socket.inet_aton(sys.argv[1])
print('flooding', flush=True)
number = 0
while True:
    number += 1
    spoofed = sys.argv[3] == 'spoofed'
    source = own[:2] + os.urandom(2) if spoofed else own
    target = socket.inet_aton(sys.argv[2])
    tcp = struct.pack('!HHIIBBHHH', 1024 + number % 60000, number % 60000 + 1, number, 0, 80, 2, 64000, 0, 0)
    tcp = tcp[:16] + struct.pack('!H', total(source + target + struct.pack('!HH', 6, 20) + tcp)) + tcp[18:]
    head = struct.pack('!BBHHHBBH4s4s', 69, 0, 40, 0, 0, 64, 6, 0, source, target)
    try:
        sock.sendto(head + tcp, (sys.argv[2], 0))
    except OSError:
        pass
"""
UDP_FLOOD = """
import socket, sys
print('flooding', flush=True)
number = 0
while True:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(500):
        number += 1
        try:
            sock.sendto(b'x' * 20, (sys.argv[2], 1 + number % 65000))
        except OSError:
            pass
    sock.close()
"""
WORKS = """
import socket, sys
for _ in range(30):
    with socket.create_connection((sys.argv[1], 8000), 20) as s:
        s.sendall(b'x')
        assert s.recv(1) == b'x'
    assert socket.getaddrinfo('bystander', 80)
answered = 0
for _ in range(20):  # each is the first of a flow; one may be lost, as on any busy wire
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(2)
        udp.sendto(b'y', (sys.argv[1], 8001))
        try:
            answered += udp.recv(1) == b'y'
        except socket.timeout:
            pass
assert answered > 15, answered
print('works')
"""
UDP_ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 8001)); print('ready', flush=True)
while True:
    data, peer = s.recvfrom(99)
    s.sendto(data, peer)
"""


@pytest.mark.parametrize("kind", ["own", "spoofed", "udp"])
def test_a_flood_hurts_nobody_else(apps: NetWorld, kind: str) -> None:
    """SYNs to ports that never answer, with its own address and with others', and datagrams to all ports."""
    apps("network", "create", "calm")
    apps("run", "-d", "--name", "bystander", "--network", "calm", SERVERS, "sleep", "1000")
    script = UDP_FLOOD if kind == "udp" else SYN_FLOOD
    flood = [
        "sh",
        "-c",
        'exec python3 -c "$0" "$(hostname -i)" "$1" "$2"',
        script,
        "10.9.0.66",
        kind,
    ]
    apps("run", "-d", "--name", "flooder", SERVERS, *flood)
    until(lambda: "flooding" in apps("logs", "flooder").stdout)
    with started(apps, *python(CROWD, OUTSIDE, "8000")), started(apps, *python(UDP_ECHO)):
        assert apps.out("exec", "bystander", *python(WORKS, OUTSIDE)) == "works"
    assert memory(apps) < 64 * 1024
    apps("run", "--rm", "busybox", "true")
    assert "flooder" in apps.out("ps", "--format", "{{.Names}}").split(), "it is flooding still"


@pytest.mark.parametrize("address", [OUTSIDE, OUTSIDE6])
def test_a_killed_service_leaves_nobody_hanging(apps: NetWorld, address: str) -> None:
    """Flows through the service end with it, in both directions; new ones are made as if nothing had been."""
    apps("network", "create", "--ipv6", "safe")
    serve = python(CROWD, "::", "8300")
    words = ["--name", "server", "--network", "safe", "-p", "8300:8300"]
    apps("run", "-d", *words, SERVERS, *serve)
    until(lambda: "ready" in apps("logs", "server").stdout)
    host = "fd09::1" if ":" in address else HOST
    with started(apps, *python(CROWD, address, "8000")):
        outward = apps.spawn(
            "exec", "server", *python(HOLD, address, "8000", "20"), stdout=subprocess.PIPE
        )
        try:
            assert outward.stdout is not None
            assert outward.stdout.readline() == b"ready\n"
            with started(apps, *python(HOLD, host, "8300", "20")) as inward:
                assert inward.stdout is not None
                os.kill(status(apps)["pid"], signal.SIGKILL)
                assert outward.stdout.readline() == b"20 False\n"
                assert inward.stdout.readline() == "20 False\n"
                assert (outward.wait(60), inward.wait(60)) == (0, 0)
        finally:
            finish(outward)
        status(apps)  # answers when the service is back
        with started(apps, *python(HOLD, host, "8300", "5")):
            pass
        again = apps.spawn(
            "exec",
            "-i",
            "server",
            *python(MANY, address, "8000", "5"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert again.communicate(b"\n", 60)[0] == b"open 5\nopen 5\n"
