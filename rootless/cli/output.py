"""A tar stream to a file or to stdout, for the verbs that make one (export, volume export, save)."""

from __future__ import annotations

import os

from rootless.engine import sink
from rootless.errors import UsageError

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
    sink.write(path, produce)
