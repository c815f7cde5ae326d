"""rootless ps."""

from __future__ import annotations

import sys
import time

from rootless.engine import listing
from rootless.engine.context import Context

from . import state as states
from . import units
from .rows import Sheet, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """List containers."""
    ctx = Context.load(env)
    filters = None
    if args.get("filter"):
        from . import psfilter

        filters = psfilter.PsFilter(ctx, args.get("filter"))
    last = args.get("last")
    if last < 0:
        last = 1 if args.get("latest") else -1
    everything = bool(args.get("all")) or last > 0 or (filters is not None and filters.wants_all)
    rows = listing.ps_rows(ctx, all=everything)
    if filters is not None:
        rows = filters.select(rows)
    if last > 0:
        rows = rows[:last]
    sys.stdout.write(_render(ctx, args, rows))
    return 0


def _render(ctx: Context, args: Parsed, rows: list[dict[str, Any]]) -> str:
    trunc = not args.get("no_trunc")
    form = args.get("format") or ""
    if args.get("quiet") and form in ("", "table", "json"):
        return "".join(f"{row['id'][:12] if trunc else row['id']}\n" for row in rows)
    size = bool(args.get("size"))
    sheet = make_sheet(ctx, trunc=trunc, size=size or ".Size" in form)
    if size:
        sheet.columns = (*sheet.columns, "Size")
    return render(sheet, rows, form)


HEADERS = {
    "ID": "CONTAINER ID",
    "Names": "NAMES",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
    "Label": "LABEL",
}
COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


def make_sheet(ctx: Context, *, trunc: bool, size: bool) -> Sheet:
    """The fields of a container row at this moment."""
    now = time.time_ns()
    return Sheet(
        {
            "ID": lambda row: row["id"][:12] if trunc else row["id"],
            "Names": lambda row: row["name"],
            "Image": lambda row: image(row, trunc),
            "Command": lambda row: command(row["command"], trunc),
            "CreatedAt": lambda row: units.local_time(int(row["created"] * units.SECOND)),
            "RunningFor": lambda row: (
                units.human_duration(max(0.0, now / units.SECOND - row["created"])) + " ago"
            ),
            "Ports": lambda row: ports(row["ports"]),
            "State": lambda row: row["status"],
            "Status": lambda row: states.status(row["state"], now, row["health"]),
            "Size": lambda row: _size(ctx, row) if size else "0B",
            "Labels": lambda row: labels(row["labels"]),
            "Mounts": lambda row: mounts(row, trunc),
            "LocalVolumes": lambda row: str(sum(m["type"] == "volume" for m in row["mounts"])),
            "Networks": lambda row: ",".join(row["networks"]),
            "Platform": _platform,
        },
        HEADERS,
        COLUMNS,
        "*formatter.ContainerContext",
        methods={"Label": lambda row, name: row["labels"].get(name, "")},
    )


def image(row: Mapping[str, Any], trunc: bool) -> str:
    """The image as typed; an ID is shortened, a digest after a tag left out."""
    name = str(row["image"])
    if not name:
        return "<no image>"
    if trunc:
        digest = row["image_id"].removeprefix("sha256:")
        if digest and name.removeprefix("sha256:") == digest:
            return str(digest[:12])
        head, at, _ = name.partition("@")
        if at and ":" in head.rpartition("/")[2]:
            return head
    return name


def command(words: list[str], trunc: bool) -> str:
    """Path and arguments in double quotes, cut to 20 characters."""
    rest = [f"'{word}'" if " " in word else word for word in words[1:]]
    text = " ".join([words[0], *rest])
    if trunc and len(text) > 20:
        text = text[:19] + "…"
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    from . import golex

    return golex.quote(text)


def labels(found: Mapping[str, str]) -> str:
    """``key=value`` pairs, sorted."""
    return ",".join(f"{key}={found[key]}" for key in sorted(found))


def ports(found: Sequence[tuple[int, str, str, int]]) -> str:
    """Ports as Docker shows them: neighbours that are the same inside and outside in one, others singly."""
    if not found:
        return ""
    groups: dict[tuple[str, str], list[int]] = {}
    ended: list[str] = []
    moved: list[str] = []
    for number, protocol, address, outside in sorted(found, key=lambda p: (p[0], p[2], p[3], p[1])):
        if address and outside != number:
            moved.append(f"{_joined(address, str(outside))}->{number}/{protocol}")
            continue
        group = groups.setdefault((address, protocol), [number, number])
        if number == group[1] + 1:
            group[1] = number
        elif number > group[1]:
            ended.append(_group(address, protocol, group))
            groups[address, protocol] = [number, number]
    ended += [_group(address, protocol, group) for (address, protocol), group in groups.items()]
    return ", ".join([*ended, *moved])


def _group(address: str, protocol: str, group: list[int]) -> str:
    first, last = group
    shown = str(first) if first == last else f"{first}-{last}"
    return f"{_joined(address, shown)}->{shown}/{protocol}" if address else f"{shown}/{protocol}"


def _joined(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def mounts(row: Mapping[str, Any], trunc: bool) -> str:
    """Names of volumes and sources of binds, cut to 15 characters."""
    names = [str(mount.get("source") or "") for mount in row["mounts"]]
    if trunc:
        names = [name if len(name) <= 15 else name[:14] + "…" for name in names]
    return ",".join(names)


def _size(ctx: Context, row: Mapping[str, Any]) -> str:
    from rootless.engine import usage

    written = usage.writable(ctx, [ctx.containers.get(row["id"])])[0]
    shown = units.human_size(written)
    whole = listing.image_size(ctx, row["image_id"]) + written
    return f"{shown} (virtual {units.human_size(whole)})"


def _platform(row: Mapping[str, Any]) -> str:
    found = row["image_config"]
    parts = [found.get("os"), found.get("architecture"), found.get("variant")]
    return "/".join(str(part) for part in parts if part)
