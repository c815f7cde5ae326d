"""Waiting until something is true of a container: `wait --condition`.

The kernel tells of every new state file (inotify), so nothing is polled; but a monitor that is killed tells
nobody, hence a look now and then.  Where there is no inotify left, looking is all there is.
"""

from __future__ import annotations

import select
import time

from rootless.errors import NotFoundError, UsageError
from rootless.linux import inotify

from . import health, lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from rootless.runtime.monitor import Client
    from rootless.store.containers import Container

    from .context import Context

# Docker's; then podman's, which are states.
ENDS = ("not-running", "next-exit", "removed")
STATES = ("created", "running", "paused", "exited", "stopped", "healthy", "unhealthy")
_LOOK = 1.0  # seconds between two looks
_BLIND_LOOK = 0.05  # where nobody tells of changes
_MASK = inotify.IN_MOVED_TO | inotify.IN_MOVE_SELF | inotify.IN_DELETE_SELF


def check(conditions: Sequence[str]) -> None:
    """Refuse words that are no conditions; raises UsageError."""
    for word in conditions:
        if word not in (*ENDS, *STATES):
            raise UsageError(
                f'invalid condition: "{word}"', hint=f"known are {', '.join((*ENDS, *STATES))}"
            )


def wait(ctx: Context, container: Container, conditions: Sequence[str]) -> int:
    """Wait until one of CONDITIONS holds: the container's exit code where it has ended, else -1."""
    waiter = _Waiter(ctx, container, conditions)
    try:
        return waiter.run()
    finally:
        waiter.close()


class _Waiter:
    def __init__(self, ctx: Context, container: Container, conditions: Sequence[str]) -> None:
        self.ctx = ctx
        self.container = container
        self.conditions = conditions
        self.code = 0
        self.client: Client | None = None
        self.ended = False  # the monitor has said so
        try:
            self.changes: inotify.Inotify | None = inotify.Inotify()
            self.changes.add(container.dir, _MASK)
        except OSError:
            self.changes = None
        self.first = self._look()
        if self.first is None:
            raise NotFoundError(f"no such container: {container.name}")

    def close(self) -> None:
        if self.changes is not None:
            self.changes.close()
        if self.client is not None:
            self.client.close()

    def run(self) -> int:
        state = self.first
        while True:
            for condition in self.conditions:
                found = self._judge(condition, state)
                if found is not None:
                    return found
            self._rest(state)
            state = self._look()
            while state is None and self.client is not None and not self.ended:
                self._hear()  # it removes itself, and tells the code after that

    def _look(self) -> dict[str, Any] | None:
        """The state now, None where the container is gone."""
        try:
            state = self.ctx.containers.read_state(self.container.id)
        except NotFoundError:
            return None
        if state["status"] not in ("running", "restarting", "paused"):
            self.code = int(state["exitCode"])
        return state

    def _judge(self, condition: str, state: dict[str, Any] | None) -> int | None:
        """What is printed if CONDITION holds in STATE."""
        if state is None:
            return self.code if condition in (*ENDS, "exited", "stopped") else None
        word = state["status"]
        runs = word in ("running", "restarting", "paused")
        if condition == "not-running":
            return None if runs and not self.ended else self.code
        if condition == "next-exit":
            return self._next_exit(state, runs=runs)
        if condition in ("exited", "stopped"):
            return self.code if word == "exited" else None
        if condition in ("healthy", "unhealthy"):
            record = self.container.record
            asked = health.asked(record.get("request") or {}, record.get("image_config") or {})
            return -1 if health.status(self.container.dir, word, asked) == condition else None
        return -1 if word == condition else None

    def _next_exit(self, state: dict[str, Any], *, runs: bool) -> int | None:
        first = self.first or {}
        if state["finishedAt"] != first["finishedAt"] or self.ended:
            return int(state["exitCode"]) if not self.ended else self.code
        lost = not runs and first["status"] in ("running", "restarting", "paused")
        return self.code if lost else None

    def _rest(self, state: dict[str, Any] | None) -> None:
        """Wait until somebody tells of a change, or it is time to look anyway."""
        if (
            state is not None
            and self.client is None
            and state["status"] in ("running", "restarting")
        ):
            self.client = lifecycle.connect(self.ctx, self.container)
            if self.client is not None:
                self.client.wait()
        fds = [self.changes.fd] if self.changes is not None else []
        if self.client is not None and not self.ended:
            fds.append(self.client.fileno())
        if not fds:
            time.sleep(_BLIND_LOOK)
            return
        patience = _LOOK if self.changes is not None else _BLIND_LOOK
        ready, _, _ = select.select(fds, [], [], patience)
        if self.changes is not None and self.changes.fd in ready:
            self.changes.read()
        if self.client is not None and not self.ended and self.client.fileno() in ready:
            self._hear()

    def _hear(self) -> None:
        assert self.client is not None
        message = self.client.recv()
        if message is None:
            self.client.close()
            self.client = None
        elif message[0] == b"X":
            self.code = int.from_bytes(message[1][:4], "little")
            self.ended = True
