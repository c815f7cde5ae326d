"""rootless rmi."""

from __future__ import annotations

import sys

from rootless.engine import garbage, images, listing
from rootless.engine.context import Context
from rootless.errors import ImageNotFoundError, RootlessError

from . import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Remove images: names first, and what no name is left for."""
    ctx = Context.load(env)
    force = bool(args.get("force"))
    users = listing.users_of_images(ctx)
    code = 0
    freed = False
    for reference in args.args:
        try:
            untagged, deleted = images.remove(ctx, reference, force=force, users=users)
        except RootlessError as error:
            render.write(render.text(error))
            if not (force and isinstance(error, ImageNotFoundError)):
                code = 1
            continue
        freed = freed or bool(deleted)
        lines = [f"Untagged: {name}" for name in untagged]
        lines += [f"Deleted: {digest}" for digest in deleted]
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
    if freed:
        garbage.collect(ctx)
    return code
