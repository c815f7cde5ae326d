"""The process that does a build's work on files, as root of the containers' IDs: ``worker.py VERB OPTIONS...``

    copy --root=DIRECTORY --journal=FILE   copy into the root as the JSON on descriptor 0 says
    digest                                 the digest of what a COPY chooses, as the same JSON says
    pack OPTIONS                           a writable layer as a layer's blob, to descriptor 1
    export --root=DIRECTORY OPTIONS        all of the root as a tar archive, to descriptor 1
    unpack --root=DIRECTORY                an archive on descriptor 0, a build context, below the directory

The JSON: {"sources": [{"root", "title", "paths", "ignored"}], "inline": [[name, content]], "dest", "chown",
"chmod", "excludes", "parents", "unpack"} or {"mkdir": path, "chown"}.  A source with "name" has one path
that is no pattern, and is called that; one with "unpack" has its own; digests leave owners out with "owners"
false.  Pack takes --upper, --lower (several, topmost first), --format, --whole, --marks, --journal, --epoch
and --compression; export --lower, --journal and --epoch; all --site (where libraries for compression may be).
The result is one line of JSON on descriptor 3.
"""

from __future__ import annotations

import _signal
import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..")))

from rootless import jsonc
from rootless.errors import BuildError, RootlessError
from rootless.store import files, worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.builder.copying import Copier, Root
    from rootless.builder.tree import Found, Tree


def main(argv: list[str]) -> int:
    """Work as ARGV says; 0, or 1 if an error was reported."""
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    os.umask(0)
    options: dict[str, list[str]] = {}
    for word in argv[1:]:
        key, _, value = word[2:].partition("=")
        options.setdefault(key, []).append(value)
    sys.path.extend(options.pop("site", ()))
    try:
        result = VERBS[argv[0]](options)
    except RootlessError as error:
        worker.report_error(error)
        return 1
    except OSError as error:
        worker.report_error(files.failure(f"{argv[0]} files of a build", error))
        return 1
    worker.report(result)
    return 0


def _request() -> dict[str, Any]:
    parts: list[bytes] = []
    while True:
        data = os.read(0, 1 << 18)
        if not data:
            return dict(jsonc.loads(b"".join(parts)))
        parts.append(data)


def _chosen(wanted: dict[str, Any]) -> list[tuple[Tree, list[Found], bool]]:
    """(tree, what of it, whether archives of it are unpacked) of each source."""
    from rootless.builder.tree import Tree

    chosen = []
    for source in wanted["sources"]:
        tree = Tree(source["root"], source["ignored"], source["title"])
        if "name" in source:
            found = [tree.named(source["paths"][0], source["name"])]
        else:
            found = [
                one
                for path in source["paths"]
                for one in tree.find(path, parents=bool(wanted.get("parents")))
            ]
        chosen.append((tree, found, bool(source.get("unpack", wanted.get("unpack")))))
    return chosen


def _digest(_: dict[str, list[str]]) -> dict[str, Any]:
    from rootless.builder.tree import Digests, digest

    wanted = _request()
    known = Digests()
    parts = [
        digest(tree, found, known, wanted["excludes"], owners=wanted.get("owners", True))
        for tree, found, _ in _chosen(wanted)
    ]
    return {"digest": "-".join(parts)}


def _copy(options: dict[str, list[str]]) -> dict[str, Any]:
    from rootless.builder.copying import Copier, Mode, Root

    wanted = _request()
    root = Root(options["root"][0], options["journal"][0])
    owner = root.owner(wanted["chown"]) if wanted.get("chown") else None
    if "mkdir" in wanted:
        os.close(root.directory(wanted["mkdir"], owner or (0, 0))[0])
        root.close()
        return {}
    mode = Mode(wanted["chmod"]) if wanted.get("chmod") else None
    _into(root, Copier(root, owner, mode), wanted)
    if wanted["inline"]:
        _inline(root, wanted, owner or (0, 0), mode.of(0o644, directory=False) if mode else 0o644)
    root.close()
    return {}


def _into(root: Root, copier: Copier, wanted: dict[str, Any]) -> None:
    from rootless.builder.patterns import Matcher

    dest = wanted["dest"]
    chosen = _chosen(wanted)
    excludes = Matcher(wanted["excludes"]) if wanted["excludes"] else None
    several = sum(len(found) for _, found, _ in chosen) > 1
    files_found = any(not one.directory for _, found, _ in chosen for one in found)
    if several and files_found and not dest.endswith("/"):
        there = root.lookup(dest)
        if there is None or there.st_mode & 0o170000 != 0o040000:
            raise BuildError(
                f"cannot copy several files to {dest}: the destination must be a directory and end with a /"
            )
    for tree, found, unpack in chosen:
        for one in found:
            copier.found(tree, one, dest, excludes, unpack=unpack)


def _inline(root: Root, wanted: dict[str, Any], owner: tuple[int, int], mode: int) -> None:
    """Files whose content the Dockerfile has."""
    for name, content in wanted["inline"]:
        dest = wanted["dest"]
        there = root.lookup(dest)
        if dest.endswith("/") or (there is not None and there.st_mode & 0o170000 == 0o040000):
            dest = f"{dest.rstrip('/')}/{name}"
        head, _, base = dest.rpartition("/")
        fd, _ = root.directory(head, owner)
        try:
            try:
                os.unlink(base, dir_fd=fd)
            except FileNotFoundError:
                pass
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(base, flags, 0o600, dir_fd=fd)
            try:
                files.write_all(file, content.encode("utf-8", "surrogateescape"))
            finally:
                os.close(file)
            root.own(fd, base, owner)
            os.chmod(base, mode, dir_fd=fd)
            if wanted.get("epoch") is not None:
                os.utime(base, (wanted["epoch"], wanted["epoch"]), dir_fd=fd)
        finally:
            os.close(fd)


def _pack(options: dict[str, list[str]]) -> dict[str, Any]:
    from rootless.builder.packing import pack

    return pack(options)


def _export(options: dict[str, list[str]]) -> dict[str, Any]:
    from rootless.builder.packing import export

    return export(options)


def _unpack(options: dict[str, list[str]]) -> dict[str, Any]:
    from rootless.builder.copying import unpack

    return unpack(options["root"][0])


VERBS = {"copy": _copy, "digest": _digest, "pack": _pack, "export": _export, "unpack": _unpack}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
