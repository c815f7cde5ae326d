"""What a long transfer tells: events that a front shows as lines, as a live display or as JSON."""

from __future__ import annotations


class ProgressSink:
    """Takes events and shows nothing; fronts inherit from it.  Called from several threads."""

    def event(self, ident: str, status: str, current: int = 0, total: int = 0) -> None:
        """Something about the part IDENT (12 digits of a layer, or a tag); counts are bytes."""

    def line(self, text: str) -> None:
        """A line of the whole transfer."""

    def __enter__(self) -> ProgressSink:
        return self

    def __exit__(self, *_: object) -> None:
        return None
