"""What tests of published ports need: a realm with a network, containers on it, and ports of the host for them.

``in_world(case)`` runs CASE(World) in a child process, in namespaces of its own (netrig.py), and raises what it
raised.  Bridges and rules are the service's own.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from typing import Any, Callable

import netrig

from rootless.drivers.network.netd import rules
from rootless.drivers.network.netd.bridges import Bridges, Plug, mac_of
from rootless.drivers.network.netd.loop import Loop
from rootless.drivers.network.netd.publish import Published, Target
from rootless.drivers.network.netd.pump import Pumps
from rootless.drivers.network.netd.realm import Realm
from rootless.linux.nftables import Nft
from rootless.plan.network import NetworkDef, Port, Subnet

PATIENCE = 20.0
NETWORK = NetworkDef(
    name="net",
    id="ab" * 32,
    subnets=[Subnet("172.18.0.0/16", "172.18.0.1"), Subnet("fd18::/64", "fd18::1")],
)
GATEWAY, GATEWAY6 = "172.18.0.1", "fd18::1"


def in_world(test: Callable[[World], None]) -> None:
    """TEST in a child process; fails as it failed."""

    def case() -> None:
        world = World()
        test(world)
        assert not world.errors, world.errors

    netrig.apart(case)


class Container:
    """A namespace on the network, with servers in it."""

    def __init__(self, world: World, number: int, six: bool, routed: bool = True) -> None:
        self.id = f"{number:02x}" * 32
        self.place = netrig.Place()
        self.ip, self.ip6 = f"172.18.0.{number}", f"fd18::{number}" if six else ""
        gateways = ([GATEWAY] + ([GATEWAY6] if six else [])) if routed else []
        addresses = [(self.ip, 16)] + ([(self.ip6, 64)] if six else [])
        index = world.bridges.plug(
            NETWORK, self.place.net_fd, Plug("eth0", mac_of(self.ip), addresses, gateways)
        )
        world.bridges.settle([NETWORK], self.place.net_fd, [index])
        self.target = Target(
            self.ip,
            self.ip6,
            GATEWAY,
            GATEWAY6 if six else "",
            tuple(subnet.subnet for subnet in NETWORK.subnets),
            routed,
            routed,
        )

    def socket(self, kind: int, port: int, six: bool = False, protocol: int = 0) -> socket.socket:
        """A socket bound to PORT in the container."""

        def make() -> socket.socket:
            made = socket.socket(socket.AF_INET6 if six else socket.AF_INET, kind, protocol)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(("::" if six else "0.0.0.0", port))
            if kind == socket.SOCK_STREAM:
                made.listen(4096)
            made.settimeout(PATIENCE)
            return made

        found: socket.socket = self.place.call(make)
        return found

    def serve(self, port: int, answer: Callable[[socket.socket, Any], object]) -> socket.socket:
        """Answer each connection to PORT in a thread; ANSWER(connection, peer)."""
        listener = self.socket(socket.SOCK_STREAM, port)

        def run() -> None:
            while True:
                try:
                    connection, peer = listener.accept()
                except OSError:
                    return
                connection.settimeout(PATIENCE)
                threading.Thread(target=answer, args=(connection, peer), daemon=True).start()

        threading.Thread(target=run, daemon=True).start()
        return listener


class World:
    """A host, an outside, a realm with one network, and what is published."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.logged: list[str] = []
        self.outside = netrig.outside()
        self.realm = Realm(netrig.namespace())
        nft = Nft(self.realm.call, shutil.which("nft") or "/usr/sbin/nft")
        self.bridges = Bridges(self.realm, nft)
        rules.set_up(self.realm, nft, set())
        nft.run(rules.table_text({}))
        self.loop = Loop(self._failed)
        self.pumps = Pumps(2, self.logged.append)
        self.published = Published(self.loop, self.realm, self.pumps, self.logged.append)
        threading.Thread(target=self.loop.run, daemon=True).start()

    def _failed(self, error: BaseException) -> None:
        self.errors.append(error)

    def do(self, function: Callable[..., Any], *args: Any) -> Any:
        """FUNCTION(*ARGS) in the loop."""
        return netrig.in_loop(self.loop, 60, function, *args)

    def container(self, number: int, six: bool = False, routed: bool = True) -> Container:
        """A container with the address ending in NUMBER; SIX: it has IPv6 as well."""
        return Container(self, number, six, routed)

    def publish(self, container: Container, *ports: Port, **options: Any) -> list[dict[str, Any]]:
        """Publish PORTS of a container, which may move meanwhile."""
        opened: list[dict[str, Any]] = self.do(
            lambda: self.published.open(container.id, ports, lambda: container.target, **options)
        )
        return opened

    def connect(self, place: netrig.Place | None, address: tuple[str, int]) -> socket.socket:
        """A TCP connection from a PLACE, or from the host."""

        def make() -> socket.socket:
            return socket.create_connection(address, PATIENCE)

        made: socket.socket = place.call(make) if place else make()
        return made

    def datagrams(self, place: netrig.Place | None, six: bool = False) -> socket.socket:
        """A UDP socket in a PLACE, or of the host."""

        def make() -> socket.socket:
            return socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)

        made: socket.socket = place.call(make) if place else make()
        made.settimeout(PATIENCE)
        return made


def until(true: Callable[[], object]) -> None:
    """Wait until it is TRUE."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.005)


def read_all(side: socket.socket) -> bytes:
    """Everything until the other side ends."""
    parts = []
    while True:
        part = side.recv(1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)


def stop(process: subprocess.Popen[str]) -> None:
    """End a program that a test started."""
    process.terminate()
    process.wait(PATIENCE)


def run(line: str) -> None:
    """Run a program in the host's namespace."""
    subprocess.run(line.split(), check=True)


def tell_peer(connection: socket.socket, peer: Any) -> None:
    """Answer with the address that the client has here."""
    with connection:
        connection.sendall(f"{peer[0]} {peer[1]}".encode())


def seen(world: World, place: netrig.Place | None, address: tuple[str, int]) -> tuple[str, str]:
    """How a server sees a client in PLACE, and how that client sees itself."""
    with world.connect(place, address) as client:
        own = client.getsockname()
        return read_all(client).decode(), f"{own[0]} {own[1]}"
