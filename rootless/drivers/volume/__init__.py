"""Volume drivers: the registry."""

from __future__ import annotations

from rootless.drivers import load
from rootless.errors import NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .base import VolumeDriver

REGISTRY = {"local": ("local", "LocalDriver")}


def driver(name: str) -> VolumeDriver:
    """The driver called NAME; raises NotFoundError in Docker's words for an unknown one."""
    if name not in REGISTRY:
        raise NotFoundError(
            f'error looking up volume plugin {name}: plugin "{name}" not found',
            hint=f"known volume drivers are {', '.join(REGISTRY)}",
        )
    made: VolumeDriver = load(__name__, REGISTRY, name)
    return made
