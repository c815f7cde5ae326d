"""Storage drivers: the registry and the choice among them.

The order of REGISTRY is the ladder: the first that this machine can do is used unless the configuration
names one.
"""

from __future__ import annotations

from rootless.errors import HostError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts

    from .base import SnapshotDriver

# name -> (module, class): a run imports only the driver that it uses
REGISTRY = {
    "overlay": ("overlay", "OverlayDriver"),
    "fuse-overlayfs": ("fuse_overlayfs", "FuseOverlayfsDriver"),
    "fusepy": ("fusepy", "FusepyDriver"),
    "copy": ("copy", "CopyDriver"),
}


def driver(name: str) -> SnapshotDriver:
    """The driver called NAME, whether it works here or not; raises UsageError for an unknown one."""
    if name not in REGISTRY:
        raise UsageError(
            f"unknown storage driver {name!r}: known are auto, {', '.join(REGISTRY)}",
            hint="correct storage.driver in the configuration",
        )
    module, kind = REGISTRY[name]
    found = __import__(f"{__name__}.{module}", fromlist=[kind])
    made: SnapshotDriver = getattr(found, kind)()
    return made


def choose(wanted: str, facts: HostFacts) -> SnapshotDriver:
    """The driver that WANTED names ("" or "auto": the best that works here).

    Raises UsageError for an unknown name, HostError with a hint where no driver works.
    """
    names = list(REGISTRY) if wanted in ("", "auto") else [wanted]
    failed = []
    for name in names:
        one = driver(name)
        probe = one.probe(facts)
        if probe.usable:
            return one
        failed.append((name, probe))
    name, probe = failed[0]
    raise HostError(f"cannot use storage driver {name}: {probe.reason}", hint=probe.hint)
