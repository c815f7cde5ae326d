"""The process that gives layers the owners of an ID map: ``python -I -S remap_worker.py OPTIONS... SOURCE...``

    --out=DIRECTORY         made by the caller, empty; the tree becomes its subdirectory fs
    --uids=MAP, --gids=MAP  whose the files become (treecopy.Owners)
    --data=DIRECTORY        make an image without data: all of SOURCE merged, lowest first; DIRECTORY is where
                            the kernel will look for the data, and SOURCE lies below it
    --boot-id=ID            for the trust marker (layers.py)

Without --data there is one SOURCE, of which a copy is made.  Runs as root of the realm, which alone may give
files to all subordinate IDs.  One line of JSON on descriptor 3 says how it ended.

In an image without data, a file of more than a block has none: ``user.overlay.metacopy`` says so and
``user.overlay.redirect`` names the file that has.  Since Linux 6.16 the kernel obeys that in a user
namespace, from the last lower layer only, hence the merging.  The attributes never come from an image
(layerwriter.py).
"""

from __future__ import annotations

import _signal
import errno
import os
import stat
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from rootless.errors import RootlessError
from rootless.store import files, layermerge, treecopy, worker

# The attributes take a block of their own on most filesystems, so that less is not worth sharing.
BLOCK = 4096
METACOPY, REDIRECT = "user.overlay.metacopy", "user.overlay.redirect"
_FULL = (errno.ENOSPC, errno.E2BIG, errno.ERANGE, errno.ENAMETOOLONG)
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Copied(treecopy.TreeCopier):
    """A layer as it is, whiteouts and opaque marks included."""

    private = ()

    def entry(self, source: int, name: bytes, target: int, where: bytes) -> None:
        """Copy one entry, a whiteout too."""
        info = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
            os.mknod(name, info.st_mode, dir_fd=target)
            return
        super().entry(source, name, target, where)


class Merged(layermerge.Layers):
    """Layers of the overlay format laid over each other, larger files without their data."""

    def __init__(self, root: int, owners: treecopy.Owners, directory: str) -> None:
        super().__init__(root, owners, marks=False)
        self._directory = directory
        self._data = b""
        self.lent = 0

    def layer(self, path: str) -> None:
        """Lay a layer over what is there."""
        self._data = os.fsencode(path[len(self._directory) :])
        super().layer(path)

    def regular(
        self, source: int, name: bytes, target: int, info: os.stat_result, where: bytes
    ) -> None:
        """Copy a small file; of a larger one say where its data is."""
        if info.st_size <= BLOCK:
            super().regular(source, name, target, info, where)
            return
        here, there = os.open(name, _READ, dir_fd=source), -1
        try:
            there = os.open(name, _CREATE, 0o600, dir_fd=target)
            os.ftruncate(there, info.st_size)
            if not self._lends(there, self._data + where):
                treecopy.copy_data(here, there, info)
            self.metadata(here, there, info)
        finally:
            os.close(here)
            if there >= 0:
                os.close(there)

    def _lends(self, fd: int, path: bytes) -> bool:
        """Write the attributes; False for a path too long for one."""
        os.setxattr(fd, METACOPY, b"")
        try:
            os.setxattr(fd, REDIRECT, path)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            os.removexattr(fd, METACOPY)
            return False
        self.lent += 1
        return True


def remap(
    out: str, sources: list[str], owners: treecopy.Owners, directory: str = ""
) -> dict[str, int]:
    """Make OUT/fs; what there was.  Raises OSError, IdMapError."""
    os.umask(0)
    os.mkdir(f"{out}/fs", 0o755)
    root = os.open(f"{out}/fs", treecopy.DIRECTORY)
    if directory:
        merged = Merged(root, owners, directory)
        for source in sources:
            merged.layer(source)
        return {"files": merged.files, "bytes": merged.bytes, "lent": merged.lent}
    copied = Copied(root, owners)
    here = os.open(sources[0], treecopy.DIRECTORY)
    copied.tree(here, root)
    copied.metadata(here, root, os.fstat(here))
    return {"files": copied.files, "bytes": copied.bytes, "lent": 0}


def main(argv: list[str]) -> int:
    """Make the tree as ARGV says; 0, or 1 if an error was reported and nothing left."""
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # Ctrl-C ends us without a traceback
    options = dict(word[2:].split("=", 1) for word in argv if word.startswith("--"))
    sources = [word for word in argv if not word.startswith("--")]
    out = options["out"]
    owners = treecopy.Owners.from_words(options["uids"], options["gids"])
    try:
        found = remap(out, sources, owners, options.get("data", ""))
    except RootlessError as error:
        return _fail(out, error)
    except OSError as error:
        return _fail(out, files.failure(f"copy layers to {out}", error))
    directory = os.open(out, treecopy.DIRECTORY)
    os.symlink(options["boot-id"], "boot", dir_fd=directory)
    worker.report(found)
    worker.sync_later(directory)
    return 0


def _fail(out: str, error: RootlessError) -> int:
    import shutil

    shutil.rmtree(out, ignore_errors=True)
    worker.report_error(error)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
