"""Names in containers' namespaces: dig, getent and raw messages against the server on 127.0.0.11."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
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
    stream_read,
    with_length,
    with_resolv_conf,
)

from rootless.drivers.network.netd import dns_sockets, dns_tcp, dnswire, upstream
from rootless.linux.nftables import Nft
from rootless.plan import resolvconf

pytestmark = pytest.mark.requires("userns", "dig", "ip", "nft")


def test_names_that_are_known(tmp_path: Path) -> None:
    def case(world: World) -> None:
        world.serve()
        world.container("one", KNOWN)
        assert world.dig("one", "web") == "10.1.0.2"
        assert world.dig("one", "WEB.") == "10.1.0.2"
        assert world.dig("one", "my.DOTted") == "10.1.0.7"
        assert world.dig("one", "both", "AAAA") == "fd00::6"
        assert world.dig("one", "both", "ANY", "+notcp").splitlines() == ["10.1.0.6", "fd00::6"]
        assert world.status("one", "web", "AAAA") == "NOERROR qr rd ra 0"
        assert world.status("one", "six", "A") == "NOERROR qr rd ra 0"
        assert world.status("one", "web", "MX") == "NOERROR qr rd ra 0"
        assert world.status("one", "web", "TYPE65") == "NOERROR qr rd ra 0"
        assert world.dig("one", "-x", "10.1.0.4") == "db.net."
        assert world.dig("one", "-x", "fd00::8") == "six.net."
        assert world.dig("one", "web", "+tcp") == "10.1.0.2"
        assert "\t0\tIN\tA\t10.1.0.2" in world.dig("one", "+noall", "+answer", "web")
        assert not world.errors

    in_world(case, tmp_path)


def test_several_addresses_take_turns(tmp_path: Path) -> None:
    def case(world: World) -> None:
        world.serve()
        world.container("one", KNOWN)
        world.container("two", KNOWN)
        answers = [
            world.dig(name, "db").split() for name in ("one", "two", "one", "two", "one", "two")
        ]
        assert all(sorted(answer) == KNOWN["db"] for answer in answers)
        assert [answer[0] for answer in answers] == KNOWN["db"] * 2

    in_world(case, tmp_path)


def test_the_c_library_finds_names(tmp_path: Path) -> None:
    def case(world: World) -> None:
        world.serve()
        world.container("one", KNOWN)
        for address in (
            "10.1.0.9/32",
            "fd00::9/128",
        ):  # the C library asks for families it has only
            world.run("one", "ip", "addr", "add", address, "dev", "lo")
        with_resolv_conf(resolvconf.resolv_conf("search corp.example\n"), tmp_path)
        assert world.run("one", "getent", "ahostsv4", "web").split()[0] == "10.1.0.2"
        both = world.run("one", "getent", "ahosts", "both").split()
        assert {"10.1.0.6", "fd00::6"} <= set(both)
        assert world.run("one", "getent", "hosts", "10.1.0.5").split() == ["10.1.0.5", "db.net"]
        started = time.monotonic()
        missing = world.containers["one"].run("getent", "ahosts", "nobody", check=False)
        assert missing.returncode == 2
        assert time.monotonic() - started < 4  # told at once, not by the C library's 5 s

    in_world(case, tmp_path)


def test_containers_see_their_own_names_only(tmp_path: Path) -> None:
    def case(world: World) -> None:
        Server("127.0.0.53", failing(dnswire.NXDOMAIN))
        world.serve("127.0.0.53")
        world.container("one", {"web": ["10.1.0.2"]})
        world.container("two", {"web": ["10.2.0.2"], "db": ["10.2.0.3"]})
        assert world.dig("one", "web") == "10.1.0.2"
        assert world.dig("two", "web") == "10.2.0.2"
        assert world.status("one", "db") == "NXDOMAIN qr rd ra 0"
        assert world.status("one", "-x", "10.2.0.3") == "NXDOMAIN qr rd ra 0"
        world.do(world.names.detach, "two")
        assert "no servers could be reached" in world.dig("two", "web", "+time=1")
        assert world.dig("one", "web") == "10.1.0.2"
        world.do(world.names.attach, "two", world.containers["two"].net_fd, [])
        assert world.dig("two", "web") == "10.2.0.2"

    in_world(case, tmp_path)


def test_an_unknown_name_without_a_dot(tmp_path: Path) -> None:
    def case(world: World) -> None:
        server = Server("127.0.0.53", fixed("192.0.2.1"))
        world.serve("127.0.0.53")
        world.container("plain", KNOWN)
        world.container("ndots", KNOWN, options=["ndots:1"])
        assert world.dig("plain", "host") == "192.0.2.1"
        assert world.status("ndots", "host") == "NOERROR qr rd ra 0"
        assert len(server.asked) == 1
        assert world.dig("ndots", "host.example") == "192.0.2.1"
        assert world.dig("ndots", "web") == "10.1.0.2"

    in_world(case, tmp_path)


def test_an_internal_network_asks_nobody_outside(tmp_path: Path) -> None:
    def case(world: World) -> None:
        server = Server("127.0.0.53", fixed("192.0.2.1"))
        world.serve("127.0.0.53")
        world.book.internal |= {"one", "two"}
        world.container("one", KNOWN)
        assert world.dig("one", "web") == "10.1.0.2"
        assert world.status("one", "a.example").startswith("SERVFAIL")
        assert world.status("one", "-x", "192.0.2.1").startswith("SERVFAIL")
        assert not server.asked
        world.container("two", servers=["127.0.0.1"])  # its own, in its own namespace, it may ask
        world.containers["two"].call(Server, "127.0.0.1", fixed("192.0.2.2"))
        assert world.dig("two", "a.example") == "192.0.2.2"
        world.book.internal.clear()  # connected to another network
        assert world.dig("one", "a.example") == "192.0.2.1"

    in_world(case, tmp_path)


def test_a_containers_own_servers(tmp_path: Path) -> None:
    def case(world: World) -> None:
        host = Server("127.0.0.53", fixed("192.0.2.1"))
        world.serve("127.0.0.53")
        world.container("one", KNOWN, servers=["127.0.0.11", "127.0.0.1", "::1"])
        world.containers["one"].call(Server, "127.0.0.1", failing(dnswire.REFUSED))
        own = world.containers["one"].call(Server, "::1", fixed("192.0.2.3"))
        assert world.dig("one", "a.example") == "192.0.2.3"
        assert world.dig("one", "a.example", "+tcp") == "192.0.2.3"
        assert len(own.asked) == len(own.asked_tcp) == 1
        assert not host.asked
        world.do(world.names.detach, "one")

    in_world(case, tmp_path)


@pytest.mark.parametrize("lane", ["inotify", "stat"])
def test_edits_of_the_hosts_file_count_at_once(
    tmp_path: Path, lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lane == "stat":

        def none_left() -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr("rootless.linux.inotify.Inotify", none_left)

    def case(world: World) -> None:
        for number in range(1, 7):
            Server(f"127.0.1.{number}", fixed(f"192.0.2.{number}"))
        run = tmp_path / "run"
        world.serve()
        world.container("one")

        def now(number: int) -> bool:
            return world.dig("one", "a.example") == f"192.0.2.{number}"

        assert world.status("one", "a.example").startswith("SERVFAIL")  # no file
        world.resolv.write_text("nameserver 127.0.1.1\n")
        assert now(1)
        world.resolv.write_text("nameserver 127.0.1.2\n")  # in place
        assert now(2)
        (tmp_path / "new").write_text("nameserver 127.0.1.3\n")
        (tmp_path / "new").rename(world.resolv)  # replaced
        assert now(3)
        world.resolv.write_text("# nothing\n")
        assert world.status("one", "a.example").startswith("SERVFAIL")
        world.resolv.unlink()
        world.resolv.symlink_to("run/resolve/stub.conf")  # a link to what is not there yet
        assert world.status("one", "a.example").startswith("SERVFAIL")
        (run / "resolve").mkdir(parents=True)
        (run / "resolve/stub.conf").write_text("nameserver 127.0.1.4\n")
        assert now(4)
        (run / "resolve/real.conf").write_text("nameserver 127.0.1.5\n")
        (run / "resolve/stub.conf").unlink()
        (run / "resolve/stub.conf").symlink_to("real.conf")  # a second link
        assert now(5)
        (run / "resolve/real.conf").write_text("nameserver 127.0.1.6\n")
        assert now(6)
        os.rename(run / "resolve", run / "gone")
        assert world.status("one", "a.example").startswith("SERVFAIL")
        assert bool(world.logged) == (lane == "stat")

    in_world(case, tmp_path)


def test_a_file_that_is_mounted_from_elsewhere(tmp_path: Path) -> None:
    def case(world: World) -> None:
        for number in (1, 2):
            Server(f"127.0.1.{number}", fixed(f"192.0.2.{number}"))
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "file").write_text("nameserver 127.0.1.1\n")
        world.resolv.touch()
        subprocess.run(["mount", "--bind", str(elsewhere / "file"), str(world.resolv)], check=True)
        world.serve()
        world.container("one")
        assert world.dig("one", "a.example") == "192.0.2.1"
        (elsewhere / "file").write_text("nameserver 127.0.1.2\n")
        assert world.dig("one", "a.example") == "192.0.2.2"

    in_world(case, tmp_path)


def test_messages_that_make_no_sense(tmp_path: Path) -> None:
    def case(world: World) -> None:
        world.serve()
        world.container("one", KNOWN)
        client = world.socket("one", socket.SOCK_DGRAM)
        for message in (b"", b"x" * 11, question("web", flags=0x8000), b"\xff" * 5000):
            client.send(message)  # not answered
        client.send(question("web")[:15])
        assert client.recv(512)[3] & 15 == dnswire.FORMERR
        client.send(question("web", flags=0x2800))
        assert client.recv(512)[3] & 15 == dnswire.NOTIMP
        client.send(question("web")[:12] + b"\xc0\x0c" * 30)
        assert client.recv(512)[3] & 15 == dnswire.FORMERR
        assert "BADVERS" in world.dig("one", "+noall", "+comments", "web", "+edns=1", "+noednsneg")
        stream = world.socket("one")
        stream.sendall(b"\0\3abc")  # a message that is none ends the connection
        assert stream.recv(10) == b""
        assert world.dig("one", "web") == "10.1.0.2"
        assert not world.errors

    in_world(case, tmp_path)


def test_a_connection_carries_many_questions(tmp_path: Path) -> None:
    def case(world: World) -> None:
        Server("127.0.1.1", fixed("192.0.2.1"))
        world.serve("127.0.1.1")
        world.container("one", KNOWN)
        client = world.socket("one")
        total = 300
        text = b"".join(
            with_length(question("web" if number % 3 else "a.example", identity=number))
            for number in range(total)
        )

        def send() -> None:
            for place in range(0, len(text), 97):
                client.sendall(text[place : place + 97])
            client.shutdown(socket.SHUT_WR)

        threading.Thread(target=send).start()
        got = b""
        while chunk := client.recv(65536):
            got += chunk
        found = set()
        while got:
            size = int.from_bytes(got[:2], "big") + 2
            found.add(int.from_bytes(got[2:4], "big"))
            assert got[5] & 15 == 0
            got = got[size:]
        assert found == set(range(total))
        assert not world.errors

    in_world(case, tmp_path)


def test_connections_that_hold_on_do_not_keep_others_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_tcp, "MOST", 8)
    monkeypatch.setattr(dns_tcp.Connections.__init__, "__kwdefaults__", {"idle": 0.5})

    def case(world: World) -> None:
        world.serve()
        world.container("one", KNOWN)
        world.container("two", KNOWN)
        busy = world.socket("one")
        held = [world.socket("one") for _ in range(30)]
        for client in held:
            try:
                client.sendall(b"\0\x50half a message")
            except OSError:  # closed for a newer one
                pass
        assert world.dig("one", "web", "+tcp") == "10.1.0.2"
        assert world.dig("two", "web", "+tcp") == "10.1.0.2"
        busy.close()
        fresh = world.socket("one")
        for _ in range(6):  # one that is used lives on
            time.sleep(0.2)
            fresh.sendall(with_length(question("web")))
            assert stream_read(fresh)
        for client in held:
            try:
                assert client.recv(10) == b""
            except ConnectionResetError:  # closed before what it sent was read
                pass
        assert not world.errors

    in_world(case, tmp_path)


def test_a_client_that_does_not_read(tmp_path: Path) -> None:
    def case(world: World) -> None:
        world.serve()
        world.container("one", {"many": MANY})
        client = world.socket("one")
        client.settimeout(0.5)
        sent = 0
        try:
            while sent < 50_000_000:
                sent += client.send(with_length(question("many")) * 100)
        except OSError:  # not taken any more, or closed
            pass
        assert sent < 50_000_000
        assert len(world.dig("one", "many", "+tcp").split()) == 200
        assert not world.errors

    in_world(case, tmp_path)


def test_one_that_floods_does_not_starve_others(tmp_path: Path) -> None:
    def case(world: World) -> None:
        lost = Server("127.0.1.1", silent)
        Server("127.0.1.2", fixed("192.0.2.2"))
        world.serve("127.0.1.2")
        world.container("flood", KNOWN, servers=["192.0.2.9"])
        world.container("good", KNOWN)
        world.containers["flood"].run("ip", "addr", "add", "192.0.2.9/32", "dev", "lo")
        world.containers["flood"].call(Server, "192.0.2.9", silent)
        stop = threading.Event()
        client = world.socket("flood", socket.SOCK_DGRAM)

        def flood() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                client.send(question(f"n{number}.example", identity=number & 0xFFFF))

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            for _ in range(10):
                assert world.dig("good", "web") == "10.1.0.2"
                assert world.dig("good", "a.example") == "192.0.2.2"
            files = len(os.listdir("/proc/self/fd"))
            assert files < 64 * upstream.TRIES + 100, files
            client.send(question("web"))
        finally:
            stop.set()
            thread.join()
        assert not lost.asked
        assert not world.errors

    in_world(case, tmp_path)


def test_many_that_wait_for_what_cannot_be_reached(tmp_path: Path) -> None:
    def case(world: World) -> None:
        world.serve("127.0.1.1", "203.0.113.1")  # silent; no way there
        held = Server("127.0.1.1", silent)
        world.container("one")
        client = world.socket("one", socket.SOCK_DGRAM)
        for number in range(900):
            client.send(question("a.example", identity=number))
            if number % 50 == 49:
                time.sleep(0.02)
        held.udp.close()  # from now on nobody is there
        seen = set()
        while len(seen) < 900:
            answer = client.recv(512)
            assert answer[3] & 15 == dnswire.SERVFAIL
            seen.add(answer[:2])
        assert not world.errors

    in_world(case, tmp_path)


# A name server as containers run them: on all addresses, UDP without SO_REUSEADDR.
OWN_SERVER = """
import socket, struct
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(("0.0.0.0", 53))
tcp = socket.create_server(("0.0.0.0", 53))
message, client = udp.recvfrom(512)
record = struct.pack(">HHHLH", 0xC00C, 1, 1, 9, 4) + bytes((192, 0, 2, 77))
udp.sendto(message[:2] + b"\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0" + message[12:] + record, client)
"""


def test_port_53_is_left_to_the_container(tmp_path: Path) -> None:
    def case(world: World) -> None:
        world.serve()
        world.container("one", KNOWN)
        own = world.containers["one"].spawn(sys.executable, "-c", OWN_SERVER)
        assert world.dig("one", "web") == "10.1.0.2"
        assert world.dig("one", "web", "+tcp") == "10.1.0.2"
        place = world.containers["one"]
        for _ in range(50):
            words = ("dig", "@127.0.0.1", "+short", "+tries=1", "+time=1", "+noedns", "web")
            if place.run(*words, check=False).stdout.strip() == "192.0.2.77":
                break
            time.sleep(0.1)
        assert own.wait(10) == 0
        assert not world.logged

    in_world(case, tmp_path)


def test_another_service_takes_over(tmp_path: Path) -> None:
    def case(world: World) -> None:
        world.serve()
        world.container("one", KNOWN)
        place = world.containers["one"]
        rules = world.run("one", "nft", "list", "ruleset")
        for _ in range(2):  # rules that fit are left as they are
            world.do(world.names.close)
            world.serve()
            world.do(world.names.attach, "one", place.net_fd, [])
            assert world.dig("one", "web") == "10.1.0.2"
            assert world.dig("one", "web", "+tcp") == "10.1.0.2"
            assert world.run("one", "nft", "list", "ruleset") == rules
        world.do(world.names.close)
        taken = place.call(socket.create_server, ("0.0.0.0", dns_sockets.OURS))
        world.serve()
        world.do(world.names.attach, "one", place.net_fd, [])
        assert world.dig("one", "web") == "10.1.0.2"
        assert world.dig("one", "web", "+tcp") == "10.1.0.2"
        taken.close()
        world.do(world.names.attach, "one", place.net_fd, [])
        assert world.dig("one", "web", "+tcp") == "10.1.0.2"
        assert world.run("one", "nft", "list", "ruleset") == rules
        assert not world.logged

    in_world(case, tmp_path)


FIREWALL = """
table ip own {
    chain entering {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        ct state new meta l4proto { tcp, udp } accept
    }
    chain leaving {
        type filter hook output priority 0; policy drop;
        ct state established accept
        ct state new ip daddr 127.0.0.11 accept
    }
}
"""


def test_a_stateful_firewall_in_the_container(tmp_path: Path) -> None:
    def case(world: World) -> None:
        world.serve()
        world.container("one", KNOWN)
        (tmp_path / "rules").write_text(FIREWALL)
        world.containers["one"].run("nft", "-f", str(tmp_path / "rules"))
        assert world.dig("one", "web") == "10.1.0.2"
        assert world.dig("one", "web", "+tcp") == "10.1.0.2"

    in_world(case, tmp_path)


@pytest.mark.parametrize("lane", ["absent", "refused", "program"])
def test_without_the_library_of_nftables(tmp_path: Path, lane: str) -> None:
    def case(world: World) -> None:
        program = shutil.which("nft", path="/usr/sbin:/usr/bin") or ""
        found = {"absent": "", "refused": "/bin/false", "program": program}[lane]
        assert found or lane == "absent"
        world.serve(rules=lambda call: Nft(call, found, ""), quick=False)
        world.container("one", KNOWN)
        assert world.dig("one", "web") == "10.1.0.2"
        assert world.dig("one", "web", "+tcp") == "10.1.0.2"
        port = dns_sockets.OURS if lane == "program" else 53
        assert f"127.0.0.11:{port}" in world.run("one", "ss", "-Hlntu")
        assert bool(world.logged) == (lane != "program")

    in_world(case, tmp_path)
