"""rootless volume create, ls, inspect, rm, export and import (prune is in prune.py)."""

from __future__ import annotations

import os
import sys

from rootless.engine import volumes
from rootless.engine.context import Context
from rootless.errors import UsageError

from . import filters, inspect_text, kvfile, many
from . import rows as sheets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless.store.volumes import Volume

    from .parse import Parsed

NAMES = ("dangling", "driver", "label", "label!", "name")


def create(args: Parsed, env: Mapping[str, str]) -> int:
    """Create a volume and print its name."""
    name = str(args.get("name") or "")
    if args.args and name:
        raise UsageError(
            "conflicting options: cannot specify a volume-name through both --name and as an arg",
            exit_code=1,
        )
    name = args.args[0] if args.args else name
    if args.args and not name:
        raise UsageError("invalid volume name: it is empty", exit_code=1)
    volume, _ = volumes.create(
        Context.load(env),
        name,
        driver=args.get("driver") or "local",
        labels=kvfile.labels((), args.get("label") or ()),
        options=kvfile.pairs("opt", args.get("opt") or ()),
    )
    os.write(1, f"{volume.name}\n".encode())
    return 0


def rm(args: Parsed, env: Mapping[str, str]) -> int:
    """Remove volumes with their content."""
    ctx = Context.load(env)
    return many.remove(
        args.args, lambda name: volumes.remove(ctx, name), force=bool(args.get("force"))
    )


def inspect(args: Parsed, env: Mapping[str, str]) -> int:
    """Print what is known about volumes as JSON, or as --format says."""
    ctx = Context.load(env)
    form = str(args.get("format") or "")
    failed = inspect_text.write(args.args, lambda name: volumes.inspect(ctx, name), form)
    return 1 if failed else 0


def export(args: Parsed, env: Mapping[str, str]) -> int:
    """Write a volume's content as a tar archive."""
    from . import output

    ctx = Context.load(env)
    output.write(str(args.get("output") or ""), lambda fd: volumes.export(ctx, args.args[0], fd))
    return 0


def import_(args: Parsed, env: Mapping[str, str]) -> int:
    """Unpack a tar archive into a volume that exists."""
    from rootless.store import files

    ctx = Context.load(env)
    name, source = args.args
    try:
        fd = os.dup(0) if source == "-" else os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise files.failure(f"read {source}", error) from None
    try:
        volumes.import_tar(ctx, name, fd)
    finally:
        os.close(fd)
    return 0


# ls


def select(ctx: Context, flags: list[str]) -> list[Volume]:
    """The volumes that pass the --filter flags, by name."""
    found = filters.Filters(flags, NAMES)
    dangling = filters.boolean("dangling", found.get("dangling"))
    names = {text: filters.pattern(text) for text in found.get("name")}
    tests: dict[str, filters.Match] = {
        "driver": lambda volume, value: volume.driver == value,
        "label": lambda volume, value: filters.label(volume.labels, value),
        "label!": lambda volume, value: not filters.label(volume.labels, value),
        "name": lambda volume, value: names[value](volume.name),
    }
    rows = [volume for volume in ctx.volumes.all() if found.match(volume, tests)]
    if dangling is not None:
        using = volumes.users(ctx)
        rows = [volume for volume in rows if (volume.name not in using) == dangling]
    return rows


HEADERS = {
    "Name": "VOLUME NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Size": "SIZE",
    "Availability": "AVAILABILITY",
    "Group": "GROUP",
    "Status": "STATUS",
    "Label": "LABEL",
}


def make_sheet(sizes: Mapping[str, tuple[str, str]] | None = None) -> sheets.Sheet:
    """The fields of a volume; SIZES (name -> links, size) is what `system df` has counted."""
    known = sizes or {}
    nothing = ("N/A", "N/A")

    def labels(volume: Volume) -> str:
        return ",".join(f"{key}={volume.labels[key]}" for key in sorted(volume.labels))

    return sheets.Sheet(
        {
            "Name": lambda volume: volume.name,
            "Driver": lambda volume: volume.driver,
            "Scope": lambda volume: "local",  # noqa: ARG005
            "Mountpoint": lambda volume: volume.data_dir,
            "Labels": labels,
            "Links": lambda volume: known.get(volume.name, nothing)[0],
            "Size": lambda volume: known.get(volume.name, nothing)[1],
            "Availability": lambda volume: "N/A",  # noqa: ARG005
            "Group": lambda volume: "N/A",  # noqa: ARG005
            "Status": lambda volume: "N/A",  # noqa: ARG005
        },
        HEADERS,
        ("Name", "Links", "Size") if sizes is not None else ("Driver", "Name"),
        "*formatter.volumeContext",
        methods={"Label": lambda volume, name: volume.labels.get(name, "")},
    )


def ls(args: Parsed, env: Mapping[str, str]) -> int:
    """List volumes."""
    ctx = Context.load(env)
    rows = select(ctx, args.get("filter") or [])
    form = str(args.get("format") or "")
    if args.get("quiet") and form in ("", "table", "json"):
        sys.stdout.write("".join(f"{volume.name}\n" for volume in rows))
    else:
        sys.stdout.write(sheets.render(make_sheet(), rows, form))
    return 0
