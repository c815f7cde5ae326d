"""rootless system df."""

from __future__ import annotations

import sys

from rootless.engine import diskusage
from rootless.engine.context import Context

from . import formatted, images, ps, rows, units, volume
from . import state as states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from rootless.engine.diskusage import Kind, Usage

    from .parse import Parsed
    from .rows import Sheet


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Show how much room images, containers, volumes and the build cache take."""
    ctx = Context.load(env)
    found = diskusage.Usage(ctx)
    form = str(args.get("format") or "")
    if not args.get("verbose"):
        sys.stdout.write(rows.render(_SUMMARY, found.kinds(), form))
    elif form and form != "table":
        sys.stdout.write(formatted.value(_as_data(ctx, found), form) + "\n")
    else:
        sys.stdout.write(_verbose(ctx, found))
    return 0


def _reclaimable(kind: Kind) -> str:
    text = units.human_size(kind.reclaimable)
    if not kind.size or kind.name == "Build Cache":
        return text
    return f"{text} ({kind.reclaimable * 100 // kind.size}%)"


_SUMMARY = rows.Sheet(
    {
        "Type": lambda kind: kind.name,
        "TotalCount": lambda kind: str(kind.total),
        "Active": lambda kind: str(kind.active),
        "Size": lambda kind: units.human_size(kind.size),
        "Reclaimable": _reclaimable,
    },
    {
        "Type": "TYPE",
        "TotalCount": "TOTAL",
        "Active": "ACTIVE",
        "Size": "SIZE",
        "Reclaimable": "RECLAIMABLE",
    },
    ("Type", "TotalCount", "Active", "Size", "Reclaimable"),
    "*formatter.diskUsageContext",
)


# --verbose


def _image_sheet(ctx: Context) -> Sheet:
    sheet = images.make_sheet(ctx, trunc=True, digests=False)
    fields = {
        **sheet.fields,
        "Size": lambda row: units.human_size(row["total"]),
        "VirtualSize": lambda row: units.human_size(row["total"]),
        "SharedSize": lambda row: units.human_size(row["shared"]),
        "UniqueSize": lambda row: units.human_size(row["unique"]),
        "Containers": lambda row: str(row["containers"]),
    }
    columns = ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize")
    return rows.Sheet(fields, sheet.headers, (*columns, "Containers"), sheet.type_name)


def _container_sheet(ctx: Context) -> Sheet:
    sheet = ps.make_sheet(ctx, trunc=True, size=False)
    fields = {**sheet.fields, "Size": lambda row: units.human_size(row["bytes"])}
    columns = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
    return rows.Sheet(fields, sheet.headers, columns, sheet.type_name)


def _volume_sheet(found: Usage) -> Sheet:
    return volume.make_sheet(
        {one.name: (str(links), units.human_size(size)) for one, links, size in found.volumes}
    )


def _image_rows(found: Usage) -> list[dict[str, Any]]:
    lines = []
    for row in found.images:
        created = states.instant(row["created"]) / units.SECOND
        lines += list(images.lines_of({**row, "created": created}, False, None))
    return sorted(lines, key=lambda row: (-row["created"], row["id"]))


def _verbose(ctx: Context, found: Usage) -> str:
    cache = found.kinds()[-1]
    return (
        "Images space usage:\n\n"
        + rows.default_table(_image_sheet(ctx), _image_rows(found))
        + "\nContainers space usage:\n\n"
        + rows.default_table(_container_sheet(ctx), found.containers)
        + "\nLocal Volumes space usage:\n\n"
        + rows.default_table(_volume_sheet(found), [one for one, _, _ in found.volumes])
        + f"\nBuild cache usage: {units.human_size(cache.size)}\n\n"
        + "CACHE ID   CACHE TYPE   SIZE      CREATED   LAST USED   USAGE     SHARED\n"
    )


def _as_data(ctx: Context, found: Usage) -> dict[str, Any]:
    """What --verbose --format works on: Images, Containers, Volumes, BuildCache."""
    return {
        "Images": _plain(_image_sheet(ctx), _image_rows(found)),
        "Containers": _plain(_container_sheet(ctx), found.containers),
        "Volumes": _plain(_volume_sheet(found), [one for one, _, _ in found.volumes]),
        "BuildCache": [],
    }


def _plain(sheet: Sheet, found: Iterable[Any]) -> list[dict[str, str]]:
    return [{name: get(row) for name, get in sorted(sheet.fields.items())} for row in found]
