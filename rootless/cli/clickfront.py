"""click over the same table: help pages, and the parser of the cold commands.

COLD: importing click costs 24-40 ms, so no hot verb comes here but for its help page.  The commands
are made from commands.py and options.py; nothing is declared twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless.errors import UsageError

from . import cold, commands, parse, render
from . import options as tables

cold.enable("click")

import click  # noqa: E402  (found only now)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HELP = ("help", "", "bool", "", "Show this page")
ROOT_SUMMARY = "A Docker-compatible container engine that never needs root"


class _Value(click.ParamType):  # type: ignore[type-arg]
    """Converts by the table's own rules, so that values and messages are the hot parser's."""

    name = "value"

    def __init__(self, option: tables.Option) -> None:
        self.option = option

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:  # noqa: ARG002
        """The value as the table wants it; raises UsageError."""
        return parse.value(self.option, value) if isinstance(value, str) else value


def _make_pflag_like(parser: Any) -> Any:
    """Teach click's parser what Go's flag grammar has more: ``--flag=false`` and ``-e=value``."""
    base: Any = type(parser)

    class Parser(base):  # type: ignore[misc]
        def _take(self, option: Any, text: str, state: Any) -> None:
            """One value of one flag, refused at once where it is bad, as pflag does."""
            value = parse.value(option.obj.type.option, text)
            if option.takes_value:
                option.process(value, state)
            else:
                state.opts[option.dest] = value
                state.order.append(option.obj)

        def _match_long_opt(self, opt: str, explicit_value: Any, state: Any) -> None:
            option = self._long_opt.get(opt)
            if option is None:
                if opt[:2] == "--":
                    tail = "" if explicit_value is None else f"={explicit_value}"
                    raise parse.unknown_flag(opt + tail, self._long_opt)
                super()._match_long_opt(opt, explicit_value, state)
            elif explicit_value is not None or not option.takes_value:
                self._take(option, "true" if explicit_value is None else explicit_value, state)
            elif state.rargs:
                self._take(option, state.rargs.pop(0), state)
            else:
                raise UsageError(f"flag needs an argument: {opt}")

        def _match_short_opt(self, arg: str, state: Any) -> None:
            rest = arg[1:]
            while rest:
                option = self._short_opt.get(f"-{rest[0]}")
                if option is None:
                    raise UsageError(f"unknown shorthand flag: '{rest[0]}' in -{rest}")
                if len(rest) > 2 and rest[1] == "=":
                    self._take(option, rest[2:], state)
                    return
                if option.takes_value:
                    if rest[1:]:
                        self._take(option, rest[1:], state)
                    elif state.rargs:
                        self._take(option, state.rargs.pop(0), state)
                    else:
                        raise UsageError(f"flag needs an argument: '{rest[0]}' in -{rest}")
                    return
                self._take(option, "true", state)
                rest = rest[1:]

    parser.__class__ = Parser
    return parser


class TableCommand(click.Command):
    """A click command made from one row of the command table."""

    def __init__(self, command: commands.Command) -> None:
        self.row = command
        self.table = tables.options(command.option_set)
        params: list[click.Parameter] = [_click_option(option) for option in self.table]
        params.append(_help_option(self.table))
        params.append(click.Argument(["args"], nargs=-1, type=click.UNPROCESSED))
        super().__init__(
            command.name,
            params=params,
            help=command.summary,
            short_help=command.summary,
            add_help_option=False,
            context_settings={"allow_interspersed_args": command.interspersed},
        )

    def make_parser(self, ctx: click.Context) -> Any:
        """click's parser with Go's grammar."""
        return _make_pflag_like(super().make_parser(ctx))

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The page that --help prints."""
        name = (ctx.obj or {}).get("invoked") or self.row.name
        formatter.write(f"Usage:  rootless {name} {self.row.usage}\n\n{self.row.summary}\n")
        names = self.row.aliases
        if names:
            spelled = ", ".join(f"rootless {n}" for n in sorted([*names, self.row.name]))
            formatter.write(f"\nAliases:\n  {spelled}\n")
        rows = [(_flag_cell(o), _help_cell(o)) for o in self.table]
        if rows:
            formatter.write("\nOptions:\n")
            formatter.indent()
            formatter.write_dl(rows, col_max=34)
            formatter.dedent()


