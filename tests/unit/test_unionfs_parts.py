"""The small parts of the union filesystem: owners, limit, marks, work directory, arguments."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rootless.drivers.snapshot.unionfs import calls, marks, operations, server
from rootless.drivers.snapshot.unionfs.binding import load
from rootless.drivers.snapshot.unionfs.owners import Owners, extents
from rootless.drivers.snapshot.unionfs.quota import Quota, measure
from rootless.drivers.snapshot.unionfs.work import Work
from rootless.errors import HostError, StorageError

Opener = Callable[[Path], int]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens directories, until the end of the test."""
    fds: list[int] = []

    def open_one(path: Path) -> int:
        fds.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        return fds[-1]

    yield open_one
    for fd in fds:
        os.close(fd)


def test_owners() -> None:
    maps = Owners(extents("0:1:1000,1000:0:1"), extents(""))
    assert maps
    assert not Owners()
    assert [maps.uid.shown(number) for number in (0, 999, 1000, 1001)] == [1, 1000, 0, 65534]
    assert maps.stored(0, 77) == (1000, 77)
    assert maps.stored(-1, -1) == (-1, -1)
    with pytest.raises(OSError) as caught:
        maps.stored(5000, 0)
    assert caught.value.errno == errno.EINVAL


def test_quota() -> None:
    quota = Quota(100, 90)
    quota.check(10)
    quota.check(-1000)
    with pytest.raises(OSError) as caught:
        quota.check(11)
    assert caught.value.errno == errno.ENOSPC
    quota.add(-50)
    assert (quota.used, quota.free) == (40, 60)
    assert not Quota(0)
    Quota(0).check(1 << 60)


def test_what_a_layer_holds_is_counted_once(tmp_path: Path, opened: Opener) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(bytes(1000))
    os.link(tmp_path / "d" / "f", tmp_path / "g")
    os.symlink("x" * 100, tmp_path / "l")
    assert measure(opened(tmp_path)) == 1000


@pytest.mark.parametrize("kind", ["overlay", "files"])
def test_marks(tmp_path: Path, opened: Opener, kind: str) -> None:
    layer_marks, fd = marks.of(kind), opened(tmp_path)
    (tmp_path / "work").mkdir()
    work = Work(opened(tmp_path / "work"))
    (tmp_path / "d").mkdir()
    assert not layer_marks.is_opaque(fd, b"d")
    layer_marks.set_opaque(fd, b"d")
    assert layer_marks.is_opaque(fd, b"d")
    assert not layer_marks.whited_out(fd, b"x")
    layer_marks.hide(fd, b"x")
    assert layer_marks.whited_out(fd, b"x")
    (tmp_path / "f").write_text("")
    layer_marks.replace(fd, b"f", work)
    assert layer_marks.whited_out(fd, b"f")
    (tmp_path / "g").write_text("g")
    layer_marks.move(fd, b"g", fd, b"h")
    assert layer_marks.whited_out(fd, b"g")
    assert (tmp_path / "h").read_text() == "g"
    assert layer_marks.reserved(b".wh.x") == (kind == "files")
    assert os.listdir(tmp_path / "work") == []


def test_overlay_moves_where_rename_takes_no_flags(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = calls.rename

    def plain(old_fd: int, old: bytes, new_fd: int, new: bytes, flags: int = 0) -> None:
        if flags:
            raise OSError(errno.EINVAL, "no flags")
        real(old_fd, old, new_fd, new)

    monkeypatch.setattr(calls, "rename", plain)
    layer_marks, fd = marks.of("overlay"), opened(tmp_path)
    (tmp_path / "g").write_text("g")
    layer_marks.move(fd, b"g", fd, b"h")
    assert layer_marks.whited_out(fd, b"g")
    (tmp_path / "work").mkdir()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_text("")
    with Work(opened(tmp_path / "work")).made(layer_marks.hide) as made:
        made.exchange(fd, b"d")
    assert layer_marks.whited_out(fd, b"d")
    assert os.listdir(tmp_path / "work") == []


def test_what_is_made_and_not_wanted_goes(tmp_path: Path, opened: Opener) -> None:
    tmp_path = tmp_path / "work"
    tmp_path.mkdir()
    work = Work(opened(tmp_path))
    with pytest.raises(KeyError), work.made(lambda fd, name: os.mkdir(name, dir_fd=fd)) as made:
        (tmp_path / os.fsdecode(made.name) / "deep").mkdir()
        raise KeyError
    assert os.listdir(tmp_path) == []

    def half(fd: int, name: bytes) -> None:
        os.mkdir(name, dir_fd=fd)
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        work.made(half)
    assert os.listdir(tmp_path) == []
    os.symlink("/", tmp_path / "#7")
    (tmp_path / "#8" / "d").mkdir(parents=True)
    work.sweep()
    assert os.listdir(tmp_path) == []
    assert os.path.isdir("/")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lower=/x", "stray"], "'stray' is no argument"),
        (["--lower=/x", "--colour=red"], "unknown argument --colour"),
        (["--lower=/x", "--format=zfs"], "unknown layer format 'zfs'"),
        (["--upper=/x"], "a writable tree needs --work"),
        ([], "there are no layers"),
        (["--lower=/x", "--size=much"], "invalid literal"),
        (["--lower=/nowhere/x"], "cannot open layer /nowhere/x"),
    ],
)
@pytest.mark.requires("fuse")
def test_a_bad_start_is_one_line(
    words: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert server.main(words) == 1
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("rootless: cannot ")
    assert message in said


def test_arguments() -> None:
    words = ["--fd=3", "--target=/m", "--upper=/u", "--work=/w", "--lower=/1", "--lower=/2"]
    found = server.Arguments([*words, "--size=5", "--uidmap=0:1:2", "--site=/a=b"])
    assert (found.fd, found.upper, found.lowers, found.size) == (3, "/u", ["/1", "/2"], 5)
    assert (found.uidmap, found.sites) == ("0:1:2", ["/a=b"])
    with pytest.raises(StorageError):
        server.Arguments(["--lower"])


def test_no_library_is_a_clear_error() -> None:
    with pytest.raises(KeyError):
        load("4")
    binding = __import__("rootless.drivers.snapshot.unionfs.binding", fromlist=["x"])
    sonames = binding.SONAMES
    try:
        binding.SONAMES = {"3": ("libnothing.so.9",), "2": ()}
        with pytest.raises(HostError, match="cannot load libfuse 3 or 2 through mfusepy or fusepy"):
            load()
    finally:
        binding.SONAMES = sonames


class Replies:
    """Stands for libfuse."""

    def __init__(self) -> None:
        self.said: list[tuple[int, int]] = []

    def reply_err(self, request: int, number: int) -> None:
        self.said.append((request, number))


@pytest.mark.parametrize(
    ("problem", "number", "line"),
    [
        (OSError(errno.ENOSPC, "full"), errno.ENOSPC, ""),
        (OSError("no number"), errno.EIO, ""),
        (MemoryError(), errno.ENOMEM, ""),
        (ZeroDivisionError("oh"), errno.EIO, "cannot answer fails: ZeroDivisionError: oh"),
    ],
)
def test_whatever_goes_wrong_is_answered(problem: Exception, number: int, line: str) -> None:
    replies, lines = Replies(), []

    def fails(_request: int) -> None:
        raise problem

    operations.guarded(replies, fails, lines.append)(7)  # type: ignore[arg-type]
    assert replies.said == [(7, number)]
    assert lines == ([line] if line else [])
