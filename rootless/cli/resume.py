"""rootless system resume; also the program that the first command of a boot starts in the background."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..")))

from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless.errors import RootlessError

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Start the containers that run again after a boot; or have that done at every boot."""
    if args.get("install") or args.get("uninstall"):
        if args.get("install") and args.get("uninstall"):
            raise UsageError("conflicting options: cannot specify both --install and --uninstall")
        from . import resumeunit

        return resumeunit.main(env, install=bool(args.get("install")))
    from rootless.engine import resume
    from rootless.engine.context import Context

    from . import session

    def tell(name: str, error: RootlessError | None) -> None:
        if error is not None:
            sys.stderr.write(f"rootless: cannot resume {name}: {error.message}\n")
        elif not args.get("quiet"):
            sys.stdout.write(f"{name}\n")

    ctx = Context.load({**env, "ROOTLESS_RUN_RESUME": "off"})  # it is we who do it
    return 0 if resume.resume(ctx, session.leave_running, tell) else 1


def background() -> int:
    """Resume as nobody's child, in a session of its own."""
    if os.fork():
        return 0
    os.setsid()
    os.chdir("/")
    from rootless.cli import front

    return front.run(["system", "resume", "--quiet"], os.environ)


if __name__ == "__main__":
    sys.exit(background())
