"""What tests of names need: a world with a Names in its loop, containers' namespaces, and name servers to ask.

``in_world(case)`` runs CASE(World) in a child process, in namespaces of its own (netrig.py), and raises what it
raised.  The host's resolv.conf is a file of the test's.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
import traceback
from pathlib import Path
from typing import Any, Callable

import netrig

from rootless.drivers.network.netd import dnswire
from rootless.drivers.network.netd.dns import Names
from rootless.drivers.network.netd.loop import Loop
from rootless.drivers.network.netd.realm import Realm

PATIENCE = 0.3
MANY = [f"192.0.2.{number}" for number in range(200)]  # 3.2 kB of records

KNOWN = {
    "web": ["10.1.0.2"],
    "db": ["10.1.0.3", "10.1.0.4", "10.1.0.5"],
    "both": ["10.1.0.6", "fd00::6"],
    "my.dotted": ["10.1.0.7"],
    "six": ["fd00::8"],
}


def in_world(case: Callable[[World], None], scratch: Path) -> None:
    """CASE in a child process; fails as it failed."""
    netrig.apart(lambda: case(World(scratch)))


def question(name: str, kind: int = 1, identity: int = 99, flags: int = 0x0100) -> bytes:
    """A question as a client sends it."""
    head = struct.pack(">HHHHHH", identity, flags, 1, 0, 0, 0)
    return head + dnswire.name_bytes(name) + struct.pack(">HH", kind, 1)


class Book:
    """A directory: names by container."""

    def __init__(self) -> None:
        self.names: dict[str, dict[str, list[str]]] = {}
        self.internal: set[str] = set()

    def lookup(self, container_id: str, name: str, kind: int) -> list[str] | None:
        found = self.names.get(container_id, {}).get(name)
        return found and [one for one in found if (":" in one) == (kind == 6)]

    def reverse(self, container_id: str, address: str) -> str | None:
        for name, found in self.names.get(container_id, {}).items():
            if address in found:
                return name + ".net"
        return None

    def external(self, container_id: str) -> bool:
        return container_id not in self.internal


class World:
    """A host, a realm, its name service, and containers."""

    def __init__(self, scratch: Path) -> None:
        self.resolv = scratch / "resolv.conf"
        self.loop = Loop(self._failed)
        self.errors: list[BaseException] = []
        self.logged: list[str] = []
        self.realm = Realm(netrig.namespace())
        self.book = Book()
        self.containers: dict[str, netrig.Place] = {}
        self.names: Names
        self._thread = threading.Thread(target=self.loop.run, daemon=True)
        self._thread.start()

    def _failed(self, error: BaseException) -> None:
        traceback.print_exception(type(error), error, error.__traceback__)
        self.errors.append(error)

    def serve(self, *servers: str, **options: Any) -> None:
        """Start the service; the host asks SERVERS."""
        if servers:
            self.resolv.write_text("".join(f"nameserver {server}\n" for server in servers))
        options.setdefault("patience", PATIENCE)
        self.names = self.do(
            lambda: Names(
                self.loop,
                self.realm,
                self.book,
                self.logged.append,
                resolv_conf=str(self.resolv),
                **options,
            )
        )

    def do(self, function: Callable[..., Any], *args: Any) -> Any:
        """FUNCTION(*ARGS) in the loop."""
        return netrig.in_loop(self.loop, 30, function, *args)

    def container(
        self, name: str, known: dict[str, list[str]] | None = None, **options: Any
    ) -> None:
        """A container that knows the names KNOWN."""
        place = netrig.Place()
        self.containers[name] = place
        self.book.names[name] = known or {}
        servers = options.pop("servers", [])
        self.do(lambda: self.names.attach(name, place.net_fd, servers, **options))

    def run(self, name: str, *argv: str) -> str:
        """What a program says in the container NAME."""
        return self.containers[name].run(*argv, check=False).stdout

    def dig(self, name: str, *words: str) -> str:
        """dig in the container NAME; +short unless WORDS say otherwise."""
        show = [] if any(word.startswith("+noall") for word in words) else ["+short"]
        words = ("@127.0.0.11", "+tries=1", "+time=8", *show, *words)
        done = self.containers[name].run("dig", *words, check=False)
        return (done.stdout + done.stderr).strip()

    def status(self, name: str, *words: str) -> str:
        """The header of dig's answer: "NOERROR qr rd ra 1" with the number of records."""
        text = self.dig(name, "+noall", "+comments", "+noedns", *words)
        head = text.split("status: ")[1].split(",")[0]
        flags = text.split("flags: ")[1].split(";")[0]
        answers = text.split("ANSWER: ")[1].split(",")[0]
        return f"{head} {flags} {answers}"

    def ask(self, name: str, message: bytes, timeout: float = 8) -> bytes | None:
        """The answer to MESSAGE, sent by UDP in the container; None if there is none."""
        client = self.socket(name, socket.SOCK_DGRAM)
        client.settimeout(timeout)
        client.send(message)
        try:
            return client.recv(65535)
        except socket.timeout:
            return None
        finally:
            client.close()

    def socket(self, name: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket of the container, connected to its name server."""

        def make() -> socket.socket:
            made = socket.socket(socket.AF_INET, kind)
            made.settimeout(8)
            made.connect(("127.0.0.11", 53))
            return made

        made: socket.socket = self.containers[name].call(make)
        return made


def stream_read(client: socket.socket) -> bytes:
    """One message from a TCP connection; b"" at the end."""
    with client.makefile("rb") as file:
        head = file.read(2)
        return file.read(int.from_bytes(head, "big")) if head else b""


def with_length(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


class Server:
    """A name server on ADDRESS, port 53; answers as ANSWER(message, tcp) says: a list of datagrams to send."""

    def __init__(
        self, address: str, answer: Callable[[bytes, bool], list[bytes]], port: int = 53
    ) -> None:
        self.answer = answer
        self.asked: list[bytes] = []
        self.asked_tcp: list[bytes] = []
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.udp = socket.socket(family, socket.SOCK_DGRAM)
        self.udp.bind((address, port))
        self.tcp = socket.create_server((address, port), family=family)
        for loop in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=loop, daemon=True).start()

    def _serve_udp(self) -> None:
        while True:
            try:
                message, client = self.udp.recvfrom(65535)
            except OSError:
                return
            self.asked.append(message)
            for answer in self.answer(message, False):
                self.udp.sendto(answer, client)

    def _serve_tcp(self) -> None:
        while True:
            try:
                client, _ = self.tcp.accept()
            except OSError:
                return
            message = stream_read(client)
            self.asked_tcp.append(message)
            for answer in self.answer(message, True):
                client.sendall(with_length(answer))
            client.close()


def fixed(*addresses: str) -> Callable[[bytes, bool], list[bytes]]:
    """A server that gives every name these addresses, as many as fit."""

    def answer(message: bytes, tcp: bool) -> list[bytes]:
        question = dnswire.parse_question(message)
        records = [dnswire.record(1, 60, socket.inet_aton(one)) for one in addresses]
        limit = dnswire.LARGE if tcp else question.limit
        return [dnswire.answer(question, records, limit=limit)]

    return answer


def failing(rcode: int) -> Callable[[bytes, bool], list[bytes]]:
    """A server that gives every name an error."""

    def answer(message: bytes, _tcp: bool) -> list[bytes]:
        return [dnswire.answer(dnswire.parse_question(message), rcode=rcode)]

    return answer


def silent(_message: bytes, _tcp: bool) -> list[bytes]:
    """A server that never answers."""
    return []


def with_resolv_conf(text: str, scratch: Path) -> None:
    """Make TEXT the /etc/resolv.conf of this world."""
    file = scratch / "etc-resolv.conf"
    file.write_text(text)
    subprocess.run(["mount", "--bind", str(file), "/etc/resolv.conf"], check=True)
