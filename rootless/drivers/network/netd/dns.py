"""Names for containers: the server on 127.0.0.11, port 53, in the network namespace of each.

Its sockets are made inside the namespace (dns_sockets.py), so that who asks is known and nobody else can ask.
What the directory knows is answered here; all else goes to the container's own servers (--dns), asked from
its namespace as in Docker, or to the host's, asked from the host's.  For a container that is on internal
networks only the host's servers are not asked.

Each container has a share: some datagrams per round of the loop, some connections, some questions under way.
"""

from __future__ import annotations

import os
import socket

from rootless.drivers.network.netd import dns_sockets, dnswire, nameservers
from rootless.drivers.network.netd.dns_tcp import Connections
from rootless.drivers.network.netd.loop import IN
from rootless.drivers.network.netd.upstream import PATIENCE, PORT, Asker, Health, Upstream
from rootless.linux.nftables import Nft
from rootless.plan import resolvconf
from rootless.plan.resolvconf import RESOLVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Callable, Protocol

    from rootless.drivers.network.netd.dnswire import Question
    from rootless.drivers.network.netd.loop import Loop
    from rootless.drivers.network.netd.realm import Realm

    Reply = Callable[[bytes], object]

    class Directory(Protocol):
        """Who has which name, as CONTAINER_ID sees it; names are in lower case, without the last dot.

        A name may have its network's appended (``web.backend``), as in Docker.
        """

        def lookup(self, container_id: str, name: str, kind: int) -> list[str] | None:
            """Addresses of KIND (4 or 6); [] if NAME is known without any; None if it is not known."""

        def reverse(self, container_id: str, address: str) -> str | None:
            """The name of ADDRESS, None if it is not known."""

        def external(self, container_id: str) -> bool:
            """Whether the container is on a network that is not internal."""


# Asking again costs some 50 microseconds on the loopback device, and an address that was kept over a
# restart costs a reconnect that fails.  Docker says 600.
TTL = 0

_ROUND = 16  # datagrams of one container per round of the loop
_LONGEST = 4096  # bytes of a question
_MOST_TURNS = 4096  # names whose rotation is remembered


class Names:
    """The name servers of all containers.

    directory    answers what is known
    resolv_conf  the host's file, for the servers to ask; PORT is theirs
    rules        opens nftables in a namespace, and whether our own messages are tried first (quick): see
                 dns_sockets.py
    patience     seconds until the next server is asked
    """

    def __init__(
        self,
        loop: Loop,
        realm: Realm,
        directory: Directory,
        log: Callable[[str], object],
        *,
        resolv_conf: str = "/etc/resolv.conf",
        rules: dns_sockets.Rules = Nft,
        quick: bool = True,
        port: int = PORT,
        patience: float = PATIENCE,
    ) -> None:
        self.loop = loop
        self.realm = realm
        self.directory = directory
        self.log = log
        self.rules = rules
        self.quick = quick
        self.upstream = Upstream(loop, port=port, patience=patience)
        self.host_servers = nameservers.NameServers(loop, resolv_conf, log)
        self.host_health = Health()
        self._clients: dict[str, _Client] = {}
        self._turns: dict[tuple[str, int], int] = {}

    def attach(
        self,
        container_id: str,
        net_fd: int,
        servers: list[str],
        options: Sequence[str] = (),
        sockets: dns_sockets.Sockets | None = None,
    ) -> None:
        """Serve the container in whose namespace, NET_FD, the loopback device is up.

        servers  its own (--dns); none: the host's
        options  of --dns-option; where these, or the host's, set ndots an unknown name without a dot
                 is not asked for elsewhere (plan/resolvconf.py says why)
        sockets  what dns_sockets.listen_here() gave, if that was called

        Raises OSError, after which it is not attached.
        """
        self.detach(container_id)
        if sockets is None:
            sockets = dns_sockets.listen(self.realm, net_fd, self.rules, self.log, quick=self.quick)
        ndots = resolvconf.has_ndots(self.host_servers.conf(), options)
        self._clients[container_id] = _Client(self, container_id, net_fd, sockets, servers, ndots)

    def detach(self, container_id: str) -> None:
        """Stop serving; one that is not attached is fine."""
        client = self._clients.pop(container_id, None)
        if client is not None:
            client.close()

    def close(self) -> None:
        """Stop serving all."""
        for container_id in list(self._clients):
            self.detach(container_id)
        self.host_servers.close()

    def rotated(self, name: str, kind: int, addresses: list[str]) -> list[str]:
        """ADDRESSES beginning with the next one, each time."""
        if len(self._turns) > _MOST_TURNS:
            self._turns.clear()
        turn = self._turns.get((name, kind), 0) % len(addresses)
        self._turns[name, kind] = turn + 1
        return addresses[turn:] + addresses[:turn]


def _make(family: int, kind: int) -> socket.socket:
    return socket.socket(family, kind | socket.SOCK_NONBLOCK)


