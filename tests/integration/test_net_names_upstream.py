"""What is asked elsewhere: the host's servers and how they fail, lie, cut and keep silent."""

from __future__ import annotations

import os
import resource
import socket
import struct
import threading
import time
from pathlib import Path

import pytest
from dnsrig import (
    KNOWN,
    MANY,
    Server,
    World,
    failing,
    fixed,
    in_world,
    question,
    silent,
)

from rootless.drivers.network.netd import dnswire, upstream

pytestmark = pytest.mark.requires("userns", "dig", "ip", "nft")


def test_all_else_is_the_hosts_answer_unchanged(tmp_path: Path) -> None:
    def case(world: World) -> None:
        server = Server("127.0.0.53", silent)
        answers: list[bytes] = []

        def answer(message: bytes, _tcp: bool) -> list[bytes]:
            extra = b"\0" + struct.pack(">HHIH", dnswire.OPT, 1400, 0, 8) + b"\0\x0f\0\4abcd"
            head = message[:2] + b"\x85\xa3\0\1\0\0\0\0\0\1"
            answers.append(head + message[12 : message.index(b"\0\1\0\1", 12) + 4] + extra)
            return answers[-1:]

        server.answer = answer
        world.serve("127.0.0.53")
        world.container("one")
        asked = question("Nobody", identity=4711)
        got = world.ask("one", asked)
        assert got is not None
        assert got[2:] == answers[0][2:]
        assert got[:2] == asked[:2]
        assert server.asked[0][2:] == asked[2:]
        world.ask("one", asked)
        world.ask("one", asked)
        assert len({message[:2] for message in [asked, *server.asked]}) > 2  # IDs of our own

    in_world(case, tmp_path)


def test_ports_and_ids_of_questions_differ(tmp_path: Path) -> None:
    def case(world: World) -> None:
        seen: set[tuple[bytes, int]] = set()
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("127.0.0.53", 53))

        def serve() -> None:
            while True:
                message, client = server.recvfrom(4096)
                seen.add((message[:2], client[1]))
                server.sendto(fixed("192.0.2.1")(message, False)[0], client)

        threading.Thread(target=serve, daemon=True).start()
        world.serve("127.0.0.53")
        world.container("one")
        for _ in range(40):
            assert world.ask("one", question("a.example")) is not None
        assert len({identity for identity, _ in seen}) > 35
        assert len({port for _, port in seen}) > 35

    in_world(case, tmp_path)


def test_servers_that_fail(tmp_path: Path) -> None:
    def case(world: World) -> None:
        dead = Server("127.0.1.1", silent)
        Server("127.0.1.2", failing(dnswire.SERVFAIL))
        good = Server("127.0.1.3", fixed("192.0.2.3"))
        world.serve("127.0.1.9", "127.0.1.2", "127.0.1.3")  # nobody there, one that fails
        world.container("one")
        assert world.dig("one", "a.example") == "192.0.2.3"
        assert world.dig("one", "a.example", "+tcp") == "192.0.2.3"
        world.resolv.write_text("nameserver 127.0.1.1\nnameserver 127.0.1.3\n")
        for _ in range(3):
            assert world.dig("one", "a.example") == "192.0.2.3"
        assert len(dead.asked) == 3
        asked = len(good.asked)
        for _ in range(5):  # the silent one is not waited for any more
            assert world.dig("one", "a.example") == "192.0.2.3"
        assert (len(dead.asked), len(good.asked)) == (3, asked + 5)
        world.resolv.write_text("nameserver 127.0.1.2\nnameserver 127.0.1.2\n")
        assert world.status("one", "a.example") == "SERVFAIL qr rd ra 0"
        world.resolv.write_text("nameserver 127.0.1.9\n")
        assert world.status("one", "a.example").startswith("SERVFAIL")
        assert not world.errors

    in_world(case, tmp_path)


def test_a_slow_server_is_still_heard_and_a_silent_one_given_up(tmp_path: Path) -> None:
    def case(world: World) -> None:
        def slow(message: bytes, _tcp: bool) -> list[bytes]:
            time.sleep(0.8)
            return fixed("192.0.2.1")(message, False)

        Server("127.0.1.1", slow)
        lost = Server("127.0.1.2", silent)
        world.serve("127.0.1.1", "127.0.1.2")
        world.container("one")
        assert world.dig("one", "a.example") == "192.0.2.1"
        assert len(lost.asked) == 1
        world.resolv.write_text("nameserver 127.0.1.2\n")
        before = len(lost.asked)
        assert world.status("one", "a.example").startswith("SERVFAIL")
        assert len(lost.asked) - before == upstream.TRIES  # a lost datagram is sent again
        assert len({message[:2] for message in lost.asked}) > 2

    in_world(case, tmp_path)


