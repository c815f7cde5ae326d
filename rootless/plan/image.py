"""ImageConfig: the part of an image's config blob that a run depends on.

Reads the OCI image config (and Docker's, which has the same shape) and its own dictionary form, in
which a container's record keeps it, so that a container outlives its image's tag.
"""

from __future__ import annotations

from rootless.errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# attribute, key in the image's "config" object, type; an empty value of that type stands in for null
_FIELDS: tuple[tuple[str, str, type[Any]], ...] = (
    ("env", "Env", list),
    ("entrypoint", "Entrypoint", list),
    ("cmd", "Cmd", list),
    ("user", "User", str),
    ("working_dir", "WorkingDir", str),
    ("exposed_ports", "ExposedPorts", dict),
    ("volumes", "Volumes", dict),
    ("labels", "Labels", dict),
    ("stop_signal", "StopSignal", str),
    ("healthcheck", "Healthcheck", dict),
    ("shell", "Shell", list),
)


class ImageConfig:
    """Process defaults and layers of an image; all empty for --rootfs."""

    __slots__ = (
        "architecture",
        "cmd",
        "diff_ids",
        "entrypoint",
        "env",
        "exposed_ports",
        "healthcheck",
        "labels",
        "os",
        "shell",
        "stop_signal",
        "user",
        "variant",
        "volumes",
        "working_dir",
    )

    def __init__(self) -> None:
        self.env: list[str] = []
        self.entrypoint: list[str] = []
        self.cmd: list[str] = []
        self.user = ""
        self.working_dir = ""
        self.exposed_ports: dict[str, Any] = {}
        self.volumes: dict[str, Any] = {}
        self.labels: dict[str, str] = {}
        self.stop_signal = ""
        self.healthcheck: dict[str, Any] = {}
        self.shell: list[str] = []
        self.os = ""
        self.architecture = ""
        self.variant = ""
        self.diff_ids: list[str] = []

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; :meth:`from_dict` reads them back."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImageConfig:
        """From :meth:`to_dict` output or from an image's config blob, parsed.

        Raises ImageError, naming the key, where a value has the wrong type.
        """
        image = cls()
        if not isinstance(data, dict):
            raise ImageError("cannot read image config: it is not a JSON object")
        if "diff_ids" in data:
            for name in image.__slots__:
                if name in data:
                    setattr(image, name, data[name])
            return image
        config = _typed(data, "config", dict, {})
        for name, key, kind in _FIELDS:
            setattr(image, name, _typed(config, key, kind, kind()))
        for name in ("os", "architecture", "variant"):
            setattr(image, name, _typed(data, name, str, ""))
        image.diff_ids = _typed(_typed(data, "rootfs", dict, {}), "diff_ids", list, [])
        return image


def _typed(data: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = data.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise ImageError(f"cannot read image config: {key} is {value!r}, not a {kind.__name__}")
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        raise ImageError(f"cannot read image config: {key} holds something that is not a string")
    return value
