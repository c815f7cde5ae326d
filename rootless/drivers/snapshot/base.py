"""What a storage driver is: a way to show a stack of layers and a writable directory as one tree.

A driver has two halves.  Judging and planning are pure: probe() reads HostFacts, plan() returns tape
operations.  Acting is the launcher's, which plays them, so that everything mounted is mounted in the
container's own mount namespace and vanishes with it; up() does what has to be on disk before that.  Every
driver passes tests/contract/.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Callable

    from rootless.facts import Extent, HostFacts
    from rootless.plan.tape import Op

    # (argv, descriptors, map key) -> pid of a program started as root of the realm or of that map
    Owners = tuple[Sequence[Extent], Sequence[Extent]]
    Run = Callable[[Sequence[str], Mapping[int, int], str], int]

# How unpacked layers keep what they delete: as overlayfs does (0/0 character devices, user.overlay.opaque),
# or as empty files whose names begin with ".wh.", which need nothing of the filesystem.
OVERLAY, FILES = "overlay", "files"


class Probe:
    """Whether a driver can work here; REASON says why not, HINT what an administrator could do."""

    __slots__ = ("hint", "reason", "usable")

    def __init__(self, usable: bool, reason: str = "", hint: str = "") -> None:
        self.usable = usable
        self.reason = reason
        self.hint = hint


class Tree:
    """What to assemble, in paths of the host.

    lowers    layer trees, topmost first, possibly none; one that an image has twice (an empty layer, mostly)
              is here once, at its top: all that it has below is hidden by itself, and overlayfs refuses it
    data      directories that lend files of lowers their data (store/layers.py), for drivers with reads_data
    upper     writable directory, made when it is missing; "" for a tree that is read-only
    work      directory on the filesystem of upper, for the driver alone
    merged    existing directory at which the tree is to appear
    owner     (uid, gid) in the realm of the container's root, who is to own upper
    owners    ID maps (uid, gid) by which the driver is to show what is on disk, as extents (on disk, shown,
              size) of realm IDs; empty for as it is.  Not empty for drivers with maps_owners only
    layer_format, map_key  as the layers were unpacked
    log       file for what a server has to say; "" for nowhere
    limit     bytes that upper may hold; 0 for no limit
    """

    __slots__ = (
        "data",
        "layer_format",
        "limit",
        "log",
        "lowers",
        "map_key",
        "merged",
        "owner",
        "owners",
        "upper",
        "work",
    )

    def __init__(
        self,
        lowers: Sequence[str],
        upper: str,
        work: str,
        merged: str,
        *,
        owner: tuple[int, int] = (0, 0),
        layer_format: str = OVERLAY,
        map_key: str = "",
        log: str = "",
        limit: int = 0,
        data: Sequence[str] = (),
        owners: Owners = ((), ()),
    ) -> None:
        self.lowers = list(dict.fromkeys(lowers))
        self.upper = upper
        self.work = work
        self.merged = merged
        self.owner = owner
        self.layer_format = layer_format
        self.map_key = map_key
        self.log = log
        self.limit = limit
        self.data = list(dict.fromkeys(data))
        self.owners = owners


class Assembly:
    """Operations that make a tree appear.

    outer  played as the realm's root, in a mount namespace of its own, before the container's
           namespaces are made; none where there is nothing to do, then there is no such namespace
    inner  played in the container's mount namespace; the last makes the tree the new root
    """

    __slots__ = ("inner", "outer")

    def __init__(self, inner: list[Op], outer: list[Op] | None = None) -> None:
        self.inner = inner
        self.outer = outer or []


class SnapshotDriver:
    """Base of all storage drivers; ``name`` is as in storage.driver and in ``info``."""

    name = ""
    enforces_limit = False  # whether Tree.limit holds while a container writes
    # Modes of --userns for which Tree.owners is obeyed, so that layers need no copy for each ID map.
    maps_owners: tuple[str, ...] = ()
    reads_data = False  # whether Tree.data is
    fills_upper = False  # whether up() makes a copy of the layers in Tree.upper, which it needs

    def layer_format(self, facts: HostFacts) -> str:
        """How layers have to be unpacked for this driver on this host; drivers that agree share layers."""
        return OVERLAY if facts.has("whiteouts", "xattrs") else FILES

    def probe(self, facts: HostFacts) -> Probe:
        """Whether the driver can work on this machine, as the facts have it."""
        raise NotImplementedError

    def plan(self, tree: Tree, facts: HostFacts) -> Assembly:
        """The operations that assemble TREE."""
        raise NotImplementedError

    def up(self, tree: Tree, run: Run) -> None:
        """What has to be on disk before the plan is played; mostly nothing.  Raises StorageError."""


def made_upper(tree: Tree) -> list[Op]:
    """Operations that make upper and work, for a driver that plans them as the realm's root."""
    if not tree.upper:
        return []
    ops: list[Op] = [("mkdir_host", (tree.upper, 0o755)), ("mkdir_host", (tree.work, 0o700))]
    if tree.owner != (0, 0):
        ops += [("chown_host", (path, *tree.owner)) for path in (tree.upper, tree.work)]
    return ops
