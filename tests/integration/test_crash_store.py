"""kill -9 at every system call of the store: what is left is the old state or the new one, and usable."""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from rootless import jsonc
from rootless.config.paths import Paths
from rootless.errors import ConflictError, NoSpaceError, NotFoundError, RootlessError
from rootless.store.blobs import BlobStore
from rootless.store.containers import ContainerStore
from rootless.store.images import ImageStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CALLS = (
    "mkdir", "open", "write", "fsync", "rename", "symlink", "unlink", "rmdir", "listdir", "readlink",
    "stat", "lstat", "close", "makedirs", "link",
)  # fmt: skip
MAX_STEPS = 400
ID = "ab" * 32


def make_paths(directory: Path) -> Paths:
    return Paths(str(directory / "data"), str(directory / "run"), "", "")


def dies_at(step: int, action: Callable[[], Any]) -> bool:
    """Run ACTION in a child that kills itself before its STEPth system call; False if it got through."""
    pid = os.fork()
    if pid == 0:
        count = 0

        def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal count
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*args, **kwargs)

            return call

        try:
            for name in CALLS:
                setattr(os, name, wrap(getattr(os, name)))
            action()
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"step {step}: {error!r}\n")
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def every_step(tmp_path: Path, run: Callable[[int, Path], bool]) -> int:
    """Call RUN(step, fresh directory) until it says that nothing was killed; how many kills there were."""
    for step in range(1, MAX_STEPS):
        directory = tmp_path / str(step)
        directory.mkdir()
        if not run(step, directory):
            return step - 1
    raise AssertionError("the action never came to its end")


def check_store(paths: Paths) -> None:
    """What must hold after any crash and a collection."""
    store = ContainerStore(paths)
    store.gc()
    assert not [name for name in os.listdir(paths.containers) if name.startswith(".tmp-")]
    for container, state in store.scan():
        assert container.record["id"] == container.id
        assert state["status"] == "created"
        assert store.resolve(container.name).id == container.id
        assert store.resolve(container.id[:12]).id == container.id
    claimed = {os.readlink(f"{paths.names}/{n}") for n in os.listdir(paths.names) if n[0] != "."}
    assert claimed == set(store.list_ids())


def record(container_id: str) -> dict[str, Any]:
    return {"id": container_id, "request": {"auto_remove": False}}


def test_create_killed_anywhere(tmp_path: Path) -> None:
    def run(step: int, directory: Path) -> bool:
        paths = make_paths(directory)
        killed = dies_at(step, lambda: ContainerStore(paths).create(record(ID), "web"))
        for path in (paths.containers, paths.names):
            os.makedirs(path, exist_ok=True)
        store = ContainerStore(paths)
        exists = os.path.isdir(f"{paths.containers}/{ID}")
        if exists:
            assert store.resolve("web").id == ID
            with pytest.raises(ConflictError, match='"/web" is already in use by container "abab'):
                store.create(record("cd" * 32), "web")
        else:
            with pytest.raises(NotFoundError, match="no such container: web"):
                store.resolve("web")
            assert store.create(record("cd" * 32), "web").name == "web"
        check_store(paths)
        return killed

    assert every_step(tmp_path, run) > 15


def test_remove_killed_anywhere(tmp_path: Path) -> None:
    def run(step: int, directory: Path) -> bool:
        paths = make_paths(directory)
        store = ContainerStore(paths)
        store.create(record(ID), "web")
        killed = dies_at(step, lambda: ContainerStore(paths).trash(ID))
        if os.path.isdir(f"{paths.containers}/{ID}"):
            assert store.resolve("web").id == ID
            assert store.trash(ID)
        with pytest.raises(NotFoundError):
            store.resolve("web")
        assert store.create(record("cd" * 32), "web").name == "web"
        check_store(paths)
        assert [os.path.basename(path) for path in store.gc()] == [ID]
        return killed

    assert every_step(tmp_path, run) > 5


def test_rename_killed_anywhere(tmp_path: Path) -> None:
    def run(step: int, directory: Path) -> bool:
        paths = make_paths(directory)
        store = ContainerStore(paths)
        store.create(record(ID), "old")
        killed = dies_at(step, lambda: ContainerStore(paths).rename(ID, "new"))
        name = store.get(ID).name
        assert name in ("old", "new")
        assert store.resolve(name).id == ID
        free = "new" if name == "old" else "old"
        assert store.create(record("cd" * 32), free).name == free
        check_store(paths)
        assert {c.name for c, _ in store.scan()} == {"old", "new"}
        return killed

    assert every_step(tmp_path, run) > 8


def test_gc_killed_anywhere(tmp_path: Path) -> None:
    def run(step: int, directory: Path) -> bool:
        paths = make_paths(directory)
        store = ContainerStore(paths)
        dies_at(14, lambda: ContainerStore(paths).create(record("cd" * 32), "lost"))
        store.create(record(ID), "web")
        killed = dies_at(step, lambda: ContainerStore(paths).gc())
        assert store.resolve("web").id == ID
        check_store(paths)
        assert store.create(record("ef" * 32), "lost").name == "lost"
        return killed

    assert every_step(tmp_path, run) > 5


