"""The checkers, as tests: ruff, mypy, codespell, shellcheck, clang-format, and generated files."""

from __future__ import annotations

import os
import sys

import pytest
from checkout import ROOT, check, files, name_of, tool

# Taken before a test's own HOME is in place: a cold run takes half a minute.
MYPY_CACHE = os.path.expanduser("~/.cache/rootless-tests/mypy")


def test_ruff_finds_nothing() -> None:
    check([tool("ruff"), "check", "--no-cache", "."])


def test_ruff_would_format_nothing() -> None:
    check([tool("ruff"), "format", "--no-cache", "--check", "--diff", "."])


def test_types_are_sound() -> None:
    pytest.importorskip("mypy", reason="requires mypy: it is not installed")
    argv = [sys.executable, "-m", "mypy", "--no-error-summary", "--cache-dir", MYPY_CACHE]
    check([*argv, "rootless"])
    check([*argv, "tests/vm/lane"])


def test_words_are_spelled_right() -> None:
    pytest.importorskip("codespell_lib", reason="requires codespell: it is not installed")
    words = "ro,ans,fo,te,hel,nd,inout,re-use,re-used,passt,bu,sise,iif,vertexes,verson,runn"
    skip = "./.*,./helpers/build,./rootless/libexec,./tests/unit/data,./conf/seccomp.json,*.pyc"
    check([sys.executable, "-m", "codespell_lib", "-L", words, "-S", skip, "."])


def scripts() -> list[str]:
    found = [name_of(path) for path in files(".sh")]
    found += [name_of(path) for path in files(".bash", below="tests")]
    for name in ("tests/run", ".ci/run", "tests/vm/run", "tests/vm/guest/start"):
        if (ROOT / name).exists() and b"sh" in (ROOT / name).read_bytes().split(b"\n")[0]:
            found.append(name)
    return found


def test_shell_scripts_are_sound() -> None:
    check([tool("shellcheck"), "-x", *scripts()])


def test_the_installer_is_plain_posix_shell() -> None:
    check([tool("shellcheck"), "-s", "sh", "install.sh", "helpers/build.sh"])


def test_c_sources_are_formatted() -> None:
    if not (ROOT / "helpers" / ".clang-format").exists():
        pytest.fail("helpers/.clang-format is missing: it says how the C sources are laid out")
    sources = [
        name_of(path) for path in files(".c", ".h", below="helpers") if path.name != "tape.h"
    ]
    check([tool("clang-format"), "--dry-run", "-Werror", *sources])


def test_the_tape_header_is_what_the_table_says() -> None:
    check([sys.executable, "helpers/generate.py", "--check"])


def test_programs_are_executable() -> None:
    for name in ("install.sh", "tests/run", ".ci/run", "tests/vm/run"):
        assert os.access(ROOT / name, os.X_OK), name
