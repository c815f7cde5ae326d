"""rootless events."""

from __future__ import annotations

import os
import time

from rootless import jsonc
from rootless.engine.context import Context
from rootless.store.eventlog import EventReader

from . import eventfilter, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .parse import Parsed

    Event = dict[str, Any]


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Show what happens to containers, images, volumes and networks, as it happens."""
    ctx = Context.load(env)
    now = time.time_ns()
    since = units.parse_since("since", args.get("since"), now) if args.get("since") else 0
    until = units.parse_since("until", args.get("until"), now) if args.get("until") else 0
    wanted = eventfilter.test(args.get("filter"))
    show = _shower(str(args.get("format") or ""))

    def passes(event: Event) -> bool:
        at = event["timeNano"]
        return at >= since and (not until or at <= until) and eventfilter.match(event, wanted)

    with EventReader(ctx.paths.events) as reader:
        follows = not until or until > now
        if follows:
            reader.watch()
        if since or until:
            reader.skip(since) if since else None
        else:
            reader.skip()
        going = True
        while going:
            for block in reader.read(since):
                text = "".join(show(event) for event in block if passes(event))
                if text and not _put(text):
                    return 0
            going = follows and reader.wait(until, 1)
    return 0


def _put(text: str) -> bool:
    """Write to the standard output at once; False where nobody reads it any more."""
    data = memoryview(text.encode("utf-8", "surrogateescape"))
    while data:
        try:
            data = data[os.write(1, data) :]
        except BrokenPipeError:
            return False
    return True


def _shower(form: str) -> Callable[[Event], str]:
    if not form:
        return line
    if form == "json":
        return lambda event: jsonc.dumps(event) + "\n"
    from . import eventformat

    return eventformat.shower(form)


def line(event: Event) -> str:
    """An event in Docker's words: ``time type action id (key=value, ...)``."""
    actor = event["Actor"]
    pairs = ", ".join(f"{key}={value}" for key, value in actor["Attributes"].items())
    tail = f" ({pairs})" if pairs else ""
    text = f"{moment(event['timeNano'])} {event['Type']} {event['Action']} {actor['ID']}{tail}"
    return (text if text.isprintable() else _harmless(text)) + "\n"


def _harmless(text: str) -> str:
    """TEXT with what would end the line or steer a terminal escaped: labels and commands are anybody's."""
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return "".join(escaped)


def moment(nanoseconds: int) -> str:
    """A point in time as RFC 3339 with nine digits, in local time."""
    seconds, rest = divmod(nanoseconds, units.SECOND)
    there = time.localtime(seconds)
    zone = time.strftime("%z", there)
    shown = "Z" if zone in ("", "+0000") else f"{zone[:3]}:{zone[3:]}"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', there)}.{rest:09d}{shown}"
