"""No control group: containers stay in that of their monitor, and what they may use is not limited by one."""

from __future__ import annotations

from .base import CgroupDriver, CgroupPlan, Probe, Wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts


class NoneDriver(CgroupDriver):
    """The last rung, which works everywhere."""

    name = "none"

    def probe(self, facts: HostFacts) -> Probe:  # noqa: ARG002
        """Always usable."""
        return Probe(True)

    def controllers(self, facts: HostFacts) -> tuple[str, ...]:  # noqa: ARG002
        """None."""
        return ()

    def plan(self, wanted: Wanted, facts: HostFacts) -> CgroupPlan | None:  # noqa: ARG002
        """Nothing is made."""
        return None

    def enter(
        self,
        directory: str,  # noqa: ARG002
        container_id: str,  # noqa: ARG002
        pid: int,  # noqa: ARG002
        facts: HostFacts,  # noqa: ARG002
        *,
        optional: bool,  # noqa: ARG002
    ) -> CgroupPlan | None:
        """Nothing is entered."""
        return None
