"""Published ports: clients' addresses, ends and resets, taken ports, many connections, nginx loaded by wrk."""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import netrig
import pytest
from publishrig import (
    GATEWAY,
    GATEWAY6,
    PATIENCE,
    Container,
    World,
    in_world,
    read_all,
    run,
    seen,
    stop,
    tell_peer,
    until,
)

from rootless.drivers.network.netd import datagrams, publish_tcp, publish_udp
from rootless.drivers.network.netd.pump import reset_socket
from rootless.plan.network import Port

pytestmark = pytest.mark.requires("userns", "ip")

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


def test_tcp_servers_see_their_clients() -> None:
    def case(world: World) -> None:
        one = world.container(2)
        one.serve(80, tell_peer)
        told = world.publish(one, Port("", 8080, 80))
        assert [(t["host_ip"], t["host_port"], t["container_port"]) for t in told] == [
            ("0.0.0.0", 8080, 80),
            ("::", 8080, 80),
        ]
        there, own = seen(world, world.outside, (netrig.HOST, 8080))
        assert there == own and own.startswith(netrig.OUTSIDE + " ")
        there, own = seen(world, None, (netrig.HOST, 8080))  # the host itself, by its own address
        assert there == own and own.startswith(netrig.HOST + " ")
        for address in ("127.0.0.1", "127.3.2.1", "::1"):  # never as the container's own loopback
            assert seen(world, None, (address, 8080))[0].startswith(GATEWAY + " ")
        # A client with IPv6 only, a container with IPv4 only.
        assert seen(world, world.outside, (netrig.HOST6, 8080))[0].startswith(GATEWAY + " ")

    in_world(case)


def test_tcp_servers_see_their_clients_by_ipv6() -> None:
    def case(world: World) -> None:
        one = world.container(2, six=True)
        listener = one.socket(TCP, 80, six=True)
        world.publish(one, Port("", 8080, 80))

        def exchange(place: netrig.Place | None, address: str) -> tuple[str, str]:
            with world.connect(place, (address, 8080)) as client:
                connection, peer = listener.accept()
                connection.close()
                assert read_all(client) == b""
                own = client.getsockname()
                return f"{peer[0]} {peer[1]}", f"{own[0]} {own[1]}"

        there, own = exchange(world.outside, netrig.HOST6)
        assert there == own and own.startswith(netrig.OUTSIDE6 + " ")
        assert exchange(None, "::1")[0].startswith(GATEWAY6 + " ")
        mapped = exchange(world.outside, netrig.HOST)[0]  # the server's socket takes IPv4 as well
        assert mapped.startswith(f"::ffff:{netrig.OUTSIDE} ")

    in_world(case)


def test_a_client_that_the_container_takes_for_a_neighbour() -> None:
    """Someone outside has an address of the container's own subnet: answers would go to the bridge."""

    def case(world: World) -> None:
        one = world.container(2)
        one.serve(80, tell_peer)
        world.publish(one, Port("", 8080, 80))
        line = "ip addr add 172.18.0.77/32 dev out1"
        world.outside.run(*line.split())
        run("ip route add 172.18.0.77 dev out0")

        def make() -> socket.socket:
            return socket.create_connection(
                (netrig.HOST, 8080), PATIENCE, source_address=("172.18.0.77", 0)
            )

        with world.outside.call(make) as client:
            assert read_all(client).decode().startswith(GATEWAY + " ")

    in_world(case)


def test_a_container_without_a_default_route_is_reached() -> None:
    """As on an --internal network."""

    def case(world: World) -> None:
        one = world.container(2, routed=False)
        one.serve(80, tell_peer)
        world.publish(one, Port("", 8080, 80))
        assert seen(world, world.outside, (netrig.HOST, 8080))[0].startswith(GATEWAY + " ")

    in_world(case)


