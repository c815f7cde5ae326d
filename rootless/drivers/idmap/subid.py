"""Subordinate IDs: ranges of /etc/subuid and /etc/subgid, mapped by newuidmap and newgidmap."""

from __future__ import annotations

from .base import IdMapDriver, Probe, described

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts

RANGE = 65536


class SubordinateIds(IdMapDriver):
    """Root of the realm is the caller; 1 and up are the caller's ranges."""

    name = "subid"

    def probe(self, facts: HostFacts) -> Probe:
        """Usable where a process could be made with the whole map."""
        if facts.userns_error:
            return Probe(False, facts.userns_error)
        if facts.id_rung == self.name:
            return Probe(True, described(facts))
        if facts.id_rung == "nested":
            return Probe(False, "not needed: this user namespace has a range already")
        return Probe(False, facts.subid_error, self._hint(facts))

    @staticmethod
    def _hint(facts: HostFacts) -> str:
        if not facts.newuidmap or not facts.newgidmap:
            return "install newuidmap and newgidmap: apt-get install uidmap, or dnf install shadow-utils"
        if "no range" in facts.subid_error:
            first = 1_000_000 + RANGE * (facts.uid % 16384)
            last = first + RANGE - 1
            return f"usermod --add-subuids {first}-{last} --add-subgids {first}-{last} {facts.user}"
        return f"chmod u+s {facts.newuidmap} {facts.newgidmap}"
