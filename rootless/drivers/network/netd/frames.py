"""Frames as bytes: what containers send to the outside, and what they are answered.  Pure.

Reads Ethernet with IPv4 and IPv6 (extension headers included), TCP, UDP and the echoes of ICMP; writes resets,
echo replies and the ICMP errors.  All of it may be hostile: whatever is too short, lies about its
lengths, is a fragment or something else is a ValueError, and nothing else is ever raised.

A segment that a veth hands out has a partial checksum only, since the sender left the rest to the hardware;
what is sent again goes through ``seal``, else the kernel drops it.
"""

from __future__ import annotations

from struct import Struct

ETHERNET = 14
TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
FIN, SYN, RST, ACK = 1, 2, 4, 16

_TYPE = {4: b"\x08\x00", 6: b"\x86\xdd"}
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION = 0, 43, 44, 60
_MAX_EXTENSIONS = 8
_TTL = 64
# Of the packet that an error is about, as much as fits without making a fragment (RFC 1812, RFC 4443).
_QUOTED = {4: 576 - 20 - 8, 6: 1280 - 40 - 8}

_ip4 = Struct("!BBHHHBBH4s4s")
_ip6 = Struct("!IHBB16s16s")
_tcp = Struct("!HHIIBBHHH")
_udp = Struct("!HHHH")
_icmp = Struct("!BBHHH")

# What an ICMP error says: (type, code) for IPv4 and for IPv6.
NET_UNREACHABLE = ((3, 0), (1, 0))
HOST_UNREACHABLE = ((3, 1), (1, 3))
PROTOCOL_UNREACHABLE = ((3, 2), (4, 1))
PORT_UNREACHABLE = ((3, 3), (1, 4))
PROHIBITED = ((3, 13), (1, 1))
TIME_EXCEEDED = ((11, 0), (3, 0))

TYPE_CHECKING = False
if TYPE_CHECKING:
    Reason = tuple[tuple[int, int], tuple[int, int]]


class Packet:
    """One IP packet.

    data      from the IP header on, without what Ethernet padded
    start     where in data the payload begins, behind all extension headers
    protocol  of the payload
    """

    __slots__ = ("data", "destination", "protocol", "source", "start", "ttl", "version")

    def __init__(self, version: int, data: bytes, start: int, protocol: int, ttl: int) -> None:
        self.version = version
        self.data = data
        self.start = start
        self.protocol = protocol
        self.ttl = ttl
        if version == 4:
            self.source, self.destination = data[12:16], data[16:20]
        else:
            self.source, self.destination = data[8:24], data[24:40]

    @property
    def payload(self) -> bytes:
        """What IP carries."""
        return self.data[self.start :]


class Segment:
    """The header of a TCP segment and the length of its data."""

    __slots__ = ("ack", "dport", "flags", "length", "seq", "sport")

    def __init__(self, sport: int, dport: int, seq: int, ack: int, flags: int, length: int) -> None:
        self.sport = sport
        self.dport = dport
        self.seq = seq
        self.ack = ack
        self.flags = flags
        self.length = length


class Echo:
    """An ICMP echo request."""

    __slots__ = ("body", "ident", "seq")

    def __init__(self, ident: int, seq: int, body: bytes) -> None:
        self.ident = ident
        self.seq = seq
        self.body = body


# Reading.


def parse(frame: bytes) -> Packet:
    """The IP packet of an Ethernet frame; raises ValueError."""
    kind = frame[12:14]
    if kind == b"\x08\x00":
        return parse_ip4(frame[ETHERNET:])
    if kind == b"\x86\xdd":
        return parse_ip6(frame[ETHERNET:])
    raise ValueError("neither IPv4 nor IPv6")


