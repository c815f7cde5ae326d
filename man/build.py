#!/usr/bin/env python3
"""Manual pages: from the small Markdown in this directory to roff, with nothing but Python.

    man/build.py --out DIR   writes DIR/man1/rootless.1 and the rest (what install.sh calls)
    man/build.py --update    rewrites the parts of the pages that are made from the command table
    man/build.py --check     fails where --update would change something

A page is NAME.SECTION.md.  Its Markdown: ``# NAME(SECTION)`` once, ``##`` and ``###`` headings, paragraphs,
``- `` lists, ``term`` lines followed by ``: text`` (definition lists), indented code, **bold**, *italic*,
`code` and backslash escapes.  Between ``<!-- synopsis -->`` or ``<!-- options -->`` and the matching
``<!-- end -->`` stands what --update writes.
"""

from __future__ import annotations

import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
_MARK = re.compile(r"<!-- (synopsis|options) -->\n.*?<!-- end -->", re.S)
_INLINE = re.compile(r"\\(.)|\*\*(.+?)\*\*|\*(.+?)\*|`(.+?)`")


def pages() -> list[str]:
    """The page files, sorted."""
    return sorted(name for name in os.listdir(HERE) if name.endswith(".md"))


def read(name: str) -> str:
    """A page's Markdown."""
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        return file.read()


# Markdown to roff


def escape(text: str) -> str:
    """TEXT so that roff prints it as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    text = text.replace("^", "\\(ha").replace("~", "\\(ti").replace("`", "\\(ga")
    return f"\\&{text}" if text[:1] == "." else text


def inline(text: str) -> str:
    """A paragraph's text with its fonts."""
    out: list[str] = []
    at = 0
    for found in _INLINE.finditer(text):
        out.append(escape(text[at : found.start()]))
        at = found.end()
        literal, bold, italic, code = found.groups()
        if literal is not None:
            out.append(escape(literal))
        elif bold is not None:
            out.append(f"\\fB{inline(bold)}\\fR")
        elif italic is not None:
            out.append(f"\\fI{inline(italic)}\\fR")
        else:
            out.append(f"\\fB{escape(code)}\\fR")
    out.append(escape(text[at:]))
    return "".join(out)


def _blocks(text: str) -> list[list[str]]:
    """Lines in groups: paragraphs, lists and code blocks, apart by blank lines."""
    groups: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith("<!--"):
            continue
        if not line.strip():
            if groups[-1]:
                groups.append([])
        elif line.startswith("#"):
            groups += [[line], []]
        else:
            groups[-1].append(line)
    return [group for group in groups if group]


def roff(text: str, version: str) -> str:
    """The roff of one page."""
    out = ['.\\" Made by man/build.py; do not edit.']
    for block in _blocks(text):
        first = block[0]
        if first.startswith("# "):
            name, _, section = first[2:].rstrip(")").partition("(")
            out.append(
                f'.TH "{name.strip().upper()}" "{section}" "" "rootless {version}" "rootless"'
            )
        elif first.startswith("## "):
            out.append(f".SH {inline(first[3:])}")
        elif first.startswith("### "):
            out.append(f".SS {inline(first[4:])}")
        elif first.startswith("    "):
            out += [".PP", ".nf", ".RS", *(escape(line[4:]) for line in block), ".RE", ".fi"]
        elif first.startswith("- "):
            out += _list(block)
        elif len(block) > 1 and block[1].startswith(": "):
            out += _definitions(block)
        else:
            out += [".PP", inline(" ".join(line.strip() for line in block))]
    return "\n".join(out) + "\n"


def _list(block: list[str]) -> list[str]:
    out: list[str] = []
    for line in block:
        if line.startswith("- "):
            out += [".IP \\(bu 2", line[2:]]
        else:
            out[-1] += " " + line.strip()
    return [inline(line) if not line.startswith(".IP") else line for line in out]


def _definitions(block: list[str]) -> list[str]:
    out: list[str] = []
    body = ""
    for line in block:
        if line.startswith(": "):
            body = line[2:]
            continue
        if line.startswith("  ") and body:
            body += " " + line.strip()
            continue
        if body:
            out.append(inline(body))
            body = ""
        out += [".TP", inline(line)]
    return [*out, inline(body)]


