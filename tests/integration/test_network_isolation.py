"""What containers may not: leave an internal network, reach the host or a cloud's metadata, touch the realm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from netapps import CONNECT, CROWD, SERVERS, python, started
from networld import HOST, OUTSIDE, OUTSIDE6, NetWorld
from rig import busybox, until

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "busybox", "mmdebstrap")
DENIED = ("EHOSTUNREACH", "EACCES", "ENETUNREACH")
TO_HOST = ["--add-host", "host.docker.internal:host-gateway"]
METADATA = "169.254.169.254"


def attempt(net: NetWorld, *words: str, to: str) -> str:
    """What becomes of a connection (KIND,ADDRESS,PORT) from a new container."""
    return net.out("run", "--rm", *words, SERVERS, *python(CONNECT, to)).split()[-1]


def inside(net: NetWorld, name: str, *cases: str) -> dict[str, str]:
    """What becomes of connections from a container that runs."""
    out = net.out("exec", name, *python(CONNECT, *cases))
    return dict(line.split() for line in out.splitlines())


def test_an_internal_network_has_no_way_out(apps: NetWorld) -> None:
    """Its containers reach one another and nothing else, not by routes of their own either."""
    apps("network", "create", "--internal", "--ipv6", "inner")
    words = ["--network", "inner", "--cap-add", "NET_ADMIN"]
    apps("run", "-d", "--name", "peer", *words, SERVERS, *python(CROWD, "::", "8000"))
    apps("run", "-d", "--name", "in", *words, SERVERS, "sleep", "1000")
    until(lambda: "ready" in apps("logs", "peer").stdout)
    cases = [f"{kind},{to},8000" for kind in ("tcp", "udp") for to in (OUTSIDE, OUTSIDE6, HOST)]
    near = {"tcp,peer,8000": "connected"}
    with (
        started(apps, *python(CROWD, OUTSIDE, "8000")),
        started(apps, *python(CROWD, OUTSIDE6, "8000")),
    ):
        found = inside(apps, "in", *cases, *near)
        assert found == {**dict.fromkeys(cases, "ENETUNREACH"), **near}
        for subnet in _subnets(apps, "inner"):
            version = "-6" if ":" in subnet["Gateway"] else "-4"
            route = ["route", "add", "default", "via", subnet["Gateway"]]
            apps("exec", "in", "ip", version, *route)
        found = inside(apps, "in", *cases, *near)
        assert found.items() >= near.items()
        assert {found[case] for case in cases} <= {"ETIMEDOUT", "silence", *DENIED}
    assert apps("exec", "in", "getent", "hosts", "example.test", check=False).returncode != 0


def _subnets(net: NetWorld, name: str) -> list[dict[str, str]]:
    (found,) = json.loads(net.out("network", "inspect", name))
    return list(found["IPAM"]["Config"])


def test_net_admin_rules_its_own_namespace_only(apps: NetWorld) -> None:
    """ip and nft work there; the realm's interfaces, rules and other networks are out of reach."""
    apps("network", "create", "--subnet", "10.71.0.0/24", "mine")
    apps("network", "create", "--subnet", "10.72.0.0/24", "theirs")
    serve = python(CROWD, "0.0.0.0", "8000")
    apps(
        "run", "-d", "--name", "victim", "--network", "theirs", "--ip", "10.72.0.9", SERVERS, *serve
    )
    words = [
        "--network",
        "mine",
        "--ip",
        "10.71.0.9",
        "--cap-add",
        "NET_ADMIN",
        "--cap-add",
        "NET_RAW",
    ]
    apps("run", "-d", "--name", "admin", *words, SERVERS, "sleep", "1000")
    until(lambda: "ready" in apps("logs", "victim").stdout)

    def admin(*line: str) -> int:
        return apps("exec", "admin", *line, check=False).returncode

    assert admin("ip", "link", "add", "own", "type", "veth", "peer", "name", "far") == 0
    assert admin("nft", "table inet own { chain c { type filter hook input priority 0; }; }") == 0
    assert admin("ip", "link", "set", "own", "netns", "1") == 0, "that is its own namespace, too"
    links = apps.out("exec", "admin", "ip", "-o", "link")
    assert "br-" not in links and "up0" not in links
    for table in ("inet", "netdev"):
        assert admin("nft", f"delete table {table} rootless") != 0
    other, gateway = "tcp,10.72.0.9,8000", "tcp,10.71.0.1,{}"
    assert admin("ip", "route", "add", "10.72.0.0/24", "via", "10.71.0.1") == 0
    found = inside(apps, "admin", other, *(gateway.format(port) for port in (53, 80, 8000)))
    assert found.pop(other) in ("ETIMEDOUT", *DENIED)
    assert set(found.values()) == {"ECONNREFUSED"}, "the realm itself listens to nobody"
    assert admin("ip", "route", "del", "10.72.0.0/24") == 0
    assert admin("ip", "addr", "add", "10.72.0.66/24", "dev", "eth0") == 0
    assert inside(apps, "admin", other)[other] in ("ETIMEDOUT", *DENIED)
    alive = ["run", "--rm", "--network", "theirs", SERVERS, *python(CONNECT, "tcp,victim,8000")]
    assert apps.out(*alive).endswith("connected")


