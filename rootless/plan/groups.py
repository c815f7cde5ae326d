"""Control groups on the tape: what is not a driver's to plan."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .spec import Spec
    from .tape import Op

_USER_FD, _NEWUSER = 5, 0x10000000


def delegate(spec: Spec) -> list[Op]:
    """A group that the container may write to belongs to its root, who need not be the caller."""
    root = _root(spec)
    for mount in spec["mounts"]:
        if mount.get("type") == "cgroup" and "ro" not in mount["options"] and root != (0, 0):
            return [("cgroup_delegate", root)]
    return []


def _root(spec: Spec) -> tuple[int, int]:
    """The realm's IDs of the first ones in a container: of its root, where that is mapped."""
    first = []
    for key in ("uidMappings", "gidMappings"):
        extents = [(one["containerID"], one["hostID"]) for one in spec["linux"].get(key) or ()]
        first.append(min(extents)[1] if extents else 0)
    return first[0], first[1]


def remove_tape(paths: Sequence[str]) -> list[Op]:
    """The operations that remove groups as the realm's root, whoever in it owns those below."""
    return [
        ("join_fd", (_USER_FD, _NEWUSER)),
        ("set_ids", (0, 0)),
        ("cgroup_remove", (list(paths),)),
    ]