def test_answers_that_are_not_to_the_question_are_ignored(tmp_path: Path) -> None:
    def case(world: World) -> None:
        def forged(message: bytes, tcp: bool) -> list[bytes]:
            good = fixed("192.0.2.1")(message, tcp)[0]
            bad = fixed("203.0.113.1")(message, tcp)[0]
            other = dnswire.parse_question(message[:13] + b"b" + message[14:])
            record = dnswire.record(1, 9, bytes(4))
            return [
                bytes((bad[0] ^ 1,)) + bad[1:],
                dnswire.answer(other, [record]),
                bad[:2] + b"\1\0" + bad[4:],
                bad[:11],
                b"",
                good,
            ]

        server = Server("127.0.1.1", forged)
        world.serve("127.0.1.1")
        world.container("one")
        elsewhere = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        elsewhere.bind(("127.0.1.2", 53))
        plain = server.answer

        def from_elsewhere(message: bytes, tcp: bool) -> list[bytes]:
            with open("/proc/net/udp", encoding="ascii") as file:
                ports = [line.split()[1] for line in file if line.split()[2] == "0101007F:0035"]
            for port in ports:
                client = ("127.0.0.1", int(port.split(":")[1], 16))
                elsewhere.sendto(fixed("203.0.113.2")(message, tcp)[0], client)
            assert ports
            return plain(message, tcp)

        server.answer = from_elsewhere
        assert world.dig("one", "a.example") == "192.0.2.1"
        assert len(server.asked) == 1

    in_world(case, tmp_path)


def test_long_answers(tmp_path: Path) -> None:
    def case(world: World) -> None:
        server = Server("127.0.1.1", fixed(*MANY))
        world.serve("127.0.1.1")
        world.container("one", {"many": MANY})
        for name in ("many", "many.example"):
            small = world.status("one", name, "+ignore")
            assert small.startswith("NOERROR qr tc rd ra ")
            assert world.status("one", name) == "NOERROR qr rd ra 200"  # dig goes on by TCP
            assert len(world.dig("one", name, "+bufsize=4096", "+ignore").split()) == 200
            assert "tc" in world.dig("one", "+noall", "+comments", name, "+bufsize=1232", "+ignore")
        local = world.ask("one", question("many"))
        assert local is not None and 500 < len(local) <= 512
        forwarded = world.ask("one", question("many.example"))
        assert forwarded is not None and len(forwarded) <= 512
        assert server.asked_tcp

    in_world(case, tmp_path)


def test_a_server_that_cuts_more_than_it_should_is_asked_by_tcp(tmp_path: Path) -> None:
    def case(world: World) -> None:
        def cutting(message: bytes, tcp: bool) -> list[bytes]:
            answer = fixed("192.0.2.1", "192.0.2.2")(message, tcp)[0]
            return [answer if tcp else dnswire.truncated(answer, dnswire.parse_question(message))]

        Server("127.0.1.1", cutting)
        world.serve("127.0.1.1")
        world.container("one")
        assert world.dig("one", "a.example", "+ignore").split() == ["192.0.2.1", "192.0.2.2"]

    in_world(case, tmp_path)


def test_a_server_without_tcp_gives_what_it_has(tmp_path: Path) -> None:
    def case(world: World) -> None:
        server = Server("127.0.1.1", fixed(*MANY))
        server.tcp.shutdown(socket.SHUT_RDWR)
        server.tcp.close()
        world.serve("127.0.1.1")
        world.container("one")
        assert world.status("one", "a.example", "+ignore").startswith("NOERROR qr tc rd ra 3")

    in_world(case, tmp_path)


def test_the_host_may_be_a_container_itself(tmp_path: Path) -> None:
    def case(world: World) -> None:
        Server("127.0.0.11", fixed("192.0.2.1"))
        world.serve("127.0.0.11")
        world.container("one")
        assert world.dig("one", "a.example") == "192.0.2.1"

    in_world(case, tmp_path)


def test_few_descriptors_are_shared(tmp_path: Path) -> None:
    def case(world: World) -> None:
        limit = 400
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        world.serve("127.0.0.53")
        Server("127.0.0.53", silent)
        names = [f"c{number}" for number in range(12)]
        for name in names:
            world.container(name, KNOWN)
        clients = [world.socket(name, socket.SOCK_DGRAM) for name in names]
        for number in range(200):
            for client in clients:
                client.send(question("a.example", identity=number))
        assert world.dig("c0", "web") == "10.1.0.2"
        assert world.do(lambda: len(os.listdir("/proc/self/fd"))) < limit - 50
        for client in clients:
            assert client.recv(512)[3] & 15 == dnswire.SERVFAIL
        assert not world.errors

    in_world(case, tmp_path)
