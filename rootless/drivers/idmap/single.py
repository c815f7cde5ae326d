"""Single ID: what every kernel with user namespaces allows, without any privileged helper."""

from __future__ import annotations

from .base import IdMapDriver, Probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts


class SingleId(IdMapDriver):
    """Root of the realm is the caller, and there is nobody else."""

    name = "single"

    def probe(self, facts: HostFacts) -> Probe:
        """Usable wherever a user namespace can be made."""
        if facts.userns_error:
            return Probe(False, facts.userns_error)
        return Probe(True, "one ID: every file of an image belongs to you")

    def plan(self, facts: HostFacts) -> HostFacts:
        """The map of one ID, whatever else the machine could do."""
        return facts.replace(
            id_rung=self.name, uid_map=((0, facts.uid, 1),), gid_map=((0, facts.gid, 1),)
        )
