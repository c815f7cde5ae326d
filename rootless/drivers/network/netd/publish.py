"""Published ports: listening sockets in the host's namespace, and who has which.

A container's ports are opened all or none.  Port 0 is any free one, the same for IPv4 and IPv6.  Where a port
leads is looked up for each connection (publish_tcp.py, publish_udp.py, publish_sctp.py), so that connecting a
container to networks and disconnecting it changes nothing here.  Ports to be activated are not served: their
sockets are made and handed over (publish_activate.py).  Errors have Docker's words.
"""

from __future__ import annotations

import errno
import functools
import os
import socket

from rootless.errors import ConflictError, HostError, RootlessError, UsageError

from . import publish_activate
from .publish_dial import Dialer
from .publish_sctp import SctpPort
from .publish_source import Target
from .publish_tcp import BACKLOG, Connections, Service, StreamPort
from .publish_udp import DatagramPort

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Callable, TypeVar, Union

    from rootless.plan.network import Port

    from .loop import Loop
    from .pump import Pumps
    from .realm import Realm

    T = TypeVar("T")
    Opened = Union[StreamPort, DatagramPort]

__all__ = ["Published", "Target"]

KINDS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
ANY4, ANY6 = "0.0.0.0", "::"
TRIES = 32  # for a number that is free in both address families
MOST_HANDED_OVER = 128  # sockets, with their names in one answer of the control socket
RESERVED = 512  # descriptors that connections leave for all else
NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)  # IPv6 is not there, or switched off


class _Listener:
    """One socket: where it listens, for whom, and what serves it."""

    __slots__ = ("endpoint", "ip", "number", "opened", "port", "sock")

    def __init__(self, endpoint: str, port: Port, ip: str, sock: socket.socket) -> None:
        self.endpoint = endpoint
        self.port = port
        self.ip = ip
        self.number: int = sock.getsockname()[1]
        self.sock = sock
        self.opened: Opened | None = None

    @property
    def key(self) -> tuple[str, int]:
        """Protocol and number."""
        return self.port.protocol, self.number

    def close(self) -> None:
        if self.opened is not None:
            self.opened.close()
        self.sock.close()

    def told(self) -> dict[str, Any]:
        return {
            "host_ip": self.ip,
            "host_port": self.number,
            "container_port": self.port.container_port,
            "protocol": self.port.protocol,
        }

    def overlaps(self, ip: str) -> bool:
        """Whether a socket on IP would have the same datagrams."""
        if (":" in ip) != (":" in self.ip):
            return False
        return ip == self.ip or ip in (ANY4, ANY6) or self.ip in (ANY4, ANY6)


