"""Manual pages, completions and README say what the command and option tables say."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
from typing import Any

import pytest

from rootless.cli import commands, completion, options, parse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MAN = os.path.join(ROOT, "man")
BUILD = runpy.run_path(os.path.join(MAN, "build.py"))


def page_name(command: str) -> str:
    return f"rootless-{command.replace(' ', '-')}.1.md" if command else "rootless.1.md"


def read(*parts: str) -> str:
    with open(os.path.join(ROOT, *parts), encoding="utf-8") as file:
        return file.read()


def test_every_command_has_its_page_and_every_page_its_command() -> None:
    wanted = {page_name(name) for name in ("", *commands.TABLE)}
    assert {name for name in BUILD["pages"]() if ".1." in name} == wanted


@pytest.mark.parametrize("name", ["", *commands.TABLE])
def test_a_page_lists_the_options_of_its_command(name: str) -> None:
    found = commands.find(name) if name else None
    table = options.options(found.option_set if found else "global")
    section = read("man", page_name(name)).partition("## OPTIONS")[2].partition("\n## ")[0]
    listed = set(re.findall(r"^(?:\*\*-\w\*\*, )?\*\*--([a-z0-9-]+)\*\*", section, re.M))
    assert listed == {option.long for option in table} | {"help"}
    shorts = set(re.findall(r"^\*\*-(\w)\*\*, \*\*--", section, re.M))
    assert shorts - {"h"} == {option.short for option in table if option.short} - {"h"}


def test_pages_are_up_to_date() -> None:
    assert BUILD["stale"]() == []


@pytest.mark.parametrize("name", ["", *commands.TABLE])
def test_a_page_has_its_sections(name: str) -> None:
    text = read("man", page_name(name))
    headings = re.findall(r"^## (.+)$", text, re.M)
    for heading in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "SEE ALSO"):
        assert heading in headings
    stem = page_name(name)[: -len(".1.md")]
    assert re.search(rf"^## NAME\n\n{stem} - [a-z]", text, re.M) or not name
    for other in re.findall(r"\*\*(rootless[a-z-]*)\*\*\(1\)", text):
        assert os.path.exists(os.path.join(MAN, f"{other}.1.md")), other


def command_lines(text: str) -> list[list[str]]:
    """The words of every rootless command line among a page's examples."""
    lines = re.findall(r"^    (?:.*?\| )?(?:.*<\()?rootless (.+)$", text, re.M)
    inner = [words for line in lines for words in re.findall(r"\$\(rootless (.+?)\)", line)]
    found = []
    for line in [*(re.sub(r"\$\(.+?\)", "x", line) for line in lines), *inner]:
        lexer = shlex.shlex(line.replace(" 2>", " >"), posix=True, punctuation_chars="|<>()")
        lexer.whitespace_split = True
        words = list(lexer)
        ends = [at for at, word in enumerate(words) if word[0] in "|<>)"]
        found.append(words[: min(ends, default=len(words))])
    return found


@pytest.mark.parametrize("name", ["", *commands.TABLE])
def test_examples_use_flags_that_exist(name: str) -> None:
    for words in command_lines(read("man", page_name(name))):
        _, rest = parse.split_global(words)
        two = commands.find(" ".join(rest[:2]))
        command = two or commands.find(rest[0])
        assert command is not None, words
        assert name in ("", command.name) or name in EXAMPLES_OF_OTHERS, words
        parse.parse(command, rest[2:] if two else rest[1:])


EXAMPLES_OF_OTHERS = (
    *("create", "images", "import", "ps", "rm"),
    "volume export",
)


def test_pages_become_roff_without_a_warning(tmp_path: Any) -> None:
    paths = BUILD["build"](str(tmp_path))
    assert len(paths) == len(BUILD["pages"]())
    groff = shutil.which("groff")
    for path in paths:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        assert "\n.TH " in text
        assert "**" not in text
        assert "<!--" not in text
        if groff:
            done = subprocess.run(
                [groff, "-man", "-Tutf8", "-ww", path], capture_output=True, check=True
            )
            assert done.stderr == b""


def test_completions_are_up_to_date() -> None:
    assert completion.stale(os.path.join(ROOT, "conf", "completions")) == []


def complete(*words: str) -> list[str]:
    script = (
        f'source {ROOT}/conf/completions/rootless.bash; COMP_WORDS=("$@"); '
        "COMP_CWORD=$(($# - 1)); _rootless; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, "-c", script, "bash", *words], capture_output=True, check=True, text=True
    )
    return done.stdout.split()


def test_bash_completes_commands_flags_and_values() -> None:
    assert complete("rootless", "ren") == ["rename"]
    assert complete("rootless", "image", "in") == ["inspect"]
    assert complete("rootless", "run", "--pul") == ["--pull"]
    assert complete("rootless", "run", "--pull", "") == ["always", "missing", "never"]
    assert complete("rootless", "-D", "--root", "/x", "container", "ls", "--fo") == ["--format"]


def test_readme_lists_only_commands_that_exist() -> None:
    path = os.path.join(ROOT, "README.md")
    if not os.path.exists(path):
        pytest.fail("there is no README.md")
    rows = re.findall(r"^\|\s*`rootless ([a-z ]+)", read("README.md"), re.M)
    for row in rows:
        words = row.split()
        assert commands.find(" ".join(words[:2])) or commands.find(words[0]), row


def test_bash_completes_files_and_containers_of_cp(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rootfs.tar").touch()
    (tmp_path / "rootless").write_text("#!/bin/sh\necho rooster\n")
    (tmp_path / "rootless").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert complete("rootless", "import", "rootf") == ["rootfs.tar"]
    assert complete("rootless", "cp", "rootf") == ["rootfs.tar"]
    assert complete("rootless", "cp", "roos") == ["rooster:"]
    assert complete("rootless", "cp", "--follow") == ["--follow-link"]
    assert complete("rootless", "export", "-o", "rootf") == ["rootfs.tar"]
