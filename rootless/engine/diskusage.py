"""`system df`: what images, containers, volumes and the cache take, and what of it could go.

Exact: every tree is walked in the realm and counted once, in bytes of regular files.  An image is its blobs
and all unpacked forms of its layers; what two images share is counted once in the sum.  A container is
all below its directory: its writable layer, its logs, a few files of the engine's.
"""

from __future__ import annotations

import os

from rootless.errors import RootlessError
from rootless.oci.digest import chain_id

from . import listing, usage, volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.store.volumes import Volume

    from .context import Context


class Kind:
    """One line of the table: how many there are and are in use, bytes, and those that could be freed."""

    __slots__ = ("active", "name", "reclaimable", "size", "total")

    def __init__(self, name: str, total: int, active: int, size: int, reclaimable: int) -> None:
        self.name = name
        self.total = total
        self.active = active
        self.size = size
        self.reclaimable = reclaimable


class Usage:
    """Everything counted.

    images      listing.image_rows() with total, shared and unique bytes, and containers
    containers  listing.ps_rows() with bytes
    volumes     (volume, how many containers refer to it, bytes)
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.containers = listing.ps_rows(ctx, all=True)
        for row, size in zip(self.containers, self._sizes([row["dir"] for row in self.containers])):
            row["bytes"] = size
        self.volumes = self._volumes()
        self._images_size, self._images_used = 0, 0
        self.images = self._images()
        self._cache = self._sizes([ctx.paths.cache])[0]

    def _sizes(self, paths: list[str]) -> list[int]:
        return [size for size, _ in usage.measure(self._ctx, paths)]

    def _volumes(self) -> list[tuple[Volume, int, int]]:
        using = volumes.users(self._ctx)
        found = self._ctx.volumes.all()
        sizes = self._sizes([volume.data_dir for volume in found])
        return [(one, len(using.get(one.name, ())), size) for one, size in zip(found, sizes)]

    def _images(self) -> list[dict[str, Any]]:
        """The rows of images; each part of one is a blob or an unpacked layer, by its path."""
        ctx = self._ctx
        using = listing.users_of_images(ctx)
        layers = _layer_dirs(ctx)
        rows = listing.image_rows(ctx)
        parts: dict[str, set[str]] = {}
        for record in ctx.images.list(removed=True):
            parts[record.id] = self._parts(record, layers)
        every = sorted({path for found in parts.values() for path in found})
        sizes = dict(zip(every, self._sizes_of_parts(every)))
        owners: dict[str, int] = {}
        for found in parts.values():
            for path in found:
                owners[path] = owners.get(path, 0) + 1
        for row in rows:
            mine = parts.get(row["id"], set())
            row["total"] = sum(sizes[path] for path in mine)
            row["shared"] = sum(sizes[path] for path in mine if owners[path] > 1)
            row["unique"] = row["total"] - row["shared"]
            row["containers"] = len(using.get(row["id"], ()))
        used = {path for image_id, found in parts.items() if image_id in using for path in found}
        self._images_used = sum(sizes[path] for path in used)
        self._images_size = sum(self._sizes([ctx.paths.images, ctx.paths.layers]))
        return rows

    def _sizes_of_parts(self, paths: list[str]) -> list[int]:
        """Bytes of blobs (files) and of layers (trees)."""
        trees = [path for path in paths if os.path.isdir(path)]
        known = dict(zip(trees, self._sizes(trees)))
        return [known[path] if path in known else _file_size(path) for path in paths]

    def _parts(self, record: Any, layers: dict[str, list[str]]) -> set[str]:
        try:
            found = {self._ctx.blobs.path(digest) for digest in record.blobs}
            ids = [*record.diff_ids, chain_id(record.diff_ids)]
        except RootlessError:
            return set()  # a broken image is counted in the sum, and could be freed
        for digest in ids:
            found.update(layers.get(digest.partition(":")[2], ()))
        return found

    def kinds(self) -> list[Kind]:
        """The four lines of the table."""
        running = [row for row in self.containers if row["status"] in listing.RUNNING]
        written = sum(row["bytes"] for row in self.containers)
        held = sum(size for _, _, size in self.volumes)
        used = sum(size for _, links, size in self.volumes if links)
        active = sum(1 for row in self.images if row["containers"])
        return [
            Kind(
                "Images",
                len(self.images),
                active,
                self._images_size,
                self._images_size - self._images_used - _overhead(self._ctx),
            ),
            Kind(
                "Containers",
                len(self.containers),
                len(running),
                written,
                written - sum(row["bytes"] for row in running),
            ),
            Kind(
                "Local Volumes",
                len(self.volumes),
                sum(1 for _, links, _ in self.volumes if links),
                held,
                held - used,
            ),
            Kind("Build Cache", 0, 0, self._cache, self._cache),
        ]


def _layer_dirs(ctx: Context) -> dict[str, list[str]]:
    """Digest (hex) -> the directories in which that layer is unpacked, in any format and ID map."""
    found: dict[str, list[str]] = {}
    try:
        formats = os.listdir(ctx.paths.layers)
    except FileNotFoundError:
        return found
    for form in formats:
        for name in os.listdir(f"{ctx.paths.layers}/{form}"):
            found.setdefault(name.rpartition("-")[2], []).append(
                f"{ctx.paths.layers}/{form}/{name}"
            )
    return found


def _overhead(ctx: Context) -> int:
    """Bytes of the image store that no removal gives back: its index and room set aside."""
    size = 0
    for name in os.listdir(ctx.paths.images) if os.path.isdir(ctx.paths.images) else ():
        size += _file_size(f"{ctx.paths.images}/{name}")
    return size


def _file_size(path: str) -> int:
    try:
        info = os.lstat(path)
    except OSError:
        return 0
    return 0 if os.path.isdir(path) else info.st_size
