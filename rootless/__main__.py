"""The command `rootless`: argv to one verb, and nothing else."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name) and give its exit code."""
    from rootless.cli import front

    return front.run(sys.argv[1:] if argv is None else argv, os.environ)


def script() -> None:
    """Run this process's command line and leave with its exit code, without tearing down modules."""
    try:
        code = main()
    except KeyboardInterrupt:
        code = 130
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        code = code or 1
    os._exit(code)


if __name__ == "__main__":
    script()
