"""rootless builder du and builder prune."""

from __future__ import annotations

import sys
import time

from rootless.engine import buildprune, buildusage
from rootless.engine.context import Context
from rootless.errors import UsageError

from . import filters, rows, table, units, values
from . import prune as pruning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rootless.engine.buildusage import Item

    from .parse import Parsed

_FILTERS = ("until", "unused-for", "id", "type", "description", "shared", "private", "inuse")
_TRUE = ("", "1", "true")


def _said(value: str) -> bool:
    if value.lower() not in (*_TRUE, "0", "false"):
        raise UsageError(f"invalid filter value {value!r}: it is true or false", exit_code=1)
    return value.lower() in _TRUE


_TESTS: dict[str, Callable[[Item, str], bool]] = {
    "id": lambda item, value: item.id.startswith(value) or item.key.startswith(value),
    "type": lambda item, value: item.kind == value,
    "description": lambda item, value: value in item.description,
    "shared": lambda item, value: item.shared == _said(value),
    "private": lambda item, value: item.shared != _said(value),
    "inuse": lambda item, value: item.busy == _said(value),
}


def _wanted(args: Parsed) -> tuple[filters.Filters, float | None]:
    """The filters, and the time that something must not have been used since."""
    found = filters.Filters(args.get("filter") or [], _FILTERS)
    now = time.time_ns()
    words = [*found.get("until"), *found.get("unused-for")]
    since = [units.parse_since("until", text, now) / units.SECOND for text in words]
    return found, min(since) if since else None


def _row(item: Item) -> tuple[str, str, str, str]:
    shown = units.human_size(item.size)
    now = time.time()
    ago = units.human_duration(max(0.0, now - item.used))
    return item.id, str(not item.busy).lower(), f"{shown}*" if item.shared else shown, f"{ago} ago"


_SHEET = rows.Sheet(
    {
        "ID": lambda item: item.id,
        "Reclaimable": lambda item: str(not item.busy).lower(),
        "Size": lambda item: units.human_size(item.size),
        "Shared": lambda item: str(item.shared).lower(),
        "Type": lambda item: item.kind,
        "Description": lambda item: item.description,
        "CreatedAt": lambda item: item.created,
        "LastUsedAt": lambda item: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(item.used)),
    },
    {
        "ID": "ID",
        "Reclaimable": "RECLAIMABLE",
        "Size": "SIZE",
        "Shared": "SHARED",
        "Type": "TYPE",
        "Description": "DESCRIPTION",
        "CreatedAt": "CREATED AT",
        "LastUsedAt": "LAST ACCESSED",
    },
    ("ID", "Reclaimable", "Size", "LastUsedAt"),
    "build cache",
)


def du(args: Parsed, env: Mapping[str, str]) -> int:
    """List what builds keep."""
    found, before = _wanted(args)
    listed = [
        item
        for item in buildusage.items(Context.load(env))
        if (before is None or item.used <= before) and found.match(item, _TESTS)
    ]
    form = str(args.get("format") or "")
    if form:
        sys.stdout.write(rows.render(_SHEET, listed, form))
        return 0
    if args.get("verbose"):
        sys.stdout.write("".join(map(_block, listed)))
    else:
        lines = [
            "ID\tRECLAIMABLE\tSIZE\tLAST ACCESSED",
            *("\t".join(_row(item)) for item in listed),
        ]
        sys.stdout.write(table.align("\n".join(lines) + "\n"))
    shared = sum(item.size for item in listed if item.shared)
    total = sum(item.size for item in listed)
    free = sum(item.size for item in listed if not item.busy and not item.shared)
    summary = [
        ("Shared", shared),
        ("Private", total - shared),
        ("Reclaimable", free),
        ("Total", total),
    ]
    for name, size in summary:
        if args.get("verbose") or name in ("Reclaimable", "Total"):
            sys.stdout.write(f"{name + ':':13}{units.human_size(size)}\n")
    return 0


def _block(item: Item) -> str:
    fields = [
        ("ID", item.id),
        ("Created at", item.created),
        ("Mutable", str(item.kind == buildusage.MOUNT).lower()),
        ("Reclaimable", str(not item.busy).lower()),
        ("Shared", str(item.shared).lower()),
        ("Size", units.human_size(item.size)),
        ("Description", item.description),
        ("Last used", _row(item)[3]),
        ("Type", item.kind),
    ]
    return "".join(f"{name + ':':13}{value}\n" for name, value in fields if value) + "\n"


def prune(args: Parsed, env: Mapping[str, str]) -> int:
    """Remove what builds remember."""
    found, before = _wanted(args)
    every = bool(args.get("all"))
    space = str(args.get("reserved_space") or args.get("keep_storage") or "0")
    keep = values.parse_size(space)
    warning = (
        "This will remove all build cache." if every else "This will remove dangling build cache."
    )
    if not pruning.confirmed(args, warning):
        return 0
    chosen = {key for key in found.wanted if key not in ("until", "unused-for")}
    gone, freed = buildprune.prune(
        Context.load(env),
        all=every,
        before=before,
        wanted=(lambda item: found.match(item, _TESTS)) if chosen else None,
        keep=keep,
    )
    pruning.tell("Deleted build cache objects", gone)
    pruning.reclaimed(freed)
    return 0