def test_udp_servers_see_their_clients() -> None:
    def case(world: World) -> None:
        one = world.container(2, six=True)
        server = one.socket(UDP, 53)
        server6 = one.socket(UDP, 5353, six=True)
        world.publish(one, Port("", 1053, 53, "udp"), Port("", 1054, 5353, "udp"))
        run("ip addr add 10.9.0.9/24 dev out0")

        def exchange(client: socket.socket, to: tuple[str, int], at: socket.socket) -> str:
            client.sendto(b"question", to)
            data, peer = at.recvfrom(100)
            assert data == b"question"
            for number in range(3):
                at.sendto(b"answer%d" % number, peer)
                data, sender = client.recvfrom(100)
                assert (data, sender[:2]) == (b"answer%d" % number, to)
            return f"{peer[0]} {peer[1]}"

        for address in (netrig.HOST, "10.9.0.9"):  # answers come from where the question went
            with world.datagrams(world.outside) as client:
                there = exchange(client, (address, 1053), server)
                assert there == f"{netrig.OUTSIDE} {client.getsockname()[1]}"
        with world.datagrams(world.outside, six=True) as client:
            there = exchange(client, (netrig.HOST6, 1054), server6)
            assert there == f"{netrig.OUTSIDE6} {client.getsockname()[1]}"
        with world.datagrams(None) as client:
            assert exchange(client, ("127.0.0.1", 1053), server).startswith(GATEWAY + " ")
        with world.datagrams(
            world.outside
        ) as client:  # one port of a client, two of the host's addresses
            first = exchange(client, (netrig.HOST, 1053), server)
            second = exchange(client, ("10.9.0.9", 1053), server)
            assert first != second
            assert first.split()[0] == second.split()[0] == netrig.OUTSIDE
            assert exchange(client, (netrig.HOST, 1053), server) == first

    in_world(case)


@pytest.mark.parametrize("host", [netrig.HOST, netrig.HOST6])
def test_many_datagrams_pass_together_and_stay_apart(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """What one system call sent, both ways: one for many in the service, as many as there were at the ends."""
    given: list[int] = []

    def give(sock: socket.socket, data: memoryview, size: int, *more: Any) -> None:
        given.append(size)
        datagrams.give(sock, data, size, *more)

    monkeypatch.setattr(
        publish_udp, "datagrams", SimpleNamespace(**{**vars(datagrams), "give": give})
    )

    def case(world: World) -> None:
        one = world.container(2, six=True)
        server = one.socket(UDP, 53, six=":" in host)
        world.publish(one, Port("", 1053, 53, "udp"))
        sent = [b"%02d" % number * 600 for number in range(30)] + [b"last"]
        segments = [(socket.IPPROTO_UDP, 103, struct.pack("=H", 1200))]  # UDP_SEGMENT
        with world.datagrams(world.outside, six=":" in host) as client:
            client.sendmsg([b"".join(sent)], segments, 0, (host, 1053))
            first, peer = server.recvfrom(65536)
            assert [first, *(server.recv(65536) for _ in sent[1:])] == sent
            assert 1200 in given
            given.clear()
            server.sendmsg([b"".join(sent)], segments, 0, peer)
            assert [client.recv(65536) for _ in sent] == sent
            assert 1200 in given

    in_world(case)


def test_udp_flows_end_when_they_are_idle_or_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish_udp, "MOST", 8)
    monkeypatch.setattr(publish_udp, "MOST_OF_CLIENT", 8)
    monkeypatch.setattr(publish_udp, "IDLE", 0.5)
    monkeypatch.setattr(publish_udp, "IDLE_ANSWERED", 0.5)

    def case(world: World) -> None:
        one = world.container(2)
        server = one.socket(UDP, 53)
        world.publish(one, Port("127.0.0.1", 1053, 53, "udp"))
        before = len(os.listdir("/proc/self/fd"))
        clients = [world.datagrams(None) for _ in range(40)]
        peers = set()
        for client in clients:
            client.sendto(b"x", ("127.0.0.1", 1053))
            peers.add(server.recvfrom(10)[1])
        assert len(peers) == 40
        stock = 2 * 16
        assert len(os.listdir("/proc/self/fd")) <= before + 40 + 8 + stock
        last = server.recvfrom  # the last one still has its flow
        clients[-1].sendto(b"y", ("127.0.0.1", 1053))
        server.sendto(b"z", last(10)[1])
        assert clients[-1].recv(10) == b"z"
        for client in clients:
            client.close()
        until(lambda: len(os.listdir("/proc/self/fd")) <= before + stock)

    in_world(case)