def parse_ip4(data: bytes) -> Packet:
    """An IPv4 packet; raises ValueError, of fragments too."""
    if len(data) < 20:
        raise ValueError("shorter than an IPv4 header")
    head = (data[0] & 15) * 4
    length = data[2] << 8 | data[3]
    if data[0] >> 4 != 4 or head < 20 or not head <= length <= len(data):
        raise ValueError("IPv4 header with wrong lengths")
    if (data[6] << 8 | data[7]) & 0x3FFF:  # more fragments, or an offset
        raise ValueError("a fragment")
    return Packet(4, data[:length], head, data[9], data[8])


def parse_ip6(data: bytes) -> Packet:
    """An IPv6 packet; raises ValueError, of fragments too."""
    if len(data) < 40 or data[0] >> 4 != 6:
        raise ValueError("shorter than an IPv6 header")
    length = 40 + (data[4] << 8 | data[5])
    if length > len(data):
        raise ValueError("IPv6 header with a wrong length")
    at, protocol = 40, data[6]
    for _ in range(_MAX_EXTENSIONS):
        if protocol not in (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION):
            return Packet(6, data[:length], at, protocol, data[7])
        if at + 8 > length:
            raise ValueError("extension header beyond the end")
        if protocol == _FRAGMENT:
            if (data[at + 2] << 8 | data[at + 3]) & 0xFFF9:  # an offset, or more
                raise ValueError("a fragment")
            protocol, at = data[at], at + 8
        else:
            protocol, at = data[at], at + 8 + 8 * data[at + 1]
        if at > length:
            raise ValueError("extension header beyond the end")
    raise ValueError("too many extension headers")


def segment(packet: Packet) -> Segment:
    """The TCP segment in PACKET; raises ValueError."""
    data, start = packet.data, packet.start
    if len(data) < start + 20:
        raise ValueError("shorter than a TCP header")
    sport, dport, seq, ack, offset, flags, _, _, _ = _tcp.unpack_from(data, start)
    head = (offset >> 4) * 4
    if head < 20 or start + head > len(data):
        raise ValueError("TCP header with a wrong length")
    return Segment(sport, dport, seq, ack, flags, len(data) - start - head)


def echo(packet: Packet) -> Echo:
    """The echo request in PACKET; raises ValueError where it is another message or damaged."""
    data, start = packet.data, packet.start
    if len(data) < start + 8:
        raise ValueError("shorter than an ICMP header")
    kind, code, _, ident, seq = _icmp.unpack_from(data, start)
    if (kind, code) != ((8, 0) if packet.version == 4 else (128, 0)):
        raise ValueError("no echo request")
    message = data[start:]
    if packet.version == 6:
        message = _pseudo(packet.source, packet.destination, ICMP6, len(message)) + message
    if checksum(message):
        raise ValueError("ICMP with a wrong checksum")
    return Echo(ident, seq, data[start + 8 :])


def answerable(packet: Packet) -> bool:
    """Whether an ICMP error may be sent about PACKET: not about errors, not to groups (RFC 1122, 4443)."""
    source = packet.source
    if packet.version == 4:
        if source[0] >= 224 or source[0] in (0, 127):
            return False
        return packet.protocol != ICMP or packet.data[packet.start : packet.start + 1] == b"\x08"
    if source[0] == 255 or not any(source[:15]):
        return False
    return packet.protocol != ICMP6 or packet.data[packet.start : packet.start + 1] >= b"\x80"


# Writing.


def checksum(data: bytes) -> int:
    """The Internet checksum of DATA: 0 where DATA has its own, right, in it."""
    if len(data) % 2:
        data += b"\0"
    # The sum with end-around carry of 16-bit words is the remainder by 65535: 65536 is 1 there.
    number = int.from_bytes(data, "big")
    return 0xFFFF - (number % 0xFFFF or (0xFFFF if number else 0))


