"""Changes of files as the kernel tells them."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.linux import inotify


@pytest.fixture
def queue() -> Iterator[inotify.Inotify]:
    made = inotify.Inotify()
    yield made
    made.close()


def test_changes_of_a_directory_name_the_file(tmp_path: Path, queue: inotify.Inotify) -> None:
    watch = queue.add(
        str(tmp_path), inotify.IN_CREATE | inotify.IN_CLOSE_WRITE | inotify.IN_MOVED_TO
    )
    assert queue.read() == []
    (tmp_path / "näme").write_text("x")
    (tmp_path / "näme").rename(tmp_path / "other")
    assert select.select([queue.fd], [], [], 5)[0]
    assert queue.read() == [
        (watch, inotify.IN_CREATE, "näme"),
        (watch, inotify.IN_CLOSE_WRITE, "näme"),
        (watch, inotify.IN_MOVED_TO, "other"),
    ]


def test_many_changes_are_all_read(tmp_path: Path, queue: inotify.Inotify) -> None:
    queue.add(str(tmp_path), inotify.IN_CREATE)
    names = ["x" * length for length in range(1, 250)]
    for name in names:
        (tmp_path / name).touch()
    assert [name for _, _, name in queue.read()] == names


def test_a_file_has_one_watch(tmp_path: Path, queue: inotify.Inotify) -> None:
    watch = queue.add(str(tmp_path), inotify.IN_CREATE)
    assert queue.add(str(tmp_path), inotify.IN_CREATE) == watch
    queue.remove(watch)
    queue.remove(watch)
    assert [(mask, name) for _, mask, name in queue.read()] == [(inotify.IN_IGNORED, "")]


def test_what_is_not_there(tmp_path: Path, queue: inotify.Inotify) -> None:
    with pytest.raises(FileNotFoundError):
        queue.add(str(tmp_path / "none"), inotify.IN_CREATE)


def test_programs_do_not_inherit_it(queue: inotify.Inotify) -> None:
    assert not os.get_inheritable(queue.fd)
