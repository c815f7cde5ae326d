"""Storage drivers: the registry and the choice among them.

The order of REGISTRY is the ladder: the first that this machine can do is used unless the configuration
names one.
"""

from __future__ import annotations

from rootless.drivers import load, unknown
from rootless.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts

    from .base import SnapshotDriver

REGISTRY = {
    "overlay": ("overlay", "OverlayDriver"),
    "fuse-overlayfs": ("fuse_overlayfs", "FuseOverlayfsDriver"),
    "fusepy": ("fusepy", "FusepyDriver"),
    "copy": ("copy", "CopyDriver"),
}


def driver(name: str) -> SnapshotDriver:
    """The driver called NAME, whether it works here or not; raises UsageError for an unknown one."""
    if name not in REGISTRY:
        raise unknown("storage driver", name, REGISTRY, "storage.driver in the configuration")
    made: SnapshotDriver = load(__name__, REGISTRY, name)
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
