"""Containers connected to networks and taken from them: in the record, and at once where they run.

The record is what counts at the next start, and the tape that a monitor plays again is made anew from it.
"""

from __future__ import annotations

import os

from rootless.errors import ConflictError, NotFoundError, UsageError
from rootless.linux import proc
from rootless.plan import attach, netmode
from rootless.plan.network import mode
from rootless.plan.request import RunRequest

from . import attach as attaching
from . import endpoints, events, renew

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rootless.plan.network import EndpointWish, NetworkDef
    from rootless.store.containers import Container

    from .context import Context


def connect(ctx: Context, reference: str, container_ref: str, wish: EndpointWish) -> None:
    """Put a container on one more network, at once if it runs; raises RootlessError."""
    network = ctx.networks.resolve(reference)
    wish.network = network.name
    container = ctx.containers.resolve(container_ref)
    _check_connect(network, container, wish)
    hold = ctx.networks.hold(network.name)
    try:
        live = _is_attached(ctx, container)
        if live:
            _ask(ctx, {"op": "connect", "container": container.id, "wish": wish.to_dict()})
        try:
            ctx.containers.update(container.id, lambda record: _add(record, wish, container))
        except BaseException:
            if live:
                _ask(ctx, {"op": "disconnect", "container": container.id, "network": network.name})
            raise
    finally:
        os.close(hold)
    if live:
        renew.renew(ctx, container)
        events.network(ctx, "connect", network, container.id)


_HOST = "container cannot be disconnected from host network or connected to host network"
_SHARED = (
    "container sharing network namespace with another container or host "
    "cannot be connected to any other network"
)
_PRIVATE = (
    "container cannot be connected to multiple networks "
    "with one of the networks in private (none) mode"
)


def _check_connect(network: NetworkDef, container: Container, wish: EndpointWish) -> None:
    request = RunRequest.from_dict(container.record["request"])
    kind = mode(request.network)
    if network.name == "host":
        raise ConflictError(_HOST)
    if network.name == "none" or kind == netmode.NONE:
        raise ConflictError(_PRIVATE)
    if kind in (netmode.HOST, netmode.CONTAINER):
        raise ConflictError(_SHARED)
    if kind != netmode.BRIDGE:
        raise ConflictError(
            f"container with network {kind} cannot be connected to any other network"
        )
    netmode.check_wish(wish)
    attaching.check_wish(network, wish)
    _refuse_twice(request, wish, container)


def _refuse_twice(request: RunRequest, wish: EndpointWish, container: Container) -> None:
    if any(one.network == wish.network for one in attach.wishes(request)):
        raise ConflictError(
            f"endpoint with name {container.name} already exists in network {wish.network}"
        )


def _add(record: dict[str, Any], wish: EndpointWish, container: Container) -> None:
    request = RunRequest.from_dict(record["request"])
    _refuse_twice(request, wish, container)
    request.endpoints = [one.to_dict() for one in (*attach.wishes(request), wish)]
    request.unplugged = False
    record["request"] = request.to_dict()


def disconnect(ctx: Context, reference: str, container_ref: str, *, force: bool = False) -> None:
    """Take a container from a network, at once if it runs; raises RootlessError.

    FORCE: of a network that is gone, too.
    """
    container = ctx.containers.resolve(container_ref)
    try:
        network: NetworkDef | None = ctx.networks.resolve(reference)
    except NotFoundError:
        if not force:
            raise
        network = None
    name = reference if network is None else network.name
    request = RunRequest.from_dict(container.record["request"])
    if name == "host" and mode(request.network) == netmode.HOST:
        raise ConflictError(_HOST)
    if not any(wish.network == name for wish in attach.wishes(request)):
        raise _not_connected(container, name)
    live = name in endpoints.report(container.dir)["networks"]
    if live:
        try:
            _ask(ctx, {"op": "disconnect", "container": container.id, "network": name})
        except NotFoundError:
            pass  # it ended, or somebody was faster
    ctx.containers.update(container.id, lambda record: _take(record, name, container))
    if live:
        renew.renew(ctx, container)
    if network is not None:
        events.network(ctx, "disconnect", network, container.id)


def _not_connected(container: Container, name: str) -> ConflictError:
    return ConflictError(f"container {container.id} is not connected to network {name}")


def _take(record: dict[str, Any], name: str, container: Container) -> None:
    request = RunRequest.from_dict(record["request"])
    found = attach.wishes(request)
    left = [wish for wish in found if wish.network != name]
    if len(left) == len(found):
        raise _not_connected(container, name)
    request.endpoints = [wish.to_dict() for wish in left]
    request.unplugged = not left
    record["request"] = request.to_dict()


def _is_attached(ctx: Context, container: Container) -> bool:
    """Whether the network service has the container."""
    if endpoints.report(container.dir) is not endpoints.NOTHING:
        return True
    state = ctx.containers.read_state(container.id)
    return state["status"] == "running" and proc.pid_alive(state["pid"], state["pidStart"])


def _ask(ctx: Context, request: Mapping[str, Any]) -> None:
    from rootless.runtime import network as service

    service.ask(service.directory(ctx.paths, ctx.facts), request)


def unlink(ctx: Context, text: str) -> None:
    """Remove the link ``/CONTAINER/ALIAS``, from the next start on; raises NotFoundError, UsageError."""
    parent, slash, alias = text.strip("/").rpartition("/")
    if not slash or not parent or not alias:
        raise UsageError(f"bad parameter: cannot find parent of {text}", exit_code=1)
    container = ctx.containers.resolve(parent)

    def change(record: dict[str, Any]) -> None:
        request = RunRequest.from_dict(record["request"])
        left = [one for one in request.links if one.partition(":")[2] != alias]
        found = len(left) < len(request.links)
        request.links = left
        for values in request.endpoints:
            left = [one for one in values["links"] if one.partition(":")[2] != alias]
            found = found or len(left) < len(values["links"])
            values["links"] = left
        if not found:
            raise NotFoundError(f"no such link: {text}")
        record["request"] = request.to_dict()

    ctx.containers.update(container.id, change)
