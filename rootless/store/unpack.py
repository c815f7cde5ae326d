"""Layers unpacked from blobs: one worker process per layer, in the realm, several at a time.

Owns single flight (a lock per diff ID across processes), starting workers and reading how they ended.
The worker hashes what it reads, so a blob on disk is verified by the same pass; a layer is never
shown unless its diff ID and its blob's digest were right.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from rootless import errors, jsonc
from rootless.errors import LayerError, RootlessError, StorageError
from rootless.linux import proc

from . import files
from .blobs import BlobStore
from .layers import LayerStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, Protocol

    from .images import ImageRecord

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

WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "unpack_worker.py")
_RESULT_FD = 3
_starting = threading.Lock()


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
    try:
        held = layers.lock(diff_id)
    except OSError as error:
        raise files.failure(f"unpack layer {diff_id}", error) from None
    try:
        if layers.present(diff_id):
            return None
        return _unpack_locked(layers, diff_id, blob, run, digest, size)
    except OSError as error:
        raise files.failure(f"unpack layer {diff_id}", error) from None
    finally:
        layers.unlock(diff_id, held)


def _unpack_locked(
    layers: LayerStore, diff_id: str, blob: int, run: Run, digest: str, size: int
) -> Unpacked:
    final = layers.layer_dir(diff_id)
    out = f"{final}.tmp"
    layers.discard(out)  # left by a crash: we hold the lock
    os.mkdir(out, 0o700)
    done = False
    try:
        result = _work(layers, diff_id, blob, run, out, digest, size)
        if os.path.lexists(final):  # of an earlier boot, or half deleted
            layers.discard(final)
        os.rename(out, final)
        done = True
    finally:
        if not done:
            layers.discard(out)
    return Unpacked(diff_id, result["size"], result["entries"], result["skipped"])


def _work(
    layers: LayerStore, diff_id: str, blob: int, run: Run, out: str, digest: str, size: int
) -> dict[str, Any]:
    argv = [
        sys.executable,
        "-I",
        "-S",
        WORKER,
        f"--out={out}",
        f"--diff-id={diff_id}",
        f"--digest={digest}",
        f"--size={size}",
        f"--format={layers.format}",
        f"--boot-id={proc.boot_id()}",
        *(f"--site={path}" for path in accelerators()),
    ]
    receiving, sending = os.pipe2(os.O_CLOEXEC)
    try:
        with _starting:
            pid = run(argv, {0: blob, _RESULT_FD: sending}, layers.map_key)
        os.close(sending)
        sending = -1
        line = b""
        while not line.endswith(b"\n"):
            data = os.read(receiving, 65536)
            if not data:
                break
            line += data
    finally:
        os.close(receiving)
        if sending >= 0:
            os.close(sending)
    try:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:  # not our child: the launcher cloned it for a nested map
        status = 0
    return _result(line, diff_id, status)


def _result(line: bytes, diff_id: str, status: int) -> dict[str, Any]:
    if not line:
        raise StorageError(
            f"cannot unpack layer {diff_id}: the unpacking process ended with status {status}"
        )
    result: dict[str, Any] = jsonc.loads(line)
    if "error" in result:
        raise _error_class(result["error"])(result["message"], hint=result["hint"])
    return result


def _error_class(slug: str) -> type[RootlessError]:
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, RootlessError) and kind.slug == slug:
            return kind
    return LayerError


def unpack_layers(
    ctx: Realm,
    record: ImageRecord,
    diff_ids: Iterable[str],
    map_key: str = "",
    on_done: Callable[[Unpacked], None] | None = None,
) -> None:
    """Unpack layers of an image from its blobs, as many at a time as there are cores.

    ON_DONE is called from the threads.  All layers are tried; the first error is raised.
    """
    layers = ctx.layers(map_key)
    descriptors = dict(zip(record.diff_ids, record.layers))
    wanted = list(dict.fromkeys(diff_ids))
    lease = ctx.blobs.lease()

    def one(diff_id: str) -> None:
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
