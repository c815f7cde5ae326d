"""Groups made by hand in the subtree that we were started in, where that was given to us.

A job of a batch system, a container of a CI service, a service with Delegate=yes: there the caller owns the
directory of its control group.  The container's group becomes a child of it.  The monitor stays where it is.
"""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.linux import cgroup

from .base import (
    CONTROLLERS,
    OPTIONAL,
    USER_FD,
    CgroupDriver,
    CgroupPlan,
    Probe,
    Wanted,
    sets,
    unified,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts


class CgroupfsDriver(CgroupDriver):
    """mkdir below the caller's own group."""

    name = "cgroupfs"

    def probe(self, facts: HostFacts) -> Probe:
        """Usable where the caller's group is the caller's to write to."""
        probe = unified(facts)
        if not probe.usable:
            return probe
        if not facts.cgroup_delegated:
            return Probe(
                False,
                f"no control group is delegated to this session: {facts.cgroup_error}",
                f"start it in one that is, as by: systemd-run --user --scope -p Delegate=yes {_SHELL}",
            )
        return Probe(True)

    def controllers(self, facts: HostFacts) -> tuple[str, ...]:
        """Those that the subtree was given."""
        return cgroup.controllers(facts.cgroup_delegated)

    def plan(self, wanted: Wanted, facts: HostFacts) -> CgroupPlan:
        """A child of the subtree's top, or of the parent that was asked for."""
        flags = OPTIONAL if wanted.optional else 0
        name = "/".join([*_parent(wanted.parent, facts.cgroup_delegated), f"rootless-{wanted.id}"])
        make = (facts.cgroup_delegated, name, cgroup.INNER, list(CONTROLLERS), USER_FD, flags)
        return CgroupPlan(
            self.name,
            [("cgroup_make", make), *sets(wanted.settings)],
            [("cgroup_enter", ("", 0, flags))],
            [("cgroup_enter", (f"{facts.cgroup_delegated}/{name}", 0, OPTIONAL))],
        )

    def enter(
        self,
        directory: str,
        container_id: str,  # noqa: ARG002
        pid: int,
        facts: HostFacts,  # noqa: ARG002
        *,
        optional: bool,
    ) -> CgroupPlan:
        """By the directory's own file; the kernel refuses who comes from outside of the subtree."""
        entry = (directory, pid, OPTIONAL if optional else 0)
        return CgroupPlan(self.name, [], [("cgroup_enter", entry)])


_SHELL = "$SHELL"


def _parent(text: str, top: str) -> list[str]:
    """The groups between TOP and the container's, by --cgroup-parent: a path below TOP, or the whole path."""
    for start in (top, top[len(cgroup.ROOT) :]):
        if start and (text == start or text.startswith(f"{start}/")):
            text = text[len(start) :]
            break
    parts = [part for part in text.split("/") if part]
    for part in parts:
        if part in (".", "..") or part.startswith("cgroup.") or "\n" in part or len(part) > 255:
            raise UsageError(f"invalid cgroup parent {text!r}: {part!r} names no control group")
    return parts
