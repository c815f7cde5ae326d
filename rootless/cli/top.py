"""rootless top."""

from __future__ import annotations

import os
import sys
import time

from rootless.engine import events, processes
from rootless.engine.context import Context
from rootless.errors import ConflictError, RootlessError, UsageError

from . import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .parse import Parsed

TITLES = ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """List the processes of a container, as the host's `ps` shows them."""
    ctx = Context.load(env)
    container = ctx.containers.resolve(args.args[0])
    state = ctx.containers.read_state(container.id)
    if state["status"] == "restarting":
        raise ConflictError(
            f"cannot list processes of container {container.name}: container {container.id} is restarting: "
            "wait until the container is running"
        )
    if state["status"] not in ("running", "paused") or not state["pid"]:
        raise ConflictError(
            f"cannot list processes of container {container.name}: "
            f"container {container.id} is not running"
        )
    found = processes.of_container(int(state["pid"]))
    if args.args[1:]:
        _check(args.args[1:])
        lines = _by_ps(args.args[1:], {process["pid"] for process in found}, env)
    else:
        lines = [list(TITLES), *(_line(process) for process in found)]
    events.container(ctx, container, "top")
    text = "\n".join("\t".join(line) for line in lines) + "\n"
    sys.stdout.write(table.align(text, min_width=20))
    return 0


def _line(process: Mapping[str, Any]) -> list[str]:
    """One process in the columns of `ps -ef`."""
    ticks = os.sysconf("SC_CLK_TCK")
    with open("/proc/uptime", encoding="ascii") as file:
        uptime = float(file.read().split()[0])
    started = time.time() - uptime + process["start"] / ticks
    running = max(1.0, time.time() - started)
    seconds = process["cpu"] // ticks
    return [
        _user(process["uid"]),
        str(process["pid"]),
        str(process["ppid"]),
        str(min(99, int(100 * seconds / running))),
        _start(started),
        _terminal(process["tty"]),
        f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}",
        process["command"].replace("\t", " ").replace("\n", " "),
    ]


def _user(uid: int) -> str:
    import pwd

    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
    return name if len(name) <= 8 else f"{name[:7]}+"


def _start(started: float) -> str:
    when, now = time.localtime(started), time.localtime()
    if (when.tm_year, when.tm_yday) == (now.tm_year, now.tm_yday):
        return time.strftime("%H:%M", when)
    return time.strftime("%b%d" if when.tm_year == now.tm_year else "%Y", when)


def _terminal(number: int) -> str:
    """The controlling terminal by its device number: 136 to 143 are Unix98 pseudo-terminals."""
    major, minor = os.major(number), os.minor(number)
    if 136 <= major <= 143:
        return f"pts/{minor + (major - 136) * 256}"
    if major == 4:
        return f"tty{minor}"
    return "?"


def _check(options: list[str]) -> None:
    """Refuse another column called PID (``-o ppid=PID``): its numbers would be taken for processes."""
    for word in " ".join(options).replace(",", " ").split():
        key, equals, title = word.partition("=")
        key = key.removeprefix("-o")
        if equals and title.lstrip().startswith("PID") and key != "pid":
            raise UsageError(f'specifying "{key}={title}" is not allowed', exit_code=1)


def _by_ps(options: list[str], pids: set[int], env: Mapping[str, str]) -> list[list[str]]:
    """The lines of the host's `ps OPTIONS` that are about PIDS, cut into columns."""
    import subprocess

    try:
        done = subprocess.run(
            ["ps", *options], capture_output=True, env={**env, "LC_ALL": "C"}, check=False
        )
    except FileNotFoundError:
        raise RootlessError(
            "cannot run ps: it is not installed on this host", hint="leave the ps options out"
        ) from None
    text = done.stdout.decode("utf-8", "replace").splitlines()
    if done.returncode or not text:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise UsageError(
            f"cannot run ps {' '.join(options)}: {said[0] if said else 'it printed nothing'}",
            exit_code=1,
        )
    titles = text[0].split()
    if "PID" not in titles:
        raise UsageError("cannot list processes: couldn't find PID field in ps output", exit_code=1)
    at = titles.index("PID")
    lines = [titles]
    mine = False
    for line in text[1:]:
        words = line.split(None, len(titles) - 1)
        if len(words) <= at:
            continue
        if words[at] != "-":  # else a thread of the process above (ps m)
            mine = words[at].isdigit() and int(words[at]) in pids
        if mine:
            lines.append(words + [""] * (len(titles) - len(words)))
    return lines
