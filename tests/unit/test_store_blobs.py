"""Blobs: nothing unverified comes in or goes out."""

from __future__ import annotations

import hashlib
import io
import os
from typing import TYPE_CHECKING

import pytest

from rootless.config.paths import Paths
from rootless.errors import DigestMismatchError, ImageError, NoSpaceError, StorageError
from rootless.store.blobs import BlobStore

if TYPE_CHECKING:
    from pathlib import Path

DATA = bytes(range(256)) * 10000
DIGEST = "sha256:" + hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(Paths(str(tmp_path / "data"), str(tmp_path / "run"), "", ""))


def leftovers(blobs: BlobStore) -> list[str]:
    return os.listdir(blobs.ingest_dir) if os.path.isdir(blobs.ingest_dir) else []


def test_round_trip(blobs: BlobStore) -> None:
    assert not blobs.has(DIGEST)
    assert blobs.ingest(io.BytesIO(DATA), DIGEST, len(DATA)) == (DIGEST, len(DATA))
    assert blobs.has(DIGEST, len(DATA))
    assert not blobs.has(DIGEST, len(DATA) - 1)
    with blobs.open_verified(DIGEST, len(DATA)) as reader:
        assert reader.read(-1) == DATA
    assert blobs.read_small(DIGEST) == DATA
    assert list(blobs.digests()) == [(DIGEST, len(DATA))]
    assert leftovers(blobs) == []


def test_sha512(blobs: BlobStore) -> None:
    digest = "sha512:" + hashlib.sha512(DATA).hexdigest()
    assert blobs.ingest(DATA, digest)[0] == digest
    assert blobs.read_small(digest) == DATA


@pytest.mark.parametrize(
    ("digest", "size", "message"),
    [
        ("sha256:" + "0" * 64, None, f"its digest is {DIGEST}"),
        (DIGEST, len(DATA) + 1, f"has {len(DATA)} bytes instead of {len(DATA) + 1}"),
        (DIGEST, 100, "has more than 100 bytes"),
    ],
)
def test_wrong_bytes_leave_nothing(
    blobs: BlobStore, digest: str, size: int | None, message: str
) -> None:
    with pytest.raises(DigestMismatchError, match=message):
        blobs.ingest(DATA, digest, size)
    assert list(blobs.digests()) == []
    assert leftovers(blobs) == []


def test_abort_leaves_nothing(blobs: BlobStore) -> None:
    writer = blobs.writer(DIGEST, len(DATA))
    writer.write(DATA[:100])
    assert leftovers(blobs) != []
    writer.abort()
    writer.abort()
    assert leftovers(blobs) == []


@pytest.mark.parametrize("damage", [b"X", b""])
def test_damage_on_disk_is_found(blobs: BlobStore, damage: bytes) -> None:
    blobs.ingest(DATA, DIGEST)
    with open(blobs.path(DIGEST), "r+b") as file:
        file.seek(1000)
        file.write(damage)
        file.truncate()
    with pytest.raises(DigestMismatchError):
        blobs.read_small(DIGEST)
    reader = blobs.open_verified(DIGEST, len(DATA))
    with pytest.raises(DigestMismatchError, match=f"cannot verify blob {DIGEST}"):
        while reader.read(4096):
            pass
    reader.close()


@pytest.mark.parametrize(
    "digest",
    ["", "sha256:", "sha256:../../etc/passwd", "md5:" + "0" * 32, "sha256:" + "A" * 64, "x" * 71],
)
def test_no_path_from_a_bad_digest(blobs: BlobStore, digest: str) -> None:
    with pytest.raises(ImageError, match="invalid digest"):
        blobs.path(digest)
    with pytest.raises(ImageError):
        blobs.has(digest)


def test_missing_blob_is_named(blobs: BlobStore) -> None:
    with pytest.raises(StorageError, match=f"cannot read blob {DIGEST}: ENOENT"):
        blobs.read_small(DIGEST)
    with pytest.raises(StorageError, match=DIGEST):
        blobs.open_verified(DIGEST)


def test_small_means_small(blobs: BlobStore) -> None:
    blobs.ingest(DATA, DIGEST)
    with pytest.raises(ImageError, match="bytes are too many"):
        blobs.read_small(DIGEST, limit=10)


def test_full_disk(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = blobs.writer(DIGEST)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(NoSpaceError, match=f"cannot write blob {DIGEST}: ENOSPC"):
        writer.write(b"x")
    writer.abort()
    assert leftovers(blobs) == []


def test_sweep_spares_what_is_kept_or_being_written(blobs: BlobStore) -> None:
    kept, _ = blobs.ingest(b"kept")
    gone, size = blobs.ingest(b"gone!")
    writing = blobs.writer()
    writing.write(b"more")
    with open(f"{blobs.ingest_dir}/abandoned", "wb") as file:
        file.write(b"123")
    assert blobs.sweep([kept]) == ([gone], size + 3)
    digest = writing.commit()
    assert {found for found, _ in blobs.digests()} == {kept, digest}


def test_lease(blobs: BlobStore) -> None:
    first, second = blobs.lease(), blobs.lease()
    assert first is not None
    assert second is not None
    assert blobs.lease(wait=False, exclusive=True) is None
    os.close(first)
    os.close(second)
    exclusive = blobs.lease(wait=False, exclusive=True)
    assert exclusive is not None
    assert blobs.lease(wait=False) is None
    os.close(exclusive)
