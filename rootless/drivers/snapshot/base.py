"""What a storage driver is: a way to show a stack of layers and a writable directory as one tree.

A driver has two halves.  Probing and planning are pure: probe() judges HostFacts, plan() returns
tape operations.  Acting is the launcher's, which plays them in the container's own mount namespace, so that
nothing is left mounted after a crash.  Every driver passes tests/contract/test_snapshot.py.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.facts import HostFacts
    from rootless.plan.tape import Op


class Probe:
    """Whether a driver can work here; REASON says why not, HINT what an administrator could do."""

    __slots__ = ("hint", "reason", "usable")

    def __init__(self, usable: bool, reason: str = "", hint: str = "") -> None:
        self.usable = usable
        self.reason = reason
        self.hint = hint


class SnapshotDriver:
    """Base of all storage drivers.

    name          as in storage.driver and in ``info``
    layer_format  how unpacked layers store whiteouts; drivers that agree on it share layers
    """

    name = ""
    layer_format = ""

    def probe(self, facts: HostFacts) -> Probe:
        """Whether the driver can work on this machine, as the facts have it."""
        raise NotImplementedError

    def plan(
        self, lowers: Sequence[str], upper: str, work: str, merged: str, facts: HostFacts
    ) -> list[Op]:
        """Operations that make MERGED the container's root, in its new mount namespace.

        LOWERS are layer trees, topmost first, possibly none; UPPER and WORK are directories on one
        filesystem.
        """
        raise NotImplementedError
