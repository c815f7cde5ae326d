"""--link on the default network, where it is what gives a name: to containers that are there, and that run.

On other networks a link is one more name, and whose it is is looked up whenever somebody asks.
"""

from __future__ import annotations

from rootless.errors import ConflictError, NotFoundError, UsageError
from rootless.plan import attach, netmode
from rootless.plan.network import DEFAULT_NETWORK, mode
from rootless.plan.request import RunRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.store.containers import Container

    from .context import Context


def check(ctx: Context, request: RunRequest) -> None:
    """At creation: refuse links to what is not there; raises UsageError."""
    for text in request.links:
        name = text.partition(":")[0]
        try:
            other = ctx.containers.resolve(name)
        except NotFoundError as error:
            raise UsageError(f"could not get container for {name}: {error.message}") from None
        if mode(_request(other).network) == netmode.HOST:
            raise UsageError(netmode.LINKS.format("host type networking"))


def require(ctx: Context, container: Container, request: RunRequest) -> None:
    """At the start: links lead to containers on the default network that run; raises ConflictError.

    One that was removed is passed over.
    """
    from . import lifecycle

    for text in request.links:
        name, _, alias = text.partition(":")
        try:
            other = ctx.containers.resolve(name)
        except NotFoundError:
            continue
        if not lifecycle.is_running(ctx, other):
            raise ConflictError(
                f"cannot link to a non running container: /{other.name} AS /{container.name}/{alias}",
                hint=f"rootless start {other.name}",
            )
        if DEFAULT_NETWORK not in [wish.network for wish in attach.wishes(_request(other))]:
            raise ConflictError(
                f"cannot link to /{other.name}, as it does not belong to the default network",
                hint="on a network of your own containers find each other by name",
            )


def _request(container: Container) -> RunRequest:
    return RunRequest.from_dict(container.record["request"])
