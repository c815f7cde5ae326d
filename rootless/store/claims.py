"""Names of containers: ``names/<name>`` is a symbolic link whose target is the container's ID.

Owns who may make and who may remove a claim, and how a stale one is told.  symlink() is the claim: it
fails when the name is taken, and nothing else decides.

A container's directory moves forward only: ``containers/.tmp-<id>`` (its lock file flocked by the maker),
``containers/<id>``, ``trash/<id>`` (its lock file flocked by the remover until the name is gone).  A
claim is live while the directory is at one of these places under that condition, so looking for
it in the order of its movement cannot miss it.  Three parties unlink a claim: the maker whose creation
failed, the remover, both holding the container's lock; and whoever finds it stale, under names/.lock,
which nobody takes otherwise.
"""

from __future__ import annotations

import fcntl
import os

from rootless.errors import ConflictError, UsageError

from . import files, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.config.paths import Paths

_START = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_REST = _START | frozenset("_.-")


def check(name: str) -> None:
    """Refuse what is no container name; raises UsageError."""
    good = len(name) > 1 and name[0] in _START and _REST.issuperset(name) and len(name) <= 255
    if not good:
        raise UsageError(
            f"invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )


def taken(name: str, owner: str) -> ConflictError:
    """The error for a name that another container has."""
    return ConflictError(
        f'conflict: the container name "/{name}" is already in use by container "{owner}"',
        hint="you have to remove (or rename) that container to be able to reuse that name",
    )


def is_locked(path: str, *, shared: bool = False) -> bool:
    """Whether some process holds the lock file (or directory) at PATH; a missing one is not locked.

    SHARED: one that others may hold too counts as well.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if shared else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


class Claims:
    """All names of one store."""

    __slots__ = ("_containers", "_trash", "directory")

    def __init__(self, paths: Paths) -> None:
        self.directory = paths.names
        self._containers = paths.containers
        self._trash = paths.trash

    def owner(self, name: str) -> str | None:
        """The ID that a name is claimed for, stale or not; None where it is not claimed."""
        try:
            return os.readlink(f"{self.directory}/{name}")
        except OSError:
            return None

    def all(self) -> Iterator[tuple[str, str]]:
        """(name, ID) of every claim."""
        try:
            found = os.listdir(self.directory)
        except FileNotFoundError:
            return
        for name in found:
            owner = self.owner(name) if name[0] != "." else None
            if owner is not None:
                yield name, owner

    def claim(self, name: str, container_id: str) -> None:
        """Take NAME for the container; raises ConflictError where a live container has it."""
        while True:
            try:
                os.symlink(container_id, f"{self.directory}/{name}")
                return
            except FileNotFoundError:
                files.ensure_dir(self.directory)
            except FileExistsError:
                owner = self.owner(name)
                if owner is not None and not self._drop_stale(name):
                    raise taken(name, owner) from None

    def claim_random(self, container_id: str) -> str:
        """Take a free name of our own choice."""
        for attempt in range(1000):
            name = names.generate() + (str(attempt) if attempt > 20 else "")
            try:
                self.claim(name, container_id)
            except ConflictError:
                continue
            return name
        raise ConflictError("cannot find a free container name")

    def release(self, name: str, container_id: str) -> None:
        """Give NAME up if the container has it; its lock is held by the caller."""
        if self.owner(name) == container_id:
            files.unlink(f"{self.directory}/{name}")

    def sweep(self) -> int:
        """Remove stale claims; how many there were."""
        return sum(self._drop_stale(name) for name, _ in list(self.all()))

    def _live(self, name: str, owner: str) -> bool:
        if is_locked(f"{self._containers}/.tmp-{owner}/lock"):
            return True
        if os.path.isdir(f"{self._containers}/{owner}"):
            return not self._renamed_away(name, owner)
        return is_locked(f"{self._trash}/{owner}/lock")

    def _renamed_away(self, name: str, owner: str) -> bool:
        """Whether the owner answers to another name by now, and no rename is under way."""
        directory = f"{self._containers}/{owner}"
        try:
            if is_locked(directory):
                return False
            return files.read(f"{directory}/name") != name.encode()
        except OSError:
            return False

    def _drop_stale(self, name: str) -> bool:
        owner = self.owner(name)
        if owner is None or self._live(name, owner):
            return False
        lock = os.open(f"{self.directory}/.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            owner = self.owner(name)
            if owner is None:
                return True
            if self._live(name, owner):
                return False
            files.unlink(f"{self.directory}/{name}")
            return True
        finally:
            os.close(lock)
