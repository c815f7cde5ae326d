"""The table parser: command-line words to a Parsed, with the grammar and messages of Docker's CLI.

Long flags (``--name x``, ``--name=x``, ``--rm``, ``--rm=false``), bundled short ones (``-it``, ``-eA=b``,
``-e=A=b``, ``-t=false``), ``--`` ends flags, a lone ``-`` is an argument.  A repeatable flag gathers, any
other keeps its last value.  clickfront.py parses the same table with click; a test holds both equal.
"""

from __future__ import annotations

from rootless.errors import UsageError

from . import options as tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from .commands import Command
    from .options import Option

TRUE = ("1", "t", "T", "TRUE", "true", "True")
FALSE = ("0", "f", "F", "FALSE", "false", "False")


class Parsed:
    """What one command was given.

    ``args`` are the arguments; ``command`` is the command's name, ``invoked`` the words that chose it.
    A flag's value is under its key (``read_only`` for ``--read-only``) by :meth:`get` or as attribute:
    text, int, bool, or a list for a repeatable flag; the table's default, else None, where not given.
    """

    __slots__ = ("_options", "args", "command", "help", "invoked", "values")

    def __init__(self, command: str, options: Iterable[Option], invoked: str = "") -> None:
        self.command = command
        self.invoked = invoked or command
        self.args: list[str] = []
        self.values: dict[str, Any] = {}
        self.help = False
        self._options = {option.key: option for option in options}

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a flag; DEFAULT where neither the user nor the table gives one."""
        if key in self.values:
            return self.values[key]
        option = self._options.get(key)
        if option is None or option.default is None:
            return default
        return option.default

    def given(self, key: str) -> bool:
        """Whether the user gave the flag."""
        return key in self.values

    def later(self) -> list[tuple[str, str]]:
        """The given flags that have no effect yet: (flag, why)."""
        return [
            (f"--{option.long}", option.later)
            for key, option in self._options.items()
            if option.later and self.values.get(key) not in (None, False)
        ]

    def __getattr__(self, key: str) -> Any:
        try:
            return self.get(key) if key in self._options else self.values[key]
        except KeyError:
            raise AttributeError(key) from None


def _bad(option: Option, text: str, why: str) -> UsageError:
    return UsageError(f'invalid argument "{text}" for "{option.spelling}" flag: {why}')


def value(option: Option, text: str) -> Any:
    """The value TEXT means for OPTION; raises UsageError in the words of Docker's CLI."""
    kind = option.kind
    if kind in ("str", "list"):
        return text
    if kind == "bool":
        if text in TRUE:
            return True
        if text in FALSE:
            return False
        raise _bad(option, text, f'strconv.ParseBool: parsing "{text}": invalid syntax')
    if kind == "int":
        return _integer(option, text)
    _CHECKS[kind](option, text)
    return text


