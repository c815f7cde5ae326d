"""UDP and ping from containers' namespaces to the outside, and what routers say about them."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import netrig
import pytest
from relayrig import World, run_apart

from rootless.drivers.network.netd import errqueue
from rootless.drivers.network.netd.policy import Policy, parse_egress
from rootless.drivers.network.netd.relay import RelayConfig
from rootless.plan.network import HOST_ADDRESS

pytestmark = pytest.mark.requires("userns", "nft", "ip")
FAMILIES = {"4": netrig.OUTSIDE, "6": netrig.OUTSIDE6}
FAR = {"4": "203.0.113.7", "6": "2001:db8::7"}

EXCEEDED = {"4": (11, 0), "6": (3, 0)}


def until(condition: Callable[[], Any]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def family_of(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def datagrams(address: str, port: int = 0) -> socket.socket:
    sock = socket.socket(family_of(address), socket.SOCK_DGRAM)
    sock.bind((address, port))
    sock.settimeout(20)
    return sock


def serve(sock: socket.socket, times: int = 1) -> int:
    """Answer each datagram TIMES times with what it says and who sent it; gives the port."""

    def run() -> None:
        sock.settimeout(None)
        while True:
            data, client = sock.recvfrom(65536)
            for _ in range(times):
                sock.sendto(data + f" {client[1]}".encode(), client)

    threading.Thread(target=run, daemon=True).start()
    port: int = sock.getsockname()[1]
    return port


def client(place: netrig.Place, address: str, port: int) -> socket.socket:
    sock: socket.socket = place.call(socket.socket, family_of(address), socket.SOCK_DGRAM)
    sock.settimeout(20)
    sock.connect((address, port))
    return sock


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_come_from_whom_was_asked(family: str) -> None:
    address = FAMILIES[family]

    def test(world: World) -> None:
        inside = [world.container() for _ in range(3)]
        port = serve(world.out.call(datagrams, address), times=3)
        clients = [client(place, address, port) for place in inside for _ in range(20)]
        for turn in range(3):
            for number, sock in enumerate(clients):
                sock.send(b"%d.%d" % (turn, number))
        seen = {}
        for number, sock in enumerate(clients):
            found = [sock.recv(100).split() for _ in range(9)]
            assert sorted(word for word, _ in found) == sorted(
                b"%d.%d" % (turn, number) for turn in range(3) for _ in range(3)
            )
            (seen[number],) = {upstream for _, upstream in found}  # one flow has one socket
        assert len(set(seen.values())) == len(clients)
        assert world.in_loop(world.outbound.counts)["udp"] == len(clients)
        for sock in clients:
            sock.close()

    run_apart(test)


@pytest.mark.parametrize("family", FAMILIES)
def test_large_datagrams(family: str) -> None:
    address = FAMILIES[family]

    def test(world: World) -> None:
        inside = world.container()
        port = serve(world.out.call(datagrams, address))
        with client(inside, address, port) as sock:
            for size in (0, 1, 1472, 1473, 9000, 60000):
                sock.send(b"x" * size)
                assert sock.recv(65536).startswith(b"x" * size + b" ")

    run_apart(test)


@pytest.mark.parametrize("family", FAMILIES)
def test_many_datagrams_in_one_system_call(family: str) -> None:
    address = FAMILIES[family]

    def test(world: World) -> None:
        inside = world.container()
        server = world.out.call(datagrams, address)
        with client(inside, address, server.getsockname()[1]) as sock:
            sock.send(b"hello")
            sent = [b"%02d" % number * 600 for number in range(30)] + [b"last"]
            server.connect(server.recvfrom(10)[1])
            for here, there in ((sock, server), (server, sock)):
                segments = [(socket.IPPROTO_UDP, 103, struct.pack("=H", 1200))]  # UDP_SEGMENT
                here.sendmsg([b"".join(sent)], segments)
                assert [there.recv(65536) for _ in sent] == sent

    run_apart(test)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_closed_port_is_refused(family: str) -> None:
    address = FAMILIES[family]

    def test(world: World) -> None:
        inside = world.container()
        with client(inside, address, 9) as sock:
            sock.send(b"first")
            with pytest.raises(ConnectionRefusedError):
                sock.recv(1)
            sock.send(b"second")  # the flow is there already
            with pytest.raises(ConnectionRefusedError):
                sock.recv(1)

    run_apart(test)


def reports(sock: socket.socket) -> list[errqueue.Report]:
    found: list[errqueue.Report] = []
    sock.setblocking(False)
    until(lambda: found.extend(errqueue.read(sock)) or found)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_the_way_can_be_traced(family: str) -> None:
    address = FAMILIES[family]

    def test(world: World) -> None:
        inside = world.container()
        world.out.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        world.out.run("ip", f"-{family}", "route", "add", FAR[family], "dev", "out1")
        with client(inside, FAR[family], 33434) as sock:
            errqueue.enable(sock)
            if family == "4":
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 1)
            sock.send(b"where")
            (report,) = reports(sock)
            assert report.reason[0] == EXCEEDED[family]
            assert socket.inet_ntop(sock.family, report.by) == address
        world.out.run("ip", f"-{family}", "route", "del", FAR[family])
        with client(inside, FAR[family], 33435) as sock:
            errqueue.enable(sock)
            sock.send(b"where")
            (report,) = reports(sock)
            assert report.reason[0] == ((3, 0) if family == "4" else (1, 0))

    run_apart(test)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_not_allowed_or_has_no_route_is_told(family: str) -> None:
    address = FAMILIES[family]

    def test(world: World) -> None:
        inside = world.container()
        port = serve(world.out.call(datagrams, address))
        world.policy = Policy(egress=parse_egress(f"allow udp *:{port}; deny *"))
        with client(inside, address, port) as sock:
            sock.send(b"let me")
            assert sock.recv(100).startswith(b"let me ")
        with client(inside, address, port + 1) as sock:
            errqueue.enable(sock)
            sock.send(b"let me")
            assert reports(sock)[0].reason[0] == ((3, 13) if family == "4" else (1, 1))
        world.policy = Policy()
        world.run("ip", f"-{family}", "route", "del", "default")
        with client(inside, FAR[family], port) as sock:
            errqueue.enable(sock)
            sock.send(b"anybody")
            assert reports(sock)[0].reason[0] == ((3, 0) if family == "4" else (1, 0))

    run_apart(test)


def test_the_host_by_its_name() -> None:
    def test(world: World) -> None:
        inside = world.container()
        port = serve(datagrams("127.0.0.1"))
        world.policy = Policy(host_access=((port, port + 1),))
        with client(inside, HOST_ADDRESS, port) as sock:
            sock.send(b"me")
            assert sock.recv(100).startswith(b"me ")
        with client(inside, HOST_ADDRESS, port + 1) as sock:
            sock.send(b"me")
            with pytest.raises(ConnectionRefusedError):
                sock.recv(1)

    run_apart(test)


def test_old_flows_make_room_and_idle_ones_end(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RelayConfig(4096)
    config.flows, config.flows_each = 60, 20

    def test(world: World) -> None:
        first, second = world.container(), world.container()
        port = serve(world.out.call(datagrams, netrig.OUTSIDE))
        old = client(second, netrig.OUTSIDE, port)
        old.send(b"0")
        assert old.recv(100)
        for _ in range(100):
            with client(first, netrig.OUTSIDE, port) as sock:
                sock.send(b"1")
                assert sock.recv(100)
        assert world.in_loop(world.outbound.counts)["udp"] == 21
        old.send(b"still")
        assert old.recv(100).startswith(b"still")
        until(lambda: world.in_loop(world.outbound.counts)["udp"] == 0)

    monkeypatch.setattr("rootless.drivers.network.netd.udp._IDLE", 2.0)
    run_apart(test, config=config)


# ping


def pinger(place: netrig.Place, address: str) -> socket.socket:
    """A ping socket of a container, as Docker allows to anybody there."""
    place.run("sysctl", "-qw", "net.ipv4.ping_group_range=0 0")
    protocol = socket.IPPROTO_ICMPV6 if ":" in address else socket.IPPROTO_ICMP
    sock: socket.socket = place.call(socket.socket, family_of(address), socket.SOCK_DGRAM, protocol)
    sock.settimeout(20)
    sock.connect((address, 0))
    errqueue.enable(sock)
    return sock


def request(family: str, seq: int, body: bytes) -> bytes:
    return struct.pack("!BBHHH", 8 if family == "4" else 128, 0, 0, 0, seq) + body


@pytest.mark.parametrize("family", FAMILIES)
def test_ping(family: str) -> None:
    address = FAMILIES[family]

    def test(world: World) -> None:
        world.run("sysctl", "-qw", "net.ipv4.ping_group_range=0 0")
        inside = [world.container(), world.container()]
        socks = [pinger(place, address) for place in inside]
        for seq in range(1, 6):
            for number, sock in enumerate(socks):
                sock.send(request(family, seq, b"%d" % number * 56))
                answer = sock.recv(2048)
                assert struct.unpack("!BBHHH", answer[:8])[4] == seq
                assert answer[8:] == b"%d" % number * 56
        for size in (1464, 1465, 1473, 9000, 60000):  # in one packet, in two, in many
            body = os.urandom(size)
            socks[0].send(request(family, size, body))
            answer = socks[0].recv(65536)
            assert struct.unpack("!BBHHH", answer[:8])[4] == size
            assert answer[8:] == body
        with pinger(inside[0], address[:-1] + "77") as sock:  # nobody is there
            sock.send(request(family, 1, b""))
            assert reports(sock)[0].reason[0] == ((3, 1) if family == "4" else (1, 3))

    run_apart(test)


@pytest.mark.parametrize("family", FAMILIES)
def test_ping_finds_the_way(family: str) -> None:
    def test(world: World) -> None:
        world.run("sysctl", "-qw", "net.ipv4.ping_group_range=0 0")
        world.out.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        world.out.run("ip", f"-{family}", "route", "add", FAR[family], "dev", "out1")
        inside = world.container()
        with pinger(inside, FAR[family]) as sock:
            for ttl, by in ((1, ("172.30.0.1", "fd30::1")), (2, tuple(FAMILIES.values()))):
                if family == "4":
                    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
                else:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
                sock.send(request(family, ttl, b"x"))
                (report,) = reports(sock)
                assert report.reason[0] == EXCEEDED[family]
                assert socket.inet_ntop(sock.family, report.by) in by

    run_apart(test)


@pytest.mark.parametrize("family", FAMILIES)
def test_ping_is_prohibited_where_the_host_does_not_let_its_user(family: str) -> None:
    def test(world: World) -> None:
        inside = world.container()  # a new namespace has the kernel's default, which is nobody
        with pinger(inside, FAMILIES[family]) as sock:
            sock.send(request(family, 1, b""))
            assert reports(sock)[0].reason[0] == ((3, 13) if family == "4" else (1, 1))
        assert world.in_loop(world.outbound.counts)["ping"] == 0

    run_apart(test)


def test_other_protocols_are_refused() -> None:
    def test(world: World) -> None:
        inside = world.container()
        sock = inside.call(socket.socket, socket.AF_INET, socket.SOCK_RAW, 132)
        errqueue.enable(sock)
        sock.connect((netrig.OUTSIDE, 0))
        sock.send(b"x" * 20)
        assert reports(sock)[0].reason[0] == (3, 2)
        sock.send(b"x" * 20)
        sock.settimeout(20)
        with pytest.raises(OSError) as caught:
            sock.recv(1)
        assert caught.value.errno == errno.ENOPROTOOPT

    run_apart(test)
