"""The program that a monitor starts when a container has ended for good: ``aftermath.py JSON``.

Only for containers that leave something which takes Python to clear away: anonymous volumes of a --rm
container (others may have borrowed them meanwhile), and what was written over O mounts.  JSON holds ``env``
(what tells where the store is), ``volumes`` (names) and ``trees`` (directories).  What it does not get to,
as it is killed or the machine ends, the next sweep does.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..")))

from rootless import jsonc
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .context import Context

PROGRAM = os.path.abspath(__file__)
_NAMES = ("HOME", "USER", "LOGNAME", "PATH", "LANG")


def arguments(ctx: Context, volumes: Sequence[str], trees: Sequence[str]) -> list[str]:
    """The program's own arguments, for an interpreter."""
    env = {
        key: value
        for key, value in ctx.env.items()
        if key in _NAMES or key.startswith(("XDG_", "ROOTLESS_"))
    }
    work = {"env": env, "volumes": list(volumes), "trees": list(trees)}
    return ["-I", "-S", PROGRAM, jsonc.dumps(work)]


def main(argv: Sequence[str]) -> int:
    """Do what the JSON in ARGV says; 0, or 1 where something is left to the next sweep."""
    from rootless.engine import volumes
    from rootless.engine.context import Context

    work = jsonc.loads(argv[0].encode())
    try:
        ctx = Context.load(work["env"])
        ctx.remove_trees([path for path in work["trees"] if os.path.lexists(path)])
        volumes.drop(ctx, work["volumes"])
    except RootlessError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
