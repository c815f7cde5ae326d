"""Records of ownership: written, read back, believed only where they read as records."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tar_builder import member

from rootless.store.layerwriter import LayerWriter
from rootless.store.ownership import Recorder, Records, journal_of
from rootless.store.packer import Packer
from rootless.store.tarreader import TarReader


class Place:
    """A directory of files, its journal, and what is read of both."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.tree = top / "fs"
        self.tree.mkdir()
        self.journal = journal_of(str(self.tree))
        self.fd = os.open(self.tree, os.O_RDONLY)
        self.recorder = Recorder(self.journal)

    def owner(self, name: str, *, active: bool = True) -> tuple[int, int]:
        info = os.lstat(self.tree / name)
        records = Records([self.journal], active=active)
        return records.of(self.fd, os.fsencode(name), info).owner

    def node(self, name: str) -> tuple[bytes, int, int] | None:
        info = os.lstat(self.tree / name)
        return Records([self.journal]).of(self.fd, os.fsencode(name), info).node


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    os.close(made.fd)
    made.recorder.close()


OWN = (os.getuid(), os.getgid())


def test_files_links_and_pipes(place: Place) -> None:
    (place.tree / "file").write_text("")
    os.symlink("else where", place.tree / "link")
    os.mkfifo(place.tree / "pipe")
    for number, name in enumerate(("file", "link", "pipe"), 70000):
        place.recorder.owner(place.fd, name.encode(), number, number + 1)
        assert place.owner(name) == (number, number + 1)
        assert place.owner(name, active=False) == OWN
    os.rename(place.tree / "link", place.tree / "renamed")
    assert place.owner("renamed") == (70001, 70002)
    assert os.path.exists(place.journal)


def test_later_words_win_and_take_back(place: Place) -> None:
    os.symlink("x", place.tree / "l")
    (place.tree / "f").write_text("")
    for name in (b"l", b"f"):
        place.recorder.owner(place.fd, name, 5, 6)
        place.recorder.owner(place.fd, name, 7, 8)
        assert place.owner(name.decode()) == (7, 8)
        place.recorder.owner(place.fd, name, *OWN, fresh=False)
        assert place.owner(name.decode()) == OWN


def test_another_inode_with_the_number_is_not_meant(place: Place) -> None:
    os.symlink("x", place.tree / "l")
    place.recorder.owner(place.fd, b"l", 5, 6)
    with open(place.journal, encoding="ascii") as file:
        number, birth, kind, target, key, value = file.read().split()
    for other in (
        f"{number} {birth} p {target} {key} {value}\n",
        f"{number} {birth} {kind} 79 {key} {value}\n",
        f"{number} 12.5 {kind} {target} {key} {value}\n",
        f"{int(number) + 1} {birth} {kind} {target} {key} {value}\n",
    ):
        Path(place.journal).write_text(other)
        assert place.owner("l") == OWN
    Path(place.journal).write_text(f"{number} 0.0 {kind} {target} {key} {value}\n")
    assert place.owner("l") == (5, 6)


def test_a_torn_line_is_not_believed(place: Place) -> None:
    os.symlink("x", place.tree / "l")
    place.recorder.owner(place.fd, b"l", 5, 6)
    place.recorder.owner(place.fd, b"l", 77, 88)
    whole = Path(place.journal).read_bytes()
    for cut in range(1, len(whole) // 2):
        Path(place.journal).write_bytes(whole[:-cut])
        assert place.owner("l") == (5, 6)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"1",
        b"1:2:3",
        b"-1:2",
        b"1:4294967295",
        b"a:b",
        b"1:",
        b":",
        b" 1:2",
        b"1:2\n",
        b"\xff:\xff",
    ],
)
def test_owners_that_are_none(place: Place, value: bytes) -> None:
    (place.tree / "f").write_text("")
    os.setxattr(place.tree / "f", "user.rootless.owner", value)
    assert place.owner("f") == OWN


@pytest.mark.parametrize(
    ("value", "node"),
    [
        (b"c 1 3", (b"c", 1, 3)),
        (b"b 259 1048575", (b"b", 259, 1048575)),
        (b"b 0 0", (b"b", 0, 0)),
        (b"c 0 0", None),
        (b"c 1", None),
        (b"x 1 3", None),
        (b"c -1 3", None),
        (b"c 1 3 4", None),
        (b"", None),
    ],
)
def test_devices(place: Place, value: bytes, node: tuple[bytes, int, int] | None) -> None:
    (place.tree / "f").write_text("")
    os.setxattr(place.tree / "f", "user.rootless.node", value)
    assert place.node("f") == node