def test_udp_follows_a_container_to_its_new_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish_udp, "FRESH", 0.05)

    def case(world: World) -> None:
        one, two = world.container(2), world.container(3)
        servers = [one.socket(UDP, 53), two.socket(UDP, 53)]
        world.publish(one, Port("", 1053, 53, "udp"))
        with world.datagrams(world.outside) as client:
            client.sendto(b"a", (netrig.HOST, 1053))
            assert servers[0].recv(10) == b"a"
            one.target = two.target
            threading.Event().wait(0.1)
            client.sendto(b"b", (netrig.HOST, 1053))
            assert servers[1].recv(10) == b"b"

    in_world(case)


def test_ends_and_resets_pass_through() -> None:
    def case(world: World) -> None:
        one = world.container(2)
        listener = one.socket(TCP, 80)
        world.publish(one, Port("", 8080, 80))

        def pair() -> tuple[socket.socket, socket.socket]:
            client = world.connect(world.outside, (netrig.HOST, 8080))
            server, _ = listener.accept()
            server.settimeout(PATIENCE)
            return client, server

        client, server = pair()
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        assert read_all(server) == b"question"
        server.sendall(b"an answer after the end of the question")
        server.close()
        assert read_all(client) == b"an answer after the end of the question"
        client.close()
        for sides in (0, 1):
            ends = pair()
            ends[0].sendall(b"x")
            assert ends[1].recv(1) == b"x"
            reset_socket(ends[sides])
            with ends[1 - sides] as other, pytest.raises(ConnectionResetError):
                other.recv(1)
        listener.close()
        with pytest.raises(ConnectionResetError):  # so soon, perhaps, that connect() says so
            world.connect(world.outside, (netrig.HOST, 8080)).recv(1)
        one.target = one.target._replace(ip="")  # disconnected from its network
        with pytest.raises(ConnectionResetError):  # so soon, perhaps, that connect() says so
            world.connect(world.outside, (netrig.HOST, 8080)).recv(1)
        until(lambda: world.pumps.count == 0)

    in_world(case)


def test_a_port_leads_to_where_the_container_is_now() -> None:
    def case(world: World) -> None:
        one, two = world.container(2), world.container(3)
        one.serve(80, lambda connection, _: (connection.sendall(b"one"), connection.close()))
        two.serve(80, lambda connection, _: (connection.sendall(b"two"), connection.close()))
        world.publish(one, Port("", 8080, 80))
        with world.connect(world.outside, (netrig.HOST, 8080)) as client:
            assert read_all(client) == b"one"
        one.target = two.target
        with world.connect(world.outside, (netrig.HOST, 8080)) as client:
            assert read_all(client) == b"two"

    in_world(case)


