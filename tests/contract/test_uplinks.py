"""What every uplink of the realm promises, whatever carries the packets; and programs that die."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import netrig
import pytest
import uplinkrig
from uplinkrig import World, apart, dial, echo, serve

from rootless.drivers import network
from rootless.drivers.network.base import GATEWAY, TAP, Command, UplinkDriver
from rootless.facts import HostFacts
from rootless.plan.network import HOST_ADDRESS

pytestmark = pytest.mark.requires("userns", "nft", "ip", "relay")

PROGRAMS = [
    pytest.param(name, marks=pytest.mark.requires("net-tun", name))
    for name in ("pasta", "slirp4netns")
]
FAMILIES = {"4": (netrig.OUTSIDE, "0.0.0.0"), "6": (netrig.OUTSIDE6, "::")}
Test = Callable[[World], object]
Runner = Callable[[Test], None]


def test_every_uplink_has_this_suite() -> None:
    bridged = [name for name in network.REGISTRY if network.driver(name).bridges]
    assert bridged == ["relay", *(one.values[0] for one in PROGRAMS)]


@pytest.fixture(params=["relay", *PROGRAMS])
def world(request: pytest.FixtureRequest, tmp_path: Path, libexec: str) -> Runner:
    """world(test) runs TEST with a realm that has the uplink."""
    return lambda test: apart(test, request.param, tmp_path, libexec)


@pytest.fixture(params=PROGRAMS)
def program_world(request: pytest.FixtureRequest, tmp_path: Path, libexec: str) -> Runner:
    return lambda test: apart(test, request.param, tmp_path, libexec)


def error_of(place: netrig.Place, address: str, port: int, timeout: float = 10) -> int:
    """What connecting fails with; 0 if it does not."""
    try:
        place.call(dial, address, port, timeout).close()
    except TimeoutError:
        return errno.ETIMEDOUT
    except OSError as error:
        return error.errno or -1
    return 0


@pytest.mark.parametrize("family", FAMILIES)
def test_connections_carry_bytes_both_ways(world: Runner, family: str) -> None:
    address, everywhere = FAMILIES[family]

    def test(one: World) -> None:
        port = serve(one.out, everywhere, echo)
        with one.container().call(dial, address, port) as sock:
            sock.sendall(b"hello")
            assert sock.recv(5, socket.MSG_WAITALL) == b"hello"
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""

    world(test)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_outside_sees_the_host(world: Runner, family: str) -> None:
    address, everywhere = FAMILIES[family]
    host = netrig.HOST6 if family == "6" else netrig.HOST

    def tell(connection: socket.socket) -> None:
        with connection:
            connection.sendall(connection.getpeername()[0].encode())

    def test(one: World) -> None:
        port = serve(one.out, everywhere, tell)
        with one.container().call(dial, address, port) as sock:
            assert sock.recv(100) == host.encode()

    world(test)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_closed_port_refuses(world: Runner, family: str) -> None:
    def test(one: World) -> None:
        assert error_of(one.container(), FAMILIES[family][0], 9) == errno.ECONNREFUSED

    world(test)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("port", [0, 53])
def test_datagrams_are_answered(world: Runner, family: str, port: int) -> None:
    address, everywhere = FAMILIES[family]

    def test(one: World) -> None:
        there = uplinkrig.datagrams(one.out, everywhere, port)
        inside = one.container()
        sock = inside.call(socket.socket, uplinkrig.family_of(address), socket.SOCK_DGRAM)
        with sock:
            sock.settimeout(2)
            for number in range(20):
                for attempt in range(5):  # one may be lost
                    sock.sendto(b"ping %d" % number, (address, there))
                    try:
                        assert sock.recvfrom(100) == (
                            b"PING %d" % number,
                            sock_name(address, there),
                        )
                    except TimeoutError:
                        assert attempt < 4, number
                    else:
                        break

    world(test)


def sock_name(address: str, port: int) -> tuple[object, ...]:
    return (address, port, 0, 0) if ":" in address else (address, port)


@pytest.mark.parametrize("way", ["up", "down"])
def test_much_arrives_whole(world: Runner, way: str) -> None:
    data = random.Random(5).randbytes(4 << 20)
    digest = hashlib.sha256(data).digest()

    def take(connection: socket.socket) -> None:
        with connection:
            found = hashlib.sha256()
            while piece := connection.recv(65536):
                found.update(piece)
            connection.sendall(found.digest())

    def give(connection: socket.socket) -> None:
        with connection:
            connection.sendall(data)

    def test(one: World) -> None:
        port = serve(one.out, "0.0.0.0", take if way == "up" else give)
        with one.container().call(dial, netrig.OUTSIDE, port, 60) as sock:
            if way == "up":
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(32, socket.MSG_WAITALL) == digest
            else:
                found = hashlib.sha256()
                while piece := sock.recv(65536):
                    found.update(piece)
                assert found.digest() == digest

    world(test)


def test_an_upstream_that_takes_its_time_is_waited_for(world: Runner) -> None:
    """Its first packets are lost: nobody is refused for that."""

    def test(one: World) -> None:
        port = serve(one.out, "0.0.0.0", echo)
        hook = "type filter hook input priority 0;"
        one.out.run("nft", f"table ip t {{\n chain c {{ {hook} tcp flags syn drop; }}\n}}")
        threading.Timer(1.5, lambda: one.out.run("nft", "delete table ip t")).start()
        one.container().call(dial, netrig.OUTSIDE, port, 60).close()

    world(test)


def test_many_at_once(world: Runner) -> None:
    def test(one: World) -> None:
        port = serve(one.out, "0.0.0.0", echo)
        inside = one.container()
        socks = [inside.call(dial, netrig.OUTSIDE, port) for _ in range(50)]
        for number, sock in enumerate(socks):
            sock.sendall(b"%03d" % number)
        assert [sock.recv(3, socket.MSG_WAITALL) for sock in socks] == [
            b"%03d" % number for number in range(50)
        ]
        for sock in socks:
            sock.close()

    world(test)


def test_the_hosts_own_address_is_like_others(world: Runner) -> None:
    def test(one: World) -> None:
        port = serve(None, netrig.HOST, echo)
        assert error_of(one.container(), netrig.HOST, port) == 0

    world(test)


def test_the_hosts_loopback_is_not_there(world: Runner) -> None:
    def test(one: World) -> None:
        port = serve(None, "127.0.0.1", echo)
        everywhere = serve(None, "0.0.0.0", echo)
        inside = one.container()
        for address in (HOST_ADDRESS, GATEWAY, "169.254.2.3", "172.30.0.1"):
            for one_port in (port, everywhere):
                assert error_of(inside, address, one_port, 3) != 0, (address, one_port)

    world(test)


def test_metadata_of_a_cloud_is_not_there(world: Runner) -> None:
    def test(one: World) -> None:
        one.out.run("ip", "addr", "add", "169.254.169.254/32", "dev", "lo")
        served = serve(one.out, "169.254.169.254", echo)
        assert error_of(one.container(), "169.254.169.254", served, 3) in (
            errno.EHOSTUNREACH,
            errno.ENETUNREACH,
            errno.EACCES,
        )

    world(test)


def test_an_internal_network_has_no_way_out(world: Runner) -> None:
    def test(one: World) -> None:
        port = serve(one.out, "0.0.0.0", echo)
        six = serve(one.out, "::", echo)
        inside, other = one.container(internal=True), one.container()
        assert error_of(inside, netrig.OUTSIDE, port, 3) != 0
        assert error_of(inside, netrig.OUTSIDE6, six, 3) != 0
        assert error_of(inside, netrig.HOST, serve(None, netrig.HOST, echo), 3) != 0
        sock = inside.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.settimeout(1)
            there = uplinkrig.datagrams(one.out, "0.0.0.0")
            with pytest.raises(OSError):
                sock.sendto(b"x", (netrig.OUTSIDE, there))
                sock.recv(10)
        assert error_of(other, netrig.OUTSIDE, port) == 0

    world(test)


# Programs


def restarted(one: World, before: int) -> bool:
    return one.uplink is not None and one.uplink.ready and one.uplink.pid not in (0, before)


def test_a_program_that_is_killed_comes_back_and_bridges_go_on(program_world: Runner) -> None:
    def test(one: World) -> None:
        assert one.uplink is not None
        port = serve(one.out, "0.0.0.0", echo)
        inside, other = one.container(), one.container()
        peer = serve(other, "172.30.0.3", echo)
        going = inside.call(dial, "172.30.0.3", peer)
        stop = threading.Event()
        count = [0]

        def traffic() -> None:
            while not stop.is_set():
                going.sendall(b"x")
                assert going.recv(1) == b"x"
                count[0] += 1

        thread = threading.Thread(target=traffic)
        thread.start()
        for _ in range(3):
            before, seen = one.uplink.pid, count[0]
            os.kill(before, signal.SIGKILL)
            one.until(lambda before=before: restarted(one, before))
            one.until(lambda seen=seen: count[0] > seen)
            one.until(lambda: error_of(inside, netrig.OUTSIDE, port, 2) == 0)
        stop.set()
        thread.join()
        going.close()
        assert any("has ended (signal 9)" in line for line in one.logged)

    program_world(test)


def test_an_interface_is_as_it_has_to_be(program_world: Runner) -> None:
    def test(one: World) -> None:
        shown = netrig.Place(one.realm.net_fd).run("ip", "-d", "link", "show", TAP).stdout
        assert " qlen 10000" in shown
        assert " mtu 65520 " in shown

    program_world(test)


def test_closing_leaves_nothing(program_world: Runner) -> None:
    def test(one: World) -> None:
        assert one.uplink is not None
        pid = one.uplink.pid
        one.in_loop(one.uplink.close)
        assert not os.path.exists(f"/proc/{pid}")
        one.until(lambda: not one.has_tap())
        tables = netrig.Place(one.realm.net_fd).run("nft", "list", "tables").stdout
        assert "uplink" not in tables
        one.in_loop(one.uplink.start)
        one.until(lambda: one.uplink is not None and one.uplink.ready)
        assert error_of(one.container(), netrig.OUTSIDE, 9) == errno.ECONNREFUSED

    program_world(test)


def test_a_service_that_is_killed_takes_the_program_along(tmp_path: Path, libexec: str) -> None:
    """Its successor makes an interface of the same name."""

    def test(one: World) -> None:
        assert one.uplink is not None
        Path(tmp_path, "pid").write_text(str(one.uplink.pid))
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(pytest.fail.Exception):
        apart(test, "slirp4netns", tmp_path, libexec)
    pid = int(Path(tmp_path, "pid").read_text())
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{pid}")


class Scripted(UplinkDriver):
    """An uplink of the test's own."""

    name = "scripted"
    program = True

    def __init__(self, *argv: str) -> None:
        self._argv = list(argv)

    def command(self, facts: HostFacts, namespace: str) -> Command:
        return Command([*self._argv, namespace])


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (("/bin/sh", "-c", "echo first; echo no route to anywhere >&2; exit 3"), "no route to"),
        (("/bin/sh", "-c", "kill -SEGV $$"), "(signal 11): it did not say why"),
        (("/nonexistent/pasta",), "/nonexistent/pasta: no such file"),
    ],
)
def test_a_program_that_always_fails_is_tried_ever_later(
    tmp_path: Path, libexec: str, argv: tuple[str, ...], wanted: str
) -> None:
    def test(one: World) -> None:
        assert one.uplink is not None
        one.until(lambda: one.uplink is not None and one.uplink.starts >= 4)
        begun = one.uplink.starts
        time.sleep(1.5)
        assert one.uplink.starts - begun <= 3
        assert wanted in one.logged[0]
        assert not one.uplink.ready
        one.in_loop(one.uplink.close)

    apart(test, "", tmp_path, libexec, Scripted(*argv))


def test_a_program_that_never_makes_an_interface_is_ended(
    tmp_path: Path, libexec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rootless.drivers.network.netd import tap

    monkeypatch.setattr(tap, "PATIENCE", 0.3)

    def test(one: World) -> None:
        one.until(lambda: any("makes no interface" in line for line in one.logged))
        one.until(lambda: one.uplink is not None and one.uplink.starts >= 2)
        assert one.uplink is not None
        one.in_loop(one.uplink.close)

    apart(test, "", tmp_path, libexec, Scripted("/bin/sh", "-c", "sleep 60"))


@pytest.mark.parametrize("watched", [True, False])
def test_an_end_is_seen_without_pidfds(
    tmp_path: Path, libexec: str, monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    """The lane of Linux before 5.3."""
    from rootless.drivers.network.netd import tap

    if not watched:
        monkeypatch.setattr(tap, "_watch", lambda pid: -1)

    def test(one: World) -> None:
        assert one.uplink is not None
        before = one.uplink.pid
        os.kill(before, signal.SIGKILL)
        one.until(lambda: restarted(one, before))

    apart(test, "slirp4netns", tmp_path, libexec)
