"""The kernel's overlayfs, mounted in the user namespace (since Linux 5.11, with ``userxattr``).

There the kernel keeps its marks in ``user.overlay.*`` instead of ``trusted.overlay.*``, which only the
initial user namespace may write, and switches redirect_dir and metacopy off.  Whiteouts are 0/0 character
devices, which a user namespace may make since 5.8.
"""

from __future__ import annotations

from .base import Probe, SnapshotDriver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.facts import HostFacts
    from rootless.plan.tape import Op

OPTIONS = "userxattr"


class OverlayDriver(SnapshotDriver):
    """Layers as lower directories of one overlay mount."""

    name = "overlay"
    layer_format = "overlay"

    def probe(self, facts: HostFacts) -> Probe:
        """Usable where a trial mount worked."""
        if facts.overlay:
            return Probe(True)
        version = ".".join(map(str, facts.kernel))
        reason = facts.overlay_error or "the kernel refuses overlay mounts in user namespaces"
        if facts.kernel < (5, 11, 0):
            hint = f"Linux 5.11 or newer can do it; this is {version}"
        else:
            hint = (
                "an administrator can load the overlay module, or put storage.root on a local disk"
            )
        return Probe(False, reason, hint)

    def plan(
        self,
        lowers: Sequence[str],
        upper: str,
        work: str,
        merged: str,
        facts: HostFacts,  # noqa: ARG002
    ) -> list[Op]:
        """One overlay mount; a container of no layers at all is its upper directory alone."""
        if not lowers:
            return [("root_bind", (upper, merged))]
        return [("overlay", (list(lowers), upper, work, merged, OPTIONS))]