def directory(name: bytes, mode: bytes) -> bytes:
    return member(name, b"", b"5", mode=mode)


def unpack(place: Place, *entries: bytes) -> dict[str, int]:
    chunks = iter([b"".join(entries) + bytes(1024), b""])
    fd = os.open(place.tree, os.O_RDONLY)
    before = os.umask(0)
    writer = LayerWriter(fd, recorder=place.recorder)
    try:
        writer.apply(TarReader(lambda: next(chunks, b"")))
    finally:
        writer.close()
        os.close(fd)
        os.umask(before)
    return writer.skipped


def packed(place: Place) -> tarfile.TarFile:
    reading, writing = os.pipe()
    packer = Packer(fd=writing, records=Records([place.journal]), nanoseconds=False)
    packer.content(place.fd, b"")
    packer.close()
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        return tarfile.open(fileobj=io.BytesIO(file.read()))


def test_a_layer_through_one_id_and_out_again(place: Place) -> None:
    capability = bytes.fromhex("0100000200200000") + bytes(12)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, uid, gid, mode in (
            ("d", b"5", 0, 50, 0o2775),
            ("d/f", b"0", 33, 3000000, 0o4755),
            ("d/l", b"2", 5, 6, 0o777),
            ("d/p", b"6", 7, 8, 0o600),
            ("d/c", b"3", 0, 9, 0o660),
            ("d/b", b"4", 0, 0, 0o660),
            ("d/w", b"3", 1, 1, 0o660),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.uid, info.gid, info.mode = kind, uid, gid, mode
            info.linkname = "f" if kind == b"2" else ""
            info.devmajor, info.devminor = (0, 0) if name == "d/w" else (8, 300)
            if kind == b"0":
                info.pax_headers = {
                    "SCHILY.xattr.user.rootless.owner": "1:1",
                    "SCHILY.xattr.security.capability": capability.decode("latin-1"),
                }
            archive.addfile(info)
    skipped = unpack(place, data.getvalue()[:-1024])
    assert skipped["device nodes"] == 1
    found = {
        info.name: (info.type, info.mode, info.uid, info.gid, info.devmajor, info.devminor)
        for info in packed(place)
    }
    assert found == {
        "d": (b"5", 0o2775, *root(0, 50), 0, 0),
        "d/f": (b"0", 0o4755, 33, 3000000, 0, 0),
        "d/l": (b"2", 0o777, 5, 6, 0, 0),
        "d/p": (b"6", 0o600, 7, 8, 0, 0),
        "d/c": (b"3", 0o660, *root(0, 9), 8, 300),
        "d/b": (b"4", 0o660, *root(0, 0), 8, 300),
    }
    with packed(place) as archive:
        headers = archive.getmember("d/f").pax_headers
        assert {key for key in headers if "xattr" in key} == {"SCHILY.xattr.security.capability"}


def root(uid: int, gid: int) -> tuple[int, int]:
    return uid, gid


def test_new_things_in_a_setgid_directory_are_as_the_archive_says(place: Place) -> None:
    unpack(
        place,
        directory(b"d/", b"0002775"),
        directory(b"d/below/", b"0000755"),
        member(b"d/file", b"x", mode=b"0000644"),
        directory(b"e/", b"0002775"),
        directory(b"e/", b"0000755"),
    )
    modes = {
        name: os.stat(place.tree / name).st_mode & 0o7777
        for name in ("d", "d/below", "d/file", "e")
    }
    assert modes == {"d": 0o2775, "d/below": 0o755, "d/file": 0o644, "e": 0o755}


def test_a_file_in_the_place_of_another(place: Place, tmp_path: Path) -> None:
    lower = Place(tmp_path / "lower") if (tmp_path / "lower").mkdir() is None else place
    try:
        for name in ("same", "mode", "said"):
            for one in (lower, place):
                (one.tree / name).write_text("")
            lower.recorder.owner(lower.fd, name.encode(), 0, 42)
        os.chmod(place.tree / "mode", 0o600)
        place.recorder.say(place.fd, b"said", "owner", b"0:0")
        records = Records([place.journal, lower.journal], lowers=[str(lower.tree)])
        found = {
            name: records.of(
                place.fd, name.encode(), os.stat(place.tree / name), name.encode()
            ).owner
            for name in ("same", "mode", "said")
        }
        records.close()
        assert found == {"same": (0, 42), "mode": OWN, "said": (0, 0)}
    finally:
        os.close(lower.fd)
        lower.recorder.close()
