"""What the lint tests share: the files of the checkout and their syntax trees."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[2]
_SKIPPED_DIRS = {"build", "libexec", "__pycache__", "dist"}


def files(*suffixes: str, below: str = "") -> list[Path]:
    """Files of the checkout with one of the suffixes, without what is built or hidden."""
    found = []
    for top, dirs, names in os.walk(ROOT / below):
        dirs[:] = sorted(d for d in dirs if d not in _SKIPPED_DIRS and not d.startswith("."))
        found += [Path(top, name) for name in sorted(names) if Path(name).suffix in suffixes]
    return found


def package() -> list[Path]:
    """The Python files of the package itself."""
    return files(".py", below="rootless")


def name_of(path: Path) -> str:
    """A path as messages show it."""
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a Python file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def module_of(path: Path) -> str:
    """The dotted name of a file of the package."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything a file imports, relative imports resolved.

    ``from a import b`` gives a.b; whether b is a module is for the reader to say.
    """
    base = list(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = base[: len(base) - node.level + 1] if node.level else []
            start = [*start, *(node.module.split(".") if node.module else [])]
            yield from ((node.lineno, ".".join([*start, alias.name])) for alias in node.names)


def tool(name: str) -> str:
    """Path of a program the lint lane needs; the test is skipped where it is not installed."""
    path = shutil.which(name)
    if not path:
        pytest.skip(f"requires {name}: it is not installed")
    return path


def check(argv: Sequence[str]) -> None:
    """Run a checker in the checkout; what it prints is the failure."""
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(argv[:4])}:\n{done.stdout}{done.stderr}", pytrace=False)
