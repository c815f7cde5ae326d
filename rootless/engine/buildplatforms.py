"""Building for other platforms: which commands of theirs can run here, and one name for the images of several.

A machine runs what its processor runs, and what the kernel hands to an emulator: an entry of binfmt_misc.  The
interpreter is looked for in the container unless the entry has the flag F, with which the kernel has opened it
before; an image has none, so F it must be.
"""

from __future__ import annotations

from rootless import jsonc
from rootless.errors import BuildError, UsageError
from rootless.oci import media_types
from rootless.oci import platform as platforms
from rootless.store import files

from . import buildimage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from rootless.oci.platform import Platform

    from .context import Context

BINFMT = "/proc/sys/fs/binfmt_misc"
# Architectures that are called otherwise by qemu, and those that a processor runs beside its own.
_QEMU = {
    "386": "i386",
    "amd64": "x86_64",
    "arm64": "aarch64",
    "loong64": "loongarch64",
    "mips64le": "mips64el",
    "mipsle": "mipsel",
}
_BESIDE = {"amd64": ("386",)}


def own(ctx: Context) -> Platform:
    """The platform of this machine."""
    return platforms.parse(f"linux/{ctx.facts.arch}")


def wanted(ctx: Context, text: str) -> list[str]:
    """What --platform means, each once; this machine's own for ""."""
    found: dict[str, None] = {}
    for word in text.split(","):
        one = platforms.parse(word.strip(), ctx.facts.arch) if word.strip() else own(ctx)
        if one.os != "linux":
            raise UsageError(f"cannot build for {one}: only for linux", exit_code=1)
        found[str(one)] = None
    return list(found)


def cannot_run(ctx: Context, platform: str, directory: str = BINFMT) -> BuildError | None:
    """Why commands of PLATFORM cannot run here; None if they can."""
    here, there = own(ctx), platforms.parse(platform)
    if platforms.matches(here, there) or there.architecture in _BESIDE.get(here.architecture, ()):
        return None
    name = f"qemu-{_QEMU.get(there.architecture, there.architecture)}"
    message = f"cannot run commands of {there}: this machine is {here}"
    remedy = (
        "an administrator can install qemu-user-static (Debian, Ubuntu: with binfmt-support; Fedora: "
        "qemu-user-static), or do such steps in a stage FROM --platform=$BUILDPLATFORM"
    )
    try:
        text = files.read(f"{directory}/{name}").decode("ascii", "replace")
    except OSError:
        return BuildError(
            f"{message}, and no emulator {name} is registered with the kernel", hint=remedy
        )
    lines = text.splitlines()
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    if "enabled" not in lines:
        return BuildError(
            f"{message}, and its emulator {name} is disabled in {directory}", hint=remedy
        )
    if "F" not in flags:
        return BuildError(
            f"{message}, and its emulator {name} is registered without the flag F, so containers lack it",
            hint=remedy,
        )
    return None


def name_all(
    ctx: Context,
    images: Mapping[str, str],
    tags: Sequence[str],
    epoch: int,
    before: Collection[str] = (),
) -> str:
    """Make an index of IMAGES (platform -> image ID) that TAGS name; its digest.

    Those that were not there BEFORE are then in the index and nowhere else.  What runs here by such a
    name is this machine's image, else the first.
    """
    manifests = []
    for platform, image_id in images.items():
        have = platforms.parse(platform)
        where = {"architecture": have.architecture, "os": have.os}
        if have.variant:
            where["variant"] = have.variant
        descriptor = ctx.images.resolve(image_id).descriptor
        keys = ("mediaType", "digest", "size")
        manifests.append({**{key: descriptor[key] for key in keys}, "platform": where})
    index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": manifests}
    if epoch >= 0:
        index["annotations"] = {"org.opencontainers.image.created": buildimage.stamp(epoch)}
    digest, _ = ctx.blobs.ingest(jsonc.dumps(index).encode())
    first = platforms.choose(own(ctx), manifests) or manifests[0]
    for tag in tags or [""]:
        ctx.images.put(first, tag, index=digest)
    for one in map(ctx.images.resolve, images.values()):
        if one.id not in before and not (one.references or one.repo_digests or one.index):
            ctx.images.remove(one.id)  # the index has it
    return str(digest)


def forget(ctx: Context, images: Mapping[str, str], before: Collection[str]) -> None:
    """Remove those of IMAGES from the store that were not there BEFORE and that nothing names."""
    for record in ctx.images.list():
        if record.id in images.values() and record.id not in before and not record.references:
            ctx.images.remove(record.id)
