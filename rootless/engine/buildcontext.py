"""What a build is made from: the directory of the context, its ignore file, the Dockerfile.

A directory of the caller's is read where it is.  Archives, URLs and repositories are fetched (buildremote.py)
and are hostile: their links are resolved inside of them.
"""

from __future__ import annotations

import itertools
import os
import stat
import sys

from rootless.builder import patterns, remotes
from rootless.errors import BuildError, UsageError
from rootless.linux import inroot
from rootless.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .buildremote import Fetcher

MAX_DOCKERFILE = 8 << 20
NAMES = ("Dockerfile", "dockerfile", "Containerfile")
IGNORE_FILES = (".dockerignore", ".containerignore")


class BuildContext:
    """DIRECTORY is read in place; "" for none (a Dockerfile alone).  IGNORED are patterns of its ignore file.

    fetched  the directory is what came from elsewhere: none of its links leads out, and modes are its own
    """

    __slots__ = ("directory", "fetched", "ignored", "name", "text")

    def __init__(
        self, directory: str, name: str, text: str, ignored: list[str], *, fetched: bool = False
    ) -> None:
        self.directory = directory
        self.name = name
        self.text = text
        self.ignored = ignored
        self.fetched = fetched


def load(where: str, file: str, fetcher: Fetcher, *, keep_git_dir: bool = False) -> BuildContext:
    """The context WHERE, with the Dockerfile FILE ("" for the usual name, "-" for stdin, or a URL).

    Raises UsageError for what is no context, BuildError where there is no Dockerfile, and what fetching raises.
    """
    if where == "-":
        return _from_stdin(file, fetcher)
    if os.path.isdir(where):  # before anything else that the word might mean
        return _local(os.path.abspath(where), file, fetcher)
    source = remotes.git(where, local=True)
    if source is not None:
        source.keep_git_dir = source.keep_git_dir or keep_git_dir
        return _held(fetcher.tree(fetcher.git(source, own=True)), file, fetcher)
    if remotes.is_http(where):
        directory, data = fetcher.url(where)
        if directory:
            return _held(directory, file, fetcher)
        if file and file != "-":
            raise UsageError("cannot use -f with a Dockerfile from a URL", exit_code=1)
        name = remotes.without_password(where)
        return BuildContext("", "Dockerfile", _text(_limited(data, name), name), [])
    raise UsageError(
        f'unable to prepare context: path "{where}" is not a directory or not there', exit_code=1
    )


def _from_stdin(file: str, fetcher: Fetcher) -> BuildContext:
    """An archive, or a Dockerfile without a context."""
    from .buildremote import HEAD, is_archive

    stdin: Any = sys.stdin.buffer
    head = stdin.read(HEAD)
    if is_archive(head):
        if file == "-":
            raise UsageError(
                "invalid argument: can't use stdin for both build context and dockerfile",
                exit_code=1,
            )
        rest = itertools.chain([head], iter(lambda: stdin.read1(1 << 18), b""))
        return _held(fetcher.unpack(rest), file, fetcher)
    if file and file != "-":
        raise UsageError("cannot use -f with a Dockerfile from stdin", exit_code=1)
    data = head + stdin.read(MAX_DOCKERFILE + 1 - len(head))
    if b"\0" in data:
        raise UsageError(
            "cannot read a context from stdin: it is neither an archive nor a Dockerfile",
            exit_code=1,
        )
    return BuildContext("", "Dockerfile", _text(_limited(data, "stdin"), "stdin"), [])


def _elsewhere(file: str, fetcher: Fetcher) -> str | None:
    """The text of a Dockerfile that is in no context: from stdin, or of a URL; None for a path."""
    if file == "-":
        return _text(_limited(sys.stdin.buffer.read(MAX_DOCKERFILE + 1), "stdin"), "stdin")
    if remotes.is_http(file):
        found = fetcher.http.ready(fetcher.http.find(file))
        with open(found.path, "rb") as data:
            name = remotes.without_password(file)
            return _text(_limited(data.read(MAX_DOCKERFILE + 1), name), name)
    return None


def _local(directory: str, file: str, fetcher: Fetcher) -> BuildContext:
    text = _elsewhere(file, fetcher)
    if text is not None:
        return BuildContext(directory, "Dockerfile", text, ignored(directory))
    path = os.path.abspath(file) if file else _usual(directory)
    try:
        data = files.read(path)
    except OSError as error:
        raise BuildError(
            f"cannot read Dockerfile {file or path}: {files.reason(error)}",
            hint="name it with -f, or put a Dockerfile into the context",
        ) from None
    name = os.path.relpath(path, directory)
    shown = name if not name.startswith("..") else file
    return BuildContext(
        directory, shown, _text(_limited(data, shown), shown), ignored(directory, path)
    )


def _held(directory: str, file: str, fetcher: Fetcher) -> BuildContext:
    """A context that came from elsewhere: FILE is in it, and no link leads out of it."""
    text = _elsewhere(file, fetcher)
    if text is not None:
        return BuildContext(directory, "Dockerfile", text, held_ignored(directory), fetched=True)
    for name in [os.path.normpath(f"/{file}").lstrip("/")] if file else NAMES:
        data = _held_file(directory, name)
        if data is not None:
            text = _text(_limited(data, name), name)
            return BuildContext(directory, name, text, held_ignored(directory, name), fetched=True)
    raise BuildError(
        f"cannot read Dockerfile {file or NAMES[0]}: the context does not have it",
        hint="name it with -f",
    )


def _held_file(directory: str, name: str) -> bytes | None:
    """The first bytes of a file of a context that is not the caller's; None where there is none."""
    top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = inroot.open_path(top, os.fsencode(name), os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BuildError(f"cannot read {name}: {files.reason(error)}") from None
    finally:
        os.close(top)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BuildError(f"cannot read {name}: it is no file")
        return file.read(MAX_DOCKERFILE + 1)


def held_ignored(directory: str, dockerfile: str = "") -> list[str]:
    """What ignored() gives, of a directory that is not the caller's: no link leads out of it."""
    for name in [f"{dockerfile}.dockerignore"] * bool(dockerfile) + list(IGNORE_FILES):
        data = _held_file(directory, name)
        if data is not None:
            return _patterns(_limited(data, name), name)
    return []


def _usual(directory: str) -> str:
    for name in NAMES:
        if os.path.exists(f"{directory}/{name}"):
            return f"{directory}/{name}"
    return f"{directory}/{NAMES[0]}"


def _limited(data: bytes, name: str) -> bytes:
    if len(data) > MAX_DOCKERFILE:
        raise BuildError(f"cannot read Dockerfile {name}: it is larger than {MAX_DOCKERFILE} bytes")
    return data


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BuildError(
            f"cannot read Dockerfile {name}: byte {error.start} is not UTF-8"
        ) from None


def ignored(directory: str, dockerfile: str = "") -> list[str]:
    """The patterns of <Dockerfile>.dockerignore, else of .dockerignore (or .containerignore)."""
    places = [f"{dockerfile}.dockerignore"] if dockerfile else []
    places += [f"{directory}/{name}" for name in IGNORE_FILES]
    for path in places:
        try:
            data = files.read(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise BuildError(f"cannot read {path}: {files.reason(error)}") from None
        return _patterns(data, path)
    return []


def _patterns(data: bytes, name: str) -> list[str]:
    found = patterns.read_ignore(_text(data, name))
    try:
        patterns.Matcher(found)
    except ValueError as error:
        raise BuildError(f"cannot read {name}: {error}") from None
    return found
