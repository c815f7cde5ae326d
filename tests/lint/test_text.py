"""Sizes, docstrings, the exception tree, the grammar of messages, and what must not be in a file."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
from checkout import ROOT, files, name_of, package, tree

from rootless import errors

MAX_FILE, MAX_FUNCTION = 600, 60
# The one list of exemptions; it may only shrink.
LONG_FUNCTIONS: frozenset[str] = frozenset()
GENERATED = ("rootless/plan/_syscalls.py",)


def problems(found: list[str]) -> None:
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def test_python_files_and_functions_are_small() -> None:
    found = []
    for path in files(".py"):
        name = name_of(path)
        length = path.read_text(encoding="utf-8").count("\n")
        if length > MAX_FILE and name not in GENERATED:
            found.append(f"{name}: {length} lines, more than {MAX_FILE}")
        if not name.startswith("rootless/"):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MAX_FUNCTION and f"{name}:{node.name}" not in LONG_FUNCTIONS:
                    found.append(f"{name}:{node.lineno}: {node.name} has {lines} lines")
    problems(found)


def test_c_functions_are_small() -> None:
    found = []
    for path in files(".c", below="helpers"):
        start, name = 0, ""
        lines = path.read_text(encoding="utf-8").splitlines()
        if len(lines) > MAX_FILE:
            found.append(f"{name_of(path)}: {len(lines)} lines, more than {MAX_FILE}")
        for number, line in enumerate(lines, 1):
            if line.startswith("{"):
                start, name = number, lines[number - 2]
            elif line.startswith("}") and start:
                if number - start > MAX_FUNCTION:
                    found.append(f"{name_of(path)}:{start}: {name} has {number - start} lines")
                start = 0
    problems(found)


def test_every_module_opens_with_its_rules() -> None:
    problems(
        [f"{name_of(p)}: has no docstring" for p in package() if not ast.get_docstring(tree(p))]
    )


def test_no_module_is_a_grab_bag() -> None:
    bad = {"utils", "util", "misc", "common", "helpers"}
    assert [name_of(path) for path in package() if path.stem in bad] == []


def test_every_file_parses_as_the_oldest_python() -> None:
    for path in files(".py"):
        ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 9))


def test_annotations_are_never_evaluated() -> None:
    """Without the future import, ``X | Y`` in an annotation fails on Python 3.9."""
    problems(
        [
            f"{name_of(path)}: lacks 'from __future__ import annotations'"
            for path in package()
            if len(tree(path).body) > 1
            and "from __future__ import annotations" not in path.read_text(encoding="utf-8")
            and path != ROOT / "rootless" / "__init__.py"
        ]
    )


def drawn() -> dict[str, tuple[str, str, int, int]]:
    """name -> (parent, slug, exit code, HTTP status) as the docstring of errors.py draws them."""
    found: dict[str, tuple[str, str, int, int]] = {}
    above: list[tuple[int, str]] = []
    pattern = re.compile(r"^( {4,})(\w+)\s+([a-z-]+)\s+(\d+)\s+(\d+)$", re.M)
    for indent, name, slug, code, status in pattern.findall(errors.__doc__ or ""):
        above = [one for one in above if one[0] < len(indent)]
        found[name] = (above[-1][1] if above else "Exception", slug, int(code), int(status))
        above.append((len(indent), name))
    return found


def test_the_exception_tree_is_as_drawn() -> None:
    built = {
        name: (kind.__bases__[0].__name__, kind.slug, kind.exit_code, kind.http_status)
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.RootlessError)
    }
    assert drawn() == built


ERRORS = {name for name, kind in inspect.getmembers(errors, inspect.isclass)}


def message_start(node: ast.Call) -> str | None:
    """The literal start of an error's message, or None where it begins with a value."""
    first = node.args[0] if node.args else None
    if isinstance(first, ast.JoinedStr) and first.values:
        first = first.values[0]
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        return first.value
    return None


def message_end(node: ast.Call) -> str | None:
    first = node.args[0] if node.args else None
    if isinstance(first, ast.JoinedStr) and first.values:
        first = first.values[-1]
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        return first.value
    return None


def raised(path: Path) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in ERRORS - {"RootlessError"}
    ]


def test_messages_follow_the_grammar() -> None:
    found = []
    for path in package():
        for node in raised(path):
            where = f"{name_of(path)}:{node.lineno}"
            start, end = message_start(node), message_end(node)
            if start is not None and (not start.strip() or DOCKER.match(start)):
                continue
            if start is not None and start[:1].isupper():
                found.append(f"{where}: a message starts lower case: {start!r}")
            if end is not None and end.endswith((".", "!", "\n")) and not end.endswith("..."):
                found.append(f"{where}: a message has no full stop: {end!r}")
            if end is not None and "\n" in end.strip("\n"):
                found.append(f"{where}: a message is one sentence: {end!r}")
    problems(found)


# Sentences that scripts know from Docker.
DOCKER = re.compile(r"Error |OCI |Conflict\.|You |Unable |Handler |Address already |Bind for |CPU ")


# Spelled apart, so that this file does not hold them.
MACHINE = re.compile("|".join(["/" + "work/", "/" + "root/", "/" + "opt/dev", r"\bdev[1-8]\b"]))


def test_no_file_names_the_machine_it_was_written_on() -> None:
    found = []
    for path in files(*[".py", ".c", ".h", ".sh", ".toml", ".json", ".md", ".case", ".yml"], ""):
        if path == Path(__file__).resolve():
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        for number, line in enumerate(text.splitlines(), 1):
            if MACHINE.search(line):
                found.append(f"{name_of(path)}:{number}: {line.strip()[:120]}")
    problems(found)
