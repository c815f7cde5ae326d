"""The fuse-overlayfs program, where the distribution has it and the kernel's overlay does not work.

The launcher mounts FUSE itself and hands the connection over as descriptor 3, which libfuse 3 (since 3.3)
takes where a mount point is called /dev/fd/3.  The program so needs no fusermount and never sees the
container's namespaces.
"""

from __future__ import annotations

from .base import FILES, Assembly, Probe, SnapshotDriver, made_upper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts

    from .base import Tree

MOUNT_OPTIONS = "allow_other,default_permissions"


class FuseOverlayfsDriver(SnapshotDriver):
    """Layers as lower directories of one fuse-overlayfs."""

    name = "fuse-overlayfs"

    def layer_format(self, facts: HostFacts) -> str:
        """The kernel's where the program knows its opaque directories; else what was deleted would be back."""
        return super().layer_format(facts) if facts.fuse_overlayfs_opaque else FILES

    maps_owners = ("keep-id", "auto")

    def probe(self, facts: HostFacts) -> Probe:
        """Usable where FUSE can be mounted and the program is installed."""
        if not facts.fuse_mount:
            return Probe(False, facts.fuse_error, fuse_hint(facts))
        if not facts.fuse_overlayfs:
            return Probe(
                False, "fuse-overlayfs is not installed", "install the package fuse-overlayfs"
            )
        return Probe(True)

    def plan(self, tree: Tree, facts: HostFacts) -> Assembly:
        """The server beside the container, then its mount as the root."""
        if not tree.lowers and tree.upper:
            return Assembly([("root_bind", (tree.upper, tree.merged))], made_upper(tree))
        words = ["lowerdir=" + ":".join(map(_escaped, tree.lowers))]
        if tree.upper:
            words += [f"upperdir={_escaped(tree.upper)}", f"workdir={_escaped(tree.work)}"]
        for word, extents in zip(("uidmapping", "gidmapping"), tree.owners):
            if extents:
                numbers = [str(number) for extent in extents for number in extent]
                words.append(f"{word}={':'.join(numbers)}")
        words += ["noacl", "timeout=60"]
        argv = [facts.fuse_overlayfs, "-f", "-o", ",".join(words), "/dev/fd/3"]
        return Assembly(
            [("root_bind", (tree.merged, tree.merged))],
            [*made_upper(tree), ("fuse", (MOUNT_OPTIONS, tree.merged, tree.log, argv))],
        )


def _escaped(path: str) -> str:
    """A path as a value of ``-o``: colons separate layers and commas options."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def fuse_hint(facts: HostFacts) -> str:
    """What would make FUSE work."""
    if not facts.fuse:
        return "an administrator can run: modprobe fuse && chmod 0666 /dev/fuse"
    return "Linux 4.18 or newer lets user namespaces mount FUSE"
