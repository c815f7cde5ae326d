"""A full copy of the layers per container: for hosts with neither overlay nor FUSE.

Where the filesystem can share extents (reflink: XFS, Btrfs, bcachefs) a copy costs its inodes only.  It
never shares inodes with a layer, so that nothing written in a container can reach another.
"""

from __future__ import annotations

import os

from rootless.errors import StorageError

from .base import Assembly, Probe, SnapshotDriver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts
    from rootless.plan.tape import Op

    from .base import Run, Tree

WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "copy_worker.py")


class CopyDriver(SnapshotDriver):
    """The container's root is its upper directory, filled with all of the layers once."""

    name = "copy"
    maps_owners = ("keep-id",)
    fills_upper = True

    def probe(self, facts: HostFacts) -> Probe:
        """Usable wherever a user namespace can be made."""
        if facts.userns_error:
            return Probe(False, facts.userns_error)
        how = "extents are shared" if facts.has("reflink") else "every file is copied"
        return Probe(True, how)

    def plan(self, tree: Tree, facts: HostFacts) -> Assembly:  # noqa: ARG002
        """The copy itself, bound as the root; without upper the single layer, read-only."""
        ops: list[Op] = []
        if not tree.upper and len(tree.lowers) > 1:
            raise StorageError(
                f"cannot show {tree.merged}: the copy driver has no read-only view of several layers"
            )
        if tree.upper:
            if not tree.lowers:
                ops.append(("mkdir_host", (tree.upper, 0o755)))
            ops.append(("root_bind", (tree.upper, tree.merged)))
        else:
            ops += [
                ("root_bind", (tree.lowers[0], tree.merged)),
                ("remount", ("/", 1, 0, 0)),
            ]
        return Assembly(ops)

    def up(self, tree: Tree, run: Run) -> None:
        """Copy the layers to upper if it is not there yet; raises StorageError, NoSpaceError."""
        if not tree.upper or not tree.lowers or os.path.isdir(tree.upper):
            return
        from rootless.store import worker
        from rootless.store.treecopy import Owners

        maps = Owners(*tree.owners).words()
        argv = worker.command(WORKER, tree.upper, tree.layer_format, *maps, *tree.lowers)
        worker.run(argv, run, tree.map_key, f"copy the layers to {tree.upper}")
