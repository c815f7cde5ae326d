"""rootless help."""

from __future__ import annotations

import sys

from . import clickfront

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Print the help page of a command, or the overview."""
    sys.stdout.write(clickfront.help_text(args.args, env))
    return 0
