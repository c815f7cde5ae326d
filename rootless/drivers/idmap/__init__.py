"""ID maps: the rungs on which a user's container IDs can stand, and the choice among them.

The order of REGISTRY is the ladder: the first that this machine can do is used unless the configuration
names one.
"""

from __future__ import annotations

from rootless.drivers import unknown
from rootless.errors import IdMapError

from .nested import NestedIds
from .single import SingleId
from .subid import SubordinateIds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts

    from .base import IdMapDriver

REGISTRY: dict[str, type[IdMapDriver]] = {
    "subid": SubordinateIds,
    "nested": NestedIds,
    "single": SingleId,
}


def choose(mode: str, facts: HostFacts) -> HostFacts:
    """FACTS with the rung and the maps that MODE stands for ("auto": the best that works here).

    Raises UsageError for an unknown mode, IdMapError where this machine cannot do what was named.
    """
    if mode == "auto":
        return facts
    if mode not in REGISTRY:
        raise unknown("ID map", mode, REGISTRY, "idmap.mode in the configuration")
    driver = REGISTRY[mode]()
    probe = driver.probe(facts)
    if not probe.usable:
        raise IdMapError(f"cannot use ID map {mode}: {probe.reason}", hint=probe.hint)
    return driver.plan(facts)
