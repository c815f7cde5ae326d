"""rootless build --call: what the checks say of a Dockerfile, its targets, and what a target takes."""

from __future__ import annotations

import os
import sys

from rootless.builder import checks, evaluate, graph, outline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rootless.builder.parser import Dockerfile

_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}


def show(call: str, file: Dockerfile, target: str, build_args: Mapping[str, str]) -> int:
    """Answer CALL on stdout; the exit code."""
    machine = os.uname().machine
    builtin = evaluate.platform_args(f"linux/{_ARCH.get(machine, machine)}")
    scope = evaluate.Scope(file, build_args, builtin)
    if call == "targets":
        rows = [
            (f"{name or '(unnamed)'}{' (default)' if default else ''}", text)
            for name, default, text in outline.targets(file)
        ]
        _table(("TARGET", "DESCRIPTION"), rows)
        return 0
    stages = graph.Graph(file, scope)
    chosen = stages.target(target)
    if call == "outline":
        _outline(outline.outline(file, scope, stages, chosen))
        return 0
    return _check(file, build_args)


def _check(file: Dockerfile, build_args: Mapping[str, str]) -> int:
    found = checks.check(file, build_args)
    if not found:
        sys.stdout.write("Check complete, no warnings found.\n")
        return 0
    many = f"{len(found)} warnings have" if len(found) > 1 else "1 warning has"
    sys.stdout.write(f"Check complete, {many} been found!\n")
    for one in found:
        sys.stdout.write(f"\nWARNING: {one.rule}\n{one.message}\n{one.excerpt}\n")
    return 1


def _outline(found: outline.Outline) -> None:
    title = f"TARGET:      {found.name or '(unnamed)'}\n"
    if found.description:
        title += f"DESCRIPTION: {found.description}\n"
    sys.stdout.write(title)
    rows = [(one.name, one.value, one.description) for one in found.args.values()]
    if rows:
        sys.stdout.write("\n")
        _table(("BUILD ARG", "VALUE", "DESCRIPTION"), rows)
    for heading, table in (("SECRET", found.secrets), ("SSH", found.agents)):
        if table:
            sys.stdout.write("\n")
            _table((heading, "REQUIRED"), [(k, "true" if v else "") for k, v in table.items()])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [head, *rows]
    widths = [max(len(line[at]) for line in lines) + 3 for at in range(len(head))]
    for line in lines:
        text = "".join(f"{cell:<{width}}" for cell, width in zip(line, widths))
        sys.stdout.write(text.rstrip() + "\n")
