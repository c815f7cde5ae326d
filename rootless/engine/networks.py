"""Networks: chosen for a container, made, shown, removed and pruned.

A network is in use while a running container is on it (endpoints.py knows), and wanted while a record names it.
"""

from __future__ import annotations

import os

from rootless.errors import ConflictError, HostError, NotFoundError, UsageError
from rootless.store.networks import PREDEFINED

from . import endpoints, events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Callable

    from rootless.plan.network import NetworkDef, Subnet
    from rootless.store.containers import Container

    from .context import Context

BUILT_IN = ("bridge", *PREDEFINED)
DRIVERS = ("bridge",)
# Options of a bridge network that have an effect, and what their values are.
OPTIONS = {
    "com.docker.network.driver.mtu": "mtu",
    "com.docker.network.bridge.enable_icc": "bool",
    "com.docker.network.bridge.name": "interface",
    "mtu": "mtu",
    "isolate": "bool",
    "egress": "egress",
}


# making


def create(
    ctx: Context,
    name: str,
    *,
    driver: str = "bridge",
    chosen: Sequence[Subnet] = (),
    internal: bool = False,
    ipv4: bool = True,
    ipv6: bool = False,
    attachable: bool = False,
    labels: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
) -> NetworkDef:
    """Make a network; raises UsageError, NotFoundError (of the driver) or ConflictError before it is made."""
    if driver in ("host", "null", "none"):
        kind = "host" if driver == "host" else "null"
        raise ConflictError(f'only one instance of "{kind}" network is allowed')
    if driver not in DRIVERS:
        raise NotFoundError(
            f'could not find plugin {driver} in v1 plugin registry: plugin "{driver}" not found'
        )
    for key, value in (options or {}).items():
        _check_option(ctx, key, value)
    if not (ipv4 or ipv6):
        raise UsageError("network has neither IPv4 nor IPv6: one must be enabled", exit_code=1)
    made = ctx.networks.create(
        name,
        driver=driver,
        internal=internal,
        ipv4=ipv4,
        ipv6=ipv6,
        attachable=attachable,
        labels=labels,
        options=options,
        subnets=chosen,
    )
    events.network(ctx, "create", made)
    return made


def _check_option(ctx: Context, key: str, value: str) -> None:
    kind = OPTIONS.get(key, "text")
    good = True
    if kind == "mtu":
        good = value.isascii() and value.isdigit() and 68 <= int(value) <= 65535
    elif kind == "bool":
        good = value in ("true", "false")
    elif kind == "interface":
        good = 0 < len(value) < 16 and value.isascii() and value.replace("-", "").isalnum()
    if not good:
        raise UsageError(f"invalid value {value!r} for network option {key}", exit_code=1)
    if kind == "interface":
        for other in ctx.networks.all():
            if other.options.get(key) == value:
                raise ConflictError(
                    f"conflicts with network {other.id} ({value}): networks have same bridge name"
                )
    if kind == "egress":
        from rootless.drivers.network.netd import policy

        try:
            policy.parse_egress(value)
        except UsageError as error:
            raise UsageError(error.message, hint=error.hint, exit_code=1) from None


# showing


def inspect(ctx: Context, reference: str) -> dict[str, Any]:
    """A network in Docker's JSON; raises NotFoundError, UsageError."""
    network = ctx.networks.resolve(reference)
    return describe(network, endpoints.on_networks(ctx).get(network.id, []))


def describe(
    network: NetworkDef, there: Sequence[tuple[Container, Mapping[str, Any]]] = ()
) -> dict[str, Any]:
    """A network with the endpoints THERE in Docker's JSON."""
    from .inspect import timestamp

    return {
        "Name": network.name,
        "Id": network.id,
        "Created": timestamp(network.created),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": network.ipv4,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": "default",
            "Options": {} if network.driver == "bridge" else None,
            "Config": [_ipam(subnet) for subnet in network.subnets] or None,
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {container.id: _endpoint(container, at) for container, at in there},
        "Options": dict(network.options),
        "Labels": dict(network.labels),
    }


def _ipam(subnet: Subnet) -> dict[str, Any]:
    return {
        "Subnet": subnet.subnet,
        **({"IPRange": subnet.ip_range} if subnet.ip_range else {}),
        "Gateway": subnet.gateway,
        **({"AuxiliaryAddresses": dict(subnet.aux)} if subnet.aux else {}),
    }


def _endpoint(container: Container, at: Mapping[str, Any]) -> dict[str, str]:
    return {
        "Name": container.name,
        "EndpointID": str(at["endpoint_id"]),
        "MacAddress": str(at["mac"]),
        "IPv4Address": f"{at['ip']}/{at['prefix']}" if at["ip"] else "",
        "IPv6Address": f"{at['ip6']}/{at['prefix6']}" if at["ip6"] else "",
    }


# removing


def remove(ctx: Context, reference: str) -> str:
    """Remove a network that no running container is on; its name.  Raises NotFoundError, ConflictError."""
    network = ctx.networks.resolve(reference)
    if network.name in BUILT_IN:
        raise ConflictError(f"{network.name} is a pre-defined network and cannot be removed")
    lock = ctx.networks.lock(network.name)
    try:
        _refuse_active(ctx, network)
        taken = ctx.networks.take(network.name)
        try:
            _wait_for_service(ctx)
            _refuse_active(ctx, network)
        except BaseException:
            ctx.networks.put_back(taken, network.name)
            raise
        ctx.networks.discard(taken)
    finally:
        os.close(lock)
    events.network(ctx, "destroy", network)
    return network.name


def _refuse_active(ctx: Context, network: NetworkDef) -> None:
    there = endpoints.on_networks(ctx).get(network.id)
    if there:
        shown = ", ".join(
            f'name:"{container.name}" id:"{at["endpoint_id"][:12]}"' for container, at in there
        )
        raise ConflictError(
            f"error while removing network: network {network.name} has active endpoints ({shown})"
        )


def _wait_for_service(ctx: Context) -> None:
    """See that no container is being connected to a network that the service read of before it was taken.

    It does one thing at a time: once it has answered, whoever was before us is connected, and reported.
    """
    from rootless.runtime import network as service

    directory = service.directory(ctx.paths, ctx.facts)
    if os.path.exists(f"{directory}/sock"):
        try:
            service.ask(directory, {"op": "status"})
        except HostError:
            pass  # it has just ended


def prune(ctx: Context, wanted: Callable[[NetworkDef], bool]) -> list[str]:
    """Remove the networks that no container refers to, running or not, and that WANTED takes; their names."""
    referred = endpoints.referred(ctx)
    gone = []
    for network in ctx.networks.all():
        if network.name in BUILT_IN or network.name in referred or not wanted(network):
            continue
        try:
            gone.append(remove(ctx, network.name))
        except (ConflictError, NotFoundError):
            continue  # somebody was faster
    events.pruned(ctx, "network", 0)
    return gone
