"""nf_tables in the few messages that are sent for each container, as one batch: all of it or none.

libnftables needs half a millisecond to do the same, since it reads what is there and parses text.  It stays the
way for everything that is done seldom, and the oracle that these messages are tested against.

Knows formats (linux/netfilter/nf_tables.h), not what they are for.
"""

from __future__ import annotations

import socket
import struct

from .netlink import NetlinkError, messages

_NETFILTER = 12
_REQUEST, _ACK, _EXCL, _CREATE, _APPEND = 1, 4, 0x200, 0x400, 0x800
_BEGIN, _END, _ERROR = 16, 17, 2
_NFTABLES = 10
_NEWTABLE, _NEWCHAIN, _NEWRULE = (_NFTABLES << 8 | number for number in (0, 3, 6))
_NESTED = 0x8000
_REGISTER, _ACCEPT = 1, 1
_L4PROTO = 16
NETWORK, TRANSPORT = 1, 2  # where a header begins
IPV4 = socket.AF_INET
OUTPUT = 3  # a hook

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_SUBSYSTEM = struct.Struct(">BBH")  # family, version, resource


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def _nest(kind: int, *parts: bytes) -> bytes:
    return _attribute(kind | _NESTED, b"".join(parts))


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode("ascii") + b"\0")


def _expression(name: str, *parts: bytes) -> bytes:
    return _nest(1, _text(1, name), _nest(2, *parts))


def load(base: int, offset: int, size: int) -> bytes:
    """Take SIZE bytes of a packet, OFFSET from where header BASE (NETWORK, TRANSPORT) begins."""
    numbers = (1, _REGISTER), (2, base), (3, offset), (4, size)
    return _expression("payload", *(_number(kind, value) for kind, value in numbers))


def protocol() -> bytes:
    """Take the number of the protocol above IP, one byte."""
    return _expression("meta", _number(2, _L4PROTO), _number(1, _REGISTER))


def equals(data: bytes) -> bytes:
    """Go on only if what was taken is DATA."""
    return _expression("cmp", _number(1, _REGISTER), _number(2, 0), _nest(3, _attribute(1, data)))


def value(data: bytes) -> bytes:
    """Take DATA."""
    return _expression("immediate", _number(1, _REGISTER), _nest(2, _attribute(1, data)))


def store(base: int, offset: int, size: int, checksum: int) -> bytes:
    """Put what was taken into the packet; the header's Internet checksum is at CHECKSUM."""
    numbers = (5, _REGISTER), (2, base), (3, offset), (4, size), (6, 1), (7, checksum), (8, 0)
    return _expression("payload", *(_number(kind, value) for kind, value in numbers))


class Rules:
    """A table that is not there yet, with its chains and rules; bytes that can be sent many times."""

    def __init__(self, family: int, table: str) -> None:
        self._family = family
        self._table = table
        self._count = 0
        self._parts = [_frame(_BEGIN, 0)]
        body = _text(1, table) + _number(2, 0)
        self._parts.append(self._message(_NEWTABLE, _CREATE | _EXCL, body))

    def chain(self, name: str, hook: int, priority: int) -> None:
        """A chain of type filter at HOOK, which accepts."""
        body = _text(1, self._table) + _text(3, name)
        body += _nest(4, _number(1, hook), _number(2, priority))
        body += _number(5, _ACCEPT) + _text(7, "filter")
        self._parts.append(self._message(_NEWCHAIN, _CREATE, body))

    def rule(self, chain: str, *expressions: bytes) -> None:
        """A rule at the end of CHAIN."""
        body = _text(1, self._table) + _text(2, chain) + _nest(4, *expressions)
        self._parts.append(self._message(_NEWRULE, _CREATE | _APPEND, body))

    def send(self) -> None:
        """Have the kernel make it, in the namespace of the thread; raises OSError, and then nothing is made."""
        waiting = len(self._parts) - 1
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        with socket.socket(socket.AF_NETLINK, kind, _NETFILTER) as connection:
            connection.bind((0, 0))
            connection.send(b"".join([*self._parts, _frame(_END, self._count + 1)]))
            while waiting:
                for kind, _, body in messages(connection.recv(1 << 16)):
                    if kind != _ERROR:
                        continue
                    number = -struct.unpack_from("=i", body)[0]
                    if number:
                        raise NetlinkError(number, f"cannot make table {self._table}")
                    waiting -= 1

    def _message(self, kind: int, flags: int, body: bytes) -> bytes:
        self._count += 1
        return _pack(kind, flags | _ACK, self._count, _SUBSYSTEM.pack(self._family, 0, 0) + body)


def _pack(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags | _REQUEST, sequence, 0) + body


def _frame(kind: int, sequence: int) -> bytes:
    """The beginning or the end of a batch."""
    return _pack(kind, 0, sequence, _SUBSYSTEM.pack(socket.AF_UNSPEC, 0, _NFTABLES))
