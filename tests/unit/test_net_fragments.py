"""Fragments of echoes: what was cut is put together again, and hostile ones cost a bounded amount of memory."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_net_frames import ENDS, wire

from rootless.drivers.network.netd import fragments, frames
from rootless.drivers.network.netd.fragments import Fragments


def request(version: int, size: int, ident: int = 7) -> bytes:
    source, target = ENDS[version]
    body = random.Random(size).randbytes(size)
    return frames.echo_request(source, target, ident, 1, body)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [1500, 2456, 2457, 9000, 65400])
def test_what_was_cut_is_whole_again(version: int, size: int) -> None:
    packet = request(version, size)
    parts = fragments.cut(packet, 0x1234567)
    assert len(parts) == -(-(size + 8) // 1232) and max(map(len, parts)) <= 1280
    found = Fragments()
    for part in parts[:-1]:
        with pytest.raises(ValueError, match="fragment"):
            frames.parse(wire(part))
        assert found.add(wire(part)) is None
    whole = found.add(wire(parts[-1]) + b"padding")
    assert whole is not None and len(found) == 0
    assert frames.echo(whole).body == packet[whole.start + 8 :]
    assert (whole.source, whole.destination) == ENDS[version]
    if version == 4:
        for part in parts:
            assert frames.checksum(part[:20]) == 0


def test_what_fits_is_not_cut() -> None:
    for packet in (request(4, 1472), request(6, 1452)):
        assert len(packet) == 1500
        assert fragments.cut(packet, 1) == [packet]


@pytest.mark.parametrize("version", [4, 6])
def test_packets_that_come_at_once_are_kept_apart(version: int) -> None:
    one, two = (fragments.cut(request(version, 4000, ident), ident) for ident in (1, 2))
    found = Fragments()
    whole = [found.add(wire(part)) for pair in zip(one, two) for part in pair]
    assert [frames.echo(packet).ident for packet in whole if packet is not None] == [1, 2]


@pytest.mark.parametrize("version", [4, 6])
def test_out_of_order_twice_or_overlapping_is_dropped(version: int) -> None:
    parts = [wire(part) for part in fragments.cut(request(version, 4000), 1)]
    for order in ([1], [0, 2], [0, 0, 2], [0, 1, 1]):
        found = Fragments()
        for at in order[:-1]:
            assert found.add(parts[at]) is None
        with pytest.raises(ValueError, match="out of order"):
            found.add(parts[order[-1]])


@pytest.mark.parametrize("version", [4, 6])
def test_too_large_a_packet_is_dropped(version: int) -> None:
    """The ping of death: the last fragment ends beyond the largest length."""
    source, target = ENDS[version]
    protocol = frames.ICMP if version == 4 else frames.ICMP6
    head = frames.ip(source, target, protocol, b"")
    make = fragments._part_of4 if version == 4 else fragments._part_of6
    found = Fragments()
    with pytest.raises(ValueError, match="wrong length"):
        for at in range(0, 65536, 1232):
            found.add(wire(make(head, bytes(1232), at, True, 1)))
    assert len(found) == 0


def test_other_protocols_and_whole_packets_are_none_of_ours() -> None:
    source, target = ENDS[4]
    udp = frames.ip(source, target, frames.UDP, b"x" * 4000)
    for packet in (*fragments.cut(udp, 1), request(4, 10), request(6, 10), b"", b"\x45" * 30):
        with pytest.raises(ValueError):
            Fragments().add(wire(packet) if packet else packet)


def test_memory_is_bounded() -> None:
    found = Fragments()
    for ident in range(1000):
        assert found.add(wire(fragments.cut(request(4, 4000), ident)[0])) is None
    assert len(found) == fragments.MOST


@given(st.lists(st.binary(max_size=120), max_size=8), st.sampled_from([b"\x08\x00", b"\x86\xdd"]))
def test_hostile_bytes_are_a_value_error_at_worst(pieces: list[bytes], kind: bytes) -> None:
    found = Fragments()
    for piece in pieces:
        for first in (b"\x45", b"\x60"):
            try:
                found.add(bytes(12) + kind + first + piece)
            except ValueError:
                pass


@given(st.data())
def test_damaged_fragments_are_a_value_error_at_worst(data: st.DataObject) -> None:
    version = data.draw(st.sampled_from([4, 6]))
    found = Fragments()
    for part in fragments.cut(request(version, 3000), 1):
        damaged = bytearray(wire(part))
        for _ in range(data.draw(st.integers(0, 3))):
            damaged[data.draw(st.integers(14, 70))] = data.draw(st.integers(0, 255))
        try:
            whole = found.add(bytes(damaged))
        except ValueError:
            continue
        if whole is not None:
            assert len(whole.data) <= 65535 and whole.start <= len(whole.data)
