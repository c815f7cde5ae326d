"""rootless tag."""

from __future__ import annotations

from rootless.engine import images
from rootless.engine.context import Context
from rootless.errors import ImageNotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Give an image a further name."""
    source, target = args.args
    try:
        images.tag(Context.load(env), source, target)
    except ImageNotFoundError as error:
        raise ImageNotFoundError(error.message, exit_code=1) from None
    return 0
