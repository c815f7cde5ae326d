"""A realm whose way out is served in this process: containers on a bridge, the relay, the host, an outside.

``run_apart`` runs a test in a child process, since nobody comes back from a user namespace.
"""

from __future__ import annotations

import os
import resource
import select
import socket
import subprocess
import threading
import traceback
from typing import Any, Callable

import netrig

from rootless.drivers.network.netd import rules
from rootless.drivers.network.netd.bridges import Bridges, Plug
from rootless.drivers.network.netd.loop import Loop
from rootless.drivers.network.netd.policy import Policy
from rootless.drivers.network.netd.pump import Pumps
from rootless.drivers.network.netd.realm import Realm
from rootless.drivers.network.netd.relay import Outbound, RelayConfig
from rootless.linux.nftables import Nft
from rootless.plan.network import NetworkDef, Subnet

NET4, NET6 = "172.30.0", "fd30:"
LIMIT = 90  # seconds for a test


def run_apart(test: Callable[[World], object], **options: Any) -> None:
    """Run TEST(World(**OPTIONS)) in a child process; fails as it failed."""

    def case() -> None:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        world = World(**options)
        test(world)
        assert not world.errors, world.errors

    netrig.apart(case, LIMIT)


class World:
    """All of it; ``policy`` is what containers may do, and may be changed."""

    def __init__(self, policy: Policy | None = None, config: RelayConfig | None = None) -> None:
        self.policy = policy or Policy()
        self.errors: list[str] = []
        self.out = netrig.outside()
        self.realm = Realm(netrig.namespace())
        self.nft = Nft(self.realm.call)
        bridges = Bridges(self.realm, self.nft)
        rules.set_up(self.realm, self.nft, set())
        self.loop = Loop(self._failed)
        self.pumps = Pumps(log=self.errors.append)
        self.outbound = Outbound(self.loop, self.realm, self._policy_of, self.pumps, config)
        self.ports = self.outbound.start()
        self.nft.run(rules.table_text(self.ports))
        threading.Thread(target=self.loop.run, daemon=True).start()
        self.network = NetworkDef(
            name="n",
            id="ab" * 32,
            ipv6=True,
            subnets=[Subnet(f"{NET4}.0/24", f"{NET4}.1"), Subnet(f"{NET6}:/64", f"{NET6}:1")],
        )
        self._bridges = bridges
        self._count = 1

    def _failed(self, error: BaseException) -> None:
        self.errors.append(
            "".join(traceback.format_exception(type(error), error, error.__traceback__))
        )

    def _policy_of(self, address: str) -> Policy | None:
        return self.policy if address.startswith((f"{NET4}.", NET6)) else None

    def container(self) -> netrig.Place:
        """A container on the network: addresses .2, .3 and so on."""
        self._count += 1
        place = netrig.Place()
        ends = [(f"{NET4}.{self._count}", 24), (f"{NET6}:{self._count:x}", 64)]
        plug = Plug("eth0", f"02:42:00:00:00:{self._count:02x}", ends, [f"{NET4}.1", f"{NET6}:1"])
        index = self._bridges.plug(self.network, place.net_fd, plug)
        self._bridges.settle([self.network], place.net_fd, [index])
        return place

    def filter(self, rule: str) -> None:
        """Have a packet filter outside with RULE for what arrives."""
        hook = "type filter hook input priority 0;"
        self.out.run("nft", f"table inet t {{\n chain c {{ {hook} {rule}; }}\n}}")

    @staticmethod
    def run(*argv: str) -> None:
        """Run a program on the host."""
        subprocess.run(argv, check=True)

    def in_loop(self, function: Callable[[], Any]) -> Any:
        """FUNCTION() called in the loop's thread."""
        done = threading.Event()
        found: list[Any] = []

        def call() -> None:
            found.append(function())
            done.set()

        self.loop.call_soon(call)
        assert done.wait(10)
        return found[0]


def listen(address: str, port: int = 0, backlog: int = 128) -> socket.socket:
    """A listening socket of the calling thread's namespace."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    sock.listen(backlog)
    return sock


def serve(listener: socket.socket, handle: Callable[[socket.socket], object]) -> None:
    """Handle each connection in a thread of its own."""

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def serve_many(listener: socket.socket) -> None:
    """Send back what comes, all connections in one thread."""

    def run() -> None:
        epoll = select.epoll()
        known = {listener.fileno(): listener}
        epoll.register(listener, select.EPOLLIN)
        while True:
            for fd, _ in epoll.poll():
                if fd == listener.fileno():
                    connection, _ = listener.accept()
                    known[connection.fileno()] = connection
                    epoll.register(connection, select.EPOLLIN)
                    continue
                data = known[fd].recv(65536)
                if data:
                    known[fd].sendall(data)
                else:
                    known.pop(fd).close()

    threading.Thread(target=run, daemon=True).start()


def connected(sock: socket.socket) -> None:
    """Wait until a connection is made; raises OSError."""
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    assert poll.poll(30000)
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


def echo(connection: socket.socket) -> None:
    """Send back what comes, until the end."""
    while True:
        data = connection.recv(65536)
        if not data:
            break
        connection.sendall(data)
    connection.close()


def dial(address: str, port: int, timeout: float = 20) -> socket.socket:
    """A connection of the calling thread's namespace."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    sock.settimeout(timeout)
    try:
        sock.connect((address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def error_of(address: str, port: int, timeout: float = 20) -> int:
    """The errno of a connection attempt, 0 if it succeeds, -1 if nothing is heard."""
    try:
        dial(address, port, timeout).close()
    except OSError as error:
        return error.errno or -1
    return 0
