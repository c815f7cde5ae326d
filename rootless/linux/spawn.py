"""Starting a program with exactly the descriptors it is given.

os.posix_spawn closes nothing by itself: Python's own descriptors are close-on-exec (PEP 446), so the child
has those in the table and no others.
"""

from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def spawn(argv: Sequence[str], fds: Mapping[int, int], env: Mapping[str, str]) -> int:
    """Start ARGV[0] (a path) and give its pid; raises OSError if it cannot be executed.

    FDS maps the child's descriptor numbers to ours; 0, 1 and 2 are inherited unless named.
    """
    top = max(fds, default=2) + 1
    copies = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, top) for number, fd in fds.items()}
    try:
        actions = [(os.POSIX_SPAWN_DUP2, copy, number) for number, copy in copies.items()]
        return os.posix_spawn(argv[0], list(argv), dict(env), file_actions=actions)
    finally:
        for copy in copies.values():
            os.close(copy)
