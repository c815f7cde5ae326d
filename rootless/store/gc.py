"""Garbage collection: blobs and layers that nothing refers to, and what crashes left behind.

Owns mark and sweep over the store.  What containers use is told by the caller.  Blobs are swept under the
exclusive lease that every pull, load and unpack holds shared; where one is under way, they stay until
the next time.  Layers are derived, so taking one too many costs an unpacking and nothing else.
"""

from __future__ import annotations

import os

from rootless.errors import RootlessError
from rootless.oci.digest import chain_id

from . import imageindex, trash
from .blobs import BlobStore
from .images import ImageStore
from .layers import drop_lock, take_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless.config.paths import Paths


class Collected:
    """What a collection did: blobs gone, bytes of them, and trees that are left to be emptied."""

    __slots__ = ("blobs", "freed", "trashed")

    def __init__(self, blobs: list[str], freed: int, trashed: list[str]) -> None:
        self.blobs = blobs
        self.freed = freed
        self.trashed = trashed


def collect(paths: Paths, used_images: Iterable[str], used_layers: Iterable[str]) -> Collected:
    """Free what neither an image nor a container needs.

    USED_IMAGES are image IDs and USED_LAYERS diff IDs and chain IDs of all containers.  The caller empties
    ``trashed`` in the realm.
    """
    images = ImageStore(paths)
    blobs = BlobStore(paths)
    lease = blobs.lease(wait=False, exclusive=True)
    gone: list[str] = []
    freed = 0
    try:
        if lease is not None:
            images.forget_removed(set(used_images))
        marked, layers, whole = _mark(paths, images)
        if lease is not None and whole:
            gone, freed = blobs.sweep(marked)
    finally:
        if lease is not None:
            os.close(lease)
    trashed = sweep_layers(paths, layers | set(used_layers)) if whole else []
    return Collected(gone, freed, trashed)


def _mark(paths: Paths, images: ImageStore) -> tuple[set[str], set[str], bool]:
    """(blobs, diff IDs, whether every image could be read); nothing is swept on half knowledge."""
    marked: set[str] = {entry["digest"] for entry in imageindex.load(paths.images)}
    layers: set[str] = set()
    for record in images.list(removed=True):
        try:
            marked.update(record.blobs)
            layers.update(record.diff_ids)
            layers.add(chain_id(record.diff_ids))
            if record.index:
                marked.add(record.index)
            for other in record.others():
                marked.update(other.blobs)
                layers.update(other.diff_ids)
        except RootlessError:
            return marked, layers, False
    if os.path.isdir(f"{paths.cache}/build"):
        from .buildcache import BuildCache

        for step in BuildCache(paths).records():
            if step.get("layer"):
                marked.add(step["layer"]["digest"])
                layers.add(step["diff_id"])
    return marked, layers, True


def sweep_layers(paths: Paths, keep: Iterable[str]) -> list[str]:
    """Move layers whose diff ID is not in KEEP, and abandoned attempts, to the trash; where they are.

    All formats and ID maps; a layer that is being unpacked right now is left alone.
    """
    names = {digest.partition(":")[2] for digest in keep}
    trashed = []
    for format_dir in _subdirs(paths.layers):
        for name in os.listdir(format_dir):
            path = f"{format_dir}/{name}"
            hexes, _, suffix = name.partition(".")
            if suffix == "lock" or (not suffix and hexes.rpartition("-")[2] in names):
                continue
            moved = _take(paths, f"{format_dir}/{hexes}.lock", path)
            if moved:
                trashed.append(moved)
    return trashed


def sweep_maps(paths: Paths, used: Iterable[str]) -> list[str]:
    """Move all layers of ID maps that are not among the map keys USED to the trash; where they are."""
    keep = {"", *used}
    trashed = []
    for format_dir in _subdirs(paths.layers):
        if format_dir.rpartition("/")[2].partition("+")[2] in keep:
            continue
        for name in os.listdir(format_dir):
            hexes, _, suffix = name.partition(".")
            moved = suffix != "lock" and _take(
                paths, f"{format_dir}/{hexes}.lock", f"{format_dir}/{name}"
            )
            if moved:
                trashed.append(moved)
        try:
            os.rmdir(format_dir)
        except OSError:  # one is being made there
            continue
    return trashed


def _subdirs(path: str) -> list[str]:
    try:
        return [f"{path}/{name}" for name in os.listdir(path)]
    except FileNotFoundError:
        return []


def _take(paths: Paths, lock: str, path: str) -> str:
    fd = take_lock(lock, wait=False)
    if fd < 0:
        return ""
    try:
        return trash.put(paths, path)
    finally:
        drop_lock(lock, fd)
