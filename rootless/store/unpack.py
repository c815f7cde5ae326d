"""Layers unpacked from blobs, or made for an ID map from those without: one worker process per layer, in the
realm, several at a time.

Owns single flight (a lock per diff ID across processes), starting workers and reading how they ended.
The worker hashes what it reads, so a blob on disk is verified by the same pass; a layer is never
shown unless its diff ID and its blob's digest were right.
"""

from __future__ import annotations

import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor

from rootless.linux import proc

from . import files, worker
from .blobs import BlobStore
from .layers import SHARED, LayerStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, Protocol

    from .images import ImageRecord
    from .treecopy import Owners

    class Realm(Protocol):
        """What the engine's context gives."""

        @property
        def blobs(self) -> BlobStore:
            """Where the compressed layers are."""

        def layers(self, map_key: str = "") -> LayerStore:
            """Where the unpacked ones go."""

        def run_in_realm(
            self, argv: Sequence[str], fds: Mapping[int, int], map_key: str = ""
        ) -> int:
            """Start a program as root of the realm; its pid."""

    Run = Callable[[Sequence[str], Mapping[int, int], str], int]

_HERE = os.path.dirname(os.path.abspath(__file__))
WORKER, REMAPPER = f"{_HERE}/unpack_worker.py", f"{_HERE}/remap_worker.py"


class Unpacked:
    """How an unpacking ended; ``skipped`` counts what was left out, by kind."""

    __slots__ = ("diff_id", "entries", "size", "skipped")

    def __init__(self, diff_id: str, size: int, entries: int, skipped: dict[str, int]) -> None:
        self.diff_id = diff_id
        self.size = size
        self.entries = entries
        self.skipped = skipped


def accelerators() -> list[str]:
    """Import paths of the optional decompressors that are installed here."""
    found = []
    for name in ("isal", "zstandard", "backports"):
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            continue
        for place in (spec.submodule_search_locations or ()) if spec else ():
            parent = os.path.dirname(place)
            if parent not in found:
                found.append(parent)
    return found


def unpack(
    layers: LayerStore,
    diff_id: str,
    blob: int,
    run: Run,
    *,
    digest: str = "",
    size: int = -1,
) -> Unpacked | None:
    """Unpack one layer from the descriptor BLOB (a file or a pipe); None if it is present already.

    Raises LayerError, DigestMismatchError, NoSpaceError, StorageError; then nothing is left of it.
    """
    result = _once(
        layers, diff_id, lambda out: _work(layers, diff_id, blob, run, out, digest, size)
    )
    if result is None:
        return None
    return Unpacked(diff_id, result["size"], result["entries"], result["skipped"])


def derive(
    layers: LayerStore, name: str, diff_ids: Sequence[str], run: Run, owners: Owners
) -> None:
    """Make NAME of LAYERS with other OWNERS out of the layers DIFF_IDS of their base, unless it is present.

    NAME is a diff ID, then that layer is copied, or of images without data a chain ID.
    Raises IdMapError, NoSpaceError, StorageError; then nothing is left of it.
    """
    base = layers.base
    assert base is not None
    uids, gids = owners.words()
    options = [f"--uids={uids}", f"--gids={gids}", f"--boot-id={proc.boot_id()}"]
    if layers.format == SHARED:
        options.append(f"--data={base.directory}")
    sources = [base.path(diff_id) for diff_id in diff_ids]

    def work(out: str) -> dict[str, Any]:
        argv = worker.command(REMAPPER, f"--out={out}", *options, *sources)
        held = [(diff_id, base.lock(diff_id)) for diff_id in sorted(set(diff_ids))]
        try:  # nobody removes them meanwhile
            return worker.run(argv, run, "", f"make layer {name} for {layers.map_key}")
        finally:
            for diff_id, lock in held:
                base.unlock(diff_id, lock)

    _once(layers, name, work)


def _once(
    layers: LayerStore, diff_id: str, work: Callable[[str], dict[str, Any]]
) -> dict[str, Any] | None:
    """What WORK(new directory) said, the layer being in place; None where somebody else made it."""
    try:
        held = layers.lock(diff_id)
    except OSError as error:
        raise files.failure(f"unpack layer {diff_id}", error) from None
    try:
        if layers.present(diff_id):
            return None
        return _made(layers, diff_id, work)
    except OSError as error:
        raise files.failure(f"unpack layer {diff_id}", error) from None
    finally:
        layers.unlock(diff_id, held)


def _made(
    layers: LayerStore, diff_id: str, work: Callable[[str], dict[str, Any]]
) -> dict[str, Any]:
    final = layers.layer_dir(diff_id)
    out = f"{final}.tmp"
    layers.discard(out)  # left by a crash: we hold the lock
    os.mkdir(out, 0o700)
    done = False
    try:
        result = work(out)
        if os.path.lexists(final):  # of an earlier boot, or half deleted
            layers.discard(final)
        os.rename(out, final)
        done = True
    finally:
        if not done:
            layers.discard(out)
    return result


def _work(
    layers: LayerStore, diff_id: str, blob: int, run: Run, out: str, digest: str, size: int
) -> dict[str, Any]:
    argv = worker.command(
        WORKER,
        f"--out={out}",
        f"--diff-id={diff_id}",
        f"--digest={digest}",
        f"--size={size}",
        f"--format={layers.format}",
        f"--boot-id={proc.boot_id()}",
        *(f"--site={path}" for path in accelerators()),
    )
    return worker.run(argv, run, layers.map_key, f"unpack layer {diff_id}", {0: blob})


def unpack_layers(
    ctx: Realm,
    record: ImageRecord,
    diff_ids: Iterable[str],
    layers: LayerStore | None = None,
    on_done: Callable[[Unpacked], None] | None = None,
) -> None:
    """Unpack layers of an image from its blobs to LAYERS, as many at a time as there are cores.

    ON_DONE is called from the threads.  All layers are tried; the first error is raised.
    """
    layers = layers or ctx.layers()
    descriptors = dict(zip(record.diff_ids, record.layers))
    wanted = list(dict.fromkeys(diff_ids))
    lease = ctx.blobs.lease()

    def one(diff_id: str) -> None:
        assert layers is not None
        if layers.present(diff_id):
            return
        descriptor = descriptors[diff_id]
        try:
            blob = os.open(ctx.blobs.path(descriptor["digest"]), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise files.failure(f"read blob {descriptor['digest']}", error) from None
        try:
            size = int(descriptor.get("size", -1))
            result = unpack(
                layers, diff_id, blob, ctx.run_in_realm, digest=descriptor["digest"], size=size
            )
        finally:
            os.close(blob)
        if result is not None and on_done is not None:
            on_done(result)

    try:
        with ThreadPoolExecutor(max(1, min(len(wanted), os.cpu_count() or 1))) as pool:
            for future in [pool.submit(one, diff_id) for diff_id in wanted]:
                future.result()
    finally:
        if lease is not None:
            os.close(lease)