def version() -> str:
    """The version that rootless/__init__.py states."""
    with open(os.path.join(ROOT, "rootless", "__init__.py"), encoding="utf-8") as file:
        found = re.search(r'__version__\s*=\s*"([^"]+)"', file.read())
    return found.group(1) if found else ""


def build(directory: str) -> list[str]:
    """Write all pages below DIRECTORY (man1/..., man5/...); the paths written."""
    written = []
    stamp = version()
    for name in pages():
        target = name[: -len(".md")]
        folder = os.path.join(directory, f"man{target.rpartition('.')[2]}")
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, target)
        with open(path, "w", encoding="utf-8") as file:
            file.write(roff(read(name), stamp))
        written.append(path)
    return written


# The parts made from the command table


def command_of(name: str) -> str:
    """The command a page is about: ``run``, ``container inspect``, or nothing for rootless itself."""
    stem = name.partition(".")[0].partition("-")[2]
    sys.path.insert(0, ROOT)
    from rootless.cli import commands

    spaced = stem.replace("-", " ")
    return spaced if spaced in commands.TABLE else stem


def synopsis(command: str) -> str:
    """The synopsis section's lines."""
    from rootless.cli import commands

    if not command:
        return "**rootless** [*OPTIONS*] *COMMAND*"
    found = commands.find(command)
    assert found is not None
    lines = [f"**rootless {command}** {_usage(found.usage)}"]
    lines += [f"**rootless {alias}** {_usage(found.usage)}" for alias in found.aliases]
    return "\n\n".join(line.rstrip() for line in lines)


def _usage(usage: str) -> str:
    return re.sub(
        r"[A-Za-z_]+", lambda word: f"*{word.group().replace('_', chr(92) + '_')}*", usage
    )


def options(command: str) -> str:
    """The options section's definition list."""
    from rootless.cli import commands
    from rootless.cli import options as tables

    found = commands.find(command) if command else None
    table = tables.options(found.option_set if found else "global")
    entries = [_option(option) for option in table]
    help_flags = "**--help**" if any(o.short == "h" for o in table) else "**-h**, **--help**"
    return "\n\n".join([*entries, f"{help_flags}\n: Show a short help page."])


def _option(option: object) -> str:
    from rootless.cli.options import Option

    assert isinstance(option, Option)
    spelled = (
        f"**-{option.short}**, **--{option.long}**" if option.short else f"**--{option.long}**"
    )
    if option.metavar:
        spelled += f"=*{option.metavar}*"
    text = option.help.replace("*", "\\*").replace("_", "\\_")
    if option.repeatable:
        text += " (may be given several times)"
    text += "."
    if option.default not in (None, -1):
        shown = str(option.default).lower() if option.kind == "bool" else option.default
        text += f" The default is {shown}."
    if option.later:
        text += f" Accepted with a warning and without effect: {option.later}."
    return f"{spelled}\n: {text}"


def updated(name: str) -> str:
    """A page with its made parts as they should be."""
    command = command_of(name)
    made = {"synopsis": synopsis, "options": options}

    def fill(found: re.Match[str]) -> str:
        kind = found.group(1)
        return f"<!-- {kind} -->\n{made[kind](command)}\n<!-- end -->"

    return _MARK.sub(fill, read(name))


def stale() -> list[str]:
    """Pages of section 1 that --update would change."""
    return [name for name in pages() if ".1." in name and updated(name) != read(name)]


def main(argv: list[str]) -> int:
    """Do what the one flag says."""
    if len(argv) == 2 and argv[0] == "--out":
        build(argv[1])
        return 0
    if argv == ["--update"]:
        for name in stale():
            text = updated(name)
            with open(os.path.join(HERE, name), "w", encoding="utf-8") as file:
                file.write(text)
        return 0
    if argv == ["--check"]:
        for name in stale():
            sys.stdout.write(f"man/{name} is stale: run man/build.py --update\n")
        return 1 if stale() else 0
    sys.stdout.write(f"{__doc__}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
