"""Resolving paths inside a directory: by the kernel, and by hand where it has no openat2."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rootless.linux import inroot


@pytest.fixture(params=["openat2", "walk"])
def root(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[int, Callable[..., str]]]:
    monkeypatch.setitem(inroot._state, "openat2", request.param == "openat2")
    top = tmp_path / "root"
    (top / "etc").mkdir(parents=True)
    (top / "etc" / "f").write_text("inside")
    (tmp_path / "f").write_text("outside")
    for name, target in {
        "abs": "/etc/f",
        "climb": "../../../../f",
        "dir": "etc",
        "up": "..",
        "loop": "loop",
        "host": str(tmp_path / "f"),
        "two": "dir/../abs",
        "magic": "/proc/self/cwd",
    }.items():
        (top / name).symlink_to(target)
    fd = os.open(top, os.O_RDONLY)

    def read(path: str, **options: bool) -> str:
        found = inroot.open_path(fd, path.encode(), **options)
        try:
            with open(f"/proc/self/fd/{found}", encoding="utf-8") as file:
                return file.read()
        finally:
            os.close(found)

    yield fd, read
    os.close(fd)


@pytest.mark.parametrize(
    "path", ["etc/f", "/etc/f", "abs", "dir/f", "up/etc/f", "../etc/f", "two", "dir/./f"]
)
def test_inside(root: tuple[int, Callable[..., str]], path: str) -> None:
    assert root[1](path) == "inside"


@pytest.mark.parametrize(
    "path", ["climb", "host", "up/f", "../f", "dir/../../f", "none", "magic/f"]
)
def test_nothing_outside_is_reached(root: tuple[int, Callable[..., str]], path: str) -> None:
    with pytest.raises(FileNotFoundError):
        root[1](path)


@pytest.mark.parametrize(
    ("path", "number"), [("loop", errno.ELOOP), ("etc/f/x", errno.ENOTDIR), ("abs/", errno.ENOTDIR)]
)
def test_errors_are_the_kernels(
    root: tuple[int, Callable[..., str]], path: str, number: int
) -> None:
    with pytest.raises(OSError) as caught:
        root[1](path)
    assert caught.value.errno == number


def test_a_link_itself(root: tuple[int, Callable[..., str]]) -> None:
    fd = inroot.open_path(root[0], b"climb", follow=False)
    assert os.readlink(b"", dir_fd=fd) == b"../../../../f"
    os.close(fd)
    with pytest.raises(OSError, match="NUL"):
        inroot.open_path(root[0], b"a\0b")


def test_the_root_itself(root: tuple[int, Callable[..., str]]) -> None:
    for path in (b"", b"/", b".", b"..", b"dir/.."):
        fd = inroot.open_path(root[0], path)
        assert os.path.samestat(os.fstat(fd), os.fstat(root[0])), path
        os.close(fd)
