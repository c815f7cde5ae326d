"""Reading events: what is there, and what comes, in the order of the file.

events.py says how the files are written.  A follower watches their directory by inotify and reads on in every
file that still has a name, so that neither a renaming nor a writer who is late loses it a line; only where
the user has no watch left does it look every half second.
"""

from __future__ import annotations

import os
import select
import time

from rootless import jsonc

from .events import KEPT, NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from rootless.linux.inotify import Inotify

    Event = dict[str, Any]

BLOCK = 1 << 18
LOOK_AGAIN = 0.5  # seconds, where nothing can be watched
LINE_MAX = 1 << 20  # a line that is longer is none of ours


def parse(line: bytes) -> Event | None:
    """The event in a line; None for what is torn, empty or something else."""
    try:
        event = jsonc.loads(line)
        actor = event["Actor"]
        words = (event["Type"], event["Action"], actor["ID"])
        texts = [*words, *actor["Attributes"], *actor["Attributes"].values()]
        if all(isinstance(text, str) for text in texts) and isinstance(event["timeNano"], int):
            return complete(event)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def complete(event: Event) -> Event:
    """EVENT as Docker's message: its keys in that order, attributes sorted, the old names of things added."""
    kind, action, actor = event["Type"], event["Action"], event["Actor"]
    attributes = {key: actor["Attributes"][key] for key in sorted(actor["Attributes"])}
    old = {}
    if kind in ("container", "image"):
        old = {"status": action, "id": actor["ID"]}
    if kind == "container" and attributes.get("image"):
        old["from"] = attributes["image"]
    return {
        **old,
        "Type": kind,
        "Action": action,
        "Actor": {"ID": actor["ID"], "Attributes": attributes},
        "scope": str(event.get("scope") or "local"),
        "time": event["timeNano"] // 1_000_000_000,
        "timeNano": event["timeNano"],
    }


def _is_before(line: bytes, since: int) -> bool:
    """Whether a line ends as they are written, with a time before SINCE: it need not be parsed."""
    tail = line.rpartition(b'"timeNano":')[2]
    return tail[-1:] == b"}" and tail[:-1].isdigit() and int(tail[:-1]) < since


class _File:
    """One file being read, from an offset on; what has no newline yet waits."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.offset = 0
        self.rest = b""
        info = os.fstat(fd)
        self.key = (info.st_dev, info.st_ino)
        self.size, self.changed = info.st_size, info.st_mtime_ns

    def read(self, since: int) -> Iterator[list[Event]]:
        while True:
            block = os.pread(self.fd, BLOCK, self.offset)
            if not block:
                return
            self.offset += len(block)
            lines = (self.rest + block).split(b"\n")
            self.rest = lines.pop()
            if len(self.rest) > LINE_MAX:
                self.rest = b"{"  # the rest of it will be nothing, too
            recent = [line for line in lines if line and not (since and _is_before(line, since))]
            found = [event for event in map(parse, recent) if event is not None]
            if found:
                yield found


class EventReader:
    """The events of one user; made before anything is read, it misses nothing that comes later."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._files: list[_File] = []
        self._inotify: Inotify | None = None

    def close(self) -> None:
        """Forget everything."""
        for file in self._files:
            os.close(file.fd)
        self._files = []
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def __enter__(self) -> EventReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def watch(self) -> None:
        """Be told of changes from now on."""
        from rootless.linux import inotify

        os.makedirs(self._directory, 0o700, exist_ok=True)
        try:
            if self._inotify is None:
                self._inotify = inotify.Inotify()
            # A file that is gone and still open keeps its directory, which then cannot be told to be gone.
            changes = inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO
            mask = changes | inotify.IN_DELETE
            self._inotify.add(self._directory, mask)
        except OSError:
            if self._inotify is not None:
                self._inotify.close()
            self._inotify = None

    def skip(self, since: int = 0) -> None:
        """Pass over what is there now; with SINCE (nanoseconds) only files that were last written before it."""
        self._look()
        for file in self._files:
            if not since or file.changed < since:
                file.offset = file.size

    def read(self, since: int = 0) -> Iterator[list[Event]]:
        """The events that have come since the last time, in blocks, without those before SINCE."""
        named = self._look()
        for file in list(self._files):
            yield from file.read(since)
            if file.key not in named:
                os.close(file.fd)
                self._files.remove(file)

    def _look(self) -> set[tuple[int, int]]:
        """Open the files that are new, in the order of their age; the keys of those that have a name."""
        path = f"{self._directory}/{NAME}"
        named: set[tuple[int, int]] = set()
        known = {file.key for file in self._files}
        for number in range(KEPT, -1, -1):
            name = f"{path}.{number}" if number else path
            try:
                fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            except OSError:
                continue
            file = _File(fd)
            named.add(file.key)
            if file.key in known:
                os.close(fd)
                continue
            known.add(file.key)
            self._files.append(file)
        return named

    def wait(self, until: int = 0, reader: int = -1) -> bool:
        """Wait for a change; False once it is UNTIL (nanoseconds) or nobody reads the descriptor READER."""
        poller = select.poll()
        if self._inotify is not None:
            poller.register(self._inotify.fd, select.POLLIN)
        if reader >= 0:
            poller.register(reader, 0)
        while True:
            left = (until - time.time_ns()) / 1e9 if until else -1.0
            if until and left <= 0:
                return False
            pause = left if self._inotify is not None else LOOK_AGAIN
            pause = min(pause, left) if until else pause
            # Whole milliseconds, up: a wait that ends early would spin.
            ready = dict(poller.poll(int(min(pause, 3600) * 1000) + 1 if pause >= 0 else None))
            if reader in ready:
                return False
            if self._inotify is None:
                return True
            if self._inotify.fd in ready:
                self._drain()
                return True

    def _drain(self) -> None:
        from rootless.linux import inotify

        assert self._inotify is not None
        if any(mask & inotify.IN_IGNORED for _, mask, _ in self._inotify.read()):
            self.watch()  # the directory was taken away, and may have come back
