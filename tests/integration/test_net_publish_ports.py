"""Published ports: taken ones, ranges, any free one, low ones, sockets that are handed over."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import struct
from pathlib import Path

import netrig
import pytest
from publishrig import (
    GATEWAY,
    World,
    in_world,
    seen,
    tell_peer,
)

from rootless.errors import ConflictError, HostError, UsageError
from rootless.plan.network import Port

pytestmark = pytest.mark.requires("userns", "ip")

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


def test_ports_of_others_are_refused_in_dockers_words() -> None:
    def case(world: World) -> None:
        one, two = world.container(2), world.container(3)
        world.publish(one, Port("", 8080, 80), Port("127.0.0.1", 9090, 90), Port("", 53, 53, "udp"))
        for wish, address in (
            (Port("", 8080, 80), "0.0.0.0:8080"),
            (Port("127.0.0.1", 8080, 80), "127.0.0.1:8080"),
            (Port("::1", 8080, 80), "[::1]:8080"),
            (Port("", 9090, 1), "0.0.0.0:9090"),
            (Port("", 53, 53, "udp"), "0.0.0.0:53"),
        ):
            with pytest.raises(ConflictError) as caught:
                world.publish(two, wish)
            assert caught.value.message == f"Bind for {address} failed: port is already allocated"
        # Another address, another protocol.
        assert len(world.publish(two, Port("127.0.0.2", 9090, 90), Port("", 8080, 8, "udp"))) == 3
        with socket.create_server((netrig.HOST, 7070)), pytest.raises(ConflictError) as caught:
            world.publish(two, Port("", 7070, 70))
        assert caught.value.message == (
            "failed to bind host port for 0.0.0.0:7070:172.18.0.3:70/tcp: address already in use"
        )
        with pytest.raises(HostError) as missing:
            world.publish(two, Port("203.0.113.9", 7070, 70, "udp"))
        assert missing.value.message == (
            "failed to bind host port for 203.0.113.9:7070:172.18.0.3:70/udp: "
            "cannot assign requested address"
        )
        world.do(world.published.close, one.id)
        assert len(world.publish(two, Port("", 9091, 90))) == 2

    in_world(case)


def test_sctp_works_where_the_kernel_has_it_and_is_refused_elsewhere() -> None:
    def case(world: World) -> None:
        one = world.container(2)
        try:
            probe = socket.socket(socket.AF_INET, TCP, socket.IPPROTO_SCTP)
        except OSError:
            with pytest.raises(HostError) as caught:
                world.publish(one, Port("", 7071, 71, "sctp"))
            assert caught.value.message == "cannot publish port 71/sctp: the kernel has no SCTP"
            return
        probe.close()
        server = one.socket(TCP, 71, protocol=socket.IPPROTO_SCTP)
        world.publish(one, Port("", 7071, 71, "sctp"))
        with socket.socket(socket.AF_INET, TCP, socket.IPPROTO_SCTP) as client:
            client.connect((netrig.HOST, 7071))
            connection, peer = server.accept()
            assert peer[0] == GATEWAY
            for message in (b"one", b"two"):
                client.send(message)
            assert [connection.recv(100), connection.recv(100)] == [b"one", b"two"]

    in_world(case)


def test_all_ports_of_a_range_or_none() -> None:
    def case(world: World) -> None:
        one = world.container(2)
        with socket.create_server(("127.0.0.1", 20299)) as foreign:
            before = set(os.listdir("/proc/self/fd"))
            with pytest.raises(ConflictError, match=r"0\.0\.0\.0:20299:"):
                world.publish(one, *(Port("", 20000 + n, 1000 + n) for n in range(300)))
            assert set(os.listdir("/proc/self/fd")) == before
            with pytest.raises(ConnectionRefusedError):
                world.connect(None, ("127.0.0.1", 20000))
            foreign.close()
        told = world.publish(one, *(Port("", 20000 + n, 1000 + n) for n in range(300)))
        assert len(told) == 600
        for offset in (0, 150, 299):
            one.serve(1000 + offset, tell_peer)
            there, own = seen(world, world.outside, (netrig.HOST, 20000 + offset))
            assert there == own
        world.do(world.published.close, one.id)
        for offset in (0, 299):
            with pytest.raises(ConnectionRefusedError):
                world.connect(None, ("127.0.0.1", 20000 + offset))

    in_world(case)


def test_any_free_port_is_the_same_for_both_families_and_after_a_restart() -> None:
    def case(world: World) -> None:
        one = world.container(2)
        one.serve(80, tell_peer)
        wishes = [Port("", 0, 80), Port("127.0.0.1", 0, 80), Port("", 0, 80, "udp")]
        told = world.publish(one, *wishes)
        numbers = [t["host_port"] for t in told]
        assert [t["host_ip"] for t in told] == ["0.0.0.0", "::", "127.0.0.1", "0.0.0.0", "::"]
        assert numbers[0] == numbers[1] and numbers[3] == numbers[4] and 0 not in numbers
        for address in ("127.0.0.1", "::1"):
            assert seen(world, None, (address, numbers[0]))[0].startswith(GATEWAY)
        world.do(world.published.close, one.id)
        assert world.publish(one, *wishes, before=told) == told

    in_world(case)


def test_the_first_free_port_of_a_range() -> None:
    def case(world: World) -> None:
        one, two = world.container(2), world.container(3)
        wish = Port("127.0.0.1", 9000, 80, "tcp", False, 9002)
        with socket.create_server(("127.0.0.1", 9001)):
            assert [told["host_port"] for told in world.publish(one, wish)] == [9000]
            assert [told["host_port"] for told in world.publish(two, wish)] == [9002]
            with pytest.raises(ConflictError) as caught:
                world.publish(two, wish)
            assert caught.value.message == (
                "failed to bind host port for 127.0.0.1:9000-9002:172.18.0.3:80/tcp: "
                "all ports are allocated"
            )
        world.do(world.published.close, two.id)
        told = [
            {"host_ip": "127.0.0.1", "host_port": 9002, "container_port": 80, "protocol": "tcp"}
        ]
        assert world.publish(two, wish, before=told) == told, "the same after a restart"

    in_world(case)


def test_ports_to_be_activated_are_handed_over() -> None:
    def case(world: World) -> None:
        one = world.container(2)
        wishes = [
            Port("", 8080, 80, "tcp", True),
            Port("127.0.0.1", 0, 53, "udp", True),
            Port("127.0.0.1", 8081, 81, "tcp", True, 8083),
            Port("", 8081, 81),
        ]
        assert len(world.publish(one, *wishes)) == 2, "the one that is served"
        told, sockets = world.do(world.published.hand_over, wishes, lambda: one.target)
        assert [name for name, _ in sockets] == ["80-tcp", "53-udp", "81-tcp"]
        assert [(t["host_ip"], t["activate"]) for t in told] == [
            ("::", True),
            ("127.0.0.1", True),
            ("127.0.0.1", True),
        ]
        assert told[2]["host_port"] == 8082, "the first of its range is another's"
        listener, datagrams = sockets[0][1], sockets[1][1]
        for address, own in (
            (netrig.HOST, f"::ffff:{netrig.OUTSIDE}"),
            (netrig.HOST6, netrig.OUTSIDE6),
        ):
            with world.connect(world.outside, (address, 8080)) as client:
                connection, peer = listener.accept()
                connection.close()
                assert peer[:2] == (own, client.getsockname()[1])
        with world.datagrams(None) as client:
            client.sendto(b"x", ("127.0.0.1", told[1]["host_port"]))
            assert datagrams.recv(10) == b"x"
        with pytest.raises(ConflictError, match="address already in use"):
            world.do(world.published.hand_over, wishes[:1], lambda: one.target)
        many = [Port("", 10000 + n, 1000 + n, "tcp", True) for n in range(200)]
        with pytest.raises(UsageError, match="cannot hand 200 sockets over"):
            world.do(world.published.hand_over, many, lambda: one.target)
        for _, sock in sockets:
            sock.close()

    in_world(case)


def test_low_ports_are_explained() -> None:
    def case(world: World) -> None:
        one = world.container(2)
        world.do(without_low_ports)
        with pytest.raises(HostError) as caught:
            world.publish(one, Port("", 80, 80))
        assert caught.value.message == (
            "cannot expose privileged port 80, you can add 'net.ipv4.ip_unprivileged_port_start=80' to "
            "/etc/sysctl.conf (currently 1024), or choose a larger port number (>= 1024): "
            "listen tcp 0.0.0.0:80: bind: permission denied"
        )
        assert "sysctl -w net.ipv4.ip_unprivileged_port_start=80" in caught.value.hint
        assert len(world.publish(one, Port("", 1024, 80))) == 2
        Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("80")
        assert len(world.publish(one, Port("", 80, 80))) == 2

    in_world(case)


def without_low_ports() -> None:
    """Take CAP_NET_BIND_SERVICE from the calling thread: over the real host's namespace it has none either."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("Ii", 0x20080522, 0)
    status = Path("/proc/thread-self/status").read_text()
    held = int(re.findall(r"CapEff:\s*(\w+)", status)[0], 16) & ~(1 << 10)
    low, high = held & 0xFFFFFFFF, held >> 32
    assert libc.capset(header, struct.pack("6I", low, low, 0, high, high, 0)) == 0
