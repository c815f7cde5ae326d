"""What a build is made from: the directory of the context, its ignore file, the Dockerfile."""

from __future__ import annotations

import os
import sys

from rootless.builder import patterns
from rootless.errors import BuildError, UsageError
from rootless.store import files

MAX_DOCKERFILE = 8 << 20
NAMES = ("Dockerfile", "dockerfile", "Containerfile")


class BuildContext:
    """DIRECTORY is read in place; "" for none (a Dockerfile from stdin).  IGNORED are patterns."""

    __slots__ = ("directory", "ignored", "name", "text")

    def __init__(self, directory: str, name: str, text: str, ignored: list[str]) -> None:
        self.directory = directory
        self.name = name
        self.text = text
        self.ignored = ignored


def load(where: str, file: str = "") -> BuildContext:
    """The context WHERE, with the Dockerfile FILE ("" for the usual name, "-" for stdin).

    Raises UsageError for what is no directory, BuildError where there is no Dockerfile.
    """
    if where == "-":
        if file and file != "-":
            raise UsageError("cannot use -f with a Dockerfile from stdin", exit_code=1)
        data = _limited(sys.stdin.buffer.read(MAX_DOCKERFILE + 1), "stdin")
        if b"\0" in data:
            raise UsageError(
                "cannot read a context from stdin: archives are not there yet, only a Dockerfile",
                exit_code=1,
            )
        return BuildContext("", "Dockerfile", _text(data, "stdin"), [])
    if "://" in where or where.startswith(("git@", "github.com/")):
        raise UsageError(
            f"cannot use context {where}: only directories and - are there yet, not URLs or git",
            exit_code=1,
        )
    directory = os.path.abspath(where)
    if not os.path.isdir(directory):
        raise UsageError(
            f'unable to prepare context: path "{where}" is not a directory or not there',
            exit_code=1,
        )
    if file == "-":
        data = _limited(sys.stdin.buffer.read(MAX_DOCKERFILE + 1), "stdin")
        return BuildContext(directory, "Dockerfile", _text(data, "stdin"), _ignored(directory, ""))
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
        directory, shown, _text(_limited(data, shown), shown), _ignored(directory, path)
    )


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


def _ignored(directory: str, dockerfile: str) -> list[str]:
    """The patterns of <Dockerfile>.dockerignore, else of .dockerignore (or .containerignore)."""
    places = [f"{dockerfile}.dockerignore"] if dockerfile else []
    places += [f"{directory}/.dockerignore", f"{directory}/.containerignore"]
    for path in places:
        try:
            data = files.read(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise BuildError(f"cannot read {path}: {files.reason(error)}") from None
        found = patterns.read_ignore(_text(data, path))
        try:
            patterns.Matcher(found)
        except ValueError as error:
            raise BuildError(f"cannot read {path}: {error}") from None
        return found
    return []
