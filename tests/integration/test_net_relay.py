"""TCP from containers' namespaces to real servers outside: a container sees what the host would see."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import netrig
import pytest
import relayrig
from relayrig import NET4, World, dial, error_of, listen, run_apart

from rootless.drivers.network.netd import frames
from rootless.drivers.network.netd.policy import Policy, parse_egress
from rootless.drivers.network.netd.relay import RelayConfig
from rootless.plan.network import HOST_ADDRESS

pytestmark = pytest.mark.requires("userns", "nft", "ip")
FAMILIES = {"4": (netrig.OUTSIDE, "0.0.0.0"), "6": (netrig.OUTSIDE6, "::")}
NOWHERE = {"4": "203.0.113.7", "6": "2001:db8::7"}


def server(world: World, address: str, handle: Callable[..., Any] = relayrig.echo) -> int:
    """The port of a server outside."""
    listener = world.out.call(listen, address)
    relayrig.serve(listener, handle)
    port: int = listener.getsockname()[1]
    return port


def until(condition: Callable[[], Any]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("waited in vain")


@pytest.mark.parametrize("family", FAMILIES)
def test_bytes_arrive_both_ways_and_each_way_ends_by_itself(family: str) -> None:
    address, everywhere = FAMILIES[family]

    def test(world: World) -> None:
        inside = world.container()
        port = server(world, everywhere)
        with inside.call(dial, address, port) as sock:
            assert sock.getpeername()[:2] == (address, port)
            threading.Thread(target=lambda: send(sock)).start()
            assert b"".join(iter(lambda: sock.recv(65536), b"")) == b"x" * 3000000
        assert world.in_loop(world.outbound.counts)["held"] == 0

    def send(sock: socket.socket) -> None:
        sock.sendall(b"x" * 3000000)
        sock.shutdown(socket.SHUT_WR)

    run_apart(test)


def prohibit(family: str) -> list[str]:
    return ["ip", f"-{family}", "route", "add", "prohibit", NOWHERE[family]]


def unreachable(family: str) -> list[str]:
    return ["ip", f"-{family}", "route", "add", "unreachable", NOWHERE[family]]


def no_route(family: str) -> list[str]:
    return ["ip", f"-{family}", "route", "del", "default"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("how", [prohibit, unreachable, no_route], ids=lambda how: how.__name__)
def test_what_the_host_cannot_reach_is_the_same_error(how: Any, family: str) -> None:
    def test(world: World) -> None:
        inside = world.container()
        world.run(*how(family))
        wanted = error_of(NOWHERE[family], 80)
        assert wanted in (errno.EACCES, errno.EHOSTUNREACH, errno.ENETUNREACH)
        if (how, family) == (prohibit, "4"):  # no ICMP message is EACCES there
            wanted = errno.EHOSTUNREACH
        assert inside.call(error_of, NOWHERE[family], 80) == wanted

    run_apart(test)


REJECTIONS = {
    "reset": "reject with tcp reset",
    "port": "reject with icmpx type port-unreachable",
    "admin": "reject with icmpx type admin-prohibited",
    "host": "reject with icmpx type host-unreachable",
    "route": "reject with icmpx type no-route",
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("how", REJECTIONS)
def test_what_is_rejected_outside_is_the_same_error(how: str, family: str) -> None:
    address = FAMILIES[family][0]

    def test(world: World) -> None:
        inside = world.container()
        world.filter(f"meta l4proto tcp {REJECTIONS[how]}")
        wanted = error_of(address, 80)
        assert wanted > 0
        # IPv4 has an errno for "prohibited", but no ICMP message that becomes it.
        same = {wanted, errno.EHOSTUNREACH} if wanted == errno.EACCES else {wanted}
        assert inside.call(error_of, address, 80) in same

    run_apart(test)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_closed_port_is_refused_and_an_absent_host_unreachable(family: str) -> None:
    address = FAMILIES[family][0]
    absent = address[:-1] + "77"

    def test(world: World) -> None:
        inside = world.container()
        for _ in range(3):
            assert inside.call(error_of, address, 9) == errno.ECONNREFUSED
        assert inside.call(error_of, absent, 80) == error_of(absent, 80) == errno.EHOSTUNREACH
        assert world.in_loop(world.outbound.counts)["held"] == 0

    run_apart(test)


def test_what_is_filtered_is_a_timeout() -> None:
    def test(world: World) -> None:
        inside = world.container()
        inside.run("sysctl", "-qw", "net.ipv4.tcp_syn_retries=1")
        world.filter("drop")
        assert inside.call(error_of, netrig.OUTSIDE, 80) == errno.ETIMEDOUT
        assert world.in_loop(world.outbound.counts)["held"] == 1  # upstream has not given up yet

    run_apart(test)


def test_a_repeated_syn_makes_no_second_connection() -> None:
    def test(world: World) -> None:
        inside = world.container()
        accepted: list[str] = []
        port = server(world, "0.0.0.0", lambda connection: accepted.append(connection.recv(10)))
        world.filter("drop")
        client = inside.call(socket.socket)
        client.setblocking(False)
        client.connect_ex((netrig.OUTSIDE, port))
        until(lambda: "TCPSynRetrans" in inside.run("nstat", "-as", "TcpExtTCPSynRetrans").stdout)
        world.out.run("nft", "delete table inet t")
        relayrig.connected(client)
        client.sendall(b"once")
        until(lambda: accepted)
        client.close()
        assert accepted == [b"once"]

    run_apart(test)


def test_a_thousand_connections_at_once() -> None:
    def test(world: World) -> None:
        inside = [world.container() for _ in range(4)]
        listener = world.out.call(listen, "::", 0, 4096)
        relayrig.serve_many(listener)
        port = listener.getsockname()[1]

        def connect(place: netrig.Place, address: str) -> list[socket.socket]:
            made = []
            for _ in range(250):
                sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
                sock.setblocking(False)
                assert sock.connect_ex((address, port)) == errno.EINPROGRESS
                made.append(sock)
            return made

        many = []
        for number, place in enumerate(inside):
            address = netrig.OUTSIDE6 if number % 2 else netrig.OUTSIDE
            many += place.call(connect, place, address)
        for number, sock in enumerate(many):
            sock.settimeout(30)
            relayrig.connected(sock)
            sock.sendall(b"%05d" % number)
        for number, sock in enumerate(many):
            assert sock.recv(10) == b"%05d" % number
        assert world.pumps.count == 1000
        for sock in many:
            sock.close()
        until(lambda: world.pumps.count == 0)
        assert world.in_loop(world.outbound.counts)["held"] == 0

    run_apart(test)


def test_a_reset_is_a_reset_on_the_other_side() -> None:
    def test(world: World) -> None:
        inside = world.container()
        got: list[Any] = []
        port = server(world, "0.0.0.0", got.append)
        for ours in (False, True):
            client = inside.call(dial, netrig.OUTSIDE, port)
            until(lambda: got)
            ends = [client, got.pop()]
            first, second = ends if ours else reversed(ends)
            first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            first.close()
            second.settimeout(20)
            with pytest.raises(ConnectionResetError):
                second.recv(1)
            second.close()

    run_apart(test)


def test_ports_may_be_used_again_at_once() -> None:
    def test(world: World) -> None:
        inside = world.container()
        port = server(world, "0.0.0.0", lambda connection: connection.close())

        def again() -> None:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", 5555))
            sock.settimeout(0.9)  # a SYN that is lost is repeated after one second
            sock.connect((netrig.OUTSIDE, port))
            assert (
                sock.recv(1) == b""
            )  # the server closes first, so the relay is the one that waits
            sock.close()

        for _ in range(5):
            inside.call(again)

    run_apart(test)


def test_the_ports_of_the_relay_itself_are_ordinary_ones_outside() -> None:
    def test(world: World) -> None:
        inside = world.container()
        for name, address, everywhere in (
            ("tcp4", netrig.OUTSIDE, "0.0.0.0"),
            ("tcp6", netrig.OUTSIDE6, "::"),
        ):
            port = world.ports[name]
            assert inside.call(error_of, address, port) == errno.ECONNREFUSED
            relayrig.serve(world.out.call(listen, everywhere, port), relayrig.echo)
            assert inside.call(error_of, address, port) == 0
            gateway = f"{NET4}.1"
            assert inside.call(error_of, gateway, port) == errno.ECONNREFUSED

    run_apart(test)


def test_the_hosts_loopback_only_by_its_name_and_for_its_ports() -> None:
    def test(world: World) -> None:
        inside = world.container()
        listener = listen("127.0.0.1")
        relayrig.serve(listener, relayrig.echo)
        port = listener.getsockname()[1]
        assert inside.call(error_of, HOST_ADDRESS, port) == errno.EHOSTUNREACH
        world.policy = Policy(host_access=((port, port),))
        assert inside.call(error_of, HOST_ADDRESS, port) == 0
        assert inside.call(error_of, HOST_ADDRESS, port - 1) == errno.EHOSTUNREACH
        # On its other addresses the host is like anybody: what listens there can be reached.
        assert inside.call(error_of, netrig.HOST, port) == errno.ECONNREFUSED
        other = listen(netrig.HOST)
        relayrig.serve(other, relayrig.echo)
        assert inside.call(error_of, netrig.HOST, other.getsockname()[1]) == 0

    run_apart(test)


@pytest.mark.parametrize(
    ("egress", "four", "six"),
    [
        ("none", errno.EHOSTUNREACH, errno.EACCES),
        ("deny tcp 10.0.0.0/8", errno.EHOSTUNREACH, 0),
        (f"allow tcp {netrig.OUTSIDE}; deny *", 0, errno.EACCES),
        ("allow udp *", errno.EHOSTUNREACH, errno.EACCES),
    ],
)
def test_rules_of_a_network(egress: str, four: int, six: int) -> None:
    def test(world: World) -> None:
        inside = world.container()
        port = server(world, "::")
        world.policy = Policy(egress=parse_egress(egress))
        assert inside.call(error_of, netrig.OUTSIDE, port) == four
        assert inside.call(error_of, netrig.OUTSIDE6, port) == six

    run_apart(test)


def test_a_source_that_is_nobodys_gets_nothing() -> None:
    def test(world: World) -> None:
        inside = world.container()
        port = server(world, "0.0.0.0")
        inside.run("ip", "addr", "add", "172.31.7.7/32", "dev", "eth0")
        inside.run(*f"ip route replace default via {NET4}.1 src 172.31.7.7".split())
        world.realm.call(os.system, "ip route add 172.31.7.7 dev br-abababababab")
        assert inside.call(error_of, netrig.OUTSIDE, port, 2) == -1

    run_apart(test)


# Segments made by hand.


def raw(place: netrig.Place) -> socket.socket:
    """A socket that sends whole IPv4 packets."""
    return place.call(socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)  # type: ignore[no-any-return]


def segment(source: str, target: str, sport: int, dport: int, flags: int, seq: int = 1) -> bytes:
    head = struct.pack("!HHIIBBHHH", sport, dport, seq, 0, 5 << 4, flags, 65535, 0, 0)
    packet = frames.ip(socket.inet_aton(source), socket.inet_aton(target), frames.TCP, head)
    return frames.seal(frames.parse_ip4(packet))


def test_a_reset_gives_up_what_is_held() -> None:
    def test(world: World) -> None:
        inside = world.container()
        world.filter("drop")
        sock = raw(inside)
        ends = (f"{NET4}.2", netrig.OUTSIDE, 4000, 80)
        held = lambda: world.in_loop(world.outbound.counts)["held"]  # noqa: E731
        sock.sendto(segment(*ends, frames.SYN, seq=7), (netrig.OUTSIDE, 0))
        until(lambda: held() == 1)
        sock.sendto(segment(*ends, frames.RST, seq=70000), (netrig.OUTSIDE, 0))  # not of it
        sock.sendto(segment(*ends, frames.SYN, seq=7), (netrig.OUTSIDE, 0))
        assert held() == 1
        sock.sendto(segment(*ends, frames.RST, seq=8), (netrig.OUTSIDE, 0))
        until(lambda: held() == 0)

    run_apart(test)


def test_who_speaks_of_a_connection_that_is_not_there_is_reset() -> None:
    def test(world: World) -> None:
        inside = world.container()
        client = inside.call(socket.socket)
        port = server(world, "0.0.0.0")
        client.connect((netrig.OUTSIDE, port))
        until(lambda: world.pumps.count == 1)
        world.pumps.close()  # as if the relay had died, and its resets had been lost
        client.settimeout(20)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        sniffer = inside.call(socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        sniffer.settimeout(20)
        stray = segment(f"{NET4}.2", netrig.OUTSIDE, 4001, 81, frames.ACK)
        raw(inside).sendto(stray, (netrig.OUTSIDE, 0))
        answer = frames.segment(frames.parse_ip4(sniffer.recv(2048)))
        assert (answer.sport, answer.dport, answer.flags) == (81, 4001, frames.RST)

    run_apart(test)


FLOOD = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
packets = [bytes.fromhex(word) for word in sys.argv[2:]]
while True:
    for packet in packets:
        sock.sendto(packet, (sys.argv[1], 0))
"""


