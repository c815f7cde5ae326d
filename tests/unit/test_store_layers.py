"""Layers and trash: what is trusted, what is swept, what is left alone."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from rootless.config.paths import Paths
from rootless.errors import ImageError, StorageError
from rootless.linux import proc
from rootless.store import gc, trash
from rootless.store.layers import LayerStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

A, B, C = ("sha256:" + letter * 64 for letter in "abc")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(str(tmp_path / "data"), str(tmp_path / "run"), "", "")


def make(store: LayerStore, diff_id: str, boot: str | None = None) -> str:
    directory = store.layer_dir(diff_id)
    os.makedirs(f"{directory}/fs")
    os.symlink(proc.boot_id() if boot is None else boot, f"{directory}/boot")
    return directory


def test_places(paths: Paths) -> None:
    assert LayerStore(paths, "overlay").path(A) == f"{paths.layers}/overlay/{'a' * 64}/fs"
    assert LayerStore(paths, "fuse", "k").path(A) == f"{paths.layers}/fuse+k/{'a' * 64}/fs"
    with pytest.raises(ImageError):
        LayerStore(paths, "overlay").path("sha256:../../x")


def test_trust(paths: Paths) -> None:
    store = LayerStore(paths, "overlay")
    assert not store.present(A)
    make(store, A)
    assert store.present(A)
    directory = make(store, B, "an earlier boot")
    assert not store.present(B)
    with open(f"{directory}/synced", "wb"):
        pass
    assert store.present(B)
    os.rmdir(store.path(B))
    assert not store.present(B), "someone deleted the tree"


def test_sweep(paths: Paths) -> None:
    stores = [LayerStore(paths, "overlay"), LayerStore(paths, "overlay", "key")]
    for store in stores:
        for diff_id in (A, B, C):
            make(store, diff_id)
        os.makedirs(f"{store.directory}/{'d' * 64}.tmp/fs")
    held = stores[0].lock(C)
    gone = gc.sweep_layers(paths, [A])
    names = sorted(os.path.basename(path).partition(".")[0][0] for path in gone)
    assert names == ["b", "b", "c", "d", "d"]
    assert all(os.path.dirname(path) == paths.trash for path in gone)
    assert [store.present(A) for store in stores] == [True, True]
    assert stores[0].present(C), "another process works on it"
    stores[0].unlock(C, held)
    assert len(gc.sweep_layers(paths, [A])) == 1
    assert os.listdir(stores[0].directory) == ["a" * 64], "no lock files are left"


def test_a_layer_being_unpacked_is_not_swept(paths: Paths) -> None:
    store = LayerStore(paths, "overlay")
    held = store.lock(B)
    os.makedirs(f"{store.layer_dir(B)}.tmp/fs")
    assert gc.sweep_layers(paths, []) == []
    store.unlock(B, held)
    assert len(gc.sweep_layers(paths, [])) == 1


def test_trash(paths: Paths) -> None:
    os.makedirs(f"{paths.data_root}/x/y")
    moved = trash.put(paths, f"{paths.data_root}/x")
    assert os.path.isdir(f"{moved}/y")
    assert trash.put(paths, f"{paths.data_root}/x") == ""
    assert trash.pending(paths) == [moved]

    def remove(found: Sequence[str]) -> None:
        for path in found:
            shutil.rmtree(path)

    assert trash.empty(paths, remove) == []
    assert trash.pending(paths) == []


def test_trash_that_cannot_be_emptied_stays(paths: Paths) -> None:
    os.makedirs(f"{paths.data_root}/x")
    moved = trash.put(paths, f"{paths.data_root}/x")

    def refuse(_: Sequence[str]) -> None:
        raise StorageError("cannot remove it")

    assert trash.empty(paths, refuse) == [moved]
    assert trash.pending(paths) == [moved]
