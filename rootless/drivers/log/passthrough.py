"""The driver ``passthrough``, podman's: the container has its caller's own stdin, stdout and stderr.

Nothing is copied, so nothing can be attached to or read later.  For services whose manager has opened their
streams.
"""

from __future__ import annotations

from rootless.errors import UsageError

from .base import LogDriver, LogInfo, Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class PassthroughDriver(LogDriver):
    """The caller's streams."""

    name = "passthrough"
    logs = False

    def check(self, options: Mapping[str, str]) -> None:
        """There is nothing to say about streams that are not ours."""
        for key in options:
            raise UsageError(f"unknown log opt '{key}' for {self.name} log driver")

    def plan(self, options: Mapping[str, str], info: LogInfo) -> Plan:  # noqa: ARG002
        """No file and no socket."""
        return Plan(stdio=True)
