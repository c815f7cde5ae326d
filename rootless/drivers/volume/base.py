"""What a volume driver is: the meaning of a volume's options.

Pure: check() refuses options, backing() says what is mounted in a container.  The launcher mounts it in the
container's own namespace, so that there is nothing to be unmounted.  Where the content lies, and who
may remove it, is the store's and the engine's affair.  Every driver passes tests/contract/.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Backing:
    """What stands behind a volume: a mount type ("bind" or "tmpfs"), its source and option words."""

    __slots__ = ("options", "source", "type")

    def __init__(self, type: str, source: str, options: Sequence[str] = ()) -> None:  # noqa: A002
        self.type = type
        self.source = source
        self.options = list(options)


class VolumeDriver:
    """Base of all volume drivers; ``name`` is as in ``volume create --driver``."""

    name = ""

    def check(self, options: Mapping[str, str]) -> None:
        """Refuse options that mean nothing or cannot be; raises UsageError, HostError."""
        raise NotImplementedError

    def backing(self, options: Mapping[str, str], data_dir: str) -> Backing:
        """What a container with the volume mounts; DATA_DIR is the volume's own directory."""
        raise NotImplementedError

    def owns_content(self, options: Mapping[str, str]) -> bool:
        """Whether the content lies in the volume's own directory, to be filled, counted and removed."""
        raise NotImplementedError
