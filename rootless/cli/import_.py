"""rootless import."""

from __future__ import annotations

import os
import sys

from rootless.engine import commit
from rootless.engine.context import Context
from rootless.errors import RootlessError, UsageError
from rootless.store import files

from . import session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Make an image of a root filesystem's tar archive and print its ID."""
    ctx = Context.load(env)
    source = args.args[0]
    if source == "-":
        fd = os.dup(0)
    elif "://" in source:
        raise UsageError(
            f"cannot import {source}: only files and - (stdin) are read, not URLs", exit_code=1
        )
    else:
        try:
            fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise session.with_code(files.failure(f"read {source}", error), 1) from None
    try:
        image_id = commit.import_tar(
            ctx,
            lambda: os.read(fd, 1 << 18),
            args.args[1] if len(args.args) > 1 else "",
            message=str(args.get("message") or ""),
            changes=args.get("change") or [],
            platform_text=str(args.get("platform") or ""),
        )
    except RootlessError as error:
        raise session.with_code(error, 1) from None
    finally:
        os.close(fd)
    sys.stdout.write(f"{image_id}\n")
    return 0
