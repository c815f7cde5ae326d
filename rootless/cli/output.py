"""A tar stream to a file or to stdout, for the verbs that make one (export, volume export, save)."""

from __future__ import annotations

import os

from rootless.errors import UsageError
from rootless.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable


def write(path: str, produce: Callable[[int], Any]) -> None:
    """Call PRODUCE with a descriptor: of stdout where PATH is "", else of a file that appears when whole.

    Raises UsageError for a terminal, and what PRODUCE raises; then PATH is as it was.
    """
    if path in ("", "-"):
        if os.isatty(1):
            raise UsageError(
                "cowardly refusing to save to a terminal. Use the -o flag or redirect", exit_code=1
            )
        produce(1)
        return
    if os.path.exists(path) and not os.path.isfile(path):
        if os.path.isdir(path):
            raise UsageError(f"cannot write {path}: it is a directory", exit_code=1)
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # a pipe or a device
        try:
            produce(fd)
        finally:
            os.close(fd)
        return
    directory = os.path.dirname(path) or "."
    temporary = os.path.join(directory, f".{os.path.basename(path)}.{os.getpid()}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise files.failure(f"write {path}", error) from None
    try:
        try:
            produce(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        files.unlink(temporary)
        raise
