"""rtnetlink in the few messages that networks of containers need, many of them in one system call.

A ``Batch`` collects requests; ``Netlink.send`` hands them to the kernel at once and reads an answer for each.
The kernel carries them out in order and goes on after one that failed.  Interfaces are made with indexes that
the caller chooses, so that nothing has to be read back between making one and giving it an address.

Knows formats (linux/rtnetlink.h, linux/if_link.h), not what they are for.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, NEWROUTE, DELROUTE, NEWRULE = 20, 24, 25, 32
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP = 1, 4, 0x300
_EXCL, _CREATE = 0x200, 0x400
UP, RUNNING, NOARP = 0x1, 0x40, 0x80  # interface flags, linux/if.h

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDR = struct.Struct("=BBBBI")  # family, prefix, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER = 1, 3, 4, 10
_IFLA_TXQLEN, _IFLA_LINKINFO, _IFLA_NET_NS_FD, _IFLA_PROTINFO = 13, 18, 28, 12
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_BRPORT_ISOLATED = 33
_NESTED = 0x8000
_NODAD = 0x02
_TABLE_MAIN, _PROTO_STATIC, _UNICAST, _LOCAL = 254, 4, 1, 2
_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_HOST, _SCOPE_NOWHERE = 0, 253, 254, 255


class NetlinkError(OSError):
    """The kernel refused a request; ``what`` says which."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(number, f"{what}: {os.strerror(number).lower()}")
        self.what = what


class Link:
    """An interface as a dump tells it: index, name, flags, master (0 for none), kind ("bridge", "veth", "")."""

    __slots__ = ("flags", "index", "kind", "master", "name")

    def __init__(self, index: int, name: str, flags: int, master: int, kind: str) -> None:
        self.index = index
        self.name = name
        self.flags = flags
        self.master = master
        self.kind = kind


