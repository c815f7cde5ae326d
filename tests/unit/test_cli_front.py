"""Dispatch, global flags, and how failures are shown: one sentence, the right code, never a traceback."""

from __future__ import annotations

import errno
import subprocess
import sys
from typing import Any

import pytest

from rootless.cli import commands, front
from rootless.errors import NotFoundError, RootlessError


class Outcome:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Any:
    def go(*words: str, **env: str) -> Outcome:
        code = front.run(list(words), {"COLUMNS": "100", **env})
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return go


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a function in the place of every verb."""

    def install(act: Any) -> list[Any]:
        calls: list[Any] = []

        def main(args: Any, env: Any) -> int:
            calls.append((args, env))
            return int(act() or 0)

        monkeypatch.setattr(commands.Command, "load", lambda self: main)
        return calls

    return install


def test_no_command_and_help_show_the_overview(run: Any) -> None:
    for words in ([], ["--help"], ["help"], ["-h"]):
        found = run(*words)
        assert found.code == 0
        assert found.out.startswith("Usage:  rootless [OPTIONS] COMMAND")
        assert all(f"\n  {name} " in found.out for name in ("run", "ps", "image", "doctor"))


@pytest.mark.parametrize("name", [*commands.TABLE, *commands.ALIASES])
def test_every_command_has_a_help_page(name: str, run: Any) -> None:
    found = run(*name.split(), "--help")
    assert found.code == 0
    assert found.out.startswith(f"Usage:  rootless {name} ")
    assert found.err == ""


def test_group_help(run: Any) -> None:
    for words in (["image"], ["image", "--help"], ["help", "image"]):
        found = run(*words)
        assert (found.code, found.out.splitlines()[0]) == (0, "Usage:  rootless image COMMAND")


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["foo"], "rootless: 'foo' is not a rootless command.\nSee 'rootless --help'\n", 1),
        (
            ["rnu"],
            "rootless: 'rnu' is not a rootless command.\nhint: did you mean 'run'?\n"
            "See 'rootless --help'\n",
            1,
        ),
        (
            ["image", "lss"],
            "rootless: 'image lss' is not a rootless command.\nhint: did you mean 'image ls'?\n"
            "See 'rootless image --help'\n",
            1,
        ),
        (["--foo"], "rootless: unknown flag: --foo\nSee 'rootless --help'\n", 125),
        (["ps", "--foo"], "rootless: unknown flag: --foo\nSee 'rootless ps --help'\n", 125),
        (
            ["container", "ls", "--foo"],
            "rootless: unknown flag: --foo\nSee 'rootless container ls --help'\n",
            125,
        ),
        (
            ["pull", "--foo", "x"],
            "rootless: unknown flag: --foo\nSee 'rootless pull --help'\n",
            125,
        ),
        (
            ["run"],
            "rootless: 'rootless run' requires at least 1 argument\nSee 'rootless run --help'\n",
            1,
        ),
        (
            ["-H", "tcp://x", "ps"],
            "rootless: cannot use --host: rootless works on this machine only, "
            "remote engines are not supported\nSee 'rootless --help'\n",
            125,
        ),
    ],
)
def test_mistakes(words: list[str], message: str, code: int, run: Any) -> None:
    found = run(*words)
    assert (found.code, found.out, found.err) == (code, "", message)


def test_version(run: Any) -> None:
    assert run("--version").out.startswith("rootless version ")
    assert run("version", "-f", "{{.Server.Version}}").out.strip()


def test_global_flags_reach_the_verb_as_environment(run: Any, verb: Any) -> None:
    calls = verb(lambda: 3)
    found = run(
        "-D", "--root", "/some/../where", "--runtime-dir", "/r", "--log-level", "info", "ps"
    )
    assert found.code == 3
    env = calls[0][1]
    assert env["ROOTLESS_DEBUG"] == "1"
    assert env["ROOTLESS_STORAGE_ROOT"] == "/where"
    assert env["ROOTLESS_STORAGE_RUNTIME_DIR"] == "/r"
    assert env["ROOTLESS_LOG_LEVEL"] == "info"


def test_aliases_are_the_command(run: Any, verb: Any) -> None:
    calls = verb(lambda: 0)
    run("container", "ls", "-a")
    args = calls[0][0]
    assert (args.command, args.invoked, args.all) == ("ps", "container ls", True)


def test_an_error_is_its_sentence_hint_and_code(run: Any, verb: Any) -> None:
    def fail() -> None:
        raise NotFoundError("no such container: x\udcff", hint="look at ps")

    verb(fail)
    found = run("ps")
    assert found.code == 1
    assert "Traceback" not in found.err
    assert found.err.endswith("\nhint: look at ps\n")


def test_debug_shows_the_traceback(run: Any, verb: Any) -> None:
    def fail() -> None:
        raise RootlessError("cannot go on")

    verb(fail)
    found = run("ps", ROOTLESS_DEBUG="1")
    assert "Traceback" in found.err
    assert found.code == 125


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (KeyError("x"), "internal error: KeyError ('x')"),
        (RecursionError(), "internal error: RecursionError;"),
        (OSError(errno.EIO, "Input/output error", "/a/b"), "(Input/output error: /a/b)"),
        (ValueError("two\nlines"), "internal error: ValueError (two);"),
    ],
)
def test_the_unforeseen_is_one_line(error: Exception, part: str, run: Any, verb: Any) -> None:
    def fail() -> None:
        raise error

    verb(fail)
    found = run("ps")
    assert found.code == 125
    assert part in found.err
    assert found.err.count("\n") == 1
    assert "ROOTLESS_DEBUG=1" in found.err
    assert "Traceback" in run("ps", ROOTLESS_DEBUG="1").err


def test_an_interrupt_is_silent(run: Any, verb: Any) -> None:
    def fail() -> None:
        raise KeyboardInterrupt

    verb(fail)
    found = run("ps")
    assert (found.code, found.out, found.err) == (130, "", "")


def test_a_reader_that_leaves_is_no_error() -> None:
    program = (
        "import sys; from rootless.__main__ import script; sys.argv[1:] = ['help', 'run']; script()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.close()
        assert child.stderr is not None
        assert child.stderr.read() == b""
        assert child.wait() in (0, 141)


HOT = (
    "re",
    "json",
    "enum",
    "typing",
    "click",
    "subprocess",
    "dataclasses",
    "collections",
    "signal",
)


@pytest.mark.parametrize(
    "words",
    [
        ["ps"],
        ["ps", "-a"],
        ["images"],
        ["version"],
        ["run", "--foo"],
        ["logs", "x"],
        ["inspect", "x"],
    ],
)
def test_hot_commands_import_nothing_heavy(words: list[str], tmp_path: Any) -> None:
    program = (
        "import sys, os\n"
        "before = set(sys.modules)\n"
        f"sys.path.insert(0, {sys.path[0]!r}); sys.path.insert(0, {_checkout()!r})\n"
        "from rootless.__main__ import main\n"
        f"main({words!r})\n"
        "print(*sorted(m for m in sys.modules if m not in before), file=sys.stderr)\n"
    )
    env = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], env=env, capture_output=True, check=True
    )
    loaded = done.stderr.decode().splitlines()[-1].split()
    assert not [name for name in HOT if name in loaded]


def _checkout() -> str:
    import os

    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
