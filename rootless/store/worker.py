"""Workers: Python processes of ours in the realm, where files may belong to subordinate IDs.

A worker writes one line of JSON to descriptor 3: its result, or {"error": slug, "message", "hint"}.
Owns both ends of that line; what a worker does is its own module's affair.
"""

from __future__ import annotations

import os
import sys
import threading

from rootless import errors, jsonc
from rootless.errors import RootlessError, StorageError

from . import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Callable

    Run = Callable[[Sequence[str], Mapping[int, int], str], int]

RESULT_FD = 3
FILES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fsworker.py")
# Starting one may take another: the copy driver fills a root before a worker can run beside it.
_starting = threading.RLock()


def command(script: str, *words: str) -> list[str]:
    """The argument vector of a worker whose module lies at SCRIPT."""
    return [sys.executable, "-I", "-S", script, *words]


def run(
    argv: Sequence[str],
    start: Run,
    map_key: str,
    what: str,
    fds: Mapping[int, int] | None = None,
) -> dict[str, Any]:
    """Start a worker as root of the realm (or of a nested map), wait, and give its result back.

    WHAT ends the sentence "cannot ..." where it dies without a word.  Raises what the worker reported.
    """
    receiving, sending = os.pipe2(os.O_CLOEXEC)
    try:
        with _starting:
            pid = start(argv, {**(fds or {}), RESULT_FD: sending}, map_key)
        os.close(sending)
        sending = -1
        line = read_line(receiving)
    finally:
        os.close(receiving)
        if sending >= 0:
            os.close(sending)
    return result(line, what, wait(pid))


def read_line(fd: int) -> bytes:
    """What comes from FD up to a newline or its end."""
    line = b""
    while not line.endswith(b"\n"):
        data = os.read(fd, 65536)
        if not data:
            break
        line += data
    return line


def wait(pid: int) -> int:
    """Reap PID; its exit code, negative for a signal."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:  # not our child: the launcher cloned it for a nested map
        return 0


def result(line: bytes, what: str, status: int) -> dict[str, Any]:
    """The result in LINE; raises the error it holds, or StorageError for an empty line."""
    if not line:
        raise StorageError(f"cannot {what}: the worker process ended with status {status}")
    found: dict[str, Any] = jsonc.loads(line)
    if "error" in found:
        raise error_class(found["error"])(found["message"], hint=found["hint"])
    return found


def error_class(slug: str) -> type[RootlessError]:
    """The class of errors with that slug; StorageError for an unknown one."""
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, RootlessError) and kind.slug == slug:
            return kind
    return StorageError


def report(found: Mapping[str, Any]) -> None:
    """In the worker: tell the result."""
    files.write_all(RESULT_FD, jsonc.dumps(dict(found)).encode() + b"\n")


def report_error(error: RootlessError) -> None:
    """In the worker: tell the error."""
    report({"error": error.slug, "message": error.message, "hint": error.hint})


def sync_later(directory: int) -> None:
    """In the worker: a child waits for the disk and marks the layer in DIRECTORY; nobody waits for that."""
    if os.fork():
        return
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2, RESULT_FD):
            os.dup2(null, fd)
        os.chdir("/")
        from rootless.linux.syncfs import syncfs

        syncfs(directory)
        os.close(os.open("synced", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, dir_fd=directory))
    finally:
        os._exit(0)
