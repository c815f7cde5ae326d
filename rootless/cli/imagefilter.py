"""images --filter, and its REPOSITORY[:TAG] argument: what each name means for an image."""

from __future__ import annotations

import time

from rootless.engine import listing

from . import filters, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from rootless.engine.context import Context

    Row = dict[str, Any]

NAMES = ("before", "dangling", "label", "label!", "reference", "since", "until")


class ImageFilter:
    """The --filter flags of one `images`."""

    def __init__(self, ctx: Context, flags: Iterable[str], pattern: str) -> None:
        self.ctx = ctx
        self.filters = filters.Filters(flags, NAMES)
        self.patterns = self.filters.get("reference")
        if pattern:
            self.patterns = [*self.patterns, pattern]
        self.dangling = filters.boolean("dangling", self.filters.get("dangling"))
        now = time.time_ns()
        self.until = [
            units.parse_since("until", value, now) / units.SECOND
            for value in self.filters.get("until")
        ]

    def select(self, rows: list[Row]) -> list[Row]:
        """The rows that pass; of their names only those that a reference= asks for."""
        rows = self._between(rows)
        found = []
        for row in rows:
            if self.dangling is not None and self.dangling != (not row["repo_tags"]):
                continue
            if any(row["created"] >= limit for limit in self.until):
                continue
            if not self.filters.match(row, _TESTS):
                continue
            kept = self._named(row) if self.patterns else row
            if kept is not None:
                found.append(kept)
        return found

    def _between(self, rows: list[Row]) -> list[Row]:
        for key in ("before", "since"):
            for reference in self.filters.get(key):
                mark = self.ctx.images.resolve(reference).id
                created = next((row["created"] for row in rows if row["id"] == mark), 0.0)
                rows = [
                    row
                    for row in rows
                    if (row["created"] < created if key == "before" else row["created"] > created)
                ]
        return rows

    def _named(self, row: Row) -> Row | None:
        tags = [name for name in row["repo_tags"] if self._matches(name)]
        digests = [name for name in row["repo_digests"] if self._matches(name)]
        if not tags and not digests:
            return None
        if tags:  # a digest belongs to the line of its repository, if that is shown
            shown = {listing.split_reference(name)[0] for name in tags}
            digests = [
                name
                for name in row["repo_digests"]
                if name in digests or listing.split_reference(name)[0] in shown
            ]
            digests = [n for n in digests if listing.split_reference(n)[0] in shown] or digests
        return {**row, "repo_tags": tags, "repo_digests": digests}

    def _matches(self, name: str) -> bool:
        return any(matches_reference(pattern, name) for pattern in self.patterns)


_TESTS: dict[str, filters.Match] = {
    "label": lambda row, value: filters.label(row["labels"], value),
    "label!": lambda row, value: not filters.label(row["labels"], value),
}


def matches_reference(pattern: str, name: str) -> bool:
    """Whether the familiar NAME is what PATTERN asks for.

    PATTERN is a repository, a repository with a tag or digest, or a shell pattern over either, in which
    ``*`` stays within one path component.
    """
    pattern = listing.familiar(pattern)
    repository, tag, digest = listing.split_reference(name)
    wholes = [name, repository]
    if tag:
        wholes.append(f"{repository}:{tag}")
    if digest:
        wholes.append(f"{repository}@{digest}")
    return any(_glob(pattern, whole) for whole in wholes)


def _glob(pattern: str, text: str) -> bool:
    wanted, have = pattern.split("/"), text.split("/")
    if len(wanted) != len(have):
        return False
    import fnmatch

    return all(fnmatch.fnmatchcase(one, part) for part, one in zip(wanted, have))
