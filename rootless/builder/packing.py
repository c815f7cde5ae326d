"""A writable layer made into a layer's blob: compared with those below, hashed and compressed in one pass."""

from __future__ import annotations

import hashlib
import os

from rootless.store import changes, compress, files, ownership, treecopy
from rootless.store.packer import Packer, add_change
from rootless.store.tarwriter import TarWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PIECE = 1 << 18


class Blob:
    """Where an archive's bytes go: hashed, compressed, hashed again, written to descriptor FD."""

    def __init__(self, fd: int, compression: str) -> None:
        self._fd = fd
        self._inner = hashlib.sha256()
        self._outer = hashlib.sha256()
        self._compressor = compress.compressor(compression)
        self._parts: list[bytes] = []
        self._waiting = 0
        self.size = self.total = 0

    def write(self, data: bytes) -> None:
        """Take bytes of the archive."""
        self._parts.append(data)
        self._waiting += len(data)
        if self._waiting >= _PIECE:
            self.flush()

    def flush(self) -> None:
        """Compress what waits."""
        data = b"".join(self._parts)
        self._parts, self._waiting = [], 0
        self.total += len(data)
        self._inner.update(data)
        self._out(self._compressor.compress(data))

    def _out(self, data: bytes) -> None:
        if data:
            self._outer.update(data)
            self.size += len(data)
            files.write_all(self._fd, data)

    def close(self) -> dict[str, Any]:
        """End the blob: its diff ID, digest and sizes."""
        self.flush()
        self._out(self._compressor.flush())
        return {
            "diff_id": f"sha256:{self._inner.hexdigest()}",
            "digest": f"sha256:{self._outer.hexdigest()}",
            "size": self.size,
            "total": self.total,
        }


class _Timed(Packer):
    """A packer in whose archive nothing is younger than EPOCH (-1: no limit)."""

    epoch = -1

    def one(self, name: bytes, info: os.stat_result, directory: int, base: bytes) -> None:
        """A single entry."""
        super().one(name, _not_after(info, self.epoch), directory, base)


def _not_after(info: os.stat_result, epoch: int) -> os.stat_result:
    if epoch < 0 or info.st_mtime_ns <= epoch * 10**9:
        return info
    reduced: tuple[tuple[Any, ...], dict[str, Any]] = info.__reduce__()[1]  # type: ignore[assignment]
    plain, named = reduced
    named = {**named, "st_mtime": float(epoch), "st_mtime_ns": epoch * 10**9}
    return os.stat_result((*plain[:8], epoch, *plain[9:]), named)


def export(options: dict[str, list[str]]) -> dict[str, Any]:
    """The whole root as one archive to descriptor 1, with what is recorded of owners."""
    lowers = options.get("lower", [])
    journals = [*options.get("journal", []), *map(ownership.journal_of, lowers)]
    records = ownership.Records(journals, active=ownership.one_id(), lowers=lowers)
    packer = _Timed(nanoseconds=False, records=records)
    packer.epoch = int(options["epoch"][0])
    root = os.open(options["root"][0], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    packer.content(root, b"")
    return packer.close()


def pack(options: dict[str, list[str]]) -> dict[str, Any]:
    """Pack the writable layer that OPTIONS name, or all of a root; {} where it changed nothing."""
    upper_path, lowers = (options.get("upper") or options["root"])[0], options.get("lower", [])
    marks = options["format"][0] == "files"
    journals = [*options.get("journal", []), *map(ownership.journal_of, lowers)]
    records = ownership.Records(journals, active=ownership.one_id(), lowers=lowers)
    upper = os.open(upper_path, treecopy.DIRECTORY)
    lower = changes.open_lower(lowers, marks=marks, records=records, exact="exact" in options)
    blob = Blob(1, options["compression"][0])
    packer = _Timed(nanoseconds=False, records=records)
    packer.epoch = int(options["epoch"][0])
    packer.tar = TarWriter(blob.write, nanoseconds=False)
    walked = changes.walk(upper, lower, marks=marks or "marks" in options, whole="whole" in options)
    opaque: set[bytes] = set()
    for change in walked:
        add_change(packer, change, opaque)
    if not packer.tar.entries:
        return {}
    packer.tar.close()
    return {**blob.close(), "entries": packer.tar.entries}
