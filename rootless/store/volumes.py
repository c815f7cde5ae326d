"""Volumes on disk: making, finding and removing them, and who holds one meanwhile.

Owns ``volumes/<name>/`` with volume.json (written once), lock, ``_data`` (what containers see) and, where
the volume is to go with its container, the empty file ``ephemeral``.  Knows nothing of containers, of
what a driver does with the options, or of what is in ``_data``, which belongs to subordinate IDs
(volumeworker.py works there).

A volume is made as ``volumes/.tmp-<random>`` (its lock held by the maker) and appears by one rename, which
fails where there is a volume of that name: a directory that is not empty is never replaced.  Its removal
begins with a rename to ``.gone-<random>``.  Whoever makes a container that refers to a volume holds
its lock shared until the container is on disk; whoever removes the volume holds it alone and looks for such
containers.  So either the container is found, or it finds the volume gone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from rootless import jsonc
from rootless.errors import NotFoundError, StorageError, UsageError

from . import files, objectlock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rootless.config.paths import Paths

_START = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_REST = _START | frozenset("_.-")
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY)
ANONYMOUS = "com.docker.volume.anonymous"
EPHEMERAL = "ephemeral"
# What volumeworker.py leaves where it was killed: trees to be thrown away, and whole ones to be put in place.
STAGES = ("fill.tmp", "import.tmp")
PENDING = ("fill", "import")


def check(name: str) -> None:
    """Refuse what is no volume name; raises UsageError in Docker's words."""
    if len(name) == 1 and name in _START:
        raise UsageError(
            f"create {name}: volume name is too short, "
            "names should be at least two alphanumeric characters",
            exit_code=1,
        )
    if len(name) < 2 or name[0] not in _START or not _REST.issuperset(name) or len(name) > 255:
        raise UsageError(
            f'create {name}: "{name}" includes invalid characters for a local volume name, '
            'only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. '
            "If you intended to pass a host directory, use absolute path",
            exit_code=1,
        )


def no_such(name: str) -> NotFoundError:
    """The error for a name that no volume has."""
    return NotFoundError(f"no such volume: {name}")


class Volume:
    """One volume: what volume.json says of it, and where it lies."""

    __slots__ = ("created", "dir", "driver", "labels", "name", "options")

    def __init__(self, directory: str, data: Mapping[str, Any]) -> None:
        self.dir = directory
        self.name = str(data["name"])
        self.driver = str(data["driver"])
        self.created = float(data["created"])
        self.labels: dict[str, str] = dict(data["labels"])
        self.options: dict[str, str] = dict(data["options"])

    @property
    def data_dir(self) -> str:
        """The directory that a container sees."""
        return f"{self.dir}/_data"

    @property
    def anonymous(self) -> bool:
        """Whether nobody named it."""
        return ANONYMOUS in self.labels

    @property
    def ephemeral(self) -> bool:
        """Whether it is to go with its container."""
        return os.path.lexists(f"{self.dir}/{EPHEMERAL}")

    def mark_ephemeral(self, value: bool) -> None:
        """Let it go with its container, or keep it; best effort on a full disk."""
        path = f"{self.dir}/{EPHEMERAL}"
        if not value:
            files.unlink(path)
            return
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError:
            pass

    @property
    def pending(self) -> bool:
        """Whether content waits to be put in place, as someone was killed meanwhile."""
        return any(os.path.lexists(f"{self.dir}/{name}") for name in PENDING)


