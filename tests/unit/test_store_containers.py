"""Containers on disk: finding, state by the truth rule, locking, renaming, what is refused."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from rootless.config.paths import Paths
from rootless.errors import ConflictError, NotFoundError, StorageError, UsageError
from rootless.linux import proc
from rootless.store import names
from rootless.store.containers import ContainerStore

if TYPE_CHECKING:
    from pathlib import Path

A, B = "abc1" + "0" * 60, "abc2" + "0" * 60


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(str(tmp_path / "data"), str(tmp_path / "run"), "", "")


@pytest.fixture
def store(paths: Paths) -> ContainerStore:
    return ContainerStore(paths)


def make(store: ContainerStore, container_id: str = A, name: str = "web") -> str:
    return store.create({"id": container_id, "request": {"auto_remove": True}}, name).id


def test_empty_store(store: ContainerStore) -> None:
    assert store.list_ids() == []
    assert list(store.scan()) == []
    assert store.gc() == []
    with pytest.raises(NotFoundError, match=r"^no such container: x$"):
        store.resolve("x")


def test_record_survives(store: ContainerStore) -> None:
    made = store.create({"x": ["\udcff", "ü", {}]}, "web")
    assert len(made.id) == 64
    again = store.get(made.id)
    assert again.record == {"x": ["\udcff", "ü", {}], "id": made.id}
    assert again.name == "web"
    assert again.dir == made.dir
    assert os.stat(made.dir).st_mode & 0o777 == 0o700


def test_drawn_names_differ(store: ContainerStore) -> None:
    drawn = {store.create({}).name for _ in range(50)}
    assert len(drawn) == 50
    assert all(name.count("_") == 1 for name in drawn)


def test_drawn_name_collides(store: ContainerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "generate", lambda: "same_name")
    assert store.create({}).name == "same_name"
    assert store.create({}).name != "same_name"


def test_resolution_order(store: ContainerStore) -> None:
    make(store, A, "web")
    make(store, B, "abc1")
    assert store.resolve(A).id == A
    assert store.resolve("web").id == A
    assert store.resolve("/web").id == A
    assert store.resolve("abc1").id == B, "a name goes before an ID prefix"
    assert store.resolve("abc10").id == A
    with pytest.raises(UsageError, match=r"^multiple IDs found with provided prefix: abc$"):
        store.resolve("abc")


@pytest.mark.parametrize("reference", ["", "/", "..", ".", "web/..", "../names/web", "ABC1", "we"])
def test_no_such(store: ContainerStore, reference: str) -> None:
    make(store)
    with pytest.raises(NotFoundError):
        store.resolve(reference)


@pytest.mark.parametrize("name", ["a", "-ab", ".ab", "a/b", "a b", "ä1", "a" * 256, "..", "a\nb"])
def test_bad_names(store: ContainerStore, name: str) -> None:
    with pytest.raises(UsageError, match="invalid container name"):
        store.create({}, name)
    make(store)
    with pytest.raises(UsageError, match="invalid container name"):
        store.rename(A, name)
    assert store.list_ids() == [A]


def test_name_in_use(store: ContainerStore) -> None:
    make(store)
    with pytest.raises(ConflictError) as caught:
        make(store, B, "web")
    assert caught.value.message == (
        f'conflict: the container name "/web" is already in use by container "{A}"'
    )
    assert store.list_ids() == [A]
    assert os.listdir(store.directory) == [A]


def test_rename(store: ContainerStore, paths: Paths) -> None:
    make(store)
    make(store, B, "db")
    store.rename(A, "front")
    assert store.get(A).name == "front"
    assert store.resolve("front").id == A
    with pytest.raises(NotFoundError):
        store.resolve("web")
    with pytest.raises(ConflictError, match='"/db" is already in use'):
        store.rename(A, "db")
    with pytest.raises(ConflictError):
        store.rename(A, "front")
    with pytest.raises(NotFoundError):
        store.rename("f" * 64, "new")
    assert sorted(os.listdir(paths.names)) == ["db", "front"]


def test_trash_frees_the_name(store: ContainerStore, paths: Paths) -> None:
    make(store)
    assert store.trash(A) == f"{paths.trash}/{A}"
    assert store.trash(A) == ""
    assert os.listdir(paths.names) == []
    make(store, B, "web")
    assert store.gc() == [f"{paths.trash}/{A}"]


def test_running_container_is_not_trashed(store: ContainerStore) -> None:
    make(store)
    lock = store.lock(A)
    with pytest.raises(ConflictError, match="it is already running"):
        store.trash(A)
    assert store.resolve("web").id == A
    assert store.trash(A, lock_fd=lock)
    os.close(lock)


def test_lock_outlasts_a_reader(store: ContainerStore) -> None:
    make(store)
    reader = os.open(f"{store.directory}/{A}/lock", os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH)
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(0.02)"], pass_fds=[reader]
    )
    os.close(reader)
    os.close(store.lock(A, patience=10))
    child.wait()


def running(**changes: Any) -> dict[str, Any]:
    state = {
        "status": "running",
        "pid": os.getpid(),
        "pidStart": proc.starttime(os.getpid()),
        "bootId": proc.boot_id(),
        "monitorPid": 0,
        "exitCode": 0,
        "error": "",
    }
    return {**state, **changes}


def test_state_of_the_living(store: ContainerStore) -> None:
    make(store)
    assert store.read_state(A)["status"] == "created"
    store.write_state(A, running())
    assert store.read_state(A)["status"] == "running"
    store.write_state(A, running(status="restarting", pid=0))
    lock = store.lock(A)
    assert store.read_state(A)["status"] == "restarting"
    os.close(lock)
    assert store.read_state(A)["status"] == "exited"


@pytest.mark.parametrize(
    "changes", [{"bootId": "other"}, {"pid": 2**22 + 1}, {"pidStart": 1}, {"pid": 0}]
)
def test_state_of_the_lost(store: ContainerStore, changes: dict[str, Any]) -> None:
    make(store)
    store.write_state(A, running(**changes))
    state = store.read_state(A)
    assert (state["status"], state["exitCode"], state["error"]) == (
        "exited",
        255,
        "monitor was lost",
    )
    assert state["pid"] == 0


def test_state_recorded_while_we_looked(
    store: ContainerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(store)
    store.write_state(A, running(pid=2**22 + 1))

    def ends(_pid: int, _start: int) -> bool:
        store.write_state(A, running(status="exited", exitCode=3))
        return False

    monkeypatch.setattr(proc, "pid_alive", ends)
    assert store.read_state(A)["exitCode"] == 3


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b'{"a":1}{'])
def test_damaged_files_are_named(store: ContainerStore, text: bytes) -> None:
    make(store)
    for name in ("state.json", "config.json"):
        with open(f"{store.directory}/{A}/{name}", "wb") as file:
            file.write(text)
    with pytest.raises(StorageError, match=r"cannot read .*state\.json: "):
        store.read_state(A)
    with pytest.raises(StorageError, match=r"cannot read .*config\.json: "):
        store.resolve(A)


def test_scan_shows_all_and_reads_records_late(store: ContainerStore) -> None:
    make(store, A, "web")
    make(store, B, "db")
    found = {container.name: (container, state) for container, state in store.scan()}
    assert set(found) == {"web", "db"}
    store.trash(B)
    assert found["web"][0].record["id"] == A
    with pytest.raises(NotFoundError):
        assert found["db"][0].record
    assert found["db"][1]["status"] == "created"


def test_lost_claim_is_found_and_made_anew(store: ContainerStore, paths: Paths) -> None:
    make(store)
    os.unlink(f"{paths.names}/web")
    assert store.resolve("web").id == A
    store.gc()
    assert os.readlink(f"{paths.names}/web") == A


def test_gc_spares_a_creation_under_way(store: ContainerStore, paths: Paths) -> None:
    temporary = f"{paths.containers}/.tmp-{B}"
    lock = store._make_locked(temporary)
    os.makedirs(paths.names)
    os.symlink(B, f"{paths.names}/web")
    assert store.gc() == []
    assert os.path.isdir(temporary)
    with pytest.raises(ConflictError):
        make(store, A, "web")
    os.close(lock)
    assert len(store.gc()) == 1
    assert not os.path.isdir(temporary)
    make(store, A, "web")


def test_removal_under_way_keeps_its_name(store: ContainerStore, paths: Paths) -> None:
    """The monitor renames into the trash first and unlinks the name after, all under the lock."""
    make(store)
    lock = store.lock(A)
    os.makedirs(paths.trash)
    os.rename(f"{paths.containers}/{A}", f"{paths.trash}/{A}")
    with pytest.raises(ConflictError):
        make(store, B, "web")
    assert store.gc() == []
    os.close(lock)
    make(store, B, "web")


def test_imports_stay_small() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import rootless.store.containers, rootless.store.images, rootless.store.layers\n"
        "import rootless.drivers.snapshot\n"
        "print(*sys.modules)"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, root], capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.split())
    slow = (
        "typing re enum json collections hashlib ctypes functools contextlib threading subprocess"
    )
    assert loaded & set(slow.split()) == set()
