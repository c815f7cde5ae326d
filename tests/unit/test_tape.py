"""The tape's encoding, read back by an independent decoder."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.plan import tape

OPS = {name: signature for name, _, signature, _, _ in tape.OPS}
CODES = {code: (name, signature) for name, code, signature, _, _ in tape.OPS}
TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=40)
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "i": st.integers(-(1 << 63), (1 << 63) - 1),
    "s": TEXT,
    "b": st.binary(max_size=40),
    "S": st.lists(TEXT, max_size=5),
}


@st.composite
def operations(draw: st.DrawFn) -> list[tuple[str, tuple[Any, ...]]]:
    names = draw(st.lists(st.sampled_from(sorted(OPS)), max_size=8))
    return [(name, tuple(draw(KINDS[kind]) for kind in OPS[name])) for name in names]


class Decoder:
    """Reads a tape as the player does: checked against its own sizes, every padding byte zero."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        assert self.at + size <= len(self.data)
        part = self.data[self.at : self.at + size]
        self.at += size
        return part

    def align(self) -> None:
        assert not any(self.take(-self.at % 8))

    def u32(self) -> int:
        return int(struct.unpack("<I", self.take(4))[0])

    def string(self) -> str:
        data = self.take(self.u32())
        assert self.take(1) == b"\0" and b"\0" not in data
        self.align()
        return data.decode("utf-8", "surrogateescape")

    def argument(self, kind: str) -> Any:
        if kind == "i":
            return struct.unpack("<q", self.take(8))[0]
        if kind == "s":
            return self.string()
        if kind == "b":
            data = self.take(self.u32())
            self.align()
            return data
        count = self.u32()
        assert self.u32() == 0
        return [self.string() for _ in range(count)]

    def tape(self) -> list[tuple[str, tuple[Any, ...]]]:
        assert self.take(8) == b"RLTAPE\r\n"
        assert self.u32() == tape.VERSION
        assert self.u32() == len(self.data)
        count = self.u32()
        assert self.take(12) == bytes(12)
        ops = []
        for _ in range(count):
            start = self.at
            code, zero, size = struct.unpack("<HHI", self.take(8))
            assert zero == 0
            name, signature = CODES[code]
            ops.append((name, tuple(self.argument(kind) for kind in signature)))
            assert self.at == start + size
        assert self.at == len(self.data)
        return ops


@given(operations())
def test_a_decoder_reads_what_was_written(ops: list[tuple[str, tuple[Any, ...]]]) -> None:
    assert Decoder(tape.encode(ops)).tape() == ops


def test_layout_is_what_it_always_was() -> None:
    header = b"RLTAPE\r\n" + struct.pack("<III", 1, 56, 1) + bytes(12)
    op = struct.pack("<HHI", 13, 0, 24) + b"\x02\0\0\0/a\0\0" + struct.pack("<q", 0o755)
    assert tape.encode([("mkdir_host", ("/a", 0o755))]) == header + op


def test_names_that_are_not_unicode_survive() -> None:
    raw = b"/\xff\xfe".decode("utf-8", "surrogateescape")
    encoded = tape.encode([("chdir_host", (raw,))])
    assert b"/\xff\xfe\0" in encoded
    assert Decoder(encoded).tape() == [("chdir_host", (raw,))]


@pytest.mark.parametrize(
    ("op", "words"),
    [
        (("fly", ()), "unknown operation 'fly'"),
        (("setsid", (1,)), "takes 0 arguments, not 1"),
        (("chdir_host", ("/a\0b",)), "NUL"),
        (("chdir_host", (7,)), "cannot hold"),
        (("umask", ("022",)), "cannot hold"),
        (("umask", (1 << 63,)), "cannot hold"),
    ],
)
def test_refusals(op: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tape.encode([op])


def test_size_limits() -> None:
    with pytest.raises(ValueError, match="too large"):
        tape.encode([("setsid", ())] * (tape.MAX_OPS + 1))
    with pytest.raises(ValueError, match="too large"):
        tape.encode([("write", ("/x", bytes(tape.MAX_SIZE), 0))])


def test_the_table_is_consistent() -> None:
    codes = [code for _, code, _, _, _ in tape.OPS]
    assert len(set(codes)) == len(codes) == len(OPS)
    for name, code, signature, arguments, meaning in tape.OPS:
        assert 0 < code < 1 << 16 and meaning
        assert len(arguments.split()) == len(signature), name
        assert set(signature) <= set("isbS")
