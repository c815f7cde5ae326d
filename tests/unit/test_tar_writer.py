"""The tar writer: what it writes other programs read, and the same input gives the same bytes."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.store.packer import Packer, base_name
from rootless.store.tarreader import TarReader
from rootless.store.tarwriter import TarWriter

NAMES = st.binary(min_size=1, max_size=300).filter(
    lambda name: b"\0" not in name and not name.endswith(b"/") and not name.startswith(b"/")
)


def written(fill: object) -> bytes:
    parts: list[bytes] = []
    writer = TarWriter(parts.append, nanoseconds=True)
    fill(writer)  # type: ignore[operator]
    writer.close()
    return b"".join(parts)


@settings(max_examples=300, deadline=None)
@given(
    name=NAMES,
    link=NAMES,
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, (1 << 32) - 2),
    gid=st.integers(0, (1 << 32) - 2),
    time=st.integers(0, 1 << 62),
    xattrs=st.dictionaries(
        st.sampled_from([b"user.a", b"security.capability"]), st.binary(max_size=99)
    ),
)
def test_our_reader_reads_it_back(
    name: bytes,
    link: bytes,
    mode: int,
    uid: int,
    gid: int,
    time: int,
    xattrs: dict[bytes, bytes],
) -> None:
    data = written(
        lambda writer: writer.header(
            name, b"2", mode=mode, uid=uid, gid=gid, time_ns=time, link=link, xattrs=xattrs
        )
    )
    stream = io.BytesIO(data)
    reader = TarReader(lambda: stream.read(1000))
    entry = reader.next()
    assert entry is not None
    assert (entry.name, entry.link, entry.mode) == (name, link, mode)
    assert (entry.uid, entry.gid, entry.time) == (uid, gid, time)
    assert (entry.xattrs or {}) == xattrs
    assert reader.next() is None


def tree(top: Path) -> Path:
    (top / "d" / ("long" * 40)).mkdir(parents=True)
    (top / "d" / ("long" * 40) / "f").write_text("text")
    (top / "d" / "snow☃").write_bytes(bytes(1000))
    os.link(top / "d" / "snow☃", top / "d" / "second")
    (top / "d" / "l").symlink_to("t" * 200)
    os.mkfifo(top / "d" / "p", 0o600)
    os.chmod(top / "d" / "snow☃", 0o4711)
    os.utime(top / "d" / "snow☃", ns=(5, 1_600_000_000_123_456_789))
    return top / "d"


def packed(path: Path, *, nanoseconds: bool = True) -> bytes:
    receive, send = os.pipe()
    packer = Packer(fd=send, nanoseconds=nanoseconds)
    directory = os.open(path, os.O_RDONLY)
    packer.content(directory, b"top")
    packer.close()
    os.close(directory)
    os.close(send)
    with os.fdopen(receive, "rb") as stream:
        return stream.read()


def test_gnu_tar_and_tarfile_read_a_tree(tmp_path: Path) -> None:
    data = packed(tree(tmp_path))
    listed = subprocess.run(["tar", "tf", "-"], input=data, capture_output=True, check=True).stdout
    assert len(listed.splitlines()) == 6
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = {member.name: member for member in archive}
        snow = members["top/second"]
        assert members["top/snow☃"].islnk()
        assert members["top/snow☃"].linkname == "top/second"
        assert (snow.size, snow.mode) == (1000, 0o4711)
        assert abs(float(snow.mtime) - 1_600_000_000.123456789) < 1e-6
        assert members["top/l"].linkname == "t" * 200
        assert members["top/p"].isfifo()
        assert members[f"top/{'long' * 40}/f"].isreg()


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    path = tree(tmp_path)
    assert packed(path) == packed(path)
    assert packed(path, nanoseconds=False) != packed(path)


def test_sockets_are_left_out_and_shrinking_files_filled_up(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 700)
    info = os.stat(path)
    path.write_bytes(b"y" * 100)
    directory = os.open(tmp_path, os.O_RDONLY)
    data = written(lambda writer: writer.inode(b"f", info, directory, b"f"))
    os.close(directory)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        member = archive.getmember("f")
        content = archive.extractfile(member)
        assert content is not None
        assert content.read() == b"y" * 100 + bytes(600)
    socket = os.stat_result((stat.S_IFSOCK, 1, 1, 1, 0, 0, 0, 0, 0, 0))
    assert written(lambda writer: writer.inode(b"s", socket, 0, b"s")) == bytes(1024)


@pytest.mark.parametrize(
    ("path", "name"),
    [(b"/a/b", b"b"), (b"/a/b/", b"b"), (b"/a/b/.", b"."), (b"/", b"/"), (b"/.", b".")],
)
def test_what_an_archive_calls_a_path(path: bytes, name: bytes) -> None:
    assert base_name(path) == name
