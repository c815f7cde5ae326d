"""The two parsers of the command line: Docker's grammar, its messages, and their agreement."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.cli import clickfront, commands, options, parse, values
from rootless.errors import UsageError


def parsed(line: str | list[str], name: str = "run") -> parse.Parsed:
    command = commands.find(name)
    assert command is not None
    return parse.parse(command, line.split() if isinstance(line, str) else line)


def test_values_of_every_kind() -> None:
    found = parsed("-it --rm=false --name=x -eA=1 -e B=2 -e=C=3 --stop-timeout -1 img sh -c -x")
    assert found.tty is True
    assert found.interactive is True
    assert found.rm is False
    assert found.name == "x"
    assert found.env == ["A=1", "B=2", "C=3"]
    assert found.stop_timeout == -1
    assert found.args == ["img", "sh", "-c", "-x"]


def test_defaults_and_what_was_given() -> None:
    found = parsed("img")
    assert found.get("sig_proxy") is True
    assert found.get("pull") == "missing"
    assert found.get("name") is None
    assert not found.given("pull")
    assert found.get("nonsense") is None
    with pytest.raises(AttributeError):
        found.nonsense  # noqa: B018


def test_the_last_of_a_single_flag_wins_and_aliases_are_the_same_flag() -> None:
    found = parsed("--name a --name b --net none --network host --dns-opt x img")
    assert found.name == "b"
    assert found.network == ["none", "host"]
    assert found.dns_option == ["x"]


def test_two_dashes_end_flags() -> None:
    assert parsed(["--", "-f"], "rm").args == ["-f"]
    assert parsed(["a", "-f", "b"], "rm").args == ["a", "b"]
    assert parsed(["a", "--", "b"], "run").args == ["a", "--", "b"]
    assert parsed(["-"], "rm").args == ["-"]


def test_h_is_the_hostname_where_there_is_one_and_help_elsewhere() -> None:
    assert parsed("-h box img").hostname == "box"
    assert parsed("-h", "ps").help
    assert parsed("--help").help


@pytest.mark.parametrize(
    ("name", "line", "message", "code"),
    [
        ("run", "--foo img", "unknown flag: --foo", 125),
        ("run", "--foo=bar img", "unknown flag: --foo", 125),
        ("run", "-iz img", "unknown shorthand flag: 'z' in -z", 125),
        ("run", "--name", "flag needs an argument: --name", 125),
        ("run", "-e", "flag needs an argument: 'e' in -e", 125),
        ("run", "-ie", "flag needs an argument: 'e' in -e", 125),
        ("run", "--= img", "bad flag syntax: --=", 125),
        ("run", "--- img", "bad flag syntax: ---", 125),
        (
            "run",
            "--rm=x img",
            'invalid argument "x" for "--rm" flag: strconv.ParseBool: parsing "x": invalid syntax',
            125,
        ),
        (
            "stop",
            "-t x c",
            'invalid argument "x" for "-t, --timeout" flag: '
            'strconv.ParseInt: parsing "x": invalid syntax',
            125,
        ),
        ("run", "-m x i", 'invalid argument "x" for "-m, --memory" flag: invalid size: \'x\'', 125),
        (
            "run",
            "--cpus 1,5 i",
            'invalid argument "1,5" for "--cpus" flag: failed to parse 1,5 as a rational number',
            125,
        ),
        (
            "run",
            "--health-interval 5 i",
            'invalid argument "5" for "--health-interval" flag: time: invalid duration "5"',
            125,
        ),
        (
            "ps",
            "-f x",
            'invalid argument "x" for "-f, --filter" flag: '
            "bad format of filter (expected name=value)",
            125,
        ),
        ("run", "", "'rootless run' requires at least 1 argument", 1),
        ("ps", "a", "'rootless ps' accepts no arguments", 1),
        ("rename", "a", "'rootless rename' requires 2 arguments", 1),
        ("rename", "a b c", "'rootless rename' requires 2 arguments", 1),
        ("images", "a b", "'rootless images' requires at most 1 argument", 1),
        ("exec", "a", "'rootless exec' requires at least 2 arguments", 1),
    ],
)
def test_mistakes_in_the_words_of_docker(name: str, line: str, message: str, code: int) -> None:
    command = commands.find(name)
    assert command is not None
    for parser in (parse.parse, clickfront.parse_words):
        with pytest.raises(UsageError) as caught:
            parser(command, line.split())
        assert caught.value.code == code
        assert caught.value.message == message


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64b", 64),
        ("64k", 64 << 10),
        ("64K", 64 << 10),
        ("64kb", 64 << 10),
        ("64KiB", 64 << 10),
        ("64 MB", 64 << 20),
        ("1.5g", 3 << 29),
        (".5t", 1 << 39),
        ("1e3", 1000),
        ("1p", 1 << 50),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert values.parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "invalid size: ''"),
        ("m", "invalid size: 'm'"),
        ("-5m", "invalid size: '-5m'"),
        ("9e30", "invalid size: '9e30'"),
        ("64x", "invalid suffix: 'x'"),
        ("64mx", "invalid suffix: 'mx'"),
        ("64bb", "invalid suffix: 'bb'"),
        ("64mbb", "invalid suffix: 'mbb'"),
        ("64mib ", 'strconv.ParseFloat: parsing "64mib": invalid syntax'),
        ("1_0", 'strconv.ParseFloat: parsing "1_0": invalid syntax'),
        ("1..0", 'strconv.ParseFloat: parsing "1..0": invalid syntax'),
        ("x1m", 'strconv.ParseFloat: parsing "x1": invalid syntax'),
        ("inf1", 'strconv.ParseFloat: parsing "inf1": invalid syntax'),
    ],
)
def test_what_is_no_size_is_said_as_docker_says_it(text: str, why: str) -> None:
    with pytest.raises(ValueError) as caught:
        values.parse_size(text)
    assert str(caught.value) == why


def test_a_mistyped_flag_has_a_suggestion() -> None:
    with pytest.raises(UsageError) as caught:
        parsed("--quite img")
    assert caught.value.hint == "did you mean --quiet?"


def test_rootfs_needs_no_image() -> None:
    assert parsed("--rootfs /srv/root").args == []


def test_flags_without_effect_say_so_once_given() -> None:
    later = dict(parsed("--gpus all --cpu-count 2 --use-api-socket=false --name x img").later())
    assert set(later) == {"--gpus", "--cpu-count"}
    assert all(later.values())


def test_global_flags_end_at_the_command() -> None:
    flags, rest = parse.split_global(["-D", "--root", "/x", "run", "-D"])
    assert flags.debug is True
    assert flags.root == "/x"
    assert rest == ["run", "-D"]


def test_tables_are_sound() -> None:
    for command in commands.every():
        seen: set[str] = set()
        shorts: set[str] = set()
        for option in options.options(command.option_set):
            for name in (option.long, *option.aliases):
                assert name not in seen, (command.name, name)
                seen.add(name)
            assert not option.short or option.short not in shorts, (command.name, option.short)
            shorts.add(option.short)
            assert option.help
            assert not option.help.endswith(".")
            assert bool(option.metavar) == (option.kind != "bool"), option.long
    for alias, name in commands.ALIASES.items():
        assert name in commands.TABLE
        assert alias.split()[0] in commands.GROUPS


VALUES = st.sampled_from(["", "x", "1", "-1", "true", "a=b", "--rm", "-i", "5s", "64m", "--"])
WORDS = st.sampled_from(["img", "-", "sh", "", "a b", "--", "é"])


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[commands.Command, list[str]]:
    command = draw(st.sampled_from(commands.every()))
    table = options.options(command.option_set)
    line: list[str] = []
    for _ in range(draw(st.integers(0, 6))):
        if not table or draw(st.booleans()):
            line.append(draw(WORDS))
            continue
        option = draw(st.sampled_from(table))
        names = [f"--{option.long}", *(f"--{alias}" for alias in option.aliases)]
        if option.short:
            names.append(f"-{option.short}")
        name = draw(st.sampled_from(names))
        style = draw(st.integers(0, 3))
        if style == 0:
            line.append(name)
        elif style == 1:
            line.append(f"{name}={draw(VALUES)}")
        elif style == 2:
            line += [name, draw(VALUES)]
        else:
            shorts = [o.short for o in table if o.short] or ["q"]
            line.append("-" + "".join(draw(st.lists(st.sampled_from(shorts), max_size=3))))
            line.append(draw(VALUES))
    return command, line


def outcome(parser: object, command: commands.Command, line: list[str]) -> object:
    try:
        found = parser(command, line)  # type: ignore[operator]
    except UsageError as error:
        return ("error", error.code, error.message)
    return (found.values, found.args, found.help)


@settings(max_examples=600, deadline=None)
@given(command_lines())
def test_both_parsers_agree(case: tuple[commands.Command, list[str]]) -> None:
    command, line = case
    assert outcome(parse.parse, command, line) == outcome(clickfront.parse_words, command, line)
