"""The process that unpacks one layer, as root of the realm: ``python -I -S unpack_worker.py ...``

    --out=DIRECTORY   made by the caller, empty; the layer's tree becomes its subdirectory fs
    --diff-id=DIGEST  of the uncompressed stream; --digest=DIGEST and --size=BYTES of the compressed one
    --format=NAME     how whiteouts are stored; "overlay" or "files" (layerwriter.py)
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
import stat
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from rootless.errors import DigestMismatchError, LayerError, RootlessError
from rootless.store import files, ownership, worker
from rootless.store.decompress import Source, fd_reader
from rootless.store.layerwriter import LayerWriter
from rootless.store.tarreader import TarReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMATS = ("overlay", "files")


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
    os.symlink(f"{result['entries']} {result['size']}", "stats", dir_fd=directory)
    os.symlink(options["boot_id"], "boot", dir_fd=directory)
    worker.report(result)
    worker.sync_later(directory)
    return 0


def _unpack(directory: int, options: dict[str, str]) -> dict[str, Any]:
    if options.get("format") not in FORMATS:
        raise LayerError(f"cannot unpack layer: unknown format {options.get('format')!r}")
    os.mkdir("fs", 0o755, dir_fd=directory)
    root = os.open("fs", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    if os.fstat(root).st_mode & stat.S_ISGID:  # inherited, and the group with it
        os.fchown(root, 0, 0)
    os.fchmod(root, 0o755)
    source = Source(fd_reader(0))
    try:
        reader = TarReader(source.next_chunk)
        journal = f"{options['out']}/{ownership.JOURNAL}"
        recorder = ownership.Recorder(journal) if ownership.one_id() else None
        writer = LayerWriter(root, recorder=recorder, layer_format=options["format"])
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


def _fail(out: str, error: RootlessError) -> int:
    import shutil

    shutil.rmtree(out, ignore_errors=True)
    worker.report_error(error)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