class Published:
    """The published ports of all containers."""

    def __init__(
        self, loop: Loop, realm: Realm, pumps: Pumps, log: Callable[[str], object]
    ) -> None:
        self._dialer = Dialer(realm)
        self._service = Service(loop, self._dialer, pumps, _most_connections(), log)
        self._listeners: dict[tuple[str, int], list[_Listener]] = {}  # protocol, port
        self._connections: dict[str, Connections] = {}

    def open(
        self,
        endpoint_id: str,
        ports: Iterable[Port],
        target: Callable[[], Target],
        before: Iterable[dict[str, Any]] = (),
    ) -> list[dict[str, Any]]:
        """Publish PORTS of a container, all or none, and tell where.

        What is told has host_ip, host_port, container_port and protocol.  BEFORE is what was told by an earlier
        service: any free port is that one again.  Ports to be activated are passed over.  Raises ConflictError,
        HostError.
        """
        made: list[_Listener] = []
        earlier = list(before)
        seen: set[tuple[Any, ...]] = set()
        try:
            for port in ports:
                wish = tuple(port.to_list())
                if port.activate or (port.host_port and wish in seen):
                    continue
                seen.add(wish)
                for listener in self._listen(endpoint_id, port, target, _earlier(port, earlier)):
                    made.append(listener)
                    self._listeners.setdefault(listener.key, []).append(listener)
            self._serve(endpoint_id, made, target)
        except BaseException:
            self._drop(made)
            raise
        return [listener.told() for listener in made]

    def hand_over(
        self, ports: Iterable[Port], target: Callable[[], Target]
    ) -> tuple[list[dict[str, Any]], list[tuple[str, socket.socket]]]:
        """Sockets, with names, for those of PORTS that a container is to have itself, and what is told of them.

        The caller closes them.  Raises ConflictError, HostError, and then none is open.
        """
        wanted = [port for port in ports if port.activate]
        if len(wanted) > MOST_HANDED_OVER:
            raise UsageError(
                f"cannot hand {len(wanted)} sockets over: at most {MOST_HANDED_OVER} are possible"
            )
        told: list[dict[str, Any]] = []
        made: list[tuple[str, socket.socket]] = []
        try:
            for port in wanted:
                attempt = functools.partial(self._made, port, target)
                sock, one = _first_free(port, [], target, attempt)
                made.append((publish_activate.name_of(port), sock))
                told.append(one)
        except BaseException:
            for _, sock in made:
                sock.close()
            raise
        return told, made

    def _made(
        self, port: Port, target: Callable[[], Target], number: int
    ) -> tuple[socket.socket, dict[str, Any]]:
        ip = port.host_ip or ANY4
        self._check(port.protocol, ip, number)
        try:
            return publish_activate.listen(port, number)
        except OSError as error:
            raise _explained(error, port, ip, number, target()) from None

    def close(self, endpoint_id: str) -> None:
        """The container has ended: its ports are free; its connections end soon."""
        self._drop(self._of(endpoint_id))
        connections = self._connections.pop(endpoint_id, None)
        if connections is not None:
            connections.close()

    def _of(self, endpoint_id: str) -> list[_Listener]:
        return [
            listener
            for listeners in self._listeners.values()
            for listener in listeners
            if listener.endpoint == endpoint_id
        ]

    def _drop(self, listeners: Iterable[_Listener]) -> None:
        for listener in listeners:
            listener.close()
            known = self._listeners[listener.key]
            known.remove(listener)
            if not known:
                del self._listeners[listener.key]

    def _serve(
        self, endpoint_id: str, listeners: list[_Listener], target: Callable[[], Target]
    ) -> None:
        connections = self._connections.setdefault(endpoint_id, Connections(self._service))
        for listener in listeners:
            sock, port = listener.sock, listener.port
            if port.protocol == "udp":
                anywhere = listener.ip in (ANY4, ANY6)
                listener.opened = DatagramPort(
                    self._service, sock, port.container_port, target, anywhere
                )
            else:
                kind = SctpPort if port.protocol == "sctp" else StreamPort
                listener.opened = kind(
                    self._service, sock, port.container_port, target, connections
                )

    # Listening

    def _listen(
        self,
        endpoint_id: str,
        port: Port,
        target: Callable[[], Target],
        earlier: list[tuple[str, int]],
    ) -> list[_Listener]:
        """The sockets for one port: one, or one of each address family."""
        return _first_free(
            port, earlier, target, lambda number: self._listen_at(endpoint_id, port, target, number)
        )

    def _listen_at(
        self, endpoint_id: str, port: Port, target: Callable[[], Target], number: int
    ) -> list[_Listener]:
        found: list[_Listener] = []
        try:
            for ip in _addresses(port):
                number = number or (found[0].number if found else 0)
                self._check(port.protocol, ip, number)
                try:
                    sock = _bound(port.protocol, ip, number)
                except OSError as error:
                    if found and error.errno in NO_FAMILY:
                        continue
                    raise _explained(error, port, ip, number, target()) from None
                found.append(_Listener(endpoint_id, port, ip, sock))
        except BaseException:
            for listener in found:
                listener.close()
            raise
        return found

    def _check(self, protocol: str, ip: str, number: int) -> None:
        for other in self._listeners.get((protocol, number), ()):
            if other.overlaps(ip):
                raise ConflictError(
                    f"Bind for {_joined(ip, number)} failed: port is already allocated"
                )


