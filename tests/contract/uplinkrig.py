"""A realm with containers on a bridge, connected by one uplink to a host that has a neighbour outside.

``apart(test, name)`` runs TEST(World(name)) in a child process, since nobody comes back from a user namespace.
"""

from __future__ import annotations

import socket
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import netrig

from rootless.drivers import network
from rootless.drivers.network.base import TAP, UplinkDriver
from rootless.drivers.network.netd import rules
from rootless.drivers.network.netd.bridges import Bridges, Plug
from rootless.drivers.network.netd.loop import Loop
from rootless.drivers.network.netd.policy import Policy
from rootless.drivers.network.netd.pump import Pumps
from rootless.drivers.network.netd.realm import Realm
from rootless.drivers.network.netd.relay import Outbound
from rootless.drivers.network.netd.tap import TapUplink
from rootless.facts import HostFacts
from rootless.linux import probe_storage
from rootless.linux.nftables import Nft
from rootless.plan.network import NetworkDef, Subnet

LIMIT = 100  # seconds for a test


def apart(test: Callable[[World], object], *args: Any, **options: Any) -> None:
    """Run TEST(World(*ARGS, **OPTIONS)) in a child process; fails as it failed."""

    def case() -> None:
        world = World(*args, **options)
        test(world)
        assert not world.errors, world.errors

    netrig.apart(case, LIMIT)


class World:
    """All of it; ``uplink`` is the program's keeper, None for the relay."""

    def __init__(
        self, name: str, scratch: Path, libexec: str, driver: UplinkDriver | None = None
    ) -> None:
        self.errors: list[str] = []
        self.logged: list[str] = []
        self.out = netrig.outside()
        self.realm = Realm(netrig.namespace())
        self.nft = Nft(self.realm.call)
        rules.set_up(self.realm, self.nft, set())
        self.loop = Loop(self._failed)
        self.uplink: TapUplink | None = None
        ports = {}
        driver = driver or network.driver(name)
        if not driver.program:
            self.pumps = Pumps(log=self.errors.append)
            self.outbound = Outbound(self.loop, self.realm, self._policy_of, self.pumps)
            ports = self.outbound.start()
        self.nft.run(rules.table_text(ports))
        if driver.program:
            facts = HostFacts(
                uid=0,
                gid=0,
                pasta=probe_storage.find_program("pasta"),
                slirp4netns=probe_storage.find_program("slirp4netns"),
            )
            self.uplink = TapUplink(
                self.loop,
                self.realm,
                self.nft,
                driver,
                self.logged.append,
                facts=facts,
                directory=str(scratch / "up"),
                launch=f"{libexec}/launch",
            )
            self.uplink.start()
        threading.Thread(target=self.loop.run, daemon=True).start()
        self._bridges = Bridges(self.realm, self.nft)
        self.networks = [
            NetworkDef(
                name=f"n{number}",
                id=f"a{number}" * 32,
                internal=number == 1,
                ipv6=True,
                subnets=[
                    Subnet(f"172.3{number}.0.0/24", f"172.3{number}.0.1"),
                    Subnet(f"fd3{number}::/64", f"fd3{number}::1"),
                ],
            )
            for number in (0, 1)
        ]
        self._count = 1
        if self.uplink is not None and name:
            self.until(lambda: self.uplink is not None and self.uplink.ready)

    def _failed(self, error: BaseException) -> None:
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        self.errors.append("".join(lines))

    def _policy_of(self, address: str) -> Policy | None:
        if address.startswith(("172.30.", "fd30:")):
            return Policy()
        return Policy(internal=True) if address.startswith(("172.31.", "fd31:")) else None

    def until(self, condition: Callable[[], object], seconds: float = 30) -> None:
        """Wait until CONDITION() holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.logged, self.errors)
            time.sleep(0.01)

    def container(self, internal: bool = False) -> netrig.Place:
        """A container on the network, or on the internal one: addresses .2, .3 and so on."""
        self._count += 1
        number, last = int(internal), self._count
        place = netrig.Place()
        net4, net6 = f"172.3{number}.0", f"fd3{number}::"
        plug = Plug(
            "eth0",
            f"02:42:00:00:00:{last:02x}",
            [(f"{net4}.{last}", 24), (f"{net6}{last:x}", 64)],
            [f"{net4}.1", f"{net6}1"],
        )
        network = self.networks[number]
        index = self._bridges.plug(network, place.net_fd, plug)
        self._bridges.settle([network], place.net_fd, [index])
        return place

    def in_loop(self, function: Callable[[], Any]) -> Any:
        """FUNCTION() called in the loop's thread."""
        done = threading.Event()
        found: list[Any] = []

        def call() -> None:
            try:
                found.append(function())
            finally:
                done.set()

        self.loop.call_soon(call)
        assert done.wait(20)
        return found[0]

    def has_tap(self) -> bool:
        """Whether the program's interface is in the realm."""
        try:
            self.realm.call(socket.if_nametoindex, TAP)
        except OSError:
            return False
        return True


def family_of(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve(
    place: netrig.Place | None, address: str, handle: Callable[[socket.socket], object]
) -> int:
    """The port of a server in PLACE (None: on the host) that handles each connection in a thread."""

    def listen() -> socket.socket:
        made = socket.socket(family_of(address))
        made.bind((address, 0))
        made.listen(64)
        return made

    listener = listen() if place is None else place.call(listen)

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


def dial(address: str, port: int, timeout: float = 30) -> socket.socket:
    """A connection from the calling thread's namespace."""
    return socket.create_connection((address, port), timeout)


def echo(connection: socket.socket) -> None:
    """Send back what comes, to its end."""
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)


def datagrams(place: netrig.Place, address: str, port: int = 0) -> int:
    """The port of a server of datagrams outside that sends back what comes, in capitals."""

    def bind() -> socket.socket:
        made = socket.socket(family_of(address), socket.SOCK_DGRAM)
        made.bind((address, port))
        return made

    server = place.call(bind)

    def answer() -> None:
        while True:
            data, peer = server.recvfrom(65536)
            server.sendto(data.upper(), peer)

    threading.Thread(target=answer, daemon=True).start()
    return int(server.getsockname()[1])
