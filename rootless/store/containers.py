"""Containers on disk: making, finding, renaming and removing them, and the truth of their state.

Owns ``containers/<id>/`` with config.json (what was asked; `network connect` changes it), name, state.json and
lock.
Knows nothing of what a record says beyond its ID, and never starts or stops anything.

No step needs a lock that two containers share.  A creation is made under ``containers/.tmp-<id>``
and appears by one rename; a removal begins with one rename into the trash.  What a crash leaves
(a temporary directory whose lock nobody holds, a stale claim) is harmless and swept by gc().  claims.py
says how names are kept honest meanwhile.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from rootless import jsonc
from rootless.errors import ConflictError, NotFoundError, StorageError, UsageError
from rootless.linux import proc

from . import files
from .claims import Claims, check, is_locked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Callable

    from rootless.config.paths import Paths

_HEX = frozenset("0123456789abcdef")
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
ACTIVE = ("running", "restarting", "paused")
LOST_EXIT_CODE = 255


def new_state() -> dict[str, Any]:
    """The state of a container that was never started."""
    return {
        "status": "created",
        "pid": 0,
        "pidStart": 0,
        "monitorPid": 0,
        "startedAt": "",
        "finishedAt": "",
        "exitCode": 0,
        "error": "",
        "oomKilled": False,
        "cgroup": "",
        "restartCount": 0,
        "bootId": proc.boot_id(),
        "manualStop": False,
    }


class Container:
    """One container; its record is read from disk when it is first asked for."""

    __slots__ = ("_record", "dir", "id", "name")

    def __init__(
        self, container_id: str, name: str, directory: str, record: dict[str, Any] | None = None
    ) -> None:
        self.id = container_id
        self.name = name
        self.dir = directory
        self._record = record

    @property
    def record(self) -> dict[str, Any]:
        """What was asked; raises NotFoundError where the container is gone by now."""
        if self._record is None:
            self._record = _parse(f"{self.dir}/config.json", self.id)
        return self._record


def _parse(path: str, reference: str) -> dict[str, Any]:
    try:
        value = jsonc.loads(files.read(path))
    except (FileNotFoundError, NotADirectoryError):
        raise no_such(reference) from None
    except OSError as error:
        raise files.failure(f"read {path}", error) from None
    except ValueError as error:
        raise StorageError(f"cannot read {path}: {error}") from None
    if not isinstance(value, dict):
        raise StorageError(f"cannot read {path}: it is not a JSON object")
    return value


def no_such(reference: str) -> NotFoundError:
    """The error for a reference that names no container."""
    return NotFoundError(f"no such container: {reference}")


class ContainerStore:
    """All containers of one user."""

    __slots__ = ("_claims", "_paths", "directory")

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._claims = Claims(paths)
        self.directory = paths.containers

    # making

    def create(
        self,
        record: dict[str, Any],
        name: str = "",
        *,
        durable: bool | None = None,
        prepare: Callable[[str], None] | None = None,
    ) -> Container:
        """Write a container; NAME "" draws one.  The record's "id" is used, or one is drawn and set.

        PREPARE(directory) does what belongs to the making, when the name is claimed and before the
        container can be seen; what it raises ends the making.
        DURABLE None means durable unless the record asks for auto_remove.  Raises ConflictError (name
        in use), UsageError (no valid name), NoSpaceError, StorageError; then nothing is left.
        """
        if name:
            name = name[1:] if name[0] == "/" else name
            check(name)
        container_id = record.setdefault("id", "") or os.urandom(32).hex()
        record["id"] = container_id
        if durable is None:
            durable = not record.get("request", {}).get("auto_remove", False)
        try:
            return self._create(record, container_id, name, durable, prepare)
        except OSError as error:
            raise files.failure(f"create container {name or container_id}", error) from None

    def _create(
        self,
        record: dict[str, Any],
        container_id: str,
        name: str,
        durable: bool,
        prepare: Callable[[str], None] | None,
    ) -> Container:
        temporary = f"{self.directory}/.tmp-{container_id}"
        final = f"{self.directory}/{container_id}"
        lock = self._make_locked(temporary)
        claimed = ""
        try:
            files.write(f"{temporary}/config.json", jsonc.dumps(record).encode(), durable=durable)
            state = jsonc.dumps(new_state()).encode()
            files.write(f"{temporary}/state.json", state, durable=durable)
            if name:
                self._claims.claim(name, container_id)
                claimed = name
            else:
                name = claimed = self._claims.claim_random(container_id)
            files.write(f"{temporary}/name", name.encode(), durable=durable)
            if prepare is not None:
                prepare(temporary)
            if durable:
                files.sync_dir(temporary)
            os.rename(temporary, final)
            if durable:
                files.sync_dir(self.directory)
        except BaseException:
            if claimed and not os.path.isdir(final):
                self._claims.release(claimed, container_id)
            self._discard(temporary)
            raise
        finally:
            os.close(lock)
        return Container(container_id, name, final, record)

    def _discard(self, temporary: str) -> None:
        """Take a half-made container away; what only the realm can remove waits in the trash."""
        try:
            _remove_flat(temporary)
        except OSError:
            files.ensure_dir(self._paths.trash)
            os.rename(temporary, f"{self._paths.trash}/{os.urandom(8).hex()}")

    def _make_locked(self, temporary: str) -> int:
        """Make the directory and flock its lock file; a sweep that comes between makes us begin anew."""
        while True:
            try:
                os.mkdir(temporary, 0o700)
            except FileNotFoundError:
                files.ensure_dir(self.directory)
                continue
            try:
                fd = os.open(f"{temporary}/lock", _LOCK_FLAGS, 0o600)
            except FileNotFoundError:
                continue
            fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                if os.stat(f"{temporary}/lock").st_ino == os.fstat(fd).st_ino:
                    return fd
            except FileNotFoundError:
                pass
            os.close(fd)

    # finding

    def list_ids(self) -> list[str]:
        """IDs of all containers, in no order."""
        try:
            return [name for name in os.listdir(self.directory) if len(name) == 64]
        except FileNotFoundError:
            return []

    def get(self, container_id: str) -> Container:
        """The container with this full ID; raises NotFoundError."""
        directory = f"{self.directory}/{container_id}"
        if len(container_id) != 64 or not _HEX.issuperset(container_id):
            raise no_such(container_id)
        try:
            name = files.read(f"{directory}/name").decode()
        except FileNotFoundError:
            raise no_such(container_id) from None
        except OSError as error:
            raise files.failure(f"read {directory}/name", error) from None
        return Container(container_id, name, directory, _parse(f"{directory}/config.json", name))

    def resolve(self, reference: str) -> Container:
        """The container that a full ID, else a name, else an unambiguous ID prefix means.

        Raises NotFoundError ("no such container: X") or, for an ambiguous prefix, UsageError.
        """
        try:
            return self.get(self.resolve_id(reference))
        except NotFoundError:
            raise no_such(reference) from None

    def resolve_id(self, reference: str) -> str:
        """The full ID that :meth:`resolve` would find."""
        if len(reference) == 64 and os.path.isdir(f"{self.directory}/{reference}"):
            return reference
        name = reference[1:] if reference[:1] == "/" else reference
        if name and "/" not in name and name[0] != ".":
            owner = self._claims.owner(name)
            if owner is not None and os.path.isdir(f"{self.directory}/{owner}"):
                return owner
        found = []
        if reference and _HEX.issuperset(reference):
            found = [one for one in self.list_ids() if one.startswith(reference)]
        if not found:  # a claim that a power loss took away; the directory still knows its name
            found = [one for one in self.list_ids() if self._name_of(one) == name]
        if len(found) > 1:
            raise UsageError(f"multiple IDs found with provided prefix: {reference}", exit_code=1)
        if not found:
            raise no_such(reference)
        return found[0]

    def _name_of(self, container_id: str) -> str:
        try:
            return files.read(f"{self.directory}/{container_id}/name").decode()
        except OSError:
            return ""

    def every(self) -> Iterator[Container]:
        """Every container, in no order and without a look at its state."""
        for container_id in self.list_ids():
            yield Container(
                container_id, self._name_of(container_id), f"{self.directory}/{container_id}"
            )

    def scan(self, *, look: bool = True) -> Iterator[tuple[Container, dict[str, Any]]]:
        """(container, state) of every container, in no order; one that vanishes meanwhile is left out.

        Without LOOK the state is what its file says, which may have been overtaken.
        """
        names: dict[str, str] = {}
        for name, owner in self._claims.all():
            names[owner] = "" if owner in names else name  # two of them: a rename is under way
        for container_id in self.list_ids():
            directory = f"{self.directory}/{container_id}"
            try:
                if look:
                    state = self.read_state(container_id)
                else:
                    state = _parse(f"{directory}/state.json", container_id)
                name = names.get(container_id) or files.read(f"{directory}/name").decode()
            except (NotFoundError, FileNotFoundError):
                continue
            yield Container(container_id, name, directory), state

    # changing what was asked

    def update(self, container_id: str, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Let CHANGE alter a container's record, and put it in place of the old one; the new record.

        Those who change one container's record wait for each other.  What CHANGE raises leaves the old one.
        """
        directory = f"{self.directory}/{container_id}"
        try:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise no_such(container_id) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            record = _parse(f"{directory}/config.json", container_id)
            change(record)
            files.replace(f"{directory}/config.json", jsonc.dumps(record).encode(), durable=True)
            return record
        except FileNotFoundError:
            raise no_such(container_id) from None
        except OSError as error:
            raise files.failure(f"change container {container_id}", error) from None
        finally:
            os.close(fd)

    # state

    def read_state(self, container_id: str) -> dict[str, Any]:
        """The state as it truly is: what claims to run, and does not, reads as exited.

        Raises NotFoundError where there is no such container.
        """
        directory = f"{self.directory}/{container_id}"
        state = _parse(f"{directory}/state.json", container_id)
        if state["status"] in ACTIVE and not self._alive(directory, state):
            # The monitor may have recorded the end between our reading and our looking.
            state = _parse(f"{directory}/state.json", container_id)
            if state["status"] in ACTIVE and not self._alive(directory, state):
                state["status"] = "exited"
                state["exitCode"] = LOST_EXIT_CODE
                state["error"] = state["error"] or "monitor was lost"
                state["pid"] = state["pidStart"] = state["monitorPid"] = 0
                state["cgroup"] = ""
        elif state["status"] == "running" and state.get("cgroup"):
            # Never recorded, so that nothing that is killed leaves a lie behind.
            from rootless.linux import cgroup

            if cgroup.read(f"{state['cgroup']}/cgroup.freeze") == "1":
                state["status"] = "paused"
        return state

    def raw_state(self, container_id: str) -> tuple[dict[str, Any], bool]:
        """(what the state file says, whether the container's monitor lives); raises NotFoundError."""
        directory = f"{self.directory}/{container_id}"
        state = _parse(f"{directory}/state.json", container_id)
        return state, state["status"] in ACTIVE and self._alive(directory, state)

    def note_stop(self, container_id: str) -> None:
        """Record that a container which does not run was stopped by hand: nobody is to resume it.

        Only where that says something new: its end was in another boot, or nobody recorded it.
        """
        state, alive = self.raw_state(container_id)
        lost = state["status"] in ACTIVE
        if alive or state.get("manualStop") or not (lost or state["bootId"] != proc.boot_id()):
            return
        try:
            lock = self.lock(container_id)
        except (ConflictError, NotFoundError):
            return
        try:
            state = self.read_state(container_id)
            self.write_state(container_id, {**state, "manualStop": True})
        finally:
            os.close(lock)

    def _alive(self, directory: str, state: dict[str, Any]) -> bool:
        if state["bootId"] != proc.boot_id():
            return False
        if state["pid"] > 0 and proc.pid_alive(state["pid"], state["pidStart"]):
            return True
        return is_locked(f"{directory}/lock")

    def write_state(
        self, container_id: str, state: dict[str, Any], *, durable: bool = True
    ) -> None:
        """Put a whole new state; the caller holds the container's lock."""
        path = f"{self.directory}/{container_id}/state.json"
        try:
            files.replace(path, jsonc.dumps(state).encode(), durable=durable)
        except FileNotFoundError:
            raise no_such(container_id) from None
        except OSError as error:
            raise files.failure(f"write {path}", error) from None

    def lock(self, container_id: str, *, patience: float = 0.05) -> int:
        """The container's lock, exclusively; the caller closes the descriptor.

        Raises ConflictError if a monitor has it (the container runs), NotFoundError.  Readers look at
        the lock by taking it for an instant, hence the PATIENCE in seconds.
        """
        path = f"{self.directory}/{container_id}/lock"
        try:
            fd = os.open(path, _LOCK_FLAGS, 0o600)
        except FileNotFoundError:
            raise no_such(container_id) from None
        except OSError as error:
            raise files.failure(f"open {path}", error) from None
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(fd)
                    raise ConflictError(
                        f"cannot lock container {container_id}: it is already running"
                    ) from None
                time.sleep(0.001)
        if not os.path.exists(path):  # removed while we waited
            os.close(fd)
            raise no_such(container_id)
        return fd

    # renaming and removing

    def rename(self, container_id: str, name: str) -> None:
        """Give the container a new name; raises ConflictError, UsageError, NotFoundError."""
        name = name[1:] if name[:1] == "/" else name
        check(name)
        directory = f"{self.directory}/{container_id}"
        try:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise no_such(container_id) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # says to Claims that a rename is under way
            old = files.read(f"{directory}/name").decode()
            self._claims.claim(name, container_id)
            try:
                files.replace(f"{directory}/name", name.encode(), durable=True)
            except BaseException:
                self._claims.release(name, container_id)
                raise
            self._claims.release(old, container_id)
        except FileNotFoundError:
            raise no_such(container_id) from None
        except OSError as error:
            raise files.failure(f"rename container {container_id}", error) from None
        finally:
            os.close(fd)

    def trash(self, container_id: str, *, lock_fd: int | None = None) -> str:
        """Remove the container from the store; the directory that is left to be emptied, or "".

        Needs no free space.  "" means that someone else removed it first.  LOCK_FD is the container's
        lock if the caller has it.  Raises ConflictError if the container runs.
        """
        target = f"{self._paths.trash}/{container_id}"
        try:
            lock = self.lock(container_id) if lock_fd is None else lock_fd
        except NotFoundError:
            return ""
        try:
            return self._trash(container_id, target)
        except OSError as error:
            raise files.failure(f"remove container {container_id}", error) from None
        finally:
            if lock_fd is None:
                os.close(lock)

    def _trash(self, container_id: str, target: str) -> str:
        name = self._name_of(container_id)
        while True:
            try:
                os.rename(f"{self.directory}/{container_id}", target)
                break
            except FileNotFoundError:
                if not os.path.isdir(f"{self.directory}/{container_id}"):
                    return ""
                files.ensure_dir(self._paths.trash)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                target += f".{os.getpid()}"
        if name:
            self._claims.release(name, container_id)
        return target

    def gc(self) -> list[str]:
        """Put right what crashes left; directories in the trash that are to be emptied."""
        try:
            found = os.listdir(self.directory)
        except FileNotFoundError:
            found = []
        for entry in found:
            if entry.startswith(".tmp-"):
                self._collect(entry)
        self._claims.sweep()
        self._reclaim([entry for entry in found if len(entry) == 64])
        return self._emptiable()

    def _collect(self, entry: str) -> None:
        directory = f"{self.directory}/{entry}"
        try:
            fd = os.open(f"{directory}/lock", _LOCK_FLAGS, 0o600)
        except OSError:
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            files.ensure_dir(self._paths.trash)
            os.rename(directory, f"{self._paths.trash}/{entry}.{os.urandom(4).hex()}")
        except OSError:
            pass
        finally:
            os.close(fd)

    def _reclaim(self, container_ids: list[str]) -> None:
        """Claim anew the names that a power loss took away."""
        owned = {owner for _, owner in self._claims.all()}
        for container_id in container_ids:
            name = self._name_of(container_id) if container_id not in owned else ""
            if name:
                try:
                    self._claims.claim(name, container_id)
                except ConflictError:
                    pass

    def _emptiable(self) -> list[str]:
        try:
            found = os.listdir(self._paths.trash)
        except FileNotFoundError:
            return []
        paths = [f"{self._paths.trash}/{entry}" for entry in found]
        return [path for path in paths if not is_locked(f"{path}/lock")]


def _remove_flat(directory: str) -> None:
    """Remove a directory of plain files, as far as it is there."""
    try:
        for name in os.listdir(directory):
            os.unlink(f"{directory}/{name}")
        os.rmdir(directory)
    except FileNotFoundError:
        pass
