"""Our own union filesystem, in Python on the fusepy API, where there is FUSE and no fuse-overlayfs.

The server is unionfs/server.py; this module only plans its start.  It runs by the interpreter that
runs us, on libfuse 2 or 3, whichever the machine has.
"""

from __future__ import annotations

import os
import sys

from rootless.store.treecopy import Owners

from .base import Assembly, Probe, SnapshotDriver, made_upper
from .fuse_overlayfs import MOUNT_OPTIONS, fuse_hint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts

    from .base import Tree

SERVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "unionfs", "server.py")


class FusepyDriver(SnapshotDriver):
    """Layers as lower directories of our own server."""

    name = "fusepy"
    enforces_limit = True
    maps_owners = ("keep-id", "auto")

    def probe(self, facts: HostFacts) -> Probe:
        """Usable where FUSE can be mounted, libfuse is there and a Python binding of it is."""
        if not facts.fuse_mount:
            return Probe(False, facts.fuse_error, fuse_hint(facts))
        if not facts.libfuse:
            return Probe(
                False, "libfuse is not installed", "install the package libfuse3-3 or libfuse2"
            )
        if not facts.fusepy:
            return Probe(False, "neither mfusepy nor fusepy can be imported", "pip install mfusepy")
        return Probe(True)

    def plan(self, tree: Tree, facts: HostFacts) -> Assembly:
        """The server beside the container, then its mount as the root."""
        if not tree.lowers and tree.upper and not tree.limit:
            return Assembly([("root_bind", (tree.upper, tree.merged))], made_upper(tree))
        argv = [sys.executable, "-I", "-S", SERVER, "--fd=3", f"--target={tree.merged}"]
        argv.append(f"--format={tree.layer_format}")
        if tree.upper:
            argv += [f"--upper={tree.upper}", f"--work={tree.work}"]
        if tree.limit:
            argv.append(f"--size={tree.limit}")
        for name, word in zip(("uidmap", "gidmap"), Owners(*tree.owners).words()):
            if word:
                argv.append(f"--{name}={word}")
        argv += [f"--lower={path}" for path in tree.lowers]
        argv.append(f"--site={facts.fusepy}")
        if facts.libfuse == "2":
            argv.append("--libfuse=2")
        return Assembly(
            [("root_bind", (tree.merged, tree.merged))],
            [*made_upper(tree), ("fuse", (MOUNT_OPTIONS, tree.merged, tree.log, argv))],
        )
