"""connect() tells the truth: however an upstream fails, a container gets the errno that the host gets."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator

import pytest
from netapps import CONNECT, CROWD, SERVERS, python, started
from networld import HOST, HOST6, OUTSIDE, OUTSIDE6, NetWorld

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "busybox", "mmdebstrap")
# Port -> what the outside does with it over IPv4 and IPv6, and what connect() says ("": what the host gets).
RULES = {
    7001: ("drop", "drop", "ETIMEDOUT"),
    7002: ("host-unreachable", "addr-unreachable", "EHOSTUNREACH"),
    7003: ("net-unreachable", "no-route", "ENETUNREACH"),
    7004: ("admin-prohibited", "admin-prohibited", ""),
    7005: ("port-unreachable", "port-unreachable", "ECONNREFUSED"),
    7006: ("prot-unreachable", "policy-fail", ""),
}
OPEN, CLOSED = 7100, 7101
ELSEWHERE = {
    "10.9.0.99": "EHOSTUNREACH",  # on the wire, but nobody's
    "fd09::99": "EHOSTUNREACH",
    "198.51.100.9": "ENETUNREACH",  # the outside knows no way there
    "2001:db8::9": "ENETUNREACH",
    "192.0.2.77": "EHOSTUNREACH",  # the host knows that there is none
    "2001:db8:7::1": "EHOSTUNREACH",
}
BOTH = [(kind, address) for kind in ("tcp", "udp") for address in (OUTSIDE, OUTSIDE6)]
CASES = {
    **{f"{kind},{to},{port}": RULES[port][2] for kind, to in BOTH for port in RULES},
    **{f"{kind},{to},{CLOSED}": "ECONNREFUSED" for kind, to in BOTH},
    **{f"tcp,{to},80": ELSEWHERE[to] for to in ELSEWHERE},
    # A router of IPv4 says only a few times a second that it knows no way.
    **{f"udp,{to},80": ELSEWHERE[to] for to in ELSEWHERE if to != "198.51.100.9"},
    **{f"tcp,{to},{OPEN}": "connected" for to in (OUTSIDE, OUTSIDE6)},
}
ROUTER = (  # which answers all that comes
    "cd /proc/sys/net; echo 1 >ipv4/ip_forward; echo 1 >ipv6/conf/all/forwarding; "
    "echo 0 >ipv4/icmp_ratelimit; echo 0 >ipv6/icmp/ratelimit"
)
Answers = dict[str, str]


def verdict(version: int, word: str) -> str:
    """What to do with a packet, in nft's words."""
    return word if word == "drop" else f"reject with icmp{'v6' if version == 6 else ''} type {word}"


@pytest.fixture(scope="module")
def world(servers_world: NetWorld) -> Iterator[NetWorld]:
    """The world with a container on a network of both families, and an outside that fails in many ways."""
    lines = ["table inet far {", "chain input {", "type filter hook input priority 0;"]
    for port, (four, six, _) in RULES.items():
        lines += [
            f"meta nfproto ipv{version} {kind} dport {port} {verdict(version, word)}"
            for version, word in ((4, four), (6, six))
            for kind in ("tcp", "udp")
        ]
    net = servers_world
    net.outside("sh", "-ec", ROUTER)
    net.outside("nft", "\n".join([*lines, "}", "}"]))
    net.near("ip", "route", "add", "unreachable", "192.0.2.77")
    net.near("ip", "-6", "route", "add", "unreachable", "2001:db8:7::1")
    net("network", "create", "--ipv6", "both")
    net("run", "-d", "--name", "asker", "--network", "both", SERVERS, "sleep", "1000")
    yield net
    net("rm", "-f", "asker")
    net("network", "rm", "both")
    net.outside("nft", "delete table inet far")
    net.near("ip", "route", "del", "unreachable", "192.0.2.77")
    net.near("ip", "-6", "route", "del", "unreachable", "2001:db8:7::1")


def ask(world: NetWorld, *cases: str) -> tuple[Answers, Answers]:
    """The host's and the container's answers, tried at the same time."""
    words = python(CONNECT, *cases)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        there = pool.submit(world.near, *words)
        here = pool.submit(world, "exec", "asker", *words)
        texts = there.result().stdout, here.result().stdout
    host, container = (dict(line.split() for line in text.splitlines()) for text in texts)
    return host, container


@pytest.fixture(scope="module")
def answers(world: NetWorld) -> tuple[Answers, Answers]:
    """What the host gets in all cases, and what a container gets."""
    four, six = (python(CROWD, address, str(OPEN)) for address in (OUTSIDE, OUTSIDE6))
    with started(world, *four), started(world, *six):
        return ask(world, *CASES)


@pytest.mark.parametrize("case", CASES)
def test_the_container_gets_what_the_host_gets(answers: tuple[Answers, Answers], case: str) -> None:
    host, container = answers
    wanted = CASES[case] or host[case]
    if case.startswith("udp") and wanted == "ETIMEDOUT":
        wanted = "silence"
    assert (host[case], container[case]) == (wanted, wanted)


@pytest.mark.parametrize("address", ["192.0.2.78", "2001:db8:7::2"])
def test_the_hosts_routes_are_followed(world: NetWorld, address: str) -> None:
    """What the host reaches from one moment to the next, containers reach too; nothing is restarted."""
    case = f"tcp,{address},80"
    found = [ask(world, case)]
    world.near("ip", "addr", "add", address, "dev", "lo")
    try:
        found.append(ask(world, case))
    finally:
        world.near("ip", "addr", "del", f"{address}/{128 if ':' in address else 32}", "dev", "lo")
    assert [(host[case], container[case]) for host, container in found] == [
        ("ENETUNREACH", "ENETUNREACH"),
        ("ECONNREFUSED", "ECONNREFUSED"),
    ]


def test_ping(world: NetWorld) -> None:
    """Echoes by the host's ping sockets, where the host lets its users ping."""
    world.near("sh", "-c", "echo '0 65535' >/proc/sys/net/ipv4/ping_group_range")
    script = (
        "import socket, sys\n"
        "six = ':' in sys.argv[1]\n"
        "s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM, 58 if six else 1)\n"
        "s.settimeout(5); s.connect((sys.argv[1], 0))\n"
        "s.send(bytes([128 if six else 8]) + bytes(7) + b'payload')\n"
        "print(s.recv(99)[8:].decode())"
    )
    for address in (OUTSIDE, OUTSIDE6, HOST, HOST6):
        assert world.out("exec", "asker", *python(script, address)) == "payload"
