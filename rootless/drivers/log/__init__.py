"""Log drivers: the registry."""

from __future__ import annotations

from rootless.drivers import load
from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .base import LogDriver

REGISTRY = {
    "json-file": ("json_file", "JsonFileDriver"),
    "local": ("json_file", "LocalDriver"),
    "journald": ("journald", "JournaldDriver"),
    "syslog": ("syslog", "SyslogDriver"),
    "none": ("none", "NoneDriver"),
    "passthrough": ("passthrough", "PassthroughDriver"),
}
ALIASES = {"k8s-file": "json-file"}  # podman's name


def driver(name: str) -> LogDriver:
    """The driver called NAME; raises UsageError in Docker's words for an unknown one."""
    name = ALIASES.get(name, name)
    if name not in REGISTRY:
        raise UsageError(
            f"logger: no log driver named '{name}' is registered",
            hint=f"known log drivers are {', '.join(REGISTRY)}",
        )
    made: LogDriver = load(__name__, REGISTRY, name)
    return made
