"""Control groups: the registry of drivers and the choice among them.

The order of REGISTRY is the ladder: the first that this machine, and this session, can do is used unless the
configuration (cgroup.driver) or --cgroup-manager names one.
"""

from __future__ import annotations

from rootless.drivers import load, unknown
from rootless.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts

    from .base import CgroupDriver

REGISTRY = {
    "systemd": ("systemd", "SystemdDriver"),
    "cgroupfs": ("cgroupfs", "CgroupfsDriver"),
    "none": ("none", "NoneDriver"),
}


def driver(name: str) -> CgroupDriver:
    """The driver called NAME, whether it works here or not; raises UsageError for an unknown one."""
    if name not in REGISTRY:
        raise unknown(
            "cgroup driver",
            name,
            REGISTRY,
            "cgroup.driver in the configuration, or --cgroup-manager",
        )
    made: CgroupDriver = load(__name__, REGISTRY, name)
    return made


def choose(wanted: str, facts: HostFacts) -> CgroupDriver:
    """The driver that WANTED names ("" or "auto": the best that works here, if need be ``none``).

    Raises UsageError for an unknown name, HostError with a hint where the named one does not work.
    """
    if wanted in ("", "auto"):
        if facts.cgroup_mode != "unified":
            return driver("none")
        return next(one for one in map(driver, REGISTRY) if one.probe(facts).usable)
    one = driver(wanted)
    probe = one.probe(facts)
    if not probe.usable:
        raise HostError(f"cannot use cgroup driver {wanted}: {probe.reason}", hint=probe.hint)
    return one
