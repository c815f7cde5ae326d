"""Layers while a build makes them: a directory at once, a blob and a diff ID a little later.

A step writes into an upper directory of its own.  The next step can use that directory as a lower one
the moment it is finished, so packing it (hash, compress, store) goes on beside.  What the kernel's overlay
wrote becomes the unpacked layer by a rename when the build is over; other drivers' layers are unpacked
from their blobs.  All of it lies in a directory with a lock; one whose lock nobody holds is swept.
"""

from __future__ import annotations

import _signal
import fcntl
import os
import stat
import threading
import time

from rootless.errors import RootlessError
from rootless.linux import proc
from rootless.oci import descriptor as descriptors
from rootless.oci import media_types
from rootless.store import changes, compress, files, treecopy, unpack, whiteouts, worker
from rootless.store import ownership as recorded
from rootless.store.claims import is_locked

from . import layers
from .progress import ProgressSink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from typing import Any

    from rootless.drivers.snapshot.base import Assembly, Tree

    from .context import Context

_BEING_MADE = 600.0  # seconds that a directory may take to get its lock
WORKER = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "builder", "worker.py"
)


class Ref:
    """A layer that a step made, or that an image has.

    path    its tree while the build uses it; "" until it is asked for
    record  {"diff_id", "layer", "created"} once it is packed; diff_id "" where nothing changed
    """

    __slots__ = ("_pending", "_record", "directory", "path")

    def __init__(
        self,
        record: dict[str, Any] | None = None,
        pending: Future[dict[str, Any]] | None = None,
        directory: str = "",
    ) -> None:
        self._record = record
        self._pending = pending
        self.directory = directory
        self.path = f"{directory}/upper" if directory else ""

    @property
    def record(self) -> dict[str, Any]:
        """What is known of the layer, waiting for it to be packed; raises what packing raised."""
        if self._record is None:
            assert self._pending is not None
            self._record = self._pending.result()
        return self._record

    @property
    def packed(self) -> bool:
        """Whether asking for the record would not wait, and not fail."""
        if self._record is not None:
            return True
        pending = self._pending
        return pending is not None and pending.done() and pending.exception() is None


