"""A transient scope of the user's systemd for each container.

systemd makes the group, gives it to us (Delegate=yes), moves monitor and launcher in, from wherever they were
started, and removes it when the last process has ended.  Within it the monitor is in one leaf and the container
in another, whose files are ours alone: systemd sets nothing there, when it reloads its configuration either.

Slice, description and the rest are properties of the unit, so that systemctl and loginctl show what runs.
"""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.linux import cgroup, dbus

from .base import (
    ALONE,
    CONTROLLERS,
    INNER,
    OPTIONAL,
    USER_FD,
    CgroupDriver,
    CgroupPlan,
    Probe,
    Wanted,
    sets,
    unified,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts
    from rootless.plan.tape import Op

SLICE = "app.slice"
GROUP = "container"
_SYSTEMD = (
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
)
_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_RULE = "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'"
_HELLO, _MATCH, _CALL, _KILL = 1, 2, 3, 4  # serials
_SIGKILL = 9
_PIDS = 0x5050_4944  # stands where the launcher puts the two that it knows
_LONGEST_STOP = 86400


class SystemdDriver(CgroupDriver):
    """StartTransientUnit over the user's bus, or systemd's own socket where there is no bus."""

    name = "systemd"

    def probe(self, facts: HostFacts) -> Probe:
        """Usable where a systemd of this user is running."""
        probe = unified(facts)
        if not probe.usable:
            return probe
        if not facts.cgroup_buses:
            return Probe(
                False,
                facts.cgroup_bus_error,
                f"an administrator can run: loginctl enable-linger {facts.user}",
            )
        return Probe(True)

    def controllers(self, facts: HostFacts) -> tuple[str, ...]:
        """Those that systemd was given for the user (Delegate= of user@.service)."""
        return cgroup.controllers(cgroup.manager_group(facts.uid))

    def plan(self, wanted: Wanted, facts: HostFacts) -> CgroupPlan:
        """A scope, and in it a group for the container."""
        flags = OPTIONAL if wanted.optional else 0
        message = start_message(wanted)
        return CgroupPlan(
            self.name,
            [
                _place(unit(wanted.id), message, facts, flags, stop_message(wanted.id)),
                ("cgroup_make", ("", GROUP, INNER, list(CONTROLLERS), USER_FD, flags)),
                *sets(wanted.settings),
            ],
            [("cgroup_enter", ("", 0, flags))],
            [("cgroup_enter", (GROUP, 0, OPTIONAL))],
        )

    def enter(
        self, directory: str, container_id: str, pid: int, facts: HostFacts, *, optional: bool
    ) -> CgroupPlan:
        """systemd moves who enters into the scope, as only it may move processes between a user's sessions."""
        flags = OPTIONAL if optional else 0
        before: list[Op] = []
        if facts.cgroup_buses:
            before = [_place(unit(container_id), attach_message(container_id), facts, flags)]
        return CgroupPlan(self.name, before, [("cgroup_enter", (directory, pid, flags))])


def unit(container_id: str) -> str:
    """The name of a container's scope."""
    return f"rootless-{container_id}.scope"


def _place(name: str, message: bytes, facts: HostFacts, flags: int, stop: bytes = b"") -> Op:
    pids_at = message.index(_PIDS.to_bytes(4, "little"))
    buses = list(facts.cgroup_buses)
    return ("cgroup_scope", (buses, name, prologue(), message, pids_at, flags, stop))


def keeper(name: str, description: str, facts: HostFacts) -> Op:
    """The operation that puts a process which serves all containers into a scope of its own, if it can be.

    In the session that happened to start it, it would end with that, or keep that from ending.
    """
    unit_name = f"rootless-{name}.scope"
    properties = [
        ("PIDs", ("au", (_PIDS, _PIDS))),
        ("Description", ("s", description)),
        ("Slice", ("s", SLICE)),
        ("CollectMode", ("s", "inactive-or-failed")),
    ]
    body = (unit_name, "fail", properties, ())
    message = dbus.call(_CALL, *_SYSTEMD, "StartTransientUnit", "ssa(sv)a(sa(sv))", body)
    return _place(unit_name, message, facts, OPTIONAL | ALONE)


def prologue() -> bytes:
    """What a bus is told first: that we are there, and that we want to hear of jobs that have ended."""
    rule = dbus.call(_MATCH, *_BUS, "AddMatch", "s", (_RULE,), reply=False)
    return dbus.call(_HELLO, *_BUS, "Hello") + rule


def start_message(wanted: Wanted) -> bytes:
    """StartTransientUnit for a container's scope; raises UsageError for a parent that is no slice."""
    timeout = (
        wanted.stop_timeout + 10 if 0 <= wanted.stop_timeout < _LONGEST_STOP else _LONGEST_STOP
    )
    properties = [
        ("PIDs", ("au", (_PIDS, _PIDS))),
        ("Description", ("s", f"rootless container {wanted.name or wanted.id[:12]}")),
        ("Slice", ("s", slice_name(wanted.parent))),
        ("Delegate", ("b", True)),
        ("CollectMode", ("s", "inactive-or-failed")),
        ("TasksMax", ("t", (1 << 64) - 1)),
        # At shutdown the monitor is told to stop the container and has the time that this takes.
        ("TimeoutStopUSec", ("t", timeout * 1_000_000)),
    ]
    body = (unit(wanted.id), "fail", properties, ())
    return dbus.call(_CALL, *_SYSTEMD, "StartTransientUnit", "ssa(sv)a(sa(sv))", body)


def attach_message(container_id: str) -> bytes:
    """AttachProcessesToUnit for a further process of a container and its monitor."""
    body = (unit(container_id), f"/{INNER}", (_PIDS, _PIDS))
    return dbus.call(_CALL, *_SYSTEMD, "AttachProcessesToUnit", "ssau", body)


def stop_message(container_id: str) -> bytes:
    """StopUnit for what is left of a container's scope, and KillUnit: a first process may ignore SIGTERM."""
    name = unit(container_id)
    stop = dbus.call(_CALL, *_SYSTEMD, "StopUnit", "ss", (name, "replace"))
    kill = dbus.call(_KILL, *_SYSTEMD, "KillUnit", "ssi", (name, "all", _SIGKILL), reply=False)
    return stop + kill


def slice_name(parent: str) -> str:
    """The slice that --cgroup-parent names; raises UsageError in Docker's words."""
    if not parent:
        return SLICE
    name = parent[: -len(".slice")] if parent.endswith(".slice") else ""
    if (
        not name
        or "/" in parent
        or name[0] == "-"
        or name[-1] == "-"
        or "--" in name
        or len(parent) > 255
    ):
        raise UsageError(
            f'cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice", not {parent!r}'
        )
    return parent
