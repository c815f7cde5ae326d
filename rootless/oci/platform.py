"""Platforms: ``os/arch[/variant]``, their spellings and the best match of an index."""

from __future__ import annotations

from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

# Names the kernel and people use -> (architecture, variant) of the image spec.
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv8l": ("arm", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "loongarch64": ("loong64", ""),
}
# What an image is built for when it does not say its variant.
_BASELINE = {"amd64": 1, "arm64": 8, "arm": 7}
_OSES = ("linux", "windows", "darwin", "freebsd")


class Platform:
    """One platform, normalised: the variant that every CPU of an architecture has is left out."""

    __slots__ = ("architecture", "os", "variant")

    def __init__(self, os: str = "linux", architecture: str = "", variant: str = "") -> None:
        arch, implied = _ARCHITECTURES.get(architecture.lower(), (architecture.lower(), ""))
        self.os = os.lower() or "linux"
        self.architecture = arch
        self.variant = variant.lower() or implied
        if arch in _BASELINE and self.variant.isdigit():
            self.variant = "v" + self.variant
        if (arch, self.variant) in (("arm64", "v8"), ("amd64", "v1")):
            self.variant = ""

    @property
    def level(self) -> int:
        """The variant as a number that grows with what the CPU can do; -1 if it is none."""
        text = self.variant[1:] if self.variant[:1] == "v" else ""
        if not self.variant:
            return _BASELINE.get(self.architecture, 0)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else -1

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
    """Whether an image of HAVE runs on WANTED: the same architecture, and no later variant of it."""
    if (wanted.os, wanted.architecture) != (have.os, have.architecture):
        return False
    return wanted.variant == have.variant or 0 <= have.level <= wanted.level


def choose(wanted: Platform, manifests: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The descriptor of an index that suits WANTED best: the latest variant that runs there.

    Of equals the first one listed wins; descriptors without a platform are passed over.
    """
    best: Mapping[str, Any] | None = None
    best_score = (False, -1)
    for descriptor in manifests:
        platform = descriptor.get("platform")
        if not isinstance(platform, dict):
            continue
        have = of(platform)
        if not matches(wanted, have):
            continue
        score = (have.variant == wanted.variant, have.level)
        if best is None or score > best_score:
            best, best_score = descriptor, score
    return best