class _Client:
    """One container: its sockets and its questions."""

    def __init__(
        self,
        names: Names,
        container_id: str,
        net_fd: int,
        sockets: tuple[socket.socket, socket.socket],
        servers: list[str],
        ndots: bool,
    ) -> None:
        self._names = names
        self._id = container_id
        self._udp, tcp = sockets
        self._servers = nameservers.usable(servers, RESOLVER)  # that would be ourselves
        self._ndots = ndots
        self._net_fd = os.dup(net_fd) if self._servers else -1
        if self._servers:
            self._asker = Asker(names.upstream, self._make_inside, Health())
        else:
            self._asker = Asker(names.upstream, _make, names.host_health)
        names.loop.add(self._udp.fileno(), IN, self._readable)
        self._connections = Connections(names.loop, tcp, self._asked_by_stream)

    def close(self) -> None:
        """Close the sockets and drop the questions."""
        self._names.loop.remove(self._udp.fileno())
        self._udp.close()
        self._connections.close()
        self._asker.close()
        if self._net_fd >= 0:
            os.close(self._net_fd)
            self._net_fd = -1

    def _make_inside(self, family: int, kind: int) -> socket.socket:
        return self._names.realm.within(self._net_fd, _make, family, kind)

    def _readable(self, _events: int) -> None:
        receive = self._udp.recvfrom
        for _ in range(_ROUND):
            try:
                message, sender = receive(_LONGEST)
            except OSError:  # none left
                return
            self._asked(message, sender)

    def _asked(self, message: bytes, sender: tuple[str, int]) -> None:
        """Answer a datagram, at once or when the answer comes."""
        try:
            question = dnswire.parse_question(message)
        except dnswire.WireError:
            refusal = dnswire.refusal(message)
            if refusal is not None:
                self._send(refusal, sender)
            return
        answer = self._local(question, question.limit)
        if answer is not None:
            self._send(answer, sender)
            return

        def reply(answer: bytes | None) -> None:
            if answer is None:
                answer = dnswire.answer(question, rcode=dnswire.SERVFAIL)
            elif len(answer) > question.limit:
                answer = dnswire.truncated(answer, question)
            self._send(answer, sender)

        self._forward(message, question, reply, tcp=False)

    def _asked_by_stream(self, message: bytes, reply: Reply) -> bool:
        """Answer a question that came by TCP; False: end the connection."""
        try:
            question = dnswire.parse_question(message)
        except dnswire.WireError:
            refusal = dnswire.refusal(message)
            if refusal is not None:
                reply(refusal)
            return refusal is not None
        answer = self._local(question, dnswire.LARGE)
        if answer is not None:
            reply(answer)
            return True

        def answered(answer: bytes | None) -> None:
            reply(answer or dnswire.answer(question, rcode=dnswire.SERVFAIL))

        self._forward(message, question, answered, tcp=True)
        return True

    def _send(self, answer: bytes, receiver: tuple[str, int]) -> None:
        try:
            self._udp.sendto(answer, receiver)
        except OSError:  # its buffer is full, or its firewall does not want it: it may ask again
            pass

    def _forward(
        self,
        message: bytes,
        question: Question,
        reply: Callable[[bytes | None], object],
        *,
        tcp: bool,
    ) -> None:
        names = self._names
        servers = self._servers
        if not servers and names.directory.external(self._id):
            servers = names.host_servers.current()
        names.upstream.ask(self._asker, message, question, servers, reply, tcp=tcp)

    def _local(self, question: Question, limit: int) -> bytes | None:
        """The answer if it is known here."""
        if question.edns > 0:
            return dnswire.answer(question, rcode=dnswire.BADVERS, limit=limit)
        if question.klass != dnswire.IN:
            return None
        kind, name = question.kind, question.name
        if kind == dnswire.PTR:
            return self._reverse(question, limit)
        lookup = self._names.directory.lookup
        records = []
        known = False
        for version in (6,) if kind == dnswire.AAAA else (4,) if kind == dnswire.A else (4, 6):
            addresses = lookup(self._id, name, version)
            if addresses is None:
                continue
            known = True
            if addresses and kind in (dnswire.A, dnswire.AAAA, dnswire.ANY):
                if len(addresses) > 1:
                    addresses = self._names.rotated(name, version, addresses)
                records += [_record(address) for address in addresses]
        if known:
            return dnswire.answer(question, records, limit=limit)
        if self._ndots and kind in (dnswire.A, dnswire.AAAA) and "." not in name:
            return dnswire.answer(question, limit=limit)
        return None

    def _reverse(self, question: Question, limit: int) -> bytes | None:
        address = dnswire.reverse_address(question.name)
        if address is None:
            return None
        if ":" in address:
            address = socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, address))
        name = self._names.directory.reverse(self._id, address)
        if name is None:
            return None
        try:
            content = dnswire.name_bytes(name)
        except dnswire.WireError:
            return None
        return dnswire.answer(question, [dnswire.record(dnswire.PTR, TTL, content)], limit=limit)


_HEAD4 = dnswire.record(dnswire.A, TTL, bytes(4))[:-4]
_HEAD6 = dnswire.record(dnswire.AAAA, TTL, bytes(16))[:-16]


def _record(address: str) -> bytes:
    if ":" in address:
        return _HEAD6 + socket.inet_pton(socket.AF_INET6, address)
    return _HEAD4 + socket.inet_aton(address)
