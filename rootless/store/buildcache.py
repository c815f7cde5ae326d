"""What builds remember: which layer a step made, by the step's cache key.

One small file per key below ``cache/build/steps``; the layers' blobs lie with all others and are kept by
the garbage collector as long as a record names them.  A record is written when its blob is on disk, so a
killed build leaves what it had finished.  All of it is derived: deleting any of it costs building again.
"""

from __future__ import annotations

import os
import time

from rootless import jsonc

from . import files
from .blobs import BlobStore
from .layers import drop_lock, take_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from rootless.config.paths import Paths

    Record = dict[str, Any]

VERSION = 1


class BuildCache:
    """All records of one user."""

    __slots__ = ("_blobs", "directory", "mounts", "steps")

    def __init__(self, paths: Paths) -> None:
        self._blobs = BlobStore(paths)
        self.directory = f"{paths.cache}/build"
        self.steps = f"{self.directory}/steps"
        self.mounts = f"{paths.local_root}/build-cache"

    def _path(self, key: str) -> str:
        return f"{self.steps}/{key}"

    def get(self, key: str) -> Record | None:
        """The record of a step whose layer is still there; its use is noted.  None for a miss."""
        record = self._read(self._path(key))
        if record is None:
            return None
        layer = record.get("layer")
        if layer and not self._blobs.has(layer["digest"], layer["size"]):
            return None
        try:
            os.utime(self._path(key))
        except OSError:
            pass
        return record

    def _read(self, path: str) -> Record | None:
        try:
            record = jsonc.loads(files.read(path))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) and record.get("version") == VERSION else None

    def put(self, key: str, record: Record) -> None:
        """Remember a step; raises NoSpaceError, StorageError."""
        try:
            files.ensure_dir(self.steps)
            data = jsonc.dumps({**record, "version": VERSION, "key": key}).encode()
            files.replace(self._path(key), data, durable=False)
        except OSError as error:
            raise files.failure(f"remember build step {key[:12]}", error) from None

    def forget(self, key: str) -> None:
        """Drop a record, which may be gone already."""
        files.unlink(self._path(key))

    def records(self) -> Iterator[Record]:
        """All records, each with ``used``, the time of its last use."""
        try:
            names = os.listdir(self.steps)
        except OSError:
            return
        for name in names:
            if len(name) != 64:
                continue
            record = self._read(f"{self.steps}/{name}")
            if record is not None:
                try:
                    record["used"] = os.stat(f"{self.steps}/{name}").st_mtime
                except OSError:
                    continue
                yield record

    def lock(self, key: str) -> int:
        """The lock under which one process at a time runs a step; waits for it."""
        files.ensure_dir(self.steps)
        return take_lock(f"{self._path(key)}.lock")

    def unlock(self, key: str, fd: int) -> None:
        """Give the lock back."""
        drop_lock(f"{self._path(key)}.lock", fd)

    def prune(self, older_than: float = 0.0) -> tuple[list[str], int]:
        """Forget records not used for OLDER_THAN seconds: (their keys, bytes of their blobs)."""
        limit = time.time() - older_than
        gone: list[str] = []
        size = 0
        for record in list(self.records()):
            if record["used"] <= limit:
                self.forget(record["key"])
                gone.append(record["key"])
                size += int((record.get("layer") or {}).get("size", 0))
        return gone, size
