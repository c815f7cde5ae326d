"""Changing the limits and the restart policy of containers, at once where they run.

The record is written first: what a killed update leaves is a container whose record says what was asked, and
`inspect`, which reads from the kernel what is in force, shows the difference; doing it again, or the next
start, makes it so.  Then come the tape, with which the monitor restarts the container, the files of its control
group, and the monitor's own copy of the policy.  A value that the kernel refuses takes everything back.
"""

from __future__ import annotations

import fcntl
import os
import time

from rootless.errors import ConflictError, HostError, NotFoundError, RootlessError
from rootless.linux import proc
from rootless.plan import resourcecheck, resources
from rootless.plan.request import RunRequest
from rootless.store.claims import is_locked

from . import events, lifecycle, limits, processes, renew

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, Callable

    from rootless.plan.resources import Setting
    from rootless.store.containers import Container

    from .context import Context

    Undo = list[Callable[[], None]]

START_WAIT = 10.0  # seconds that a container which is just being started is waited for
_RUNS = ("running", "paused")


class Change:
    """What is to be changed: limits by Docker's names, and (name, maximum) of a restart policy or None."""

    __slots__ = ("limits", "restart")

    def __init__(self, limits: Mapping[str, Any], restart: tuple[str, int] | None = None) -> None:
        self.limits = limits
        self.restart = restart


def check(change: Change) -> None:
    """Refuse a change that makes no sense for any container; raises UsageError."""
    resourcecheck.check(change.limits, limits.machine(), update=True)
    limits.devices(change.limits)


def update(ctx: Context, container: Container, change: Change) -> list[str]:
    """Change a container; the warnings there are.  Raises ConflictError for what Docker refuses, HostError."""
    lock = _lock(container)
    try:
        return _update(ctx, container, change)
    except NotFoundError:
        raise
    except RootlessError as error:
        message = f"cannot update container {container.id}: {error.message}"
        raise type(error)(message, hint=error.hint) from None
    finally:
        os.close(lock)