def _click_option(option: tables.Option) -> click.Option:
    names = [option.key, f"--{option.long}", *(f"--{alias}" for alias in option.aliases)]
    if option.short:
        names.append(f"-{option.short}")
    extra: dict[str, Any] = {"is_flag": True, "flag_value": True} if option.kind == "bool" else {}
    return click.Option(
        names,
        type=_Value(option),
        multiple=option.repeatable,
        default=() if option.repeatable else None,
        help=option.help,
        **extra,
    )


def _help_option(found: Sequence[tables.Option]) -> click.Option:
    names = ["help", "--help"]
    if not any(option.short == "h" for option in found):
        names.append("-h")
    return click.Option(
        names, is_flag=True, flag_value=True, default=None, type=_Value(tables.Option(*HELP))
    )


def _flag_cell(option: tables.Option) -> str:
    start = f"-{option.short}, " if option.short else "    "
    return f"{start}--{option.long} {option.metavar}".rstrip()


def _help_cell(option: tables.Option) -> str:
    parts = [option.help]
    if option.default not in (None, -1):
        shown = str(option.default).lower() if option.kind == "bool" else option.default
        parts.append(f'(default "{shown}")' if option.kind == "str" else f"(default {shown})")
    if option.later:
        parts.append(f"[no effect: {option.later}]")
    return " ".join(parts)


def parse_words(command: commands.Command, words: Sequence[str], invoked: str = "") -> parse.Parsed:
    """What WORDS mean to click; equal to parse.parse for every command line."""
    made = TableCommand(command)
    parsed = parse.Parsed(command.name, made.table, invoked)
    try:
        ctx = made.make_context(command.name, list(words))
    except click.ClickException as error:
        raise UsageError(error.format_message()) from None
    given = click.core.ParameterSource.COMMANDLINE
    for option in made.table:
        if ctx.get_parameter_source(option.key) is given:
            found = ctx.params[option.key]
            parsed.values[option.key] = list(found) if option.repeatable else found
    parsed.args = list(ctx.params["args"])
    parsed.help = bool(ctx.params["help"])
    if not parsed.help:
        parse.check_count(command, parsed)
    return parsed


def help_text(words: Sequence[str], env: Mapping[str, str]) -> str:
    """The help page of a command, of a management command, or (no words) of rootless."""
    name = " ".join(words)
    formatter = click.HelpFormatter(width=_width(env))
    if not words:
        _root_page(formatter)
    elif name in commands.GROUPS:
        _group_page(name, formatter)
    else:
        command = commands.find(name)
        if command is None:
            raise render.unknown_command(name, [*commands.TABLE, *commands.GROUPS], "")
        made = TableCommand(command)
        made.format_help(click.Context(made, obj={"invoked": name}), formatter)
    return formatter.getvalue()


def _width(env: Mapping[str, str]) -> int:
    import shutil

    text = env.get("COLUMNS", "")
    columns = int(text) if text.isdigit() and text != "0" else shutil.get_terminal_size().columns
    return max(50, min(columns, 100) - 2)


def _root_page(formatter: click.HelpFormatter) -> None:
    formatter.write(f"Usage:  rootless [OPTIONS] COMMAND\n\n{ROOT_SUMMARY}\n")
    for title in (commands.COMMON, commands.MANAGEMENT, commands.OTHER):
        formatter.write(f"\n{title}:\n")
        if title == commands.MANAGEMENT:
            rows = list(commands.GROUPS.items())
        else:
            rows = [(c.name, c.summary) for c in commands.every() if c.group == title]
        _definitions(formatter, rows)
    formatter.write("\nGlobal Options:\n")
    shown = [(_flag_cell(o), _help_cell(o)) for o in tables.options("global")]
    _definitions(formatter, shown)
    formatter.write("\nRun 'rootless COMMAND --help' for more about a command.\n")


def _group_page(group: str, formatter: click.HelpFormatter) -> None:
    formatter.write(f"Usage:  rootless {group} COMMAND\n\n{commands.GROUPS[group]}\n\nCommands:\n")
    rows = []
    for name in commands.subcommands(group):
        command = commands.find(f"{group} {name}")
        assert command is not None
        rows.append((name, command.summary))
    _definitions(formatter, rows)
    formatter.write(f"\nRun 'rootless {group} COMMAND --help' for more about a command.\n")


def _definitions(formatter: click.HelpFormatter, rows: Sequence[tuple[str, str]]) -> None:
    formatter.indent()
    formatter.write_dl(rows)
    formatter.dedent()