def _integer(option: Option, text: str) -> int:
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()):
        raise _bad(option, text, f'strconv.ParseInt: parsing "{text}": invalid syntax')
    number = int(text)
    if not -(1 << 63) <= number < 1 << 63:
        raise _bad(option, text, f'strconv.ParseInt: parsing "{text}": value out of range')
    if number < 0 and option.metavar.startswith("uint"):
        raise _bad(option, text, f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if option.metavar == "uint16" and number > 0xFFFF:
        raise _bad(option, text, f'strconv.ParseUint: parsing "{text}": value out of range')
    return number


def _check_filter(option: Option, text: str) -> None:
    if text and "=" not in text:
        raise _bad(option, text, "bad format of filter (expected name=value)")


def _check_bytes(option: Option, text: str) -> None:
    from . import values

    if text == "-1" and option.long == "memory-swap":
        return
    try:
        values.parse_size(text)
    except ValueError as error:
        raise _bad(option, text, str(error)) from None


def _check_decimal(option: Option, text: str) -> None:
    whole, dot, part = text.partition(".")
    digits = (whole[1:] if whole[:1] in ("+", "-") else whole) + part
    if not (digits.isascii() and digits.isdigit()) or (dot and not part):
        raise _bad(option, text, f"failed to parse {text} as a rational number")


def _check_duration(option: Option, text: str) -> None:
    from . import units

    if units.parse_duration(text) is None:
        raise _bad(option, text, f'time: invalid duration "{text}"')


_CHECKS = {
    "filter": _check_filter,
    "bytes": _check_bytes,
    "decimal": _check_decimal,
    "duration": _check_duration,
}


class _Parser:
    """One run over the words of one command."""

    def __init__(self, options: Sequence[Option], interspersed: bool, parsed: Parsed) -> None:
        self.long: dict[str, Option] = {}
        self.short: dict[str, Option] = {}
        for option in options:
            self.long[option.long] = option
            for alias in option.aliases:
                self.long[alias] = option
            if option.short:
                self.short[option.short] = option
        self.interspersed = interspersed
        self.parsed = parsed

    def parse(self, words: Sequence[str]) -> int:
        """Take WORDS; gives how many were read where flags stop at the first argument."""
        at, count = 0, len(words)
        while at < count:
            word = words[at]
            at += 1
            if word == "--":
                self.parsed.args.extend(words[at:])
                return count
            if word[:1] != "-" or word == "-":
                self.parsed.args.append(word)
                if not self.interspersed:
                    self.parsed.args.extend(words[at:])
                    return at - 1
                continue
            following = words[at] if at < count else None
            took = self._long(word, following) if word[1] == "-" else self._bundle(word, following)
            at += took
        return count

    def _long(self, word: str, following: str | None) -> int:
        name, equals, text = word[2:].partition("=")
        option = self.long.get(name)
        if option is None:
            if name == "help":
                self.parsed.help = True
                return 0
            raise unknown_flag(word, self.long)
        if equals:
            self._put(option, text)
            return 0
        if option.kind == "bool":
            self._put(option, "true")
            return 0
        if following is None:
            raise UsageError(f"flag needs an argument: --{name}")
        self._put(option, following)
        return 1

    def _bundle(self, word: str, following: str | None) -> int:
        rest = word[1:]
        while rest:
            letter, tail = rest[0], rest[1:]
            option = self.short.get(letter)
            if option is None:
                if letter == "h":
                    self.parsed.help = True
                    rest = tail
                    continue
                raise UsageError(f"unknown shorthand flag: '{letter}' in -{rest}")
            if len(rest) > 2 and tail[0] == "=":
                self._put(option, tail[1:])
                return 0
            if option.kind == "bool":
                self._put(option, "true")
                rest = tail
                continue
            if tail:
                self._put(option, tail)
                return 0
            if following is None:
                raise UsageError(f"flag needs an argument: '{letter}' in -{rest}")
            self._put(option, following)
            return 1
        return 0

    def _put(self, option: Option, text: str) -> None:
        found = value(option, text)
        if option.kind in tables.REPEATABLE:
            self.parsed.values.setdefault(option.key, []).append(found)
        else:
            self.parsed.values[option.key] = found


def unknown_flag(word: str, known: Iterable[str]) -> UsageError:
    """The error for the long flag WORD (``--foo`` or ``--foo=bar``), with the nearest of KNOWN."""
    name = word[2:].partition("=")[0]
    if not name or name[0] == "-":
        return UsageError(f"bad flag syntax: {word}")
    from . import suggest

    found = suggest.nearest(name, [one.removeprefix("--") for one in known])
    return UsageError(f"unknown flag: --{name}", hint=f"did you mean --{found}?" if found else "")


def parse(command: Command, words: Sequence[str], invoked: str = "") -> Parsed:
    """What WORDS, the words after the command's name, mean; raises UsageError."""
    found = tables.options(command.option_set)
    parsed = Parsed(command.name, found, invoked)
    _Parser(found, command.interspersed, parsed).parse(words)
    if not parsed.help:
        check_count(command, parsed)
    return parsed


def check_count(command: Command, parsed: Parsed) -> None:
    """Refuse too few or too many arguments, with exit code 1 as Docker does."""
    least, most, count = command.min_args, command.max_args, len(parsed.args)
    if parsed.values.get("rootfs"):
        least = 0
    if least <= count and (most < 0 or count <= most):
        return
    if most == 0:
        wants = "accepts no arguments"
    elif least == most:
        wants = f"requires {least} argument{'s' if least > 1 else ''}"
    elif most < 0 or count < least:
        wants = f"requires at least {least} argument{'s' if least > 1 else ''}"
    else:
        wants = f"requires at most {most} argument{'s' if most > 1 else ''}"
    raise UsageError(f"'rootless {parsed.invoked}' {wants}", exit_code=1)


def split_global(words: Sequence[str]) -> tuple[Parsed, list[str]]:
    """(the global flags, the command and its words) of a whole command line."""
    found = tables.options("global")
    parsed = Parsed("", found)
    if not words or words[0][:1] != "-":
        return parsed, list(words)
    _Parser(found, False, parsed).parse(words)
    rest, parsed.args = parsed.args, []
    return parsed, rest
