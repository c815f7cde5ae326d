"""All cases, imported, and the layers that hold their objects; for the runner and for the tests' side."""

from __future__ import annotations

import tarfile
from typing import Any

from . import attributes, contents, directories, naming, opening, permissions, renaming
from .harness import CASES, ORIGINS, Case, Entry, entries_of

MODULES = (opening, naming, renaming, permissions, attributes, contents, directories)
_NUMBERS = {name: f"{number:03}" for number, name in enumerate(CASES)}
_TYPES = {"dir": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "fifo": tarfile.FIFOTYPE}
LARGE = {"many", "crowd"}
_ROOT = {"type": tarfile.DIRTYPE, "mode": 0o755}


def number(name: str) -> str:
    """The case's directory: short, since paths of sockets are."""
    return _NUMBERS[name]


def origins(one: Case) -> tuple[str, ...]:
    """The origins that make sense: without objects there are two kinds of directory to be in."""
    if not one.needs:
        return ORIGINS[:2]
    if "many" in one.needs:  # too many to be made again and again
        return ORIGINS[2:3]
    return ORIGINS[:3] if "crowd" in one.needs else ORIGINS


def member(where: str, entry: Entry) -> tuple[str, dict[str, Any]]:
    """An entry as stacks.archive() takes it."""
    fields: dict[str, Any] = {"mode": entry.mode, "uid": entry.uid, "gid": entry.gid}
    if entry.kind == "hardlink":
        target = f"{where.rpartition('/')[0]}/{entry.data.decode()}"
        fields.update(type=tarfile.LNKTYPE, linkname=target.lstrip("/"))
    elif entry.kind == "symlink":
        fields.update(type=tarfile.SYMTYPE, linkname=entry.data.decode())
    elif entry.kind == "file":
        fields["data"] = entry.data
    else:
        fields["type"] = _TYPES[entry.kind]
    if entry.xattrs:
        fields["pax_headers"] = {
            f"SCHILY.xattr.{name}": value.decode("latin-1") for name, value in entry.xattrs
        }
    return where, fields


def layers() -> list[list[tuple[str, dict[str, Any]]]]:
    """Members of the two layers, the lower one first.

    What comes from "both" is a file with other content in the lower layer; a directory is in both, its
    children in the upper or, with even numbers, in the lower; one more child is hidden by a whiteout.
    """
    lower: list[tuple[str, dict[str, Any]]] = []
    upper: list[tuple[str, dict[str, Any]]] = []
    for origin in ORIGINS[1:]:
        upper.append((origin, dict(_ROOT)))
    lower.append(("both", dict(_ROOT)))
    for name, one in CASES.items():
        for origin in origins(one):
            if origin == "fresh":
                continue
            where = f"{origin}/{number(name)}"
            upper.append((where, dict(_ROOT)))
            upper += [
                member(f"{where}/{path}", entry)
                for path, entry in entries_of(one).items()
                if not (origin == "both" and _split(path))
            ]
            if origin == "both":
                lower.append((where, dict(_ROOT)))
                for path, entry in entries_of(one).items():
                    low, high = _hidden(where, path, entry)
                    lower += low
                    upper += high
    return [lower, upper]


def _split(path: str) -> bool:
    """Whether an object of "both" is in the lower layer alone."""
    name = path.rpartition("/")[2]
    return path == "full/sub" or (
        path.partition("/")[0] in LARGE and "/" in path and int(name[-5:]) % 2 == 0
    )


def _hidden(where: str, path: str, entry: Entry) -> tuple[list[Any], list[Any]]:
    """What the lower layer has at PATH, and what the upper needs for that."""
    at = f"{where}/{path}"
    if entry.kind == "dir":
        if path in LARGE or path.startswith("full/"):
            return [member(at, entry)], []
        ghost = [member(at, entry), (f"{at}/ghost", {"data": b"ghost"})]
        return ghost, [(f"{at}/.wh.ghost", {"data": b""})]
    if path.partition("/")[0] in LARGE:
        return ([member(at, entry)], []) if _split(path) else ([], [])
    return [(at, {"data": b"hidden below", "mode": 0o604})], []
