"""top: the rules for what the host's ps prints, and columns of ps -ef made by ourselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.cli import top
from rootless.errors import RootlessError, UsageError


def ps(tmp_path: Path, text: str, code: int = 0) -> dict[str, str]:
    """An environment in which ps prints TEXT."""
    program = tmp_path / "ps"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\necho refused >&2\nexit {code}\n")
    program.chmod(0o755)
    return {"PATH": f"{tmp_path}:/usr/bin:/bin"}


def test_lines_of_the_containers_processes_only(tmp_path: Path) -> None:
    env = ps(
        tmp_path, "USER   PID ARGS\nroot     1 init of  the host\nme      70 sh -c  x\nme      71"
    )
    assert top._by_ps(["-o", "user,pid,args"], {70, 71}, env) == [
        ["USER", "PID", "ARGS"],
        ["me", "70", "sh -c  x"],
        ["me", "71", ""],
    ]


def test_threads_stand_below_their_process(tmp_path: Path) -> None:
    text = "PID TID CMD\n1 - host\n- 1 host\n70 - sh\n- 70 -\n- 72 -\n73 - other\n- 73 -"
    found = top._by_ps(["m"], {70}, ps(tmp_path, text))
    assert found == [["PID", "TID", "CMD"], ["70", "-", "sh"], ["-", "70", "-"], ["-", "72", "-"]]


def test_a_listing_without_pids(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="couldn't find PID field in ps output"):
        top._by_ps(["-o", "args"], {70}, ps(tmp_path, "COMMAND\nsh"))


def test_what_ps_refuses(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot run ps --nope: refused"):
        top._by_ps(["--nope"], {70}, ps(tmp_path, "", 1))


def test_no_ps_on_this_host(tmp_path: Path) -> None:
    with pytest.raises(RootlessError, match="it is not installed"):
        top._by_ps(["aux"], {70}, {"PATH": str(tmp_path)})


@pytest.mark.parametrize("words", [["-o", "ppid=PID,pid"], ["-oppid=PID"], ["-o", "pid,args=PIDS"]])
def test_another_column_called_pid_is_refused(words: list[str]) -> None:
    with pytest.raises(UsageError, match="is not allowed"):
        top._check(words)


@pytest.mark.parametrize(
    "words", [["aux"], ["-o", "pid=PID,args"], ["-o", "pid,ppid=PARENT"], ["-ef"]]
)
def test_other_options_are_the_users(words: list[str]) -> None:
    top._check(words)


@pytest.mark.parametrize(
    ("device", "text"),
    [
        (os.makedev(136, 3), "pts/3"),
        (os.makedev(137, 1), "pts/257"),
        (os.makedev(4, 2), "tty2"),
        (0, "?"),
    ],
)
def test_terminals(device: int, text: str) -> None:
    assert top._terminal(device) == text


def test_a_process_in_the_columns_of_ps_ef() -> None:
    with open("/proc/self/stat", encoding="ascii") as file:
        start = int(file.read().rpartition(")")[2].split()[19])
    hertz = os.sysconf("SC_CLK_TCK")
    process = {
        "uid": 4242424, "pid": 70, "ppid": 1, "cpu": 3661 * hertz, "start": start, "tty": 0,
        "command": "sh\t-c\nx",
    }  # fmt: skip
    line = top._line(process)
    assert line[:3] == ["4242424", "70", "1"] and line[6:] == ["01:01:01", "sh -c x"]