def family_of(address: str) -> int:
    """AF_INET or AF_INET6 of an address in text."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _packed(address: str) -> bytes:
    return socket.inet_pton(family_of(address), address)


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _mac(text: str) -> bytes:
    return bytes(int(part, 16) for part in text.split(":"))


class Batch:
    """Requests in the order in which they are to happen; each method adds one."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes]] = []
        self.optional: set[int] = set()

    def _add(
        self, what: str, kind: int, flags: int, body: bytes, *, optional: bool = False
    ) -> None:
        if optional:
            self.optional.add(len(self.requests))
        length = _HEADER.size + len(body)
        header = _HEADER.pack(length, kind, flags | _REQUEST | _ACK, len(self.requests) + 1, 0)
        self.requests.append((what, header + body + b"\0" * (-length % 4)))

    def bridge(self, name: str, index: int, mac: str, mtu: int) -> None:
        """Make a bridge."""
        info = _attribute(_INFO_KIND, b"bridge\0")
        body = _LINK.pack(0, 0, index, UP, UP) + _attribute(_IFLA_IFNAME, name.encode() + b"\0")
        body += _attribute(_IFLA_ADDRESS, _mac(mac)) + _number(_IFLA_MTU, mtu)
        body += _attribute(_IFLA_LINKINFO, info)
        self._add(f"cannot make bridge {name}", NEWLINK, _CREATE | _EXCL, body)

    def veth(
        self,
        name: str,
        index: int,
        peer: str,
        peer_index: int,
        *,
        peer_fd: int = -1,
        peer_mac: str = "",
        mtu: int = 0,
        master: int = 0,
        flags: int = UP,
    ) -> None:
        """Make a pair of interfaces, NAME here and PEER in the namespace PEER_FD (here if negative).

        The peer cannot be up yet: the kernel configures it before it is connected.
        """
        other = _LINK.pack(0, 0, peer_index, 0, 0)
        other += _attribute(_IFLA_IFNAME, peer.encode() + b"\0")
        body = _LINK.pack(0, 0, index, flags, flags)
        body += _attribute(_IFLA_IFNAME, name.encode() + b"\0")
        if mtu:
            other += _number(_IFLA_MTU, mtu)
            body += _number(_IFLA_MTU, mtu)
        if peer_mac:
            other += _attribute(_IFLA_ADDRESS, _mac(peer_mac))
        if peer_fd >= 0:
            other += _number(_IFLA_NET_NS_FD, peer_fd)
        if master:
            body += _number(_IFLA_MASTER, master)
        data = _attribute(_VETH_PEER | _NESTED, other)
        info = _attribute(_INFO_KIND, b"veth\0") + _attribute(_INFO_DATA | _NESTED, data)
        body += _attribute(_IFLA_LINKINFO | _NESTED, info)
        self._add(f"cannot make interface {name}", NEWLINK, _CREATE | _EXCL, body)

    def isolate(self, index: int) -> None:
        """Let a port of a bridge reach the bridge, but no other such port (Linux 4.18)."""
        body = _LINK.pack(socket.AF_BRIDGE if hasattr(socket, "AF_BRIDGE") else 7, 0, index, 0, 0)
        body += _attribute(_IFLA_PROTINFO | _NESTED, _attribute(_BRPORT_ISOLATED, b"\x01"))
        self._add(f"cannot isolate interface {index}", NEWLINK, 0, body)

    def set_link(self, index: int, *, flags: int = UP, txqlen: int = 0, mtu: int = 0) -> None:
        """Set flags (UP, NOARP) of an interface, the length of its queue and the size of its packets."""
        body = _LINK.pack(0, 0, index, flags, flags)
        if txqlen:
            body += _number(_IFLA_TXQLEN, txqlen)
        if mtu:
            body += _number(_IFLA_MTU, mtu)
        self._add(f"cannot set interface {index} up", NEWLINK, 0, body)

    def delete_link(self, index: int) -> None:
        """Remove an interface; one that is gone already is fine."""
        self._add(
            f"cannot remove interface {index}",
            DELLINK,
            0,
            _LINK.pack(0, 0, index, 0, 0),
            optional=True,
        )

    def address(self, index: int, address: str, prefix: int) -> None:
        """Give an interface an address; without duplicate detection, since we give each only once."""
        data = _packed(address)
        body = _ADDR.pack(family_of(address), prefix, _NODAD, _SCOPE_UNIVERSE, index)
        body += _attribute(2, data) + _attribute(1, data)
        if ":" not in address and prefix < 31:
            host = (1 << (32 - prefix)) - 1
            broadcast = int.from_bytes(data, "big") | host
            body += _attribute(4, broadcast.to_bytes(4, "big"))
        self._add(f"cannot give address {address}/{prefix}", NEWADDR, _CREATE | _EXCL, body)

    def route(
        self, destination: str, *, gateway: str = "", index: int = 0, table: int = 254
    ) -> None:
        """Add a route to DESTINATION ("0.0.0.0/0"), through GATEWAY or out of interface INDEX."""
        address, _, prefix = destination.partition("/")
        scope = _SCOPE_UNIVERSE if gateway or ":" in address else _SCOPE_LINK
        self._route(destination, address, int(prefix), (scope, _UNICAST, table), gateway, index)

    def delete_default(self, version: int) -> None:
        """Remove the default route of IPv4 (4) or IPv6 (6); none is fine."""
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        body = _ROUTE.pack(family, 0, 0, 0, _TABLE_MAIN, 0, _SCOPE_NOWHERE, 0, 0)
        self._add("cannot remove the default route", DELROUTE, 0, body, optional=True)

    def local_route(self, destination: str, index: int, table: int) -> None:
        """Let what goes to DESTINATION be received here, as if each address of it were ours."""
        address, _, prefix = destination.partition("/")
        self._route(destination, address, int(prefix), (_SCOPE_HOST, _LOCAL, table), "", index)

    def _route(
        self,
        text: str,
        address: str,
        prefix: int,
        kind: tuple[int, int, int],
        gateway: str,
        index: int,
    ) -> None:
        scope, type_, table = kind
        body = _ROUTE.pack(
            family_of(address), prefix, 0, 0, min(table, 255), _PROTO_STATIC, scope, type_, 0
        )
        if prefix:
            body += _attribute(1, _packed(address))
        if gateway:
            body += _attribute(5, _packed(gateway))
        if index:
            body += _number(4, index)
        body += _number(15, table)
        self._add(f"cannot add a route to {text}", NEWROUTE, _CREATE | _EXCL, body)

    def rule(self, version: int, mark: int, table: int, priority: int) -> None:
        """Route packets that carry MARK by TABLE; VERSION is 4 or 6."""
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        body = _ROUTE.pack(family, 0, 0, 0, min(table, 255), 0, 0, 1, 0)
        body += _number(6, priority) + _number(10, mark) + _number(15, table)
        self._add(f"cannot add a rule for mark {mark}", NEWRULE, _CREATE | _EXCL, body)