def test_a_flood_hurts_only_who_floods() -> None:
    config = RelayConfig(4096)
    config.held, config.held_each = 300, 100

    def test(world: World) -> None:
        bad, good = world.container(), world.container()
        port = server(world, "0.0.0.0")
        world.filter("tcp dport 80 drop")
        packets = [
            segment(f"{NET4}.2", netrig.OUTSIDE, number + 1, 80, frames.SYN).hex()
            for number in range(1000)
        ]
        flood = bad.spawn(sys.executable, "-c", FLOOD, netrig.OUTSIDE, *packets)
        try:
            until(lambda: world.in_loop(world.outbound.counts)["held"] == 100)
            for _ in range(50):
                assert good.call(error_of, netrig.OUTSIDE, port) == 0
            assert world.in_loop(world.outbound.counts)["held"] <= 101
            assert flood.poll() is None
        finally:
            flood.kill()
            flood.wait()

    run_apart(test, config=config)


def test_one_container_does_not_use_up_all_descriptors() -> None:
    config = RelayConfig(4096)
    config.connections_each = 5

    def test(world: World) -> None:
        greedy, other = world.container(), world.container()
        port = server(world, "0.0.0.0")
        many = [greedy.call(dial, netrig.OUTSIDE, port) for _ in range(5)]
        until(lambda: world.pumps.count == 5)
        late = greedy.call(socket.socket)
        late.setblocking(False)
        late.connect_ex((netrig.OUTSIDE, port))
        assert other.call(error_of, netrig.OUTSIDE, port) == 0
        until(lambda: world.pumps.count == 5)
        until(lambda: world.in_loop(world.outbound.counts)["held"] == 0)
        many.pop().close()
        relayrig.connected(late)
        for sock in [*many, late]:
            sock.close()

    run_apart(test, config=config)


def test_nothing_is_held_for_a_container_that_is_gone() -> None:
    def test(world: World) -> None:
        inside = world.container()
        world.filter("drop")
        assert inside.call(error_of, netrig.OUTSIDE, 80, 0.5) == -1
        assert world.in_loop(world.outbound.counts)["held"] == 1
        world.in_loop(lambda: world.outbound.forget(f"{NET4}.2"))
        assert world.in_loop(world.outbound.counts)["held"] == 0

    run_apart(test)
