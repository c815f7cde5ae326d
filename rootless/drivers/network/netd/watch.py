"""Learning that a process has ended, though it is not our child: by a pidfd (Linux 5.3), else by looking.

A pid may be another process's soon; together with its start time it is the one that was meant.
"""

from __future__ import annotations

import os

from rootless.linux import proc

from .loop import IN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .loop import Loop, Timer

INTERVAL = 0.2  # seconds between looks where there is no pidfd


class Watch:
    """Calls ENDED once when the process PID that began at START is gone; close() takes that back."""

    def __init__(self, loop: Loop, pid: int, start: int, ended: Callable[[], object]) -> None:
        self._loop = loop
        self._process = pid, start
        self._ended = ended
        self._timer: Timer | None = None
        try:
            self._fd = os.pidfd_open(pid)
        except OSError:  # ENOSYS, or it is gone already
            self._fd = -1
        if self._fd >= 0 and self.alive():
            loop.add(self._fd, IN, lambda _: self._end())
        else:
            self._look()

    def alive(self) -> bool:
        """Whether the process is there still."""
        pid, start = self._process
        return proc.starttime(pid) == start

    def close(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
        if self._fd >= 0:
            self._loop.remove(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _look(self) -> None:
        if not self.alive():
            self._loop.call_soon(self._end)
            return
        self._timer = self._loop.call_later(INTERVAL, self._look)

    def _end(self) -> None:
        self.close()
        ended, self._ended = self._ended, lambda: None
        ended()
