"""From a command line to one verb's exit code: dispatch, global flags, and how every failure is shown.

The one place where errors become text and exit codes.  A traceback is shown only where ROOTLESS_DEBUG=1
or --debug asks for it.
"""

from __future__ import annotations

import os
import sys

from rootless.errors import RootlessError, UsageError

from . import commands, parse, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .parse import Parsed


def run(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command line WORDS (without the program's name) and give its exit code."""
    env = dict(environ)
    where = ""
    try:
        flags, rest = _global(words, env)
        if flags.help or flags.get("version") or not rest:
            return _without_command(flags, env)
        command, rest, where = _choose(rest)
        if command is None:
            return _help([where] if where else [], env)
        return _verb(command, rest, where, env)
    except RootlessError as error:
        return _show(error, env)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return _broken_pipe()
    except Exception as error:
        return _unexpected(error, env)


def _choose(rest: Sequence[str]) -> tuple[commands.Command | None, list[str], str]:
    """(command or None for a group's help, its words, the words that named it)."""
    first = rest[0]
    if first in commands.GROUPS:
        if len(rest) == 1 or rest[1] in ("--help", "-h"):
            return None, [], first
        name = f"{first} {rest[1]}"
        command = commands.find(name)
        if command is None:
            raise render.unknown_command(name, commands.subcommands(first), first)
        return command, list(rest[2:]), name
    command = commands.find(first)
    if command is None:
        raise render.unknown_command(first, [*commands.TABLE, *commands.GROUPS], "")
    return command, list(rest[1:]), first


def _verb(command: commands.Command, words: list[str], where: str, env: dict[str, str]) -> int:
    try:
        if command.cold:
            from . import clickfront

            parsed = clickfront.parse_words(command, words, where)
        else:
            parsed = parse.parse(command, words, where)
    except UsageError as error:
        raise render.usage(error, where) from None
    if parsed.help:
        return _help(where.split(), env)
    code = int(command.load()(parsed, env))
    sys.stdout.flush()
    return code


def _global(words: Sequence[str], env: dict[str, str]) -> tuple[Parsed, list[str]]:
    try:
        flags, rest = parse.split_global(words)
        _apply(flags, env)
    except UsageError as error:
        raise render.usage(error, "") from None
    return flags, rest


def _apply(flags: Parsed, env: dict[str, str]) -> None:
    """Put the global flags where everything below looks for them: the environment."""
    if flags.get("host") or flags.get("context"):
        flag = "--host" if flags.get("host") else "--context"
        raise UsageError(
            f"cannot use {flag}: rootless works on this machine only, remote engines are not supported"
        )
    for key, name in (
        ("root", "ROOTLESS_STORAGE_ROOT"),
        ("runtime_dir", "ROOTLESS_STORAGE_RUNTIME_DIR"),
        ("log_level", "ROOTLESS_LOG_LEVEL"),
        ("storage_driver", "ROOTLESS_STORAGE_DRIVER"),
        ("cgroup_manager", "ROOTLESS_CGROUP_DRIVER"),
    ):
        text = flags.get(key)
        if text is None:
            continue
        if key in ("root", "runtime_dir"):
            text = os.path.abspath(text)
        elif key == "log_level" and text not in ("debug", "info", "warn", "error", "fatal"):
            raise UsageError(f"unable to parse logging level: {text}")
        env[name] = text
    if flags.get("debug"):
        env["ROOTLESS_DEBUG"] = "1"


def _without_command(flags: Parsed, env: dict[str, str]) -> int:
    if flags.get("version") and not flags.help:
        from . import version

        sys.stdout.write(version.line() + "\n")
        sys.stdout.flush()
        return 0
    return _help([], env)


def _help(words: Sequence[str], env: Mapping[str, str]) -> int:
    from . import clickfront

    sys.stdout.write(clickfront.help_text(words, env))
    sys.stdout.flush()
    return 0


def _show(error: RootlessError, env: Mapping[str, str]) -> int:
    _flush_output()
    if env.get("ROOTLESS_DEBUG") == "1" and not isinstance(error, render.CommandLineError):
        render.traceback(error)
    render.write(render.text(error))
    return error.code


def _flush_output() -> None:
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        pass


def _broken_pipe() -> int:
    """The reader of our output is gone: say nothing, and keep the interpreter from trying again."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError:
        pass
    return 141


def _unexpected(error: Exception, env: Mapping[str, str]) -> int:
    _flush_output()
    if env.get("ROOTLESS_DEBUG") == "1":
        render.traceback(error)
    else:
        render.write(render.unexpected(error))
    return 125