def test_connections_end_with_their_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it vanished without a word; what it said before is delivered."""
    monkeypatch.setattr(publish_tcp, "GRACE", 0.1)

    def case(world: World) -> None:
        one = world.container(2)
        listener = one.socket(TCP, 80)
        world.publish(one, Port("", 8080, 80))
        ends = []
        for _ in range(2):
            client = world.connect(world.outside, (netrig.HOST, 8080))
            ends.append((client, listener.accept()[0]))
        (quiet, _), (slow, talker) = ends
        talker.setblocking(False)
        said = 0
        while True:  # until everything in between is full
            try:
                said += talker.send(b"x" * 65536)
            except BlockingIOError:
                threading.Event().wait(0.1)
                try:
                    said += talker.send(b"x")
                except BlockingIOError:
                    break
        one.place.run("ip", "link", "set", "eth0", "down")
        world.do(world.published.close, one.id)
        with quiet, pytest.raises(ConnectionResetError):
            quiet.recv(1)
        with slow:
            heard = 0
            with pytest.raises(ConnectionResetError):
                while True:
                    heard += len(slow.recv(1 << 20)) or pytest.fail("ended as if all was said")
            assert heard > 100_000
        until(lambda: world.pumps.count == 0)
        with pytest.raises(ConnectionRefusedError):
            world.connect(world.outside, (netrig.HOST, 8080))

    in_world(case)


def test_a_thousand_connections_at_once() -> None:
    def case(world: World) -> None:
        one = world.container(2)
        one.serve(
            80, lambda connection, _: (connection.sendall(read_all(connection)), connection.close())
        )
        world.publish(one, Port("", 8080, 80))
        clients = [world.connect(world.outside, (netrig.HOST, 8080)) for _ in range(1000)]
        until(lambda: world.pumps.count == 1000)
        for number, client in enumerate(clients):
            client.sendall(b"%d" % number)
            client.shutdown(socket.SHUT_WR)
        for number, client in enumerate(clients):
            assert read_all(client) == b"%d" % number
            client.close()
        until(lambda: world.pumps.count == 0)

    in_world(case)


def test_no_descriptors_left_means_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients wait in the backlog; the loop does not spin; it goes on as soon as it can."""

    def case(world: World) -> None:
        one = world.container(2)
        one.serve(80, tell_peer)
        world.publish(one, Port("", 8080, 80))
        seen(world, None, ("127.0.0.1", 8080))
        real, refusals = socket.socket.accept, [0]

        def accept(self: socket.socket) -> Any:
            if self.getsockname()[1] == 8080 and refusals[0] < 3:
                refusals[0] += 1
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return real(self)

        pytest.MonkeyPatch().setattr(socket.socket, "accept", accept)
        assert seen(world, None, ("127.0.0.1", 8080))[0].startswith(GATEWAY)
        assert refusals == [3]
        assert len(world.logged) == 1 and "too many open files" in world.logged[0].lower()

    in_world(case)


def test_one_container_cannot_take_all_connections() -> None:
    def case(world: World) -> None:
        world.published._service.most = 20
        one, two = world.container(2), world.container(3)
        for container in (one, two):
            container.serve(80, lambda connection, _: connection.sendall(b"x"))
        world.publish(one, Port("", 8080, 80))
        world.publish(two, Port("", 8081, 80))
        flood = [world.connect(world.outside, (netrig.HOST, 8080)) for _ in range(30)]
        until(lambda: world.pumps.count == 10)
        with world.connect(world.outside, (netrig.HOST, 8081)) as client:
            assert client.recv(1) == b"x"
        for client in flood[:20]:
            client.close()
        with flood[-1]:
            assert flood[-1].recv(1) == b"x"

    in_world(case)


NGINX = """
user root;
daemon off;
worker_processes 1;
error_log {0}/error.log;
pid {0}/pid;
events {{ worker_connections 512; }}
http {{
    access_log {0}/access.log;
    client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/fastcgi;
    uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;
    server {{ listen 80; listen [::]:80; root {0}/www; }}
}}
"""


@pytest.mark.requires("nginx", "wrk")
def test_nginx_under_load_logs_its_clients(tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "index.html").write_text("hello\n" * 100)
    (tmp_path / "nginx.conf").write_text(NGINX.format(tmp_path))

    def case(world: World) -> None:
        one = world.container(2, six=True)
        world.publish(one, Port("", 8080, 80))
        server = one.place.spawn("nginx", "-c", f"{tmp_path}/nginx.conf", "-p", str(tmp_path))
        try:
            until(lambda: listening(one, 80))
            for address in (netrig.HOST, f"[{netrig.HOST6}]"):
                said = world.outside.run(
                    "wrk", "-t1", "-c50", "-d2s", f"http://{address}:8080/"
                ).stdout
                assert "Socket errors" not in said and "Non-2xx" not in said, said
                assert int(re.findall(r"(\d+) requests in", said)[0]) > 100, said
        finally:
            stop(server)
        log = (tmp_path / "access.log").read_text().splitlines()
        assert {line.split()[0] for line in log} == {netrig.OUTSIDE, netrig.OUTSIDE6}

    in_world(case)


def listening(container: Container, port: int) -> bool:
    def look() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    return bool(container.place.call(look))