def begin(ctx: Context) -> tuple[str, int]:
    """A new directory of a build and the lock that keeps it; what killed builds left is removed."""
    base, name = f"{ctx.paths.local_root}/build", os.urandom(6).hex()
    path, new = f"{base}/{name}", f"{base}/.{name}"
    try:
        files.ensure_dir(new)
        fd = os.open(f"{new}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.rename(new, path)  # never seen without its lock held
    except OSError as error:
        raise files.failure(f"make {path}", error) from None
    ctx.realm  # noqa: B018  (made once, before threads want it)
    left = [f"{base}/{one}" for one in os.listdir(base) if one != name and _abandoned(base, one)]
    if left:
        try:
            ctx.remove_trees(left)
        except RootlessError:
            pass  # the next build tries again
    return path, fd


def _abandoned(base: str, name: str) -> bool:
    if is_locked(f"{base}/{name}/lock"):
        return False
    if not name.startswith("."):
        return True
    try:
        return os.stat(f"{base}/{name}").st_mtime < time.time() - _BEING_MADE
    except OSError:
        return False


class Workspace:
    """Where a build's layers are made; nothing is there until the first is."""

    def __init__(self, ctx: Context, epoch: int = -1, compression: str = "") -> None:
        from concurrent.futures import ThreadPoolExecutor

        self.ctx = ctx
        self.epoch = epoch
        self.compression = compression or compress.spec("gzip")
        self.directory = ""
        self._lock_fd = -1
        self._count = 0
        self._mutex = threading.Lock()
        self._pool = ThreadPoolExecutor(max(1, os.cpu_count() or 1))
        self._unpacking = threading.Lock()
        self._made: list[Ref] = []
        self._running: set[int] = set()
        self._stopped = False

    def stop(self) -> None:
        """Kill the commands that run; none is started any more."""
        with self._mutex:
            self._stopped = True
            for pid in self._running:
                os.kill(pid, _signal.SIGKILL)

    def runs(self, pid: int) -> None:
        """A command was started; it is not reaped before ended() was called."""
        with self._mutex:
            self._running.add(pid)
            if self._stopped:
                os.kill(pid, _signal.SIGKILL)

    def ended(self, pid: int) -> None:
        """The command's output has ended, and so will it."""
        with self._mutex:
            self._running.discard(pid)

    @property
    def promotes(self) -> bool:
        """Whether an upper directory is what unpacking the layer would make."""
        ctx = self.ctx
        return ctx.driver.name == "overlay" and ctx.facts.id_rung != "single" and self.epoch < 0

    def step(self) -> str:
        """A new directory for one step."""
        with self._mutex:
            if not self.directory:
                self._begin()
            self._count += 1
            path = f"{self.directory}/{self._count}"
        os.makedirs(f"{path}/rootfs", 0o700)
        return path

    def _begin(self) -> None:
        self.directory, self._lock_fd = begin(self.ctx)

    def close(self) -> None:
        """Wait for what is being packed, keep finished layers, and remove the rest."""
        self._pool.shutdown(wait=True)
        if not self.directory:
            return
        try:
            if self.promotes:
                for ref in self._made:
                    if ref.packed and ref.record["diff_id"]:
                        self._promote(ref)
            self.ctx.remove_trees([self.directory])
        finally:
            os.close(self._lock_fd)
            self.directory = ""

    def _promote(self, ref: Ref) -> None:
        """Make the upper directory the unpacked layer; where that cannot be, it is unpacked when wanted."""
        store = self.ctx.layers()
        diff_id = ref.record["diff_id"]
        lock = store.lock(diff_id)
        final = store.layer_dir(diff_id)
        try:
            if store.present(diff_id):
                return
            store.discard(f"{final}.tmp")
            os.mkdir(f"{final}.tmp", 0o700)
            os.rename(f"{ref.directory}/upper", f"{final}.tmp/fs")
            os.symlink(f"{ref.record['entries']} {ref.record['total']}", f"{final}.tmp/stats")
            os.symlink(proc.boot_id(), f"{final}.tmp/boot")
            if os.path.lexists(final):
                store.discard(final)
            os.rename(f"{final}.tmp", final)
        except OSError:
            pass
        finally:
            store.unlock(diff_id, lock)

    # making a layer

    def assemble(self, directory: str, lowers: Sequence[str]) -> tuple[Tree, Assembly]:
        """A root over LOWERS with the step's own upper directory."""
        from rootless.drivers.snapshot.base import Tree

        driver, facts = self.ctx.driver, self.ctx.facts
        tree = Tree(
            lowers,
            f"{directory}/upper",
            f"{directory}/work",
            f"{directory}/rootfs",
            layer_format=driver.layer_format(facts),
            log=f"{directory}/storage.log",
        )
        driver.up(tree, self.ctx.run_in_realm)
        return tree, driver.plan(tree, facts)

    def finished(
        self,
        directory: str,
        lowers: Sequence[str],
        note: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> Ref:
        """The layer of a step that has ended.  NOTE(packed) makes the record, when its blob is stored."""
        pending = self._pool.submit(lambda: note(self._pack(directory, lowers)))
        ref = Ref(None, pending, directory)
        with self._mutex:
            self._made.append(ref)
        if not self.promotes:
            ref.path = ""
            ref.record  # noqa: B018  (waits: the layer has to be unpacked from it)
        return ref

    def _pack(self, directory: str, lowers: Sequence[str]) -> dict[str, Any]:
        ctx = self.ctx
        driver = ctx.driver
        words = [
            f"--upper={directory}/upper",
            f"--format={driver.layer_format(ctx.facts)}",
            f"--journal={directory}/{recorded.JOURNAL}",
            *self.packing(),
            *(f"--lower={path}" for path in lowers),
        ]
        if driver.name == "copy":
            words.append("--whole")
        elif driver.name == "fuse-overlayfs":
            words.append("--marks")
        argv = worker.command(WORKER, "pack", *words)
        return self.stored(
            lambda fd: worker.run(argv, ctx.run_in_realm, "", "pack a layer", {1: fd})
        )

    def stored(self, pack: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
        """The record of a layer that PACK writes to a descriptor, telling what it wrote."""
        writer = self.ctx.blobs.writer()
        try:
            found = pack(writer.fd)
            if not found:
                return {"diff_id": "", "layer": None}
            writer.filled(found["digest"], found["size"])
            digest = writer.commit()
        finally:
            writer.abort()
        kind = media_types.of_layer(self.compression.partition(":")[0])
        return {
            "diff_id": found["diff_id"],
            "layer": descriptors.make(kind, digest, found["size"]),
            "compression": self.compression,
            "entries": found["entries"],
            "total": found["total"],
        }

    def packing(self) -> list[str]:
        """Options of a worker that packs a layer."""
        sites = unpack.accelerators() if self.compression.startswith("zstd") else []
        return [
            f"--epoch={self.epoch}",
            f"--compression={self.compression}",
            *(f"--site={path}" for path in sites),
        ]

    # using layers

    def lowers(self, refs: Sequence[Ref]) -> list[str]:
        """Trees of REFS, topmost first, unpacked where they are not."""
        store = self.ctx.layers()
        missing = []
        for ref in refs:
            if ref.path or not ref.record["diff_id"]:
                continue
            if not store.present(ref.record["diff_id"]):
                missing.append(ref)
            else:
                ref.path = store.path(ref.record["diff_id"])
        if missing:
            with self._unpacking:
                wanted = [
                    layers.Layer(ref.record["layer"], ref.record["diff_id"]) for ref in missing
                ]
                layers.unpack_all(self.ctx, wanted, ProgressSink())
            for ref in missing:
                ref.path = store.path(ref.record["diff_id"])
        return [ref.path for ref in reversed(refs) if ref.path]


def clean_stubs(
    upper: str, lowers: Sequence[str], destinations: Sequence[str], *, whole: bool = False
) -> None:
    """Take away what was made in UPPER only to mount something there, and what became empty by that.

    What a step wrote is hostile: no link in it is followed.  WHOLE: UPPER has also what the layers below have.
    """
    ours = [os.fsdecode(path) for path in (*changes.OURS, *sorted(changes.OUR_DIRS, reverse=True))]
    roots = [os.open(path, treecopy.DIRECTORY) for path in (upper, *lowers)]
    try:
        for path in (*destinations, *ours):
            at = os.path.normpath(path)
            while at != "/" and _drop(roots[0], roots[1:], os.fsencode(at), whole=whole):
                at = os.path.dirname(at)
    finally:
        for fd in roots:
            os.close(fd)


def _drop(upper: int, lowers: Sequence[int], path: bytes, *, whole: bool) -> bool:
    """Remove PATH from UPPER if it is empty and says nothing that the layers below do not."""
    head, _, name = path.lstrip(b"/").rpartition(b"/")
    try:
        parent = treecopy.open_below(upper, head)
    except OSError:
        return False
    try:
        info = os.stat(name, dir_fd=parent, follow_symlinks=False)
        before = _below(lowers, head, name)
        if whole and before is not None:
            return False  # it was there before, and without it it would be deleted
        if stat.S_ISREG(info.st_mode) and not info.st_size and before is None:
            os.unlink(name, dir_fd=parent)
            return True
        if stat.S_ISDIR(info.st_mode) and _same_empty(parent, name, info, before):
            os.rmdir(name, dir_fd=parent)
            return True
    except OSError:
        pass
    finally:
        os.close(parent)
    return False


def _same_empty(
    parent: int, name: bytes, info: os.stat_result, before: os.stat_result | None
) -> bool:
    fd = os.open(name, treecopy.DIRECTORY, dir_fd=parent)
    try:
        if os.listdir(fd):
            return False
        if before is None:
            return True
        same = (before.st_mode, before.st_uid, before.st_gid)
        if same != (info.st_mode, info.st_uid, info.st_gid):
            return False
        return not whiteouts.is_opaque(fd, marks=False)
    finally:
        os.close(fd)


def _below(lowers: Sequence[int], head: bytes, name: bytes) -> os.stat_result | None:
    for lower in lowers:
        try:
            parent = treecopy.open_below(lower, head)
        except OSError:
            continue
        try:
            return os.stat(name, dir_fd=parent, follow_symlinks=False)
        except OSError:
            continue
        finally:
            os.close(parent)
    return None