def _bound(protocol: str, ip: str, number: int) -> socket.socket:
    """A socket of the host's namespace that listens; raises OSError."""
    kind, number_of_protocol = KINDS[protocol]
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, number_of_protocol)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:  # over what earlier connections left; not beside a listener
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((ip, number))
        if kind == socket.SOCK_STREAM:
            sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _explained(error: OSError, port: Port, ip: str, number: int, target: Target) -> RootlessError:
    """What Docker says about a port that cannot be had."""
    if error.errno == errno.EPROTONOSUPPORT:
        return HostError(
            f"cannot publish port {port.container_port}/{port.protocol}: the kernel has no "
            f"{port.protocol.upper()}",
            hint=f"an administrator can load it: modprobe {port.protocol}",
        )
    if error.errno in (errno.EACCES, errno.EPERM) and number < _first_unprivileged():
        return HostError(
            f"cannot expose privileged port {number}, you can add "
            f"'net.ipv4.ip_unprivileged_port_start={number}' to /etc/sysctl.conf (currently "
            f"{_first_unprivileged()}), or choose a larger port number (>= {_first_unprivileged()}): "
            f"listen {port.protocol} {_joined(ip, number)}: bind: permission denied",
            hint=f"an administrator can allow it: sysctl -w net.ipv4.ip_unprivileged_port_start={number}",
        )
    behind = _joined(target.address, port.container_port)
    text = (
        f"failed to bind host port for {_joined(ip, number)}:{behind}/{port.protocol}: "
        f"{os.strerror(error.errno or errno.EIO).lower()}"
    )
    return ConflictError(text) if error.errno == errno.EADDRINUSE else HostError(text)


def _first_unprivileged() -> int:
    try:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):  # before Linux 4.11
        return 1024


def _most_connections() -> int:
    """How many connections there are descriptors for, after raising the limit as far as it goes."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):
            pass
    if soft == resource.RLIM_INFINITY:
        soft = 1 << 20
    return max(64, (soft - RESERVED) // 2)


def _addresses(port: Port) -> tuple[str, ...]:
    return (port.host_ip,) if port.host_ip else (ANY4, ANY6)


def _earlier(port: Port, before: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Where an earlier service published PORT: addresses and numbers."""
    return [
        (one["host_ip"], int(one["host_port"]))
        for one in before
        if one["container_port"] == port.container_port
        and one["protocol"] == port.protocol
        and one["host_ip"] in _addresses(port)
        and (
            not port.host_port
            or port.host_port <= one["host_port"] <= max(port.host_end, port.host_port)
        )
    ]


def _numbers(port: Port, earlier: list[tuple[str, int]]) -> Iterable[int]:
    """The numbers to try, one after the other; 0 is any that is free."""
    first = [number for _, number in earlier[:1]]
    if not port.host_port:
        return [*first, *[0] * TRIES]
    return [*first, *range(port.host_port, max(port.host_end, port.host_port) + 1)]


def _first_free(
    port: Port,
    earlier: list[tuple[str, int]],
    target: Callable[[], Target],
    attempt: Callable[[int], T],
) -> T:
    """What ATTEMPT gives for the first number of PORT that can be had; raises what it raised for the last."""
    problem: ConflictError | None = None
    for number in _numbers(port, earlier):
        try:
            return attempt(number)
        except ConflictError as error:
            problem = error
    assert problem is not None
    if not port.host_end:
        raise problem
    behind = _joined(target().address, port.container_port)
    raise ConflictError(
        f"failed to bind host port for {_joined(port.host_ip or ANY4, port.host_port)}-"
        f"{port.host_end}:{behind}/{port.protocol}: all ports are allocated"
    )


def _joined(ip: str, number: int) -> str:
    return f"[{ip}]:{number}" if ":" in ip else f"{ip}:{number}"
