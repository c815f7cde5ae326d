"""index.json of the image layout: which manifests there are and what they are called.

Owns reading it and changing it: always whole, under ``images/index.lock``, by fsync and rename.
Entries are manifest descriptors; what rootless adds stands in annotations that other OCI tools pass over.
"""

from __future__ import annotations

import errno
import fcntl
import os

from rootless import jsonc
from rootless.errors import StorageError

from . import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Entry = dict[str, Any]

REF_NAME = "org.opencontainers.image.ref.name"
REPO_DIGEST = "io.rootless.repo-digest"
IMAGE_ID = "io.rootless.image-id"
REMOVED = "io.rootless.removed"
INDEX = "io.rootless.index"  # digest of the index that has this image and those of other platforms
_MEDIA_TYPE = "application/vnd.oci.image.index.v1+json"


def note(entry: Entry, key: str) -> str:
    """An annotation of an entry, or ""."""
    value = (entry.get("annotations") or {}).get(key)
    return value if isinstance(value, str) else ""


def with_notes(entry: Entry, **changes: str) -> Entry:
    """A copy of an entry with annotations changed: ref, repo_digest, image_id, removed, index; "" drops one."""
    names = {
        "ref": REF_NAME,
        "repo_digest": REPO_DIGEST,
        "image_id": IMAGE_ID,
        "removed": REMOVED,
        "index": INDEX,
    }
    notes = dict(entry.get("annotations") or {})
    for key, value in changes.items():
        notes.pop(names[key], None)
        if value:
            notes[names[key]] = value
    return {**entry, "annotations": notes}


def load(images_dir: str) -> list[Entry]:
    """The entries; none where there is no index yet.  Raises StorageError where it is damaged."""
    path = f"{images_dir}/index.json"
    try:
        data = files.read(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise files.failure(f"read {path}", error) from None
    try:
        entries = jsonc.loads(data)["manifests"]
        if all(isinstance(entry["digest"], str) for entry in entries):
            return list(entries)
    except (ValueError, KeyError, TypeError):
        pass
    raise StorageError(f"cannot read {path}: it is no OCI image index")


class Edit:
    """Changing the index: ``with Edit(dir) as edit`` holds the lock; save() makes the change."""

    def __init__(self, images_dir: str) -> None:
        self._dir = images_dir
        self._lock = -1
        self.entries: list[Entry] = []

    def __enter__(self) -> Edit:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            files.ensure_dir(self._dir)
            self._lock = os.open(f"{self._dir}/index.lock", flags, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        except OSError as error:
            raise files.failure(f"lock {self._dir}/index.json", error) from None
        try:
            self.entries = load(self._dir)
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def save(self) -> None:
        """Put the entries on disk."""
        index = {"schemaVersion": 2, "mediaType": _MEDIA_TYPE, "manifests": self.entries}
        try:
            if not os.path.exists(f"{self._dir}/oci-layout"):
                layout = b'{"imageLayoutVersion":"1.0.0"}'
                files.replace(f"{self._dir}/oci-layout", layout, durable=True)
            self._put(jsonc.dumps(index).encode())
        except OSError as error:
            raise files.failure(f"write {self._dir}/index.json", error) from None

    def _put(self, data: bytes) -> None:
        """Replace the index; on a full disk in room that was taken before, so that images can be removed."""
        spare = f"{self._dir}/index.spare"
        try:
            files.replace(f"{self._dir}/index.json", data, durable=True)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not _fits(spare, data):
                raise
            fd = os.open(spare, os.O_WRONLY | os.O_CLOEXEC)
            try:
                files.write_all(fd, data)
                os.ftruncate(fd, len(data))
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(spare, f"{self._dir}/index.json")
            files.sync_dir(self._dir)
        _keep_spare(spare, len(data))


def _fits(spare: str, data: bytes) -> bool:
    try:
        return os.stat(spare).st_size >= len(data)
    except OSError:
        return False


def _keep_spare(spare: str, size: int) -> None:
    """Have a file of at least SIZE bytes with blocks of its own, if the disk has room."""
    wanted = (size + 4096) // 4096 * 4096
    fd = -1
    try:
        fd = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(fd).st_size < wanted:
            os.posix_fallocate(fd, 0, wanted)
    except OSError:
        pass
    finally:
        if fd >= 0:
            os.close(fd)
