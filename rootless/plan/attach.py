"""What the network service is asked for when a container starts: AttachRequest from the request and the image.

Pure.  Made at every start from the record, so that what `network connect` and `disconnect` wrote there holds.
"""

from __future__ import annotations

from . import netmode, ports
from .network import AttachRequest, EndpointWish, mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .image import ImageConfig
    from .network import Port
    from .request import RunRequest


def wishes(request: RunRequest) -> list[EndpointWish]:
    """The networks of a container whose mode is a network; empty for every other mode."""
    if mode(request.network) != netmode.BRIDGE or request.unplugged:
        return []
    found = [EndpointWish(**values) for values in request.endpoints]
    for wish in found:
        wish.network = netmode.network_name(wish.network)
    return found or [EndpointWish(netmode.network_name(request.network))]


def published(request: RunRequest, image: ImageConfig) -> list[Port]:
    """What the container publishes: -p, and -P for what it or its image exposes."""
    if not (request.publish or request.publish_all):
        return []
    return ports.published(
        request.publish,
        publish_all=request.publish_all,
        expose=request.expose,
        image_ports=image.exposed_ports,
    )


def attach_request(
    request: RunRequest,
    image: ImageConfig,
    *,
    container_id: str,
    name: str,
    hostname: str,
    directory: str,
) -> AttachRequest | None:
    """What to ask the service for; None where the container is not one of the service's.

    NAME is the container's, HOSTNAME what it will have, DIRECTORY where it lies on disk.
    """
    if mode(request.network) != netmode.BRIDGE:
        return None
    networks = wishes(request)
    for wish in networks[:1]:
        wish.links += [text for text in request.links if text not in wish.links]
    return AttachRequest(
        id=container_id,
        name=name,
        hostname=hostname,
        domainname=request.domainname,
        directory=directory,
        networks=networks,
        ports=published(request, image),
        dns=request.dns,
        dns_search=request.dns_search,
        dns_options=request.dns_options,
        hosts=request.add_hosts,
    )
