"""The process that unpacks one layer, as root of the realm: ``python -I -S unpack_worker.py ...``

    --out=DIRECTORY   made by the caller, empty; the layer's tree becomes its subdirectory fs
    --diff-id=DIGEST  of the uncompressed stream; --digest=DIGEST and --size=BYTES of the compressed one
    --format=NAME     how whiteouts are stored; "overlay"
    --boot-id=ID      for the trust marker (layers.py)
    --site=DIRECTORY  further import path (repeatable), where isal or zstandard may be

Descriptor 0 is the compressed layer, descriptor 3 where one line of JSON says how it ended:
{"diff_id", "digest", "size", "entries", "skipped"} or {"error": slug, "message", "hint"}.  On an error the
tree is removed first.  After reporting, a child stays until the filesystem has written everything
and then marks the layer as synced.  Started in a process of its own because only root of the realm may
give files to subordinate IDs.
"""

from __future__ import annotations

import _signal
import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from rootless import jsonc
from rootless.errors import DigestMismatchError, LayerError, RootlessError
from rootless.store import files
from rootless.store.decompress import Source, fd_reader
from rootless.store.layerwriter import LayerWriter
from rootless.store.tarreader import TarReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RESULT_FD = 3
FORMATS = ("overlay",)


def main(argv: list[str]) -> int:
    """Unpack as ARGV says; 0, or 1 if an error was reported."""
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # Ctrl-C ends us without a traceback
    options = {}
    for word in argv:
        key, _, value = word.partition("=")
        if key == "--site":
            sys.path.append(value)
        else:
            options[key[2:].replace("-", "_")] = value
    out = options["out"]
    directory = os.open(out, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        result = _unpack(directory, options)
    except RootlessError as error:
        return _fail(out, error)
    except OSError as error:
        return _fail(out, files.failure(f"unpack layer {options['diff_id']}", error))
    except MemoryError:
        return _fail(out, LayerError(f"cannot unpack layer {options['diff_id']}: out of memory"))
    os.symlink(options["boot_id"], "boot", dir_fd=directory)
    _report(result)
    _sync_later(directory)
    return 0


def _unpack(directory: int, options: dict[str, str]) -> dict[str, Any]:
    if options.get("format") not in FORMATS:
        raise LayerError(f"cannot unpack layer: unknown format {options.get('format')!r}")
    os.mkdir("fs", 0o755, dir_fd=directory)
    root = os.open("fs", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    os.fchmod(root, 0o755)
    source = Source(fd_reader(0))
    try:
        reader = TarReader(source.next_chunk)
        writer = LayerWriter(root, squash=_single_id())
        writer.apply(reader)
        reader.drain()
        writer.close()
    finally:
        source.close()
    _check("blob", options.get("digest", ""), source.digest)
    _check("layer", options["diff_id"], source.diff_id)
    size = int(options.get("size") or -1)
    if size not in (-1, source.compressed_size):
        raise DigestMismatchError(
            f"cannot verify blob {options.get('digest')}: "
            f"it has {source.compressed_size} bytes instead of {size}"
        )
    return {
        "diff_id": source.diff_id,
        "digest": source.digest,
        "size": source.size,
        "entries": reader.entries,
        "skipped": writer.skipped,
    }


def _check(what: str, expected: str, actual: str) -> None:
    if expected and expected != actual:
        raise DigestMismatchError(f"cannot verify {what} {expected}: its digest is {actual}")


def _single_id() -> bool:
    """Whether only the caller's own ID is mapped, so that every file can only be theirs."""
    lines = files.read("/proc/self/uid_map").split(b"\n")
    return sum(int(line.split()[2]) for line in lines if line) == 1


def _report(result: dict[str, Any]) -> None:
    files.write_all(RESULT_FD, jsonc.dumps(result).encode() + b"\n")


def _fail(out: str, error: RootlessError) -> int:
    import shutil

    shutil.rmtree(out, ignore_errors=True)
    _report({"error": error.slug, "message": error.message, "hint": error.hint})
    return 1


def _sync_later(directory: int) -> None:
    """In a child that outlives us, wait for the disk and mark the layer; nobody waits for that."""
    if os.fork():
        return
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2, RESULT_FD):
            os.dup2(null, fd)
        os.chdir("/")
        _syncfs(directory)
        os.close(os.open("synced", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, dir_fd=directory))
    finally:
        os._exit(0)


def _syncfs(fd: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(fd) != 0:
        raise OSError(ctypes.get_errno(), "syncfs")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