FORGE = """
import socket, sys, time
socks = []
for word in sys.argv[1:]:
    source, target = word.split(',')
    family = socket.AF_INET6 if ':' in target else socket.AF_INET
    for kind, port in ((socket.SOCK_STREAM, 8000), (socket.SOCK_DGRAM, 8001)):
        sock = socket.socket(family, kind)
        sock.bind((source, 0))
        sock.setblocking(False)
        sock.connect_ex((target, port))
        if kind == socket.SOCK_DGRAM:
            sock.send(b'x')
        socks.append(sock)
time.sleep(0.5)
"""
TELL = """
import select, socket
tcp = socket.create_server(('::', 8000), family=socket.AF_INET6, dualstack_ipv6=True)
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.bind(('::', 8001))
print('ready', flush=True)
while True:
    for sock in select.select([tcp, udp], [], [])[0]:
        if sock is tcp:
            sock.accept()[0].close()
        else:
            sock.recv(99)
        print('came', flush=True)
"""


def test_a_forged_source_gets_nobody_elses_rights(apps: NetWorld) -> None:
    """A network that lets nothing out does not, though a container says that it is of another network."""
    ours, theirs = ["10.73.0.9", "fd73::9"], ["10.74.0.9", "fd74::9"]
    for name, four, six, words in (
        ("free", "10.73.0.0/24", "fd73::/64", []),
        ("bound", "10.74.0.0/24", "fd74::/64", ["-o", "egress=none"]),
    ):
        apps("network", "create", "--ipv6", "--subnet", four, "--subnet", six, *words, name)
    for name, network, (four, six) in (("honest", "free", ours), ("forger", "bound", theirs)):
        words = ["--network", network, "--ip", four, "--ip6", six, "--cap-add", "NET_ADMIN"]
        apps("run", "-d", "--name", name, *words, SERVERS, "sleep", "1000")
    for address in ("10.73.0.9/32", "fd73::9/128"):
        apps("exec", "forger", "ip", "addr", "add", address, "dev", "eth0", "nodad")
    forged = [f"{source},{to}" for source, to in zip(ours, (OUTSIDE, OUTSIDE6))]
    with started(apps, *python(TELL)) as tell:
        assert tell.stdout is not None
        apps("exec", "forger", *python(FORGE, *forged))
        apps("exec", "honest", *python(FORGE, *forged))
        for _ in range(4):
            assert tell.stdout.readline() == "came\n"
        tell.kill()
        assert tell.stdout.read() == "", "what was forged came out"


def test_egress_rules(apps: NetWorld) -> None:
    rules = f"egress=allow tcp {OUTSIDE}:8000; allow udp *:8001; deny *"
    apps("network", "create", "-o", rules, "--ipv6", "picky")
    on = ["--network", "picky"]
    with (
        started(apps, *python(CROWD, OUTSIDE, "8000")),
        started(apps, *python(CROWD, OUTSIDE, "8002")),
    ):
        assert attempt(apps, *on, to=f"tcp,{OUTSIDE},8000") == "connected"
        assert attempt(apps, *on, to=f"tcp,{OUTSIDE},8002") in DENIED
        assert attempt(apps, *on, to=f"tcp,{OUTSIDE6},8000") in DENIED
        assert attempt(apps, *on, to=f"udp,{OUTSIDE},8001") == "ECONNREFUSED", "it went there"
        assert attempt(apps, *on, to=f"udp,{OUTSIDE},8002") in DENIED
        assert attempt(apps, to=f"tcp,{OUTSIDE},8002") == "connected", "other networks are free"


@pytest.fixture
def chosen() -> Iterator[NetWorld]:
    """A world whose user has opened a port of the host and metadata to containers."""
    world = NetWorld()
    try:
        busybox(world)
        world.env["ROOTLESS_NETWORK_HOST_ACCESS"] = "7300"
        world.env["ROOTLESS_NETWORK_METADATA"] = "allow"
        yield world
    finally:
        world.close()


def test_the_host_and_metadata_are_denied_by_default(apps: NetWorld) -> None:
    apps.near("ip", "addr", "add", METADATA, "dev", "lo")
    local, meta = python(CROWD, "127.0.0.1", "7300"), python(CROWD, METADATA, "80")
    try:
        with started(apps, *local, far=False), started(apps, *meta, far=False):
            found = [
                apps.out("run", "--rm", *TO_HOST, SERVERS, *python(CONNECT, to)).split()[-1]
                for to in (
                    "tcp,host.docker.internal,7300",
                    f"tcp,{METADATA},80",
                    "tcp,127.0.0.1,7300",
                )
            ]
    finally:
        apps.near("ip", "addr", "del", f"{METADATA}/32", "dev", "lo")
    assert found[0] in DENIED and found[1] in DENIED
    assert found[2] == "ECONNREFUSED", "that is the container's own"


def test_the_host_and_metadata_by_configuration(chosen: NetWorld) -> None:
    """The port that is named is reached, the one beside it is not."""
    chosen.near("ip", "addr", "add", METADATA, "dev", "lo")
    servers = [("127.0.0.1", "7300"), ("127.0.0.1", "7301"), (METADATA, "80")]
    with ExitStack() as stack:
        for server in servers:
            stack.enter_context(started(chosen, *python(CROWD, *server), far=False))
        asked = [("host.docker.internal", "7300"), ("host.docker.internal", "7301"), servers[2]]
        found = [
            chosen(
                *("run", "--rm", *TO_HOST, "busybox"),
                *("sh", "-c", 'echo hi | nc -w 9 "$0" "$1"', *one),
                check=False,
            )
            for one in asked
        ]
    assert [one.stdout for one in found] == ["hi\n", "", "hi\n"]
    assert "No route to host" in found[1].stderr
