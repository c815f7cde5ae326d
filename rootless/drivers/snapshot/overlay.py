"""The kernel's overlayfs, mounted in the user namespace (since Linux 5.11, with ``userxattr``).

There the kernel keeps its marks in ``user.overlay.*`` instead of ``trusted.overlay.*``, which only the
initial user namespace may write, and switches redirect_dir and metacopy off.  Whiteouts are 0/0 character
devices, which a user namespace may make since 5.8.
"""

from __future__ import annotations

from .base import OVERLAY, Assembly, Probe, SnapshotDriver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts
    from rootless.plan.tape import Op

    from .base import Tree

OPTIONS = "userxattr"


class OverlayDriver(SnapshotDriver):
    """Layers as lower directories of one overlay mount."""

    name = "overlay"
    reads_data = True

    def layer_format(self, facts: HostFacts) -> str:  # noqa: ARG002  (the kernel knows one)
        """The kernel's own."""
        return OVERLAY

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

    def plan(self, tree: Tree, facts: HostFacts) -> Assembly:  # noqa: ARG002
        """One overlay mount; a container of no layers at all is its upper directory alone."""
        ops: list[Op] = []
        if tree.upper:
            # Made in the container's namespaces they belong to its root, whose "/" shows upper's owner.
            ops += [("mkdir_host", (tree.upper, 0o755)), ("mkdir_host", (tree.work, 0o700))]
        if not tree.lowers:
            ops.append(("root_bind", (tree.upper, tree.merged)))
        elif not tree.upper and len(tree.lowers) == 1 and not tree.data:
            ops.append(("root_bind", (tree.lowers[0], tree.merged)))
            ops.append(("remount", ("/", 1, 0, 0)))
        else:
            work = tree.work if tree.upper else ""
            lowers = [*tree.lowers, "", *tree.data] if tree.data else tree.lowers
            ops.append(("overlay", (lowers, tree.upper, work, tree.merged, OPTIONS)))
        return Assembly(ops)
