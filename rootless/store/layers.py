"""Unpacked layers, one directory per diff ID: ``layers/<format>[+<map key>]/<hex>/fs``.

Owns where they lie and whether one can be trusted.  They are derived: anyone may delete any of them at
any moment, and it is unpacked again from its blob.  The format says how whiteouts are
stored, the map key whose ID map the owners follow.

Below ``shared+<map key>`` a directory is called by a chain ID and holds a whole image, all its layers merged,
but not the data of larger files: those say which file of the layers without a map has it (remap_worker.py).

``stats`` is a symbolic link to "ENTRIES BYTES", how much the layer's archive holds.

A layer appears by one rename when it is whole.  Its files are not fsynced, which would cost more than
unpacking them; a power loss may so leave a complete-looking layer with empty files.  Therefore
``boot`` (a symbolic link to the boot ID) is made with the layer and ``synced`` once syncfs returned, which
the unpacking process does after it has reported.  A layer of an earlier boot without ``synced`` is not
present.
"""

from __future__ import annotations

import fcntl
import os

from rootless.linux import proc

from . import files
from .blobs import split_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.config.paths import Paths


def trusted(directory: str) -> bool:
    """Whether the layer directory (the parent of fs) is there and survived whatever happened."""
    if not os.path.isdir(f"{directory}/fs"):
        return False
    if os.path.lexists(f"{directory}/synced"):
        return True
    try:
        return os.readlink(f"{directory}/boot") == proc.boot_id()
    except OSError:
        return False


def take_lock(path: str, *, wait: bool = True) -> int:
    """An exclusive flock on the file at PATH, made if need be; -1 only where WAIT is false and it is held.

    The file is removed with the lock, so a lock on a file that lost its name is none.
    """
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path).st_ino == os.fstat(fd).st_ino:
                return fd
        except BlockingIOError:
            os.close(fd)
            return -1
        except FileNotFoundError:
            pass
        os.close(fd)


def drop_lock(path: str, fd: int) -> None:
    """Give back what take_lock gave."""
    files.unlink(path)
    os.close(fd)


SHARED = "shared"  # the format of images without data


class LayerStore:
    """The layers of one format and ID map; BASE has the same without a map."""

    __slots__ = ("base", "directory", "format", "map_key", "trash_dir")

    def __init__(
        self,
        paths: Paths,
        layer_format: str,
        map_key: str = "",
        *,
        base: LayerStore | None = None,
    ) -> None:
        self.format = layer_format
        self.map_key = map_key
        self.base = base
        name = f"{layer_format}+{map_key}" if map_key else layer_format
        self.directory = f"{paths.layers}/{name}"
        self.trash_dir = paths.trash

    def layer_dir(self, diff_id: str) -> str:
        """The directory that holds the layer and what is known of it; raises ImageError."""
        algorithm, value = split_digest(diff_id)
        return f"{self.directory}/{value if algorithm == 'sha256' else f'{algorithm}-{value}'}"

    def path(self, diff_id: str) -> str:
        """Root of the layer's tree, whether it is there or not."""
        return f"{self.layer_dir(diff_id)}/fs"

    def present(self, diff_id: str) -> bool:
        """Whether the layer is there and whole."""
        return trusted(self.layer_dir(diff_id))

    def stats(self, diff_id: str) -> tuple[int, int] | None:
        """(entries, bytes) of the layer's archive, where they are known."""
        try:
            entries, size = os.readlink(f"{self.layer_dir(diff_id)}/stats").split()
            return int(entries), int(size)
        except (OSError, ValueError):
            return None

    def lock(self, diff_id: str) -> int:
        """The lock under which one process at a time makes or removes this layer; waits for it."""
        while True:
            try:
                return take_lock(f"{self.layer_dir(diff_id)}.lock")
            except FileNotFoundError:
                files.ensure_dir(self.directory)

    def unlock(self, diff_id: str, fd: int) -> None:
        """Give the lock back; its file goes with it."""
        drop_lock(f"{self.layer_dir(diff_id)}.lock", fd)

    def discard(self, directory: str) -> str:
        """Move a layer directory to the trash in one step; where it is now, or "" if it was gone."""
        target = f"{self.trash_dir}/layer-{os.urandom(8).hex()}"
        try:
            files.ensure_dir(self.trash_dir)
            os.rename(directory, target)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise files.failure(f"remove {directory}", error) from None
        return target