def _lock(container: Container) -> int:
    """Updates of one container follow each other, so that the last record is what is in force."""
    try:
        fd = os.open(f"{container.dir}/update.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise NotFoundError(f"no such container: {container.name}") from None
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def _update(ctx: Context, container: Container, change: Change) -> list[str]:
    before: dict[str, Any] = {}

    def alter(record: dict[str, Any]) -> None:
        before.update(record["request"])
        record["request"] = _changed(ctx, record["request"], change)

    record = ctx.containers.update(container.id, alter)
    undo: Undo = [lambda: _restore(ctx, container, before)]
    try:
        said = _apply(ctx, container, record, before.get("limits") or {}, change, undo)
    except BaseException:
        for act in reversed(undo):
            act()
        raise
    events.container(ctx, container, "update")
    return said


def _changed(ctx: Context, old: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """The request OLD with what is to be changed."""
    request = RunRequest.from_dict(old)
    request.limits = resourcecheck.merge(request.limits, change.limits)
    if request.strict_limits:
        limits.refuse_unenforced(ctx, change.limits, limits.missing(ctx, change.limits))
    if change.restart is not None:
        name, maximum = change.restart
        if request.auto_remove and name != "no":
            raise ConflictError(
                "restart policy cannot be updated because AutoRemove is enabled for the container"
            )
        request.restart_name, request.restart_max = name, maximum
    return request.to_dict()


def _restore(ctx: Context, container: Container, before: Mapping[str, Any]) -> None:
    """Put back what an update has changed in the record, and the tape that it makes."""

    def alter(record: dict[str, Any]) -> None:
        for key in ("limits", "restart_name", "restart_max"):
            record["request"][key] = before.get(key, record["request"][key])

    ctx.containers.update(container.id, alter)
    renew.renew(ctx, container)


def _apply(
    ctx: Context,
    container: Container,
    record: dict[str, Any],
    old: Mapping[str, Any],
    change: Change,
    undo: Undo,
) -> list[str]:
    """Make a container that runs be as its RECORD says; the warnings."""
    now: dict[str, Any] = record["request"]["limits"]
    said = limits.told(ctx, change.limits, limits.missing(ctx, change.limits))
    state = _settled(ctx, container)
    if change.limits and state["status"] in (*_RUNS, "restarting"):
        renew.renew(ctx, container)
    if change.limits and state["status"] in _RUNS:
        strict = bool(record["request"]["strict_limits"])
        refused = _write(state, old, now, change.limits, undo, strict=strict)
        if "CpusetCpus" in change.limits:
            refused = _bind(state, now, refused)
        if refused and not said:
            why = "the container's group has no file for it"
            if not state.get("cgroup"):
                why = "the container was started without a control group"
            said = [f"not enforced: {resources.flags(refused)}: {why}"]
    if change.restart is not None:
        _tell_monitor(ctx, container, change.restart)
    return said


def _settled(ctx: Context, container: Container) -> dict[str, Any]:
    """The container's state, once a start that may still go by the old record is over."""
    deadline = time.monotonic() + START_WAIT
    while True:
        state = ctx.containers.read_state(container.id)
        if state["status"] in (*_RUNS, "restarting") or time.monotonic() > deadline:
            return state
        if not is_locked(f"{container.dir}/lock"):
            return ctx.containers.read_state(container.id)
        time.sleep(0.01)


def _write(
    state: Mapping[str, Any],
    old: Mapping[str, Any],
    now: Mapping[str, Any],
    change: Mapping[str, Any],
    undo: Undo,
    *,
    strict: bool,
) -> list[str]:
    """Write what is asked or another setting by now; names of the limits whose files are missing.

    What is asked is written though the record has it already: an earlier update may have got no further.
    """
    directory = state.get("cgroup")
    numbers = limits.devices(now)
    had = set(resources.cgroup_values(old, numbers))
    found = resources.cgroup_values(now, numbers)
    new = [one for one in found if one not in had or one[3] in change]
    absent: list[str] = []
    done = set()
    for setting in new:
        if directory and _put(str(directory), setting, undo):
            done.add(setting[3])
        else:
            absent.append(setting[3])
    names = [name for name in dict.fromkeys(absent) if name and name not in done]
    names = [name for name in names if not resources.asks_for_none(name, now[name])]
    if strict and [name for name in names if name != "CpusetCpus"]:
        raise HostError(
            f"cannot enforce {resources.flags(names)}: the container's group has no file for it"
        )
    return names


def _put(directory: str, setting: Setting, undo: Undo) -> bool:
    """Write one file; False if there is none.  Raises HostError where the kernel refuses the value."""
    _, file, text, asked = setting
    path = f"{directory}/{file}"
    before = limits.read(path)
    try:
        write(path, text)
    except FileNotFoundError:
        return False
    except OSError as error:
        if asked in ("", *resources.ANY):
            return False
        why = os.strerror(error.errno or 0).lower()
        raise HostError(f"cannot set {file} to {text}: {why}") from None
    undo.append(lambda: _put_back(path, file, text, before or ""))
    return True


def write(path: str, text: str) -> None:
    """Write a file of a control group; raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _put_back(path: str, file: str, text: str, before: str) -> None:
    """What FILE had BEFORE, instead of TEXT."""
    try:
        if file.startswith("io."):
            write(path, resources.line_before(text, before))
        else:
            write(path, before.strip() or "\n")
    except OSError:
        pass  # the error that made us take it back is what is told


# CPUs without a control group that has them.


def _bind(state: Mapping[str, Any], now: Mapping[str, Any], refused: list[str]) -> list[str]:
    """Bind the container's processes to its CPUs where no file did; what is left of REFUSED."""
    if "CpusetCpus" not in refused:
        return refused
    cpus = resources.number_list(now["CpusetCpus"]) or frozenset()
    if proc.pid_alive(int(state["pid"]), int(state["pidStart"])):
        bound: set[int] = set()
        while True:  # those that start meanwhile have it from their parents, but for a race
            fresh = set(_threads(int(state["pid"]))) - bound
            if not fresh:
                break
            for thread in fresh:
                try:
                    os.sched_setaffinity(thread, cpus)
                except ProcessLookupError:
                    pass
                except OSError as error:
                    why = os.strerror(error.errno or 0).lower()
                    raise HostError(f"cannot bind process {thread} to CPUs: {why}") from None
            bound |= fresh
    return [name for name in refused if name != "CpusetCpus"]


def _threads(pid: int) -> Iterator[int]:
    for process in processes.of_container(pid):
        try:
            yield from map(int, os.listdir(f"/proc/{process['pid']}/task"))
        except OSError:
            continue


def _tell_monitor(ctx: Context, container: Container, restart: tuple[str, int]) -> None:
    """Let the monitor of a container that runs go by the new policy."""
    client = lifecycle.connect(ctx, container)
    if client is None:
        return
    try:
        refused = client.set_policy(*restart)
    except OSError:
        return  # the container has ended; the record is what counts
    finally:
        client.close()
    if refused:
        raise HostError(f"cannot change the restart policy: {os.strerror(refused).lower()}")
