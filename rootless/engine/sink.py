"""A file that appears under its name when all of it is written, or not at all."""

from __future__ import annotations

import os

from rootless.errors import UsageError
from rootless.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable


def write(path: str, produce: Callable[[int], Any], mode: int = 0o600) -> None:
    """Call PRODUCE with a descriptor of a file that becomes PATH; what lies there is replaced at the end.

    A pipe or a device is written as it is.  Raises UsageError for a directory, and what PRODUCE
    raises; then PATH is as it was.
    """
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
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
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
