"""Storage drivers: the registry and the choice among them.

The order of REGISTRY is the ladder: the first that this machine can do is used unless the configuration
names one.
"""

from __future__ import annotations

from rootless.errors import HostError, UsageError

from .overlay import OverlayDriver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts

    from .base import SnapshotDriver

REGISTRY: dict[str, type[SnapshotDriver]] = {"overlay": OverlayDriver}


def choose(wanted: str, facts: HostFacts) -> SnapshotDriver:
    """The driver that WANTED names ("" or "auto": the best that works here).

    Raises UsageError for an unknown name, HostError with a hint where no driver works.
    """
    if wanted not in ("", "auto", *REGISTRY):
        raise UsageError(
            f"unknown storage driver {wanted!r}: known are auto, {', '.join(REGISTRY)}",
            hint="correct storage.driver in the configuration",
        )
    names = list(REGISTRY) if wanted in ("", "auto") else [wanted]
    failed = []
    for name in names:
        driver = REGISTRY[name]()
        probe = driver.probe(facts)
        if probe.usable:
            return driver
        failed.append((name, probe))
    name, probe = failed[0]
    raise HostError(f"cannot use storage driver {name}: {probe.reason}", hint=probe.hint)
