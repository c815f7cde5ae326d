"""Networks: what the realm's bridges are connected by to the outside, and the service that does it (netd/).

The order of REGISTRY is the ladder of uplinks: the first that this machine can do is used unless the
configuration (network.uplink) names one.
"""

from __future__ import annotations

from rootless.drivers import load, unknown
from rootless.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts

    from .base import UplinkDriver

REGISTRY = {
    "relay": ("relay", "RelayUplink"),
    "pasta": ("pasta", "PastaUplink"),
    "slirp4netns": ("slirp4netns", "Slirp4netnsUplink"),
    "host": ("host", "HostUplink"),
}


def driver(name: str) -> UplinkDriver:
    """The uplink called NAME, whether it works here or not; raises UsageError for an unknown one."""
    if name not in REGISTRY:
        raise unknown("network uplink", name, REGISTRY, "network.uplink in the configuration")
    made: UplinkDriver = load(__name__, REGISTRY, name)
    return made


def choose(wanted: str, facts: HostFacts) -> UplinkDriver:
    """The uplink that WANTED names ("" or "auto": the best that works here, if need be ``host``).

    Raises UsageError for an unknown name, HostError with a hint where the named one does not work.
    """
    if wanted in ("", "auto"):
        return next(one for one in map(driver, REGISTRY) if one.probe(facts).usable)
    one = driver(wanted)
    probe = one.probe(facts)
    if not probe.usable:
        raise HostError(f"cannot use network uplink {wanted}: {probe.reason}", hint=probe.hint)
    return one


def host_notice(facts: HostFacts) -> str:
    """Why containers share the host's network here though they were to be on a bridge, in one sentence."""
    probe = driver("relay").probe(facts)
    advice = f"; {probe.hint}" if probe.hint else ""
    return f"containers share the host's network, as there can be no bridges here: {probe.reason}{advice}"
