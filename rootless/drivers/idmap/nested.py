"""Nested: the caller is root of a user namespace that somebody made with a range of IDs."""

from __future__ import annotations

from .base import IdMapDriver, Probe, described

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts


class NestedIds(IdMapDriver):
    """The outer namespace's IDs stand for themselves."""

    name = "nested"

    def probe(self, facts: HostFacts) -> Probe:
        """Usable for uid 0 of a user namespace that maps more than one ID."""
        if facts.userns_error:
            return Probe(False, facts.userns_error)
        if facts.id_rung == self.name:
            return Probe(True, described(facts))
        return Probe(False, "this is not root of a user namespace with a range")
