"""A container's networks, from the request to what the network service is asked when it starts.

Which network a container without --network is on is decided once, when it is created; the record says
``bridge`` or ``host`` afterwards.
"""

from __future__ import annotations

import os

from rootless import jsonc
from rootless.errors import HostError, UsageError
from rootless.plan import netmode, network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from rootless.plan.network import EndpointWish, NetworkDef
    from rootless.plan.request import Placement, RunRequest

    from .context import Context


def settle(ctx: Context, request: RunRequest, tell: Callable[[str], None] | None) -> None:
    """Decide at creation what networks a container is on, by name, and refuse what cannot be.

    Where this machine can have no bridges, one that did not ask for a network by name shares the host's, and
    TELL is told why, once per store.  Raises UsageError, NotFoundError, ConflictError, HostError.
    """
    netmode.check_conflicts(request)
    _settle_names(ctx, request, tell)
    if request.links:
        from . import linking

        linking.check(ctx, request)
    if request.network_opts:
        from . import fastconnect

        fastconnect.settle(ctx, request)


def _settle_names(ctx: Context, request: RunRequest, tell: Callable[[str], None] | None) -> None:
    if network.mode(request.network) != netmode.BRIDGE:
        return
    if not relayed(ctx) and not _settle_uplink(ctx, request, tell):
        return
    if not request.endpoints:
        name = netmode.network_name(request.network)
        request.network = ctx.networks.resolve(name).name
        return
    names: list[str] = []
    for values in request.endpoints:
        found = ctx.networks.resolve(netmode.network_name(values["network"]))
        check_wish(found, network.EndpointWish(**values))
        if found.name in names:
            raise UsageError(f'network "{found.name}" is specified multiple times')
        names.append(found.name)
        values["network"] = found.name
    request.network = names[0]


def relayed(ctx: Context) -> bool:
    """Whether the relay connects bridges because it can, which is usual: known without loading a driver."""
    facts = ctx.facts
    able = facts.net_bridge and facts.net_relay and not facts.userns_error
    return able and str(ctx.settings.get("network.uplink")) in ("", "auto")


def _settle_uplink(ctx: Context, request: RunRequest, tell: Callable[[str], None] | None) -> bool:
    """Whether there are bridges, by whatever; without them the container shares the host's network."""
    from rootless.drivers import network as drivers

    uplink = drivers.choose(str(ctx.settings.get("network.uplink")), ctx.facts)
    if not uplink.bridges:
        _share_host(ctx, request, tell)
        return False
    if uplink.program and tell is not None and ctx.settings.get("network.host_access"):
        tell(
            f"network.host_access has no effect: the uplink {uplink.name} does not lead to the host's loopback"
        )
    return True


def check_wish(found: NetworkDef, wish: EndpointWish) -> None:
    """Refuse addresses that a container cannot have on a network; raises UsageError, ConflictError."""
    from rootless.plan import addresses, subnets

    for version, text in ((4, wish.ip), (6, wish.ip6)):
        address = addresses.parse(text) if text else None
        if address is not None:
            subnets.check_wish(found.subnets, version, address, text)


def _share_host(ctx: Context, request: RunRequest, tell: Callable[[str], None] | None) -> None:
    """Put a container on the host's network, as there are no bridges; refuse one that asked for more."""
    from rootless.drivers import network as drivers

    if netmode.is_user_defined(request.network):
        probe = drivers.driver("relay").probe(ctx.facts)
        raise HostError(f"cannot use network {request.network}: {probe.reason}", hint=probe.hint)
    request.network = netmode.HOST
    request.endpoints = []
    if tell is None:
        return
    if _first_time(f"{ctx.paths.data_root}/.network-notice"):
        tell(drivers.host_notice(ctx.facts) + " (this is said once)")
    if request.publish or request.publish_all:
        tell("published ports are discarded when using host network mode")


def _first_time(marker: str) -> bool:
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError:
        return False
    return True


def plan(
    ctx: Context,
    name: str,
    record: dict[str, Any],
    request: RunRequest,
    place: Placement,
) -> None:
    """Put on PLACE what the launcher asks of the service, if the container (called NAME) has networks."""
    if network.mode(request.network) != netmode.BRIDGE:
        return
    if request.network_opts:
        from . import fastconnect

        fastconnect.plan(ctx, request, place)
    from rootless.plan import attach
    from rootless.plan.image import ImageConfig
    from rootless.runtime import network as service

    wanted = attach.attach_request(
        request,
        ImageConfig.from_dict(record["image_config"]),
        container_id=record["id"],
        name=name,
        hostname=request.hostname or record["id"][:12],
        directory=place.container_dir,
    )
    if wanted is None:
        return
    payload = jsonc.dumps({"op": "attach", **wanted.to_dict()}) + "\n"
    place.attach = (f"{service.directory(ctx.paths, ctx.facts)}/sock", payload.encode())


def ready(ctx: Context) -> None:
    """See that the network service runs, and does so until the launcher has come to it."""
    from rootless.runtime import network as service

    found = service.connect(service.directory(ctx.paths, ctx.facts))
    if found is None:
        found = service.ensure(ctx.paths, ctx.facts, ctx.realm, options(ctx))
    ctx.service = found


def options(ctx: Context) -> dict[str, Any]:
    """What the network service is started with."""
    from rootless.drivers import network as drivers

    settings = ctx.settings
    uplink = drivers.choose(str(settings.get("network.uplink")), ctx.facts)
    launch, facts = f"{ctx.paths.libexec}/launch", ctx.facts.to_dict()
    return {
        "uplink": {"name": uplink.name, "facts": facts, "launch": launch}
        if uplink.program
        else None,
        "networks": ctx.paths.networks,
        "nft": "" if ctx.facts.nft == "libnftables" else ctx.facts.nft,
        "idle": settings.get("network.idle"),
        "host_access": settings.get("network.host_access"),
        "metadata": settings.get("network.metadata"),
    }
