"""Volume drivers: the registry."""

from __future__ import annotations

from rootless.errors import NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .base import VolumeDriver

# name -> (module, class)
REGISTRY = {"local": ("local", "LocalDriver")}


def driver(name: str) -> VolumeDriver:
    """The driver called NAME; raises NotFoundError in Docker's words for an unknown one."""
    if name not in REGISTRY:
        raise NotFoundError(
            f'error looking up volume plugin {name}: plugin "{name}" not found',
            hint=f"known volume drivers are {', '.join(REGISTRY)}",
        )
    module, kind = REGISTRY[name]
    found = __import__(f"{__name__}.{module}", fromlist=[kind])
    made: VolumeDriver = getattr(found, kind)()
    return made
