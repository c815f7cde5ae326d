"""Which namespaces a container gets, shares or joins, and what that allows.

A namespace belongs to the user namespace in which it was made, and most of what one does with it
needs capabilities there: mounting its procfs, sysfs or mqueue, binding a low port in it.  setns() too,
but the realm's root has every capability in all namespaces nested in the realm.  So what is joined is
joined from the realm, before the container's own user namespace exists (afterwards it would be a
sibling's, and refused).  Entering a PID namespace moves only children; the clone that follows gives one.

Rules:
1. private   made by the container's clone, owned by its own user namespace.
2. host      left as it is; sysfs and procfs are then bound, because a new one cannot be mounted.
3. container:ID   joined.  The container then also *shares the user namespace* of that container,
   instead of making its own: only so can it mount /proc for its processes, use low ports or ping.  With
   several targets, the first of pid, network, ipc, uts decides whose user namespace that is; what is
   joined of another target is shared with the rights that the kernel gives to a sibling (few).
   --userns with any value but host conflicts with that.
4. --userns host: the realm's user namespace owns everything; it has capabilities over all joined ones.
"""

from __future__ import annotations

from rootless.errors import UsageError

from . import network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts

    from .request import Placement, RunRequest

# Runtime spec names and clone flags, linux/sched.h.
FLAGS = {
    "user": 0x10000000,
    "mount": 0x00020000,
    "pid": 0x20000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "cgroup": 0x02000000,
    "network": 0x40000000,
    "time": 0x00000080,
}
PROC_NAMES = {"mount": "mnt", "network": "net"}  # where /proc/PID/ns has another word
JOIN_ORDER = ("pid", "network", "ipc", "uts")

PRIVATE, HOST, JOINED = "private", "host", "joined"


class Namespaces:
    """The decision: kind -> "private", "host" or "joined"; and whose user namespace is shared.

    modes    also "user": "private", "host" (the realm's) or "joined" (that of the target of user_of)
    user_of  the kind in JOIN_ORDER whose target's user namespace is shared, or ""
    related  the joined kinds that have the same target as user_of
    """

    __slots__ = ("modes", "related", "user_of")

    def __init__(self, modes: dict[str, str], user_of: str, related: tuple[str, ...]) -> None:
        self.modes = modes
        self.user_of = user_of
        self.related = related

    def owns(self, kind: str) -> bool:
        """Whether the container's user namespace has capabilities over its namespace of KIND."""
        mode = self.modes[kind]
        if mode == JOINED:
            return self.modes["user"] == HOST or kind in self.related
        return mode == PRIVATE


def decide(request: RunRequest, facts: HostFacts) -> Namespaces:
    """The namespaces of a container; raises UsageError for a value that is none or a conflict."""
    modes = {
        "mount": PRIVATE,
        "pid": _mode("--pid", request.pid, ("", "private")),
        "network": _network(request.network),
        "ipc": _mode("--ipc", request.ipc, ("", "none", "private", "shareable")),
        "uts": _mode("--uts", request.uts, ("", "private")),
        "cgroup": _mode("--cgroupns", request.cgroupns, ("", "private"), joinable=False),
    }
    if not facts.cgroup_ns:
        modes["cgroup"] = HOST
    user_of = ""
    mode = request.userns.partition(":")[0]
    modes["user"] = HOST if mode == "host" else PRIVATE
    joined = [kind for kind in JOIN_ORDER if modes[kind] == JOINED]
    if joined and mode != "host":
        if mode not in ("", "private", "nested"):
            raise UsageError(
                f"conflicting options: --userns {request.userns} and sharing another container's "
                f"{joined[0]} namespace, which shares its user namespace too"
            )
        user_of = joined[0]
        modes["user"] = JOINED
    if modes["uts"] != PRIVATE and request.hostname:
        raise UsageError("conflicting options: hostname and the UTS mode")
    wanted = {kind: getattr(request, kind) for kind in joined}
    related = tuple(kind for kind in joined if user_of and wanted[kind] == wanted[user_of])
    return Namespaces(modes, user_of, related)


def _mode(flag: str, value: str, private: tuple[str, ...], *, joinable: bool = True) -> str:
    if value in private:
        return PRIVATE
    if value == "host":
        return HOST
    if joinable and value.startswith("container:") and len(value) > len("container:"):
        return JOINED
    raise UsageError(f"invalid argument {value!r} for {flag}: unknown mode")


def _network(value: str) -> str:
    kind = network.mode(value)
    if kind == "host":
        return HOST
    if kind != "container":
        return PRIVATE
    if len(value) > len("container:"):
        return JOINED
    raise UsageError(f"network {value} not found")


def target(place: Placement, kind: str) -> tuple[int, int]:
    """(pid, start time) of the process whose namespace of KIND is joined; raises UsageError."""
    try:
        return place.joined[kind]
    except KeyError:
        raise UsageError(f"cannot join a {kind} namespace: its container is not known") from None


def spec_list(chosen: Namespaces, place: Placement) -> list[dict[str, str]]:
    """The runtime spec's linux.namespaces: what is made, and what is joined with its path."""
    result = []
    for kind in ("user", "mount", "pid", "network", "ipc", "uts", "cgroup"):
        mode = chosen.modes[kind]
        if mode == PRIVATE:
            result.append({"type": kind})
        elif mode == JOINED:
            pid, _ = target(place, chosen.user_of if kind == "user" else kind)
            result.append({"type": kind, "path": f"/proc/{pid}/ns/{PROC_NAMES.get(kind, kind)}"})
    return result
