"""The host's name servers, as its resolv.conf has them at this moment.

The file is watched: by itself, in its directory (it may be replaced, or not be there), and in the directories
of every symbolic link on the way to it.  Where the kernel has no more watches for this user, the file is
looked at before each question instead.  Lives in the main thread, in the host's namespaces.
"""

from __future__ import annotations

import os
import socket

from rootless.drivers.network.netd.loop import IN
from rootless.linux import inotify
from rootless.plan import resolvconf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Callable

    from rootless.drivers.network.netd.loop import Loop

MOST = 3  # servers that are used, as by the C library
_MOST_LINKS = 10
_DIRECTORY = (
    inotify.IN_CLOSE_WRITE
    | inotify.IN_CREATE
    | inotify.IN_DELETE
    | inotify.IN_MOVED_FROM
    | inotify.IN_MOVED_TO
    | inotify.IN_DELETE_SELF
    | inotify.IN_MOVE_SELF
)
_FILE = (
    inotify.IN_CLOSE_WRITE
    | inotify.IN_MODIFY
    | inotify.IN_ATTRIB
    | inotify.IN_DELETE_SELF
    | inotify.IN_MOVE_SELF
)


class NameServers:
    """The servers in the resolv.conf PATH; current() is never older than the file."""

    def __init__(self, loop: Loop, path: str, log: Callable[[str], object]) -> None:
        self._loop = loop
        self._path = path
        self._log = log
        self._conf = resolvconf.ResolvConf()
        self._servers: list[str] = []
        self._stamp: tuple[int, ...] = ()
        self._inotify: inotify.Inotify | None = None
        self._watches: set[int] = set()
        try:
            self._inotify = inotify.Inotify()
            loop.add(self._inotify.fd, IN, lambda _: self._changed())
            self._watch()
        except OSError as error:
            self._give_up(error)
        self._read()

    def current(self) -> list[str]:
        """The addresses to ask, in order; none if there is no file or none in it."""
        self._refresh()
        return self._servers

    def conf(self) -> resolvconf.ResolvConf:
        """All that the file says."""
        self._refresh()
        return self._conf

    def _refresh(self) -> None:
        if self._inotify is not None:
            self._changed()
        elif self._stamp != self._look():
            self._read()

    def close(self) -> None:
        """End the watching."""
        if self._inotify is not None:
            self._loop.remove(self._inotify.fd)
            self._inotify.close()
            self._inotify = None

    def _changed(self) -> None:
        if self._inotify is None or not self._inotify.read():
            return
        try:
            self._watch()
        except OSError as error:
            self._give_up(error)
        self._read()

    def _watch(self) -> None:
        """Watch what leads to the file now; until nothing new is found, for links may change meanwhile."""
        assert self._inotify is not None
        for _ in range(_MOST_LINKS):
            watches = set()
            for path, mask in _places(self._path):
                try:
                    watches.add(self._inotify.add(path, mask))
                except (FileNotFoundError, NotADirectoryError, PermissionError):
                    continue  # gone again, or not ours to see
            stale, fresh = self._watches - watches, watches - self._watches
            self._watches = watches
            for watch in stale:
                self._inotify.remove(watch)
            if not fresh:
                return

    def _give_up(self, error: OSError) -> None:
        self._log(f"cannot watch {self._path}: {error.strerror}; it is looked at for each question")
        self.close()

    def _read(self) -> None:
        self._stamp = self._look()
        try:
            with open(self._path, encoding="utf-8", errors="replace") as file:
                text = file.read(1 << 20)
        except OSError:
            text = ""
        self._conf = resolvconf.parse(text)
        self._servers = usable(self._conf.servers)

    def _look(self) -> tuple[int, ...]:
        try:
            found = os.stat(self._path)
        except OSError:
            return ()
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def usable(servers: Sequence[str], without: str = "") -> list[str]:
    """Those of SERVERS that are addresses, no more than are used; WITHOUT is none of them.

    The host's own 127.0.0.11 is a server like any other: we may be in a container ourselves.
    """
    return [one for one in servers if one != without and _is_address(one)][:MOST]


def _is_address(text: str) -> bool:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        socket.inet_pton(family, text.partition("%")[0])
    except (OSError, ValueError):
        return False
    return True


def _places(path: str) -> list[tuple[str, int]]:
    """What to watch: the file, and for each link the nearest directory that is there."""
    places = []
    for _ in range(_MOST_LINKS):
        directory = os.path.dirname(path) or "."
        while not os.path.isdir(directory):
            directory = os.path.dirname(directory) or "."
        places.append((directory, _DIRECTORY))
        try:
            path = os.path.join(os.path.dirname(path), os.readlink(path))
        except OSError:  # no link
            break
    return [*places, (path, _FILE)]