def _pseudo(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    if len(source) == 4:
        return source + destination + bytes((0, protocol)) + length.to_bytes(2, "big")
    return source + destination + length.to_bytes(4, "big") + bytes((0, 0, 0, protocol))


def _sum(source: bytes, destination: bytes, protocol: int, payload: bytes) -> int:
    return checksum(_pseudo(source, destination, protocol, len(payload)) + payload)


def ip(source: bytes, destination: bytes, protocol: int, payload: bytes) -> bytes:
    """An IP packet of the version that the addresses have."""
    if len(source) == 4:
        fields = (0x45, 0, 20 + len(payload), 0, 0, _TTL, protocol)
        head = _ip4.pack(*fields, 0, source, destination)
        return _ip4.pack(*fields, checksum(head), source, destination) + payload
    return _ip6.pack(6 << 28, len(payload), protocol, _TTL, source, destination) + payload


def ethernet(target: bytes, source: bytes, packet: bytes) -> bytes:
    """A frame around the IP packet PACKET."""
    return target + source + _TYPE[packet[0] >> 4] + packet


def seal(packet: Packet) -> bytes:
    """The IP packet around a TCP segment, with the checksum of the segment as it must be."""
    data = packet.data
    at = packet.start + 16
    payload = data[packet.start : at] + b"\0\0" + data[at + 2 :]
    number = _sum(packet.source, packet.destination, TCP, payload)
    return data[:at] + number.to_bytes(2, "big") + data[at + 2 :]


def reset(packet: Packet, of: Segment) -> bytes:
    """The reset that answers segment OF in PACKET (RFC 9293, 3.5.2)."""
    if of.flags & ACK:
        seq, ack, flags = of.ack, 0, RST
    else:
        length = of.length + bool(of.flags & SYN) + bool(of.flags & FIN)
        seq, ack, flags = 0, (of.seq + length) & 0xFFFFFFFF, RST | ACK
    fields = (of.dport, of.sport, seq, ack, 5 << 4, flags, 0)
    number = _sum(packet.destination, packet.source, TCP, _tcp.pack(*fields, 0, 0))
    return ip(packet.destination, packet.source, TCP, _tcp.pack(*fields, number, 0))


def unreachable(packet: bytes, reason: Reason, by: bytes = b"") -> bytes:
    """The ICMP error about the IP packet PACKET, from the router BY, else from where it was to go."""
    if packet[0] >> 4 == 4:
        source, target, version, protocol = packet[12:16], packet[16:20], 4, ICMP
    else:
        source, target, version, protocol = packet[8:24], packet[24:40], 6, ICMP6
    kind, code = reason[version == 6]
    return _message(by or target, source, protocol, (kind, code, 0, 0), packet[: _QUOTED[version]])


def echo_request(source: bytes, target: bytes, ident: int, seq: int, body: bytes) -> bytes:
    """An ICMP echo request in its IP packet."""
    kind, protocol = (8, ICMP) if len(source) == 4 else (128, ICMP6)
    return _message(source, target, protocol, (kind, 0, ident, seq), body)


def echo_reply(source: bytes, target: bytes, ident: int, seq: int, body: bytes) -> bytes:
    """The answer to an echo request, in its IP packet."""
    kind, protocol = (0, ICMP) if len(source) == 4 else (129, ICMP6)
    return _message(source, target, protocol, (kind, 0, ident, seq), body)


def datagram(source: bytes, sport: int, target: bytes, dport: int, body: bytes) -> bytes:
    """A UDP datagram in its IP packet."""
    length = 8 + len(body)
    number = _sum(source, target, UDP, _udp.pack(sport, dport, length, 0) + body) or 0xFFFF
    return ip(source, target, UDP, _udp.pack(sport, dport, length, number) + body)


def _message(
    source: bytes, target: bytes, protocol: int, fields: tuple[int, int, int, int], body: bytes
) -> bytes:
    kind, code, first, second = fields
    message = _icmp.pack(kind, code, 0, first, second) + body
    if protocol == ICMP6:
        number = _sum(source, target, ICMP6, message)
    else:
        number = checksum(message)
    return ip(source, target, protocol, message[:2] + number.to_bytes(2, "big") + message[4:])
