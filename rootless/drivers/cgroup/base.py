"""What a cgroup driver is: a way to put a container's processes into a control group of their own.

A driver has two halves.  Judging and planning are pure: probe() reads HostFacts, plan() and enter() return tape
operations.  Acting is the launcher's, which plays them at every start, so that a restart by the monitor makes
the group anew as well; the monitor, which is told of the group, removes it.  Every driver passes
tests/contract/.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.facts import HostFacts
    from rootless.plan.tape import Op

    Setting = tuple[str, str, bool]  # file, text, whether a refusal fails the start

CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")
INNER = "supervisor"  # the leaf of a scope that the monitor is in
USER_FD = 5  # the realm, as plan/launch.py has it
OPTIONAL = 1  # an operation's flag: the container goes without a group if it cannot have one
ALONE = 2  # of cgroup_scope: only who plays the tape goes in


class Probe:
    """Whether a driver can work here; REASON says why not, HINT what an administrator could do."""

    __slots__ = ("hint", "reason", "usable")

    def __init__(self, usable: bool, reason: str = "", hint: str = "") -> None:
        self.usable = usable
        self.reason = reason
        self.hint = hint


class Wanted:
    """The group that a container is to have.

    id, name      of the container
    parent        as --cgroup-parent has it, or ""
    settings      what is written to its files
    optional      it may go without: nothing is to be set, and nobody has asked for a driver
    stop_timeout  seconds that its stop may take; negative: no end
    """

    __slots__ = ("id", "name", "optional", "parent", "settings", "stop_timeout")

    def __init__(
        self,
        id: str,  # noqa: A002
        *,
        name: str = "",
        parent: str = "",
        settings: Sequence[Setting] = (),
        optional: bool = False,
        stop_timeout: int = 10,
    ) -> None:
        self.id = id
        self.name = name
        self.parent = parent
        self.settings = settings
        self.optional = optional
        self.stop_timeout = stop_timeout


class CgroupPlan:
    """Operations that put a container into its group.

    driver  the name of who planned them
    before  played as the caller, before everything else
    enter   played by the container's first process, before its IDs change
    again   the same for further processes that the monitor starts, such as health checks
    """

    __slots__ = ("again", "before", "driver", "enter")

    def __init__(
        self, driver: str, before: list[Op], enter: list[Op], again: list[Op] | None = None
    ) -> None:
        self.again = again or []
        self.driver = driver
        self.before = before
        self.enter = enter


class CgroupDriver:
    """Base of all cgroup drivers; ``name`` is as in cgroup.driver and in ``info``."""

    name = ""

    def probe(self, facts: HostFacts) -> Probe:
        """Whether the driver can work here, as the facts have it."""
        raise NotImplementedError

    def controllers(self, facts: HostFacts) -> tuple[str, ...]:
        """The controllers that a container's group will have."""
        raise NotImplementedError

    def plan(self, wanted: Wanted, facts: HostFacts) -> CgroupPlan | None:
        """The operations that make the group, or None for none.  Raises UsageError for an impossible parent."""
        raise NotImplementedError

    def enter(
        self, directory: str, container_id: str, pid: int, facts: HostFacts, *, optional: bool
    ) -> CgroupPlan | None:
        """The operations that put a further process into the group at DIRECTORY, whose first process is PID."""
        raise NotImplementedError


def unified(facts: HostFacts) -> Probe:
    """Whether this machine has what every driver but none needs."""
    if facts.cgroup_mode == "unified":
        return Probe(True)
    where = {
        "hybrid": "control groups of version 1 and 2 are mounted side by side (hybrid)",
        "legacy": "control groups are of version 1",
    }.get(facts.cgroup_mode, "no control groups are mounted")
    return Probe(
        False,
        where,
        "an administrator can boot with: systemd.unified_cgroup_hierarchy=1",
    )


def sets(settings: Sequence[Setting]) -> list[Op]:
    """Operations that write what was asked for."""
    return [("cgroup_set", (file, text, 0 if must else OPTIONAL)) for file, text, must in settings]
