"""Echo requests that did not fit into one packet, put together from fragments; and answers, cut into such.

Pure.  Only ICMP comes here so: TCP has segments, and the kernel puts datagrams together for TPROXY.  It also
puts echoes together when they enter the realm, and cuts them again before they leave it, so that fragments come
in order and without overlap; what comes otherwise is dropped, as are the oldest of too many.
"""

from __future__ import annotations

from collections import OrderedDict
from struct import Struct

from . import frames

MOST = 64  # packets that are put together at a time, each of at most 64 KiB
LARGEST = 1500  # bytes of a packet that enters the realm
_SIZE = (
    1232  # of what a fragment carries: a multiple of 8, and 1280 bytes in all with IPv6's headers
)
_FRAGMENT = 44
_ip4 = Struct("!BBHHHBBH4s4s")
_part6 = Struct("!BBHI")


class _Begun:
    """A packet up to what came of it: HEAD is its header as if it had been whole."""

    __slots__ = ("body", "head")

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.body = bytearray()


class Fragments:
    """What is being put together."""

    def __init__(self) -> None:
        self._begun: OrderedDict[bytes, _Begun] = OrderedDict()

    def __len__(self) -> int:
        return len(self._begun)

    def add(self, frame: bytes) -> frames.Packet | None:
        """The packet that FRAME completes, None where more is to come; raises ValueError for anything else."""
        kind = frame[12:14]
        if kind == b"\x08\x00":
            key, head, offset, more, body = _read4(frame[frames.ETHERNET :])
        elif kind == b"\x86\xdd":
            key, head, offset, more, body = _read6(frame[frames.ETHERNET :])
        else:
            raise ValueError("neither IPv4 nor IPv6")
        if offset == 0:
            self._begun.pop(key, None)
            self._begun[key] = _Begun(head)
            if len(self._begun) > MOST:
                self._begun.popitem(last=False)
        begun = self._begun.get(key)
        if begun is None or len(begun.body) != offset:
            raise ValueError("a fragment out of order")
        begun.body += body
        if len(begun.head) + len(begun.body) > 65535 or (more and (len(body) % 8 or not body)):
            del self._begun[key]
            raise ValueError("fragments of a wrong length")
        if more:
            return None
        del self._begun[key]
        return _whole(begun)


def _whole(begun: _Begun) -> frames.Packet:
    head, body = begun.head, bytes(begun.body)
    if head[0] >> 4 == 4:
        data = (
            head[:2] + (len(head) + len(body)).to_bytes(2, "big") + head[4:6] + b"\0\0" + head[8:]
        )
        return frames.Packet(4, data + body, len(head), head[9], head[8])
    data = head[:4] + len(body).to_bytes(2, "big") + head[6:]
    return frames.Packet(6, data + body, len(head), head[6], head[7])


def _read4(data: bytes) -> tuple[bytes, bytes, int, bool, bytes]:
    """(what it is a part of, header, offset, whether more follows, payload); raises ValueError."""
    if len(data) < 20:
        raise ValueError("shorter than an IPv4 header")
    size, length = (data[0] & 15) * 4, data[2] << 8 | data[3]
    field = data[6] << 8 | data[7]
    if data[0] >> 4 != 4 or size < 20 or not size <= length <= len(data):
        raise ValueError("IPv4 header with wrong lengths")
    if data[9] != frames.ICMP or not field & 0x3FFF:
        raise ValueError("no fragment of ICMP")
    key = data[12:20] + data[4:6]
    return key, data[:size], (field & 0x1FFF) * 8, bool(field & 0x2000), data[size:length]


def _read6(data: bytes) -> tuple[bytes, bytes, int, bool, bytes]:
    """Likewise; with other extension headers it is none of ours."""
    if len(data) < 48 or data[0] >> 4 != 6:
        raise ValueError("shorter than the headers of an IPv6 fragment")
    length = 40 + (data[4] << 8 | data[5])
    protocol, _, field, ident = _part6.unpack_from(data, 40)
    if not 48 <= length <= len(data):
        raise ValueError("IPv6 header with a wrong length")
    if data[6] != _FRAGMENT or protocol != frames.ICMP6:
        raise ValueError("no fragment of ICMPv6")
    key = data[8:40] + ident.to_bytes(4, "big")
    head = data[:6] + bytes([protocol]) + data[7:40]
    return key, head, field & 0xFFF8, bool(field & 1), data[48:length]


def cut(packet: bytes, ident: int) -> list[bytes]:
    """PACKET, made by frames.py, as fragments that carry IDENT, or as it is if it fits."""
    if len(packet) <= LARGEST:
        return [packet]
    four = packet[0] >> 4 == 4
    head, body = (packet[:20], packet[20:]) if four else (packet[:40], packet[40:])
    parts = []
    for at in range(0, len(body), _SIZE):
        part, more = body[at : at + _SIZE], at + _SIZE < len(body)
        make = _part_of4 if four else _part_of6
        parts.append(make(head, part, at, more, ident))
    return parts


def _part_of4(head: bytes, part: bytes, offset: int, more: bool, ident: int) -> bytes:
    first, tos, _, _, _, ttl, protocol, _, source, target = _ip4.unpack(head)
    field = offset // 8 | (0x2000 if more else 0)
    fields = (first, tos, 20 + len(part), ident & 0xFFFF, field, ttl, protocol)
    number = frames.checksum(_ip4.pack(*fields, 0, source, target))
    return _ip4.pack(*fields, number, source, target) + part


def _part_of6(head: bytes, part: bytes, offset: int, more: bool, ident: int) -> bytes:
    length = (8 + len(part)).to_bytes(2, "big")
    extension = _part6.pack(head[6], 0, offset | more, ident & 0xFFFFFFFF)
    return head[:4] + length + bytes([_FRAGMENT]) + head[7:] + extension + part
