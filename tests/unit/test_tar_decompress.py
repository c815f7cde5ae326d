"""Compressed streams: every kind is recognised, both digests are right, damage is a clear error."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import importlib
import io
import lzma
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from rootless.errors import HostError, LayerError
from rootless.store.decompress import Source

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = b"".join(b"line %d\n" % n for n in range(60000)) + os.urandom(100000)


def zstd(data: bytes) -> bytes:
    module: Any = pytest.importorskip("zstandard", reason="zstd is an optional extra")
    return bytes(module.ZstdCompressor(write_checksum=True).compress(data))


def run(data: bytes, piece: int = 1 << 20) -> tuple[bytes, Source]:
    stream = io.BytesIO(data)
    source = Source(lambda size: stream.read(min(size, piece)))
    try:
        return b"".join(iter(source.next_chunk, b"")), source
    finally:
        source.close()


def twice(compress: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda data: compress(data[:70000]) + compress(data[70000:])


KINDS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "gzip in two members": twice(gzip.compress),
    "gzip with padding": lambda data: gzip.compress(data) + bytes(100000),
    "xz": lzma.compress,
    "xz in two streams": twice(lzma.compress),
    "bzip2": bz2.compress,
    "zstd": zstd,
    "zstd in two frames": twice(zstd),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece", [1 << 20, 5000])
def test_both_digests_in_one_pass(kind: str, piece: int) -> None:
    packed = KINDS[kind](DATA)
    data, source = run(packed, piece)
    assert data == DATA
    assert source.diff_id == "sha256:" + hashlib.sha256(DATA).hexdigest()
    assert source.digest == "sha256:" + hashlib.sha256(packed).hexdigest()
    assert (source.size, source.compressed_size) == (len(DATA), len(packed))


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2"])
def test_truncated(kind: str) -> None:
    packed = KINDS[kind](DATA)
    for size in (6, 20, len(packed) // 2, len(packed) - 1):
        with pytest.raises(LayerError, match="cannot decompress layer: "):
            run(packed[:size])


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2", "zstd"])
def test_damaged(kind: str) -> None:
    packed = bytearray(KINDS[kind](DATA))
    packed[len(packed) // 2 : len(packed) // 2 + 100] = os.urandom(100)
    with pytest.raises(LayerError, match="cannot decompress layer: "):
        run(bytes(packed))


def test_bytes_after_gzip() -> None:
    with pytest.raises(LayerError, match="cannot decompress layer: "):
        run(gzip.compress(DATA) + b"garbage")


def test_tiny_and_empty() -> None:
    assert run(b"")[0] == b""
    assert run(b"ab")[0] == b"ab"
    assert run(gzip.compress(b""), 1)[0] == b""


def test_the_end_is_the_end_however_often_one_asks() -> None:
    stream = io.BytesIO(gzip.compress(b""))
    source = Source(stream.read)
    assert [source.next_chunk() for _ in range(3)] == [b""] * 3
    source.close()


def test_without_isal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal", None)
    assert run(gzip.compress(DATA))[0] == DATA


def test_without_zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def refuse(name: str) -> Any:
        if "zst" in name:
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(HostError, match="no zstd library is installed") as caught:
        run(b"\x28\xb5\x2f\xfd" + bytes(100))
    assert "zstandard" in caught.value.hint


def test_a_bomb_is_read_in_bounded_pieces() -> None:
    packed = gzip.compress(bytes(160 << 20), 9)
    stream = io.BytesIO(packed)
    source = Source(stream.read)
    largest = 0
    while True:
        chunk = source.next_chunk()
        if not chunk:
            break
        largest = max(largest, len(chunk))
    source.close()
    assert source.size == 160 << 20
    assert largest <= 80 << 20


def test_closing_early_stops_the_thread() -> None:
    packed = gzip.compress(DATA * 4)
    stream = io.BytesIO(packed)
    source = Source(stream.read)
    assert source.next_chunk()
    source.close()
    assert not source._thread.is_alive()
