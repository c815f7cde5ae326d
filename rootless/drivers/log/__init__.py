"""Log drivers: the registry."""

from __future__ import annotations

from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .base import LogDriver

# name -> (module, class); podman's name for json-file is understood, too
REGISTRY = {
    "json-file": ("json_file", "JsonFileDriver"),
    "local": ("json_file", "LocalDriver"),
    "journald": ("journald", "JournaldDriver"),
    "syslog": ("syslog", "SyslogDriver"),
    "none": ("none", "NoneDriver"),
    "passthrough": ("passthrough", "PassthroughDriver"),
}
ALIASES = {"k8s-file": "json-file"}


def driver(name: str) -> LogDriver:
    """The driver called NAME; raises UsageError in Docker's words for an unknown one."""
    name = ALIASES.get(name, name)
    if name not in REGISTRY:
        raise UsageError(
            f"logger: no log driver named '{name}' is registered",
            hint=f"known log drivers are {', '.join(REGISTRY)}",
        )
    module, kind = REGISTRY[name]
    found = __import__(f"{__name__}.{module}", fromlist=[kind])
    made: LogDriver = getattr(found, kind)()
    return made
