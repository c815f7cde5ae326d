"""Frames: what is built is read back, sums are the kernel's, and hostile bytes are a ValueError at worst."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.drivers.network.netd import frames

MAC = b"\x02\x42\x00\x00\x00\x01"
ENDS = {
    4: (socket.inet_aton("172.18.0.2"), socket.inet_aton("10.1.2.3")),
    6: (
        socket.inet_pton(socket.AF_INET6, "fd00::2"),
        socket.inet_pton(socket.AF_INET6, "2001:db8::3"),
    ),
}
REASONS = (frames.NET_UNREACHABLE, frames.HOST_UNREACHABLE, frames.PROHIBITED, frames.TIME_EXCEEDED)


def wire(packet: bytes) -> bytes:
    return frames.ethernet(MAC, MAC, packet)


def tcp(version: int, flags: int = frames.SYN, options: bytes = b"", data: bytes = b"") -> bytes:
    source, target = ENDS[version]
    head = struct.pack(
        "!HHIIBBHHH", 4000, 80, 7, 9, (5 + len(options) // 4) << 4, flags, 1, 0xBAD, 0
    )
    return frames.ip(source, target, frames.TCP, head + options + data)


def slow_sum(data: bytes) -> int:
    """The checksum as RFC 1071 has it, word by word."""
    total = 0
    for at in range(0, len(data) + len(data) % 2, 2):
        total += int.from_bytes((data + b"\0")[at : at + 2], "big")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@given(st.binary(max_size=200))
def test_the_checksum_is_the_one_of_the_rfc(data: bytes) -> None:
    assert frames.checksum(data) == slow_sum(data)


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\0\0\0\0", b"\xff\xff", b"\xff\xff\0\0", b"\0\1\xff\xfe"]
)
def test_the_checksum_of_zeros_and_ones(data: bytes) -> None:
    assert frames.checksum(data) == slow_sum(data)


def check(packet: bytes) -> frames.Packet:
    """PACKET with all its checksums looked at."""
    found = frames.parse(wire(packet))
    if found.version == 4:
        assert slow_sum(packet[:20]) == 0
    payload = found.payload
    if found.protocol == frames.ICMP:
        assert slow_sum(payload) == 0
    else:
        length = struct.pack("!I3xB", len(payload), found.protocol)
        assert slow_sum(found.source + found.destination + length + payload) == 0
    return found


@pytest.mark.parametrize("version", [4, 6])
def test_a_segment_is_read_and_sealed(version: int) -> None:
    options = b"\x02\x04\x05\xb4\x01\x01\x04\x02"
    packet = frames.parse(wire(tcp(version, options=options, data=b"abc")) + b"padding")
    assert (packet.source, packet.destination) == ENDS[version]
    segment = frames.segment(packet)
    assert (segment.sport, segment.dport, segment.seq, segment.ack) == (4000, 80, 7, 9)
    assert (segment.flags, segment.length) == (frames.SYN, 3)
    check(frames.seal(packet))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("flags", "answer", "seq", "ack"),
    [
        (frames.SYN, frames.RST | frames.ACK, 0, 11),  # SYN and three bytes
        (frames.ACK, frames.RST, 9, 0),
        (frames.FIN | frames.ACK, frames.RST, 9, 0),
        (frames.FIN, frames.RST | frames.ACK, 0, 11),
        (0, frames.RST | frames.ACK, 0, 10),
    ],
)
def test_resets_are_what_the_rfc_says(
    version: int, flags: int, answer: int, seq: int, ack: int
) -> None:
    packet = frames.parse(wire(tcp(version, flags, data=b"abc")))
    reset = check(frames.reset(packet, frames.segment(packet)))
    assert (reset.destination, reset.source) == ENDS[version]
    found = frames.segment(reset)
    assert (found.sport, found.dport) == (80, 4000)
    assert (found.flags, found.seq, found.ack) == (answer, seq, ack)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("reason", REASONS)
def test_errors_quote_what_they_are_about(version: int, reason: Any) -> None:
    sent = tcp(version, data=b"x" * 2000)
    error = check(frames.unreachable(sent, reason))
    assert (error.destination, error.source) == ENDS[version]
    assert tuple(error.payload[:2]) == reason[version == 6]
    assert sent.startswith(error.payload[8:])
    assert len(error.data) <= (576 if version == 4 else 1280)
    router = frames.unreachable(sent, reason, ENDS[version][1][:-1] + b"\1")
    assert check(router).source == ENDS[version][1][:-1] + b"\1"


@pytest.mark.parametrize("version", [4, 6])
def test_echoes(version: int) -> None:
    source, target = ENDS[version]
    request = check(frames.echo_request(source, target, 77, 5, b"body"))
    echo = frames.echo(request)
    assert (echo.ident, echo.seq, echo.body) == (77, 5, b"body")
    reply = check(frames.echo_reply(target, source, 77, 5, b"body"))
    with pytest.raises(ValueError, match="no echo request"):
        frames.echo(reply)
    damaged = frames.parse(wire(request.data[:-1] + b"!"))
    with pytest.raises(ValueError, match="checksum"):
        frames.echo(damaged)


@pytest.mark.parametrize("version", [4, 6])
def test_datagrams(version: int) -> None:
    source, target = ENDS[version]
    packet = check(frames.datagram(source, 53, target, 5353, b"odd"))
    assert struct.unpack("!HHH", packet.payload[:6]) == (53, 5353, 11)
    assert packet.payload[8:] == b"odd"


def test_extension_headers_are_passed() -> None:
    head, body = tcp(6)[:40], tcp(6)[40:]

    def with_chain(*chain: tuple[int, bytes]) -> bytes:
        kinds = [kind for kind, _ in chain] + [frames.TCP]
        extensions = b"".join(bytes([after]) + data for (_, data), after in zip(chain, kinds[1:]))
        length = struct.pack("!H", len(extensions + body))
        return head[:4] + length + bytes(kinds[:1]) + head[7:] + extensions + body

    hop = (0, b"\0" + b"\1\4\0\0\0\0")
    long = (60, b"\1" + b"\1\14" + bytes(12))
    atomic = (44, b"\0\0\0\0\0\0\1")
    packet = frames.parse(wire(with_chain(hop, long, atomic)))
    assert packet.start == 40 + 8 + 16 + 8
    assert frames.segment(packet).dport == 80
    for offset in (b"\0\1", b"\0\x08"):  # more fragments; an offset
        with pytest.raises(ValueError, match="fragment"):
            frames.parse(wire(with_chain((44, b"\0" + offset + b"\0\0\0\1"))))
    with pytest.raises(ValueError, match="too many"):
        frames.parse(wire(with_chain(*[hop] * 8)))


@pytest.mark.parametrize("field", [b"\x20\0", b"\0\1", b"\x3f\xff"])
def test_fragments_of_ip4_are_none_of_ours(field: bytes) -> None:
    sent = tcp(4)
    with pytest.raises(ValueError, match="fragment"):
        frames.parse(wire(sent[:6] + field + sent[8:]))


def test_errors_are_not_sent_about_errors_or_from_groups() -> None:
    def answerable(packet: bytes) -> bool:
        return frames.answerable(frames.parse(wire(packet)))

    for version in (4, 6):
        source, target = ENDS[version]
        assert answerable(tcp(version))
        assert answerable(frames.echo_request(source, target, 1, 1, b""))
        assert not answerable(frames.unreachable(tcp(version), frames.PROHIBITED))
    for text in ("224.0.0.1", "255.255.255.255", "0.0.0.0", "127.0.0.1", "ff02::1", "::", "::1"):
        family = socket.AF_INET6 if ":" in text else socket.AF_INET
        group = socket.inet_pton(family, text)
        assert not answerable(frames.ip(group, ENDS[4 if len(group) == 4 else 6][1], 17, b""))


# Hostile input.

SEEDS = [
    wire(packet)
    for version in (4, 6)
    for packet in (
        tcp(version, options=b"\1\1\1\1", data=b"data"),
        frames.echo_request(*ENDS[version], 1, 2, b"body"),
        frames.datagram(ENDS[version][0], 1, ENDS[version][1], 2, b"body"),
    )
]


def handle(frame: bytes) -> None:
    """All that is done with a frame; anything but a ValueError fails the test."""
    try:
        packet = frames.parse(frame)
        assert len(packet.source) == len(packet.destination) == (4 if packet.version == 4 else 16)
        assert packet.start <= len(packet.data)
        if frames.answerable(packet):
            frames.parse(wire(frames.unreachable(packet.data, frames.PROHIBITED)))
        if packet.protocol == frames.TCP:
            segment = frames.segment(packet)
            assert 0 <= segment.length <= len(packet.data)
            frames.parse(wire(frames.seal(packet)))
            frames.parse(wire(frames.reset(packet, segment)))
        else:
            frames.echo(packet)
    except ValueError:
        pass


def test_every_truncation_is_harmless() -> None:
    for seed in SEEDS:
        for end in range(len(seed)):
            handle(seed[:end])


def test_every_changed_byte_is_harmless() -> None:
    for seed in SEEDS:
        for at in range(len(seed)):
            for value in (0, 1, 0x3F, 0x40, 0x80, 0xF0, 0xFF):
                handle(seed[:at] + bytes([value]) + seed[at + 1 :])


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=12),
    st.integers(0, 100),
    st.binary(max_size=40),
)
def test_hostile_frames_are_harmless(
    seed: bytes, changes: list[tuple[int, int]], end: int, tail: bytes
) -> None:
    frame = bytearray(seed[:end] + tail)
    for at, value in changes:
        if at < len(frame):
            frame[at] = value
    handle(bytes(frame))


@given(st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x08\x06", b""]), st.binary(max_size=120))
def test_random_bytes_are_harmless(kind: bytes, rest: bytes) -> None:
    handle(MAC + MAC + kind + rest)
