"""rootless images."""

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
    from collections.abc import Iterable, Mapping
    from typing import Any

    from .parse import Parsed

NONE = "<none>"


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """List images."""
    ctx = Context.load(env)
    rows = listing.image_rows(ctx)
    for row in rows:
        row["created"] = states.instant(row["created"]) / units.SECOND
    rows.sort(key=lambda row: (-row["created"], row["id"]))
    pattern = args.args[0] if args.args else ""
    flags = args.get("filter") or []
    digests = bool(args.get("digests"))
    dangling: bool | None = None
    if flags or pattern:
        from . import imagefilter

        found = imagefilter.ImageFilter(ctx, flags, pattern)
        rows = found.select(rows)
        dangling = found.dangling
    lines = [line for row in rows for line in lines_of(row, digests, dangling)]
    sys.stdout.write(_render(ctx, args, lines, digests))
    return 0


def lines_of(row: dict[str, Any], digests: bool, dangling: bool | None) -> Iterable[dict[str, Any]]:
    """One line per name of an image; with DIGESTS each name with its digest."""
    by_repository: dict[str, list[str]] = {}
    for reference in row["repo_digests"]:
        repository, _, digest = listing.split_reference(reference)
        by_repository.setdefault(repository, []).append(digest)
    tagged: set[str] = set()
    found = []
    for reference in row["repo_tags"]:
        repository, tag, _ = listing.split_reference(reference)
        tagged.add(repository)
        known = by_repository.get(repository) or [NONE]
        found += [
            _line(row, repository, tag, digest) for digest in (known if digests else known[:1])
        ]
    if dangling:
        found = []
    for repository, known in by_repository.items():
        if repository not in tagged:
            found += [_line(row, repository, NONE, digest) for digest in known]
    return found or [_line(row, NONE, NONE, NONE)]


def _line(row: dict[str, Any], repository: str, tag: str, digest: str) -> dict[str, Any]:
    return {**row, "repository": repository, "tag": tag, "digest": digest}


HEADERS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}


def make_sheet(ctx: Context, *, trunc: bool, digests: bool) -> Sheet:
    """The fields of an image row at this moment."""
    now = time.time()
    used: dict[str, int] = {}

    def containers(row: Mapping[str, Any]) -> str:
        if not used:
            counts = listing.users_of_images(ctx)
            used.update({image_id: len(users) for image_id, users in counts.items()}, **{"": 0})
        return str(used.get(row["id"], 0))

    def size(row: Mapping[str, Any]) -> str:
        return units.human_size(row["size"])

    return Sheet(
        {
            "ID": lambda row: row["id"].removeprefix("sha256:")[:12] if trunc else row["id"],
            "Repository": lambda row: row["repository"],
            "Tag": lambda row: row["tag"],
            "Digest": lambda row: row["digest"],
            "CreatedSince": lambda row: (
                units.human_duration(now - row["created"]) + " ago" if row["created"] else "N/A"
            ),
            "CreatedAt": lambda row: units.local_time(int(row["created"]) * units.SECOND),
            "Size": size,
            "Containers": containers,
            "VirtualSize": size,
            "SharedSize": lambda row: "N/A",  # noqa: ARG005
            "UniqueSize": lambda row: "N/A",  # noqa: ARG005
        },
        HEADERS,
        ("Repository", "Tag", *(("Digest",) if digests else ()), "ID", "CreatedSince", "Size"),
        "*formatter.imageContext",
    )


def _render(ctx: Context, args: Parsed, lines: list[dict[str, Any]], digests: bool) -> str:
    trunc = not args.get("no_trunc")
    form = args.get("format") or ""
    sheet = make_sheet(ctx, trunc=trunc, digests=digests)
    if args.get("quiet") and form in ("", "table", "json"):
        ids = dict.fromkeys(sheet.fields["ID"](line) for line in lines)
        return "".join(f"{one}\n" for one in ids)
    return render(sheet, lines, form)
