"""rootless unshare."""

from __future__ import annotations

import os

from rootless.engine.context import Context
from rootless.plan import launch, tape
from rootless.runtime import realm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> NoReturn:
    """Become root of the realm's user namespace and run a program; its exit code is ours.

    This process turns into the launcher and the launcher into the program, so that the terminal, the
    signals and the exit code are the program's own.
    """
    ctx = Context.load(env)
    words = list(args.args) or [env.get("SHELL") or "/bin/sh"]
    variables = [f"{key}={value}" for key, value in env.items()]
    program = realm.memfd("tape", tape.encode(launch.unshare_tape(words, variables)))
    os.dup2(ctx.realm.user_fd, realm.USER_FD, inheritable=True)
    os.set_inheritable(program, True)
    os.execv(f"{ctx.paths.libexec}/launch", ["launch", str(program), "-1"])
