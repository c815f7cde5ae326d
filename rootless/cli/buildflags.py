# ruff: noqa: E501  (a table reads best one row to a line)
"""Flags of `build`, as rows of the option table (options.py tells what a row is)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .options import Row

CALLS = ("build", "check", "outline", "targets")
PROGRESS = ("auto", "plain", "tty", "quiet", "rawjson")

BUILD: tuple[Row, ...] = (
    ("build-arg", "", "list", "list", "Set a variable that the Dockerfile declares with ARG"),
    ("call", "", "str", "string", "What to do: build, check, outline or targets", "", "build", (), CALLS),
    ("check", "", "bool", "", "Check the Dockerfile and build nothing (short for --call=check)"),
    ("file", "f", "str", "string", "Dockerfile to build, - for stdin (default: Dockerfile in the context)"),
    ("iidfile", "", "str", "string", "Write the image's ID to this file"),
    ("label", "", "list", "list", "Set a label of the image"),
    ("network", "", "str", "string", "Network of RUN: default, none, host or the name of a network"),
    ("no-cache", "", "bool", "", "Do every step again"),
    ("no-cache-filter", "", "list", "strings", "Do every step of these stages again"),
    ("platform", "", "str", "string", "Platform to build for; only this machine's own"),
    ("progress", "", "str", "string", "How to show progress: auto, plain, tty, quiet or rawjson", "", "auto", (), PROGRESS),
    ("pull", "", "bool", "", "Pull base images even if they are here"),
    ("quiet", "q", "bool", "", "Print nothing but the image's ID"),
    ("secret", "", "list", "list", "Give RUN --mount=type=secret a secret: id=NAME[,src=FILE|,env=VARIABLE]"),
    ("ssh", "", "list", "list", "Give RUN --mount=type=ssh an agent: default or ID[=SOCKET]"),
    ("tag", "t", "list", "list", "Name the image NAME[:TAG]"),
    ("target", "", "str", "string", "Stage to build (default: the last)"),
)  # fmt: skip

PRUNE: tuple[Row, ...] = (
    ("all", "a", "bool", "", "Remove also steps whose layers an image has"),
    ("filter", "", "filter", "filter", "What to remove: until=24h, not used for that long"),
    ("force", "f", "bool", "", "Do not ask"),
)