class VolumeStore:
    """All volumes of one user."""

    __slots__ = ("directory",)

    def __init__(self, paths: Paths) -> None:
        self.directory = paths.volumes

    # finding

    def exists(self) -> bool:
        """Whether there ever was a volume."""
        return os.path.isdir(self.directory)

    def names(self) -> list[str]:
        """Names of all volumes, sorted."""
        try:
            return sorted(name for name in os.listdir(self.directory) if name[0] != ".")
        except FileNotFoundError:
            return []

    def get(self, name: str) -> Volume:
        """The volume called NAME; raises NotFoundError, StorageError."""
        path = f"{self.directory}/{name}"
        if not name or name[0] == "." or "/" in name:
            raise no_such(name)
        try:
            return Volume(path, jsonc.loads(files.read(f"{path}/volume.json")))
        except (FileNotFoundError, NotADirectoryError):
            raise no_such(name) from None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise no_such(name) from None
            raise files.failure(f"read volume {name}", error) from None
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"cannot read {path}/volume.json: {error}") from None

    def all(self) -> list[Volume]:
        """All volumes by name; one that vanishes meanwhile is left out."""
        found = []
        for name in self.names():
            try:
                found.append(self.get(name))
            except NotFoundError:
                continue
        return found

    # making

    def create(
        self,
        name: str,
        *,
        driver: str = "local",
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        ephemeral: bool = False,
    ) -> tuple[Volume, bool]:
        """(the volume NAME, whether it was made now); one that is there is given back as it is.

        Raises UsageError for a bad name, NoSpaceError, StorageError; then nothing is left.
        """
        check(name)
        try:
            return self.get(name), False
        except NotFoundError:
            pass
        record = {
            "version": 1,
            "name": name,
            "driver": driver,
            "created": time.time(),
            "labels": dict(labels or {}),
            "options": dict(options or {}),
        }
        try:
            return self._create(name, record, ephemeral)
        except OSError as error:
            raise files.failure(f"create volume {name}", error) from None

    def _create(self, name: str, record: dict[str, Any], ephemeral: bool) -> tuple[Volume, bool]:
        temporary = f"{self.directory}/.tmp-{os.urandom(8).hex()}"
        lock = self._make_locked(temporary)
        try:
            os.mkdir(f"{temporary}/_data", 0o755)
            os.chmod(f"{temporary}/_data", 0o755)
            files.write(f"{temporary}/volume.json", jsonc.dumps(record).encode(), durable=True)
            if ephemeral:
                files.write(f"{temporary}/{EPHEMERAL}", b"", durable=False)
            files.sync_dir(temporary)
            while True:
                try:
                    os.rename(temporary, f"{self.directory}/{name}")
                    files.sync_dir(self.directory)
                    return Volume(f"{self.directory}/{name}", record), True
                except OSError as error:
                    if error.errno not in _TAKEN:
                        raise
                try:
                    found = self.get(name)
                except NotFoundError:
                    continue  # it went meanwhile
                _remove_new(temporary)
                return found, False
        except BaseException:
            _remove_new(temporary)
            raise
        finally:
            os.close(lock)

    def _make_locked(self, temporary: str) -> int:
        """Make the directory and lock it; a sweep that comes between makes us begin anew."""
        while True:
            try:
                os.mkdir(temporary, 0o700)
                fd = os.open(f"{temporary}/lock", objectlock.FLAGS, 0o600)
            except FileNotFoundError:
                files.ensure_dir(self.directory)
                continue
            except FileExistsError:
                fd = os.open(f"{temporary}/lock", objectlock.FLAGS, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if objectlock.same(fd, f"{temporary}/lock"):
                return fd
            os.close(fd)

    # holding and removing

    def hold(self, name: str) -> int:
        """The volume's lock, shared: it cannot be removed until the caller closes the descriptor.

        Raises NotFoundError.
        """
        return objectlock.shared(f"{self.directory}/{name}", lambda: self._open_lock(name))

    def lock(self, name: str, *, patience: float = 0.5) -> int:
        """The volume's lock, alone; the caller closes it.  Raises NotFoundError, ConflictError.

        Another removal is over within the PATIENCE (seconds), a container's creation may not be.
        """
        return objectlock.alone(
            f"{self.directory}/{name}",
            lambda: self._open_lock(name),
            patience,
            f"remove {name}: volume is in use - [a container that is being created]",
        )

    def _open_lock(self, name: str) -> int:
        self.get(name)
        try:
            return os.open(f"{self.directory}/{name}/lock", objectlock.FLAGS, 0o600)
        except FileNotFoundError:
            raise no_such(name) from None
        except OSError as error:
            raise files.failure(f"lock volume {name}", error) from None

    def trash(self, name: str) -> str:
        """Take the volume away, whose lock the caller has; the directory that is left to be emptied.

        Needs no free space.
        """
        target = f"{self.directory}/.gone-{os.urandom(8).hex()}"
        try:
            os.rename(f"{self.directory}/{name}", target)
        except FileNotFoundError:
            raise no_such(name) from None
        except OSError as error:
            raise files.failure(f"remove volume {name}", error) from None
        return target

    def leftovers(self) -> list[str]:
        """Take away what crashes left (half-made volumes, half-filled stages); trees to be emptied."""
        try:
            found = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        left = [f"{self.directory}/{name}" for name in found if name.startswith(".gone-")]
        for name in found:
            path = f"{self.directory}/{name}"
            if name.startswith(".tmp-"):
                left += _take(f"{path}/lock", path, f"{self.directory}/.gone-{name[5:]}")
            elif name[0] != ".":
                left += _stages(path)
        return left


def _stages(directory: str) -> list[str]:
    """Stages in a volume whose worker is gone, each under a name that nobody will use."""
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    left = [f"{directory}/{name}" for name in names if name.startswith("gone-")]
    for name in STAGES:
        if name in names:
            gone = f"{directory}/gone-{os.urandom(8).hex()}"
            left += _take(directory, f"{directory}/{name}", gone)
    return left


def _take(lock: str, path: str, target: str) -> list[str]:
    """Rename PATH to TARGET unless somebody has LOCK; [TARGET], or nothing."""
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        fd = -1  # its maker died, or is about to notice that it has to begin anew
    except OSError:
        return []
    try:
        if fd >= 0:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(path, target)
    except OSError:
        return []
    finally:
        if fd >= 0:
            os.close(fd)
    return [target]


def _remove_new(directory: str) -> None:
    """Remove a volume that nobody has seen, as far as it is there."""
    for name in ("volume.json", EPHEMERAL, "lock"):
        try:
            files.unlink(f"{directory}/{name}")
        except OSError:
            pass
    for path in (f"{directory}/_data", directory):
        try:
            os.rmdir(path)
        except OSError:
            pass
