"""How an error looks on a terminal: one sentence, perhaps a hint, perhaps where help is."""

from __future__ import annotations

import sys

from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless.errors import RootlessError


class CommandLineError(UsageError):
    """A command line that could not be parsed; knows the command whose help says how."""

    def __init__(self, message: str, *, where: str, hint: str = "", exit_code: int | None = None):
        super().__init__(message, hint=hint, exit_code=exit_code)
        self.where = where


def usage(error: UsageError, where: str) -> CommandLineError:
    """ERROR as a mistake in the command line of the command WHERE (empty: of rootless itself)."""
    return CommandLineError(error.message, where=where, hint=error.hint, exit_code=error.code)


def unknown_command(name: str, known: Iterable[str], group: str) -> CommandLineError:
    """The error for a command that does not exist, with the nearest one that does."""
    from . import suggest

    last = name.rpartition(" ")[2]
    found = suggest.nearest(last, [word for word in known if " " not in word])
    hint = f"did you mean '{f'{group} {found}'.strip()}'?" if found else ""
    return CommandLineError(
        f"'{name}' is not a rootless command.", where=group, hint=hint, exit_code=1
    )


def text(error: RootlessError) -> str:
    """The lines that tell a person about ERROR."""
    lines = [f"rootless: {error.message}"]
    if error.hint:
        lines.append(f"hint: {error.hint}")
    if isinstance(error, CommandLineError):
        lines.append(f"See '{f'rootless {error.where}'.strip()} --help'")
    return "\n".join(lines) + "\n"


def unexpected(error: BaseException) -> str:
    """The line for an exception nobody foresaw."""
    kind = type(error).__name__
    what = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        what = f"{error.strerror}: {error.filename}"
    detail = f" ({what.splitlines()[0][:200]})" if what.strip() else ""
    return (
        f"rootless: internal error: {kind}{detail}; "
        "please run it again with ROOTLESS_DEBUG=1 and report what it prints\n"
    )


def write(message: str) -> None:
    """Put MESSAGE on stderr, whatever bytes its names hold; a closed stderr is no further error."""
    try:
        sys.stderr.flush()
        data = message.encode("utf-8", "surrogateescape")
        raw = getattr(sys.stderr, "buffer", None)
        if raw is None:
            sys.stderr.write(message)
        else:
            raw.write(data)
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass


def traceback(error: BaseException) -> None:
    """The whole traceback, for ROOTLESS_DEBUG=1."""
    import traceback as module

    write("".join(module.format_exception(type(error), error, error.__traceback__)))