def image(paths: Paths, text: str) -> dict[str, Any]:
    """A manifest of one tiny layer; its descriptor."""
    blobs = BlobStore(paths)
    layer, size = blobs.ingest(text.encode())
    config, config_size = blobs.ingest(jsonc.dumps({"rootfs": {"diff_ids": [layer]}}).encode())
    manifest = {
        "schemaVersion": 2,
        "config": {"digest": config, "size": config_size},
        "layers": [{"digest": layer, "size": size}],
    }
    digest, size = blobs.ingest(jsonc.dumps(manifest).encode())
    return {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest,
        "size": size,
    }


def test_put_killed_anywhere(tmp_path: Path) -> None:
    def run(step: int, directory: Path) -> bool:
        paths = make_paths(directory)
        first, second = image(paths, "first"), image(paths, "second")
        images = ImageStore(paths)
        images.put(first, "app:1")
        killed = dies_at(step, lambda: ImageStore(paths).put(second, "app:1"))
        assert images.resolve("app:1").descriptor["digest"] in (first["digest"], second["digest"])
        images.put(second, "app:1")
        assert images.resolve("app:1").descriptor["digest"] == second["digest"]
        return killed

    assert every_step(tmp_path, run) > 8


def test_ingest_killed_anywhere(tmp_path: Path) -> None:
    def run(step: int, directory: Path) -> bool:
        paths = make_paths(directory)
        killed = dies_at(step, lambda: BlobStore(paths).ingest(b"some bytes" * 1000))
        blobs = BlobStore(paths)
        for digest, _ in blobs.digests():
            assert blobs.read_small(digest) == b"some bytes" * 1000
        blobs.sweep([])
        assert not os.path.isdir(blobs.ingest_dir) or os.listdir(blobs.ingest_dir) == []
        return killed

    assert every_step(tmp_path, run) > 5


@pytest.mark.parametrize("call", ["write", "mkdir", "symlink", "rename", "fsync"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    paths = make_paths(tmp_path)
    store = ContainerStore(paths)
    store.create(record(ID), "first")

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(NoSpaceError, match="cannot create container web: E"):
            store.create(record("cd" * 32), "web")
    assert sorted(os.listdir(paths.containers)) == [ID]
    assert store.create(record("cd" * 32), "web").name == "web"


def in_children(count: int, action: Callable[[int], Any]) -> list[int]:
    """Run ACTION(i) in COUNT processes at once; exit codes (0 done, 3 a RootlessError)."""
    start_read, start_write = os.pipe()
    pids = []
    for index in range(count):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(start_write)
                os.read(start_read, 1)
                action(index)
                code = 0
            except RootlessError:
                code = 3
            finally:
                os._exit(code)
        pids.append(pid)
    os.close(start_write)
    os.close(start_read)
    return [os.WEXITSTATUS(os.waitpid(pid, 0)[1]) for pid in pids]


def test_one_of_200_gets_the_name(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    codes = in_children(200, lambda i: ContainerStore(paths).create(record(f"{i:02x}" * 32), "web"))
    assert sorted(codes) == [0] + [3] * 199
    assert [c.name for c, _ in ContainerStore(paths).scan()] == ["web"]
    check_store(paths)


def test_one_of_200_takes_over_a_stale_name(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    os.makedirs(paths.names)
    os.symlink("f" * 64, f"{paths.names}/web")
    codes = in_children(200, lambda i: ContainerStore(paths).create(record(f"{i:02x}" * 32), "web"))
    assert sorted(codes) == [0] + [3] * 199
    check_store(paths)


def test_200_names_at_once(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    codes = in_children(
        200, lambda i: ContainerStore(paths).create(record(f"{i:02x}" * 32), f"c{i}")
    )
    assert codes == [0] * 200
    assert len(ContainerStore(paths).list_ids()) == 200
    check_store(paths)


def test_create_and_remove_race_with_gc(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)

    def work(index: int) -> None:
        store = ContainerStore(paths)
        for round_ in range(20):
            if index % 4 == 3:
                store.gc()
                continue
            container = store.create(record(os.urandom(32).hex()), f"c{index}-{round_}")
            assert store.resolve(container.name).id == container.id
            assert store.trash(container.id)

    assert in_children(12, work) == [0] * 12
    assert ContainerStore(paths).list_ids() == []
    check_store(paths)


def test_tags_by_40_processes(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    ImageStore(paths).put(image(paths, "layer"), "base:1")

    def work(index: int) -> None:
        images = ImageStore(paths)
        for round_ in range(5):
            images.tag("base:1", f"tag{index}:{round_}")
        images.remove(f"tag{index}:0")

    assert in_children(40, work) == [0] * 40
    names = ImageStore(paths).resolve("base:1").references
    assert len(names) == 1 + 40 * 4
