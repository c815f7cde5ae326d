"""The tar reader: what real writers produce is read, what breaks the format is refused by name."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tar_builder import header, member, padded, pax

from rootless.errors import LayerError
from rootless.store.tarreader import MAX_EXTENDED, TarReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def reader_of(data: bytes, piece: int = 1 << 20) -> TarReader:
    stream = io.BytesIO(data)
    return TarReader(lambda: stream.read(piece))


def read(data: bytes, piece: int = 1 << 20) -> list[dict[str, Any]]:
    """All members with their data, through a pipe-like stream of PIECE bytes at a time."""
    reader = reader_of(data, piece)
    found: list[dict[str, Any]] = []
    while True:
        entry = reader.next()
        if entry is None:
            return found
        fd = os.memfd_create("data")
        try:
            copy = reader.copy if entry.sparse is None else reader.copy_sparse
            copy(fd)
            os.lseek(fd, 0, os.SEEK_SET)
            with os.fdopen(os.dup(fd), "rb") as file:
                body = file.read()
        finally:
            os.close(fd)
        values = {key: getattr(entry, key) for key in entry.__slots__}
        found.append({**values, "data": body})


def names(data: bytes) -> list[bytes]:
    return [entry["name"] for entry in read(data)]


@pytest.mark.parametrize("piece", [1, 7, 511, 512, 513, 1 << 20])
def test_any_split_of_the_stream(piece: int) -> None:
    data = member(b"a", b"x" * 1000) + member(b"b", b"") + member(b"c", b"y" * 512) + bytes(1024)
    found = read(data, piece)
    assert [(e["name"], e["data"]) for e in found] == [
        (b"a", b"x" * 1000),
        (b"b", b""),
        (b"c", b"y" * 512),
    ]


def test_data_that_nobody_reads_is_passed_over() -> None:
    reader = reader_of(member(b"a", b"x" * 5000) + member(b"b"))
    seen = []
    while (entry := reader.next()) is not None:
        seen.append(entry.name)
    assert seen == [b"a", b"b"]


FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


@pytest.mark.parametrize("kind", FORMATS)
def test_agrees_with_tarfile(kind: str) -> None:
    buffer = io.BytesIO()
    long = "directory-" * 12 + "/" + "n" * 90
    with tarfile.open(fileobj=buffer, mode="w", format=FORMATS[kind]) as archive:
        for number, name in enumerate(["a", long, "ünï", "x" * 100]):
            info = tarfile.TarInfo(name)
            info.size = 700 * number
            info.mode = 0o4711
            info.uid, info.gid = 1000, 50
            info.mtime = 1_700_000_000
            archive.addfile(info, io.BytesIO(b"z" * info.size))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, long
        if kind != "ustar":
            archive.addfile(link)
    ours = read(buffer.getvalue())
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as archive:
        theirs = archive.getmembers()
    assert [
        (e["name"].decode(), e["size"], e["mode"], e["uid"], e["gid"], e["time"]) for e in ours
    ] == [(i.name, i.size, i.mode, i.uid, i.gid, int(i.mtime) * 10**9) for i in theirs]
    assert [e["link"].decode() for e in ours] == [i.linkname for i in theirs]


def test_large_numbers() -> None:
    found = read(
        header(
            uid=b"\x80" + (3_000_000).to_bytes(7, "big"),
            mtime=b"\x80" + (2**40).to_bytes(11, "big"),
        )
    )
    assert (found[0]["uid"], found[0]["time"]) == (3_000_000, 2**40 * 10**9)


def test_times_before_1970_and_fractions() -> None:
    records = [(b"mtime", b"1700000000.123456789123"), (b"mtime", b"-1.5")]
    found = [read(pax(record) + member(b"f"))[0]["time"] for record in records]
    assert found == [1_700_000_000_123_456_789, -1_500_000_000]
    assert read(header(mtime=b"\xff" * 12))[0]["time"] == 0


def test_pax_wins_and_lasts_for_one_member() -> None:
    data = pax((b"path", b"long\xff"), (b"uid", b"5000000"), (b"SCHILY.xattr.user.a", b"1\n=2"))
    found = read(data + member(b"short") + member(b"next"))
    assert [e["name"] for e in found] == [b"long\xff", b"next"]
    assert found[0]["uid"] == 5000000
    assert found[0]["xattrs"] == {b"user.a": b"1\n=2"}
    assert found[1]["xattrs"] is None


def test_pax_size() -> None:
    data = pax((b"size", b"600")) + header(size=b"0") + padded(b"s" * 600) + member(b"next")
    assert [(e["name"], len(e["data"])) for e in read(data)] == [(b"file", 600), (b"next", 0)]


def test_global_pax_header() -> None:
    data = pax((b"uid", b"7"), (b"comment", b"hello"), kind=b"g") + member(b"a") + member(b"b")
    assert [e["uid"] for e in read(data)] == [7, 7]
    again = pax((b"uid", b""), kind=b"g")
    assert [e["uid"] for e in read(data + again + member(b"c"))] == [7, 7, 0]


def test_links_have_no_data() -> None:
    data = header(b"l", b"1", b"00000000777", link=b"target") + member(b"next")
    assert [(e["name"], e["size"]) for e in read(data)] == [(b"l", 0), (b"next", 0)]


def test_end_of_archive() -> None:
    assert names(member(b"a") + bytes(512) + member(b"after")) == [b"a"]
    assert names(member(b"a")) == [b"a"]
    assert names(b"") == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (member(b"cut", b"x" * 2000)[:1500], 'ends in the middle of entry "cut"'),
        (member(b"cut", b"x" * 100)[:-1], 'ends in the middle of entry "cut"'),
        (member(b"a") + member(b"b")[:100], "ends in the middle of a header"),
        (pax((b"path", b"x" * 600))[:700], 'ends in the middle of entry "pax"'),
        (pax((b"path", b"x")), "ends after an extension"),
        (member(b"a") + header(b"b", checksum=b"000001\0 "), 'header after entry "a" is damaged'),
        (b"not a tar at all" * 100, "is damaged"),
        (header(b"neg", size=b"-0000000001"), 'entry "neg": its size is negative'),
        (header(b"neg", size=b"\xff" * 12), 'entry "neg": its size is negative'),
        (header(b"nan", size=b"zz"), 'entry "nan": its size is no number'),
        (header(b"nan", size=b"00000000009"), 'entry "nan": its size is no number'),
        (header(b"nan", uid=b"0x12"), 'entry "nan": its owner is no number'),
        (header(b"big", size=b"\x80" + b"\xff" * 11), 'entry "big": its size is absurd'),
        (pax((b"size", b"-5")) + header(b"neg"), 'entry "neg": a negative size'),
        (pax((b"size", b"1" * 19)) + header(b"cut"), 'ends in the middle of entry "cut"|absurd'),
        (pax((b"uid", b"-1")) + header(b"neg"), 'entry "neg": a negative'),
        (pax((b"uid", b"9" * 5000)) + header(b"f"), 'entry "f": its extended header'),
        (pax((b"mtime", b"soon")) + header(b"f"), 'entry "f": its extended header'),
        (header(b"odd", b"V"), "entry \"odd\": its type 'V' is not known"),
        (header(b"pax", b"x", b"77777777777"), "an extended header of 8589934591 bytes is too"),
        (header(b"pax", b"L", b"%011o" % (MAX_EXTENDED + 1)), "is too large"),
        (member(b"p", b"1000 path=a\n", b"x") + member(b"f"), "header is malformed"),
        (member(b"p", b"path=a\n", b"x") + member(b"f"), "header is malformed"),
        (member(b"p", b"9 path=ab", b"x") + member(b"f"), "header is malformed"),
        (member(b"p", b"0 path=ab\n", b"x") + member(b"f"), "header is malformed"),
    ],
)
def test_refused(data: bytes, message: str) -> None:
    with pytest.raises(LayerError, match=message):
        read(data)


def test_a_large_file_is_not_held_in_memory() -> None:
    import tracemalloc

    size = 256 << 20
    block = bytes(1 << 20)
    pieces = iter([header(size=b"%011o" % size), *[block] * 256])
    reader = TarReader(lambda: next(pieces, b""))
    fd = os.open(os.devnull, os.O_WRONLY)
    tracemalloc.start()
    try:
        assert reader.next() is not None
        reader.copy(fd)
        assert reader.next() is None
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
        os.close(fd)


@pytest.mark.parametrize(
    "options", [["--format=gnu"], ["--format=pax", "--sparse-version=1.0"]], ids=["gnu", "pax-1.0"]
)
@pytest.mark.parametrize("extents", [1, 3, 40])
def test_sparse_files_of_gnu_tar(tmp_path: Path, options: list[str], extents: int) -> None:
    tar = shutil.which("tar")
    assert tar, "GNU tar is part of every supported distribution"
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        for number in range(extents):
            file.seek(number * 1_000_000)
            file.write(b"data %d" % number * 100)
        file.truncate(extents * 1_000_000 + 12345)
    archive = subprocess.run(
        [tar, *options, "-S", "-cf", "-", "-C", str(tmp_path), "sparse"],
        check=True,
        capture_output=True,
    ).stdout
    assert len(archive) < 2_000_000, "the test filesystem knows holes"
    found = read(archive + member(b"next"))
    assert found[0]["name"] == b"sparse"
    assert found[0]["data"] == path.read_bytes()


@pytest.mark.parametrize(
    "numbers",
    [b"1\n5\n100\n", b"2\n5\n10\n0\n5\n", b"99999999999\n", b"-1\n", b"x\n", b"1\n0\n-5\n"],
)
def test_hostile_sparse_maps(numbers: bytes) -> None:
    records = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")]
    records += [(b"GNU.sparse.name", b"hole"), (b"GNU.sparse.realsize", b"50")]
    with pytest.raises(LayerError, match='entry "hole": its sparse map'):
        read(pax(*records) + member(b"x", padded(numbers)))


def test_old_pax_sparse_is_refused_clearly() -> None:
    data = pax((b"GNU.sparse.size", b"5"), (b"GNU.sparse.map", b"0,5")) + member(b"f", b"12345")
    with pytest.raises(LayerError, match="sparse files of pax format 0"):
        read(data)


VALID = member(b"a", b"x" * 600) + pax((b"path", b"p" * 200)) + member(b"b", b"y") + bytes(1024)


def without_crash(action: Callable[[], object]) -> None:
    try:
        action()
    except LayerError:
        pass


def test_every_truncation_is_an_error_or_a_shorter_archive() -> None:
    for size in range(len(VALID)):
        without_crash(lambda size=size: read(VALID[:size]))  # type: ignore[misc]


@settings(max_examples=300, deadline=None, database=None)
@given(st.integers(0, len(VALID) - 1), st.binary(min_size=1, max_size=16), st.booleans())
def test_any_damage_is_a_layer_error(at: int, junk: bytes, resum: bool) -> None:
    data = bytearray(VALID)
    data[at : at + len(junk)] = junk
    if resum:
        start = at - at % 512
        block = data[start : start + 512]
        block[148:156] = b" " * 8
        data[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    without_crash(lambda: read(bytes(data)))
