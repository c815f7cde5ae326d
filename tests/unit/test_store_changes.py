"""Comparing a writable layer with what is below it, and copying trees."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from rootless.store import changes, treecopy

Tree = dict[str, object]


def make(top: Path, tree: Tree) -> str:
    """Files by content, directories as dicts, links as ("->", target), marks as files of that name."""
    top.mkdir(exist_ok=True)
    for name, what in tree.items():
        path = top / name
        if isinstance(what, dict):
            make(path, what)
        elif isinstance(what, tuple):
            path.symlink_to(what[1])
        else:
            path.write_text(str(what))
            os.utime(path, (1, 1))
    os.utime(top, (1, 1))
    return str(top)


def found(
    upper: str, lowers: list[str], *, marks: bool = True, whole: bool = False
) -> list[tuple[str, str]]:
    directory = os.open(upper, os.O_RDONLY)
    lower = changes.open_lower(lowers, marks=marks)
    try:
        return [
            (change.kind, change.path.decode())
            for change in changes.walk(directory, lower, marks=marks, whole=whole)
        ]
    finally:
        lower.close()
        os.close(directory)


def test_marks_in_every_layer(tmp_path: Path) -> None:
    """What a middle layer deleted is new when it comes back, and is not deleted twice."""
    low = make(tmp_path / "low", {"a": "1", "b": "1", "d": {"x": "1", "y": "1"}, "e": {"z": "1"}})
    mid = make(
        tmp_path / "mid", {".wh.a": "", "d": {".wh..wh..opq": "", "new": "2"}, "e": {".wh.z": ""}}
    )
    top = make(
        tmp_path / "top",
        {
            "a": "3",
            ".wh.b": "",
            ".wh.never": "",
            "d": {"x": "3", ".wh.new": "", ".wh.y": ""},
            "e": {"z": "3"},
        },
    )
    assert found(top, [mid, low]) == [
        ("D", "/b"),
        ("A", "/a"),
        ("C", "/d"),
        ("D", "/d/new"),
        ("A", "/d/x"),
        ("C", "/e"),
        ("A", "/e/z"),
    ]


def test_opaque_directories_delete_what_was_there(tmp_path: Path) -> None:
    low = make(tmp_path / "low", {"d": {"kept": "1", "gone": "1"}, "f": "1"})
    top = make(
        tmp_path / "top", {"d": {".wh..wh..opq": "", "kept": "2"}, "f": {"now": "a directory"}}
    )
    assert found(top, [low]) == [
        ("C", "/d"),
        ("D", "/d/gone"),
        ("A", "/d/kept"),
        ("C", "/f"),
        ("A", "/f/now"),
    ]


def test_marks_are_ordinary_files_where_the_kernel_keeps_whiteouts(tmp_path: Path) -> None:
    low = make(tmp_path / "low", {"a": "1"})
    top = make(tmp_path / "top", {".wh.a": "text"})
    assert found(top, [low], marks=False) == [("A", "/.wh.a")]


def test_files_of_the_engine_are_nobodys_change(tmp_path: Path) -> None:
    low = make(tmp_path / "low", {"etc": {"passwd": "1"}})
    top = make(
        tmp_path / "top",
        {"etc": {"hosts": "", "resolv.conf": ""}, "proc": {}, "dev": {"console": ""}},
    )
    os.utime(tmp_path / "top" / "etc", (9, 9))
    assert found(top, [low]) == []
    make(tmp_path / "top" / "etc", {"hosts": "mine"})
    assert found(top, [low]) == [("C", "/etc"), ("A", "/etc/hosts")]


def test_a_whole_copy_is_compared_file_by_file(tmp_path: Path) -> None:
    low = make(
        tmp_path / "low", {"same": "1", "text": "1", "gone": "1", "l": ("->", "a"), "d": {"x": "1"}}
    )
    top = make(
        tmp_path / "top", {"same": "1", "text": "22", "l": ("->", "b"), "d": {"x": "1"}, "new": {}}
    )
    for path in ("low/l", "top/l"):
        os.utime(tmp_path / path, (1, 1), follow_symlinks=False)
    os.chmod(tmp_path / "top" / "d", stat.S_IMODE(os.stat(tmp_path / "low" / "d").st_mode) ^ 0o050)
    assert found(top, [low], marks=False, whole=True) == [
        ("D", "/gone"),
        ("C", "/d"),
        ("C", "/l"),
        ("A", "/new"),
        ("C", "/text"),
    ]


def test_copies_have_everything(tmp_path: Path) -> None:
    source = tmp_path / "source"
    make(source, {"d": {"f": "text"}, "l": ("->", "d/f")})
    os.link(source / "d" / "f", source / "second")
    os.mkfifo(source / "p")
    os.chmod(source / "p", 0o620)
    os.chmod(source / "d" / "f", 0o4750)
    os.utime(source / "d" / "f", ns=(1, 1_600_000_000_123_456_789))
    os.setxattr(source / "d", "user.x", b"value")
    os.setxattr(source / "d", "user.overlay.opaque", b"y")
    with open(source / "sparse", "wb") as file:
        file.seek(1 << 26)
        file.write(b"end")
    target = tmp_path / "target"
    target.mkdir()
    here, there = os.open(source, os.O_RDONLY), os.open(target, os.O_RDONLY)
    treecopy.TreeCopier(there).tree(here, there)
    os.close(here)
    os.close(there)
    info = os.stat(target / "d" / "f")
    assert stat.S_IMODE(info.st_mode) == 0o4750
    assert info.st_mtime_ns == 1_600_000_000_123_456_789
    assert info.st_ino == os.stat(target / "second").st_ino, "linked to each other"
    assert info.st_ino != os.stat(source / "second").st_ino, "and not to the source"
    assert stat.S_IMODE(os.stat(target / "p").st_mode) == 0o620
    assert os.readlink(target / "l") == "d/f"
    assert os.listxattr(target / "d") == ["user.x"], "what a driver keeps for itself stays"
    sparse = os.stat(target / "sparse")
    assert sparse.st_size == (1 << 26) + 3
    assert sparse.st_blocks < 1000
