"""--network-opt fast=connect: whether a container can have it, and its policy as a file of rules.

The rules say the same as the network service does of TCP (drivers/network/netd/policy.py), by address: what
the container's networks let out goes through the host's namespace, all else takes the way of everybody, where
the service answers.  They are put into the container's runtime directory at its start and again whenever it is
connected to a network or taken from one; the process that connects reads them when they are others.
"""

from __future__ import annotations

from rootless.errors import HostError, UsageError
from rootless.plan import attach, fastconnect, idmap, netmode
from rootless.plan.fastconnect import BOUND, LOCKED, OWN, AddressRule
from rootless.plan.network import mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rootless.drivers.network.netd.policy import Network, Rule
    from rootless.plan.network import NetworkDef
    from rootless.plan.request import Placement, RunRequest

    from .context import Context


def asked(request: RunRequest) -> bool:
    """Whether the container is to have it."""
    return request.network_opts.get("fast") == "connect"


def settle(ctx: Context, request: RunRequest) -> None:
    """Refuse at creation what cannot be had; raises UsageError, HostError."""
    if not asked(request):
        return
    if mode(request.network) != netmode.BRIDGE:
        raise UsageError(
            f"cannot use fast=connect with network {request.network}: "
            "it is for containers on networks of their own"
        )
    one_id = idmap.emulated(request, ctx.facts)
    fastconnect.check(ctx.facts, one_id=one_id)
    for network in _networks(ctx, request):
        if network.options.get("egress") and not _can_lock():
            raise HostError(
                f"cannot use fast=connect on network {network.name}: it has egress rules, and this kernel "
                "lets only an administrator lock a socket to its peer",
            )


def plan(ctx: Context, request: RunRequest, place: Placement) -> None:
    """Put on PLACE what the launcher loads."""
    if asked(request):
        from . import filters

        place.fast = filters.fast_connect(ctx)


def put(ctx: Context, request: RunRequest, run_dir: str) -> None:
    """Write the rules of a container that has it, or write them anew; raises StorageError."""
    if not asked(request):
        return
    from rootless.store import files

    path = f"{run_dir}/{fastconnect.RULES}"
    allowed = ctx.settings.get("network.metadata") == "allow"
    found = rules(_networks(ctx, request), ctx.networks.all(), metadata=allowed)
    try:
        files.replace(path, fastconnect.encode_rules(found), durable=False)
    except OSError as error:
        raise files.failure(f"write {path}", error) from None


def _networks(ctx: Context, request: RunRequest) -> list[NetworkDef]:
    return [ctx.networks.resolve(wish.network) for wish in attach.wishes(request)]


def _can_lock() -> bool:
    from rootless.linux import sockfilter

    return sockfilter.can_attach()


def rules(
    own: Sequence[NetworkDef], others: Iterable[NetworkDef], *, metadata: bool
) -> list[AddressRule]:
    """The rules of a container on the networks OWN; what is in OTHERS is no business of the host's namespace.

    With METADATA the metadata services of clouds may be asked.
    """
    from ipaddress import ip_network

    from rootless.drivers.network.netd import policy

    ways_out = [network for network in own if not network.internal]
    limited = [network for network in ways_out if network.options.get(policy.EGRESS_OPTION)]
    if not ways_out or (limited and len(ways_out) > 1):
        return []  # by which of them a connection leaves is the service's business
    kept = [*policy.never(), *(() if metadata else policy.metadata())]
    for network in [*own, *others]:
        kept += [ip_network(subnet.subnet) for subnet in network.subnets]
    versions = {subnet.version for network in ways_out for subnet in network.subnets}
    everywhere = [
        ip_network("0.0.0.0/0" if version == 4 else "::/0") for version in sorted(versions)
    ]
    text = limited[0].options[policy.EGRESS_OPTION] if limited else ""
    return [
        *(_rule(network, OWN) for network in kept),
        *_egress(policy.parse_egress(text), everywhere),
    ]


def _egress(egress: Sequence[Rule], everywhere: Sequence[Network]) -> list[AddressRule]:
    """Egress rules, and what none of them says, for the address families of EVERYWHERE."""
    way = LOCKED if egress else BOUND
    found = []
    for rule in egress:
        if rule.protocol not in ("", "tcp"):
            continue
        first, last = rule.ports or (0, 65535)
        chosen = way if rule.action == "allow" else OWN
        for network in everywhere if rule.network is None else (rule.network,):
            if any(network.version == one.version for one in everywhere):
                found.append(_rule(network, chosen, first, last))
    default = OWN if egress and egress[-1].action == "allow" else way
    return found + [_rule(network, default) for network in everywhere]


def _rule(network: Network, way: int, first: int = 0, last: int = 65535) -> AddressRule:
    packed = network.network_address.packed
    return AddressRule(packed, network.prefixlen, way, first=first, last=last)
