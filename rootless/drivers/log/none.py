"""The driver ``none``: output goes to attached clients and nowhere else."""

from __future__ import annotations

from .base import LogDriver, LogInfo, Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class NoneDriver(LogDriver):
    """Docker's ``none``, which looks at no options."""

    name = "none"
    logs = False

    def check(self, options: Mapping[str, str]) -> None:
        """Docker takes any."""

    def plan(self, options: Mapping[str, str], info: LogInfo) -> Plan:  # noqa: ARG002
        """Nothing."""
        return Plan()
