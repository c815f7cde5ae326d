"""Platforms: ``os/arch[/variant]``, their spellings and the best match of an index."""

from __future__ import annotations

from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

# Names the kernel and people use -> (architecture, variant) of the specs.
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "amd64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "arm64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i386": ("386", ""),
    "i686": ("386", ""),
}
_OSES = ("linux", "windows", "darwin", "freebsd")


class Platform:
    """One platform, normalised."""

    __slots__ = ("architecture", "os", "variant")

    def __init__(self, os: str = "linux", architecture: str = "", variant: str = "") -> None:
        arch, implied = _ARCHITECTURES.get(architecture.lower(), (architecture.lower(), ""))
        self.os = os.lower() or "linux"
        self.architecture = arch
        self.variant = variant.lower() or implied
        if arch == "arm64" and self.variant in ("8", "v8"):
            self.variant = ""
        if arch == "amd64" and self.variant == "v1":
            self.variant = ""
        if arch == "arm" and self.variant in ("5", "6", "7", "8"):
            self.variant = "v" + self.variant

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Platform) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def parse(text: str, machine: str = "x86_64") -> Platform:
    """``os``, ``arch``, ``os/arch`` or ``os/arch/variant``; MACHINE fills in what is not said."""
    parts = text.split("/")
    if not 1 <= len(parts) <= 3 or not all(
        part and not part.strip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
        for part in parts
    ):
        raise UsageError(f"invalid platform {text!r}: it must be os, arch, or os/arch[/variant]")
    if len(parts) == 1:
        if parts[0].lower() in _OSES:
            return Platform(parts[0], machine)
        return Platform("linux", parts[0])
    return Platform(*parts)


def of(descriptor: Mapping[str, Any]) -> Platform:
    """The platform that a descriptor of an index, or an image config, names."""
    return Platform(
        str(descriptor.get("os") or "linux"),
        str(descriptor.get("architecture") or ""),
        str(descriptor.get("variant") or ""),
    )


def matches(wanted: Platform, have: Platform) -> bool:
    """Whether an image of HAVE serves a request for WANTED."""
    if (wanted.os, wanted.architecture) != (have.os, have.architecture):
        return False
    return not wanted.variant or not have.variant or wanted.variant == have.variant


def choose(wanted: Platform, manifests: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The best descriptor of an index for WANTED: same variant, else newest variant that serves."""
    best: Mapping[str, Any] | None = None
    best_score: tuple[bool, str] = (False, "")
    for descriptor in manifests:
        platform = descriptor.get("platform")
        if not isinstance(platform, dict):
            continue
        have = of(platform)
        if not matches(wanted, have):
            continue
        score = (have.variant == wanted.variant, have.variant)
        if best is None or score > best_score:
            best, best_score = descriptor, score
    return best