class Netlink:
    """A connection to the kernel's routing, in the namespace of the thread that makes it."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self.socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self.socket.bind((0, 0))

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def send(self, batch: Batch) -> None:
        """Carry out a batch; raises NetlinkError for the first request that failed, after all were tried."""
        if not batch.requests:
            return
        self.socket.send(b"".join(data for _, data in batch.requests))
        waiting, problem = len(batch.requests), None
        while waiting:
            for kind, sequence, body in self._messages():
                if kind != _ERROR:
                    continue
                waiting -= 1
                number = -struct.unpack_from("=i", body)[0]
                gone = (
                    number in (errno.ENODEV, errno.ESRCH, errno.ENOENT, errno.ENETDOWN)
                    and sequence - 1 in batch.optional
                )
                if number and not gone and problem is None:
                    problem = NetlinkError(number, batch.requests[sequence - 1][0])
        if problem is not None:
            raise problem

    def links(self) -> list[Link]:
        """All interfaces of the namespace."""
        body = _LINK.pack(0, 0, 0, 0, 0)
        header = _HEADER.pack(_HEADER.size + len(body), GETLINK, _REQUEST | _DUMP, 1, 0)
        self.socket.send(header + body)
        found: list[Link] = []
        while True:
            for kind, _, data in self._messages():
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    raise NetlinkError(-struct.unpack_from("=i", data)[0], "cannot list interfaces")
                if kind == NEWLINK:
                    found.append(parse_link(data))

    def await_running(self, index: int, seconds: float = 1.0) -> bool:
        """Wait until an interface that is up really sends.

        The kernel notices a new pair's carrier in a work queue and drops what is sent before that: the
        first packet would be repeated after a second.  False if it is not so within SECONDS.
        """
        body = _LINK.pack(0, 0, index, 0, 0)
        request = _HEADER.pack(_HEADER.size + len(body), GETLINK, _REQUEST, 1, 0) + body
        end = time.monotonic() + seconds
        while True:
            self.socket.send(request)
            for kind, _, data in self._messages():
                if kind == NEWLINK and parse_link(data).flags & RUNNING:
                    return True
            if time.monotonic() > end:
                return False
            time.sleep(0.0002)

    def _messages(self) -> Iterator[tuple[int, int, bytes]]:
        yield from messages(self.socket.recv(1 << 16))


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(type, sequence, body) of each message in a datagram of the kernel's."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield kind, sequence, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def parse_link(body: bytes) -> Link:
    """The interface that a NEWLINK or DELLINK message tells of."""
    _, _, index, flags, _ = _LINK.unpack_from(body)
    name, master, kind = "", 0, ""
    for number, data in _attributes(body[_LINK.size :]):
        if number == _IFLA_IFNAME:
            name = data.rstrip(b"\0").decode("utf-8", "replace")
        elif number == _IFLA_MASTER:
            master = int(struct.unpack("=I", data)[0])
        elif number == _IFLA_LINKINFO:
            for inner, value in _attributes(data):
                if inner == _INFO_KIND:
                    kind = value.rstrip(b"\0").decode("ascii", "replace")
    return Link(index, name, flags, master, kind)
