"""The process that fills a container's root for the copy driver.

    copy_worker.py UPPER FORMAT UIDS GIDS LOWER...

Runs as root of the realm. UIDS and GIDS are ID maps (treecopy.Owners), or empty. LOWER are layer trees,
topmost first; each is laid over what is there, from the lowest up. UPPER appears by one rename when it is
whole, so that a killed copy is never taken for a root.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), *[".."] * 3)))

from rootless.errors import RootlessError
from rootless.linux.syncfs import syncfs
from rootless.store import files, layermerge, ownership, treecopy, worker


def fill(
    upper: str, layer_format: str, owners: treecopy.Owners, lowers: list[str]
) -> dict[str, int]:
    """Make UPPER; how many files and bytes there were.  Raises OSError, IdMapError."""
    os.umask(0)
    temporary = f"{upper}.tmp"
    parent = os.open(os.path.dirname(upper), treecopy.DIRECTORY)
    try:
        treecopy.remove_if_there(parent, os.fsencode(os.path.basename(temporary)))
        os.mkdir(temporary, 0o755)
        root = os.open(temporary, treecopy.DIRECTORY)
        carry = _carry(upper, lowers) if ownership.one_id() else None
        copier = layermerge.Layers(root, owners, marks=layer_format == "files", carry=carry)
        for path in reversed(lowers):
            copier.layer(path)
        syncfs(root)
        os.close(root)
        os.rename(temporary, upper)
        os.fsync(parent)
    except BaseException:
        treecopy.remove_if_there(parent, os.fsencode(os.path.basename(temporary)))
        raise
    finally:
        os.close(parent)
    return {"files": copier.files, "bytes": copier.bytes}


def _carry(upper: str, lowers: list[str]) -> treecopy.Carry:
    """Takes along what the layers' journals say, to that of the container."""
    journal = ownership.journal_of(upper)
    files.unlink(journal)  # of a copy that was not finished
    records = ownership.Records(map(ownership.journal_of, lowers))
    recorder = ownership.Recorder(journal)

    def carry(source: int, name: bytes, info: os.stat_result, target: int) -> None:
        records.carry(source, name, info, recorder, target)

    return carry


def main(argv: list[str]) -> int:
    """Fill as ARGV says; 0, or 1 if an error was reported."""
    upper, layer_format, uids, gids, *lowers = argv
    try:
        found = fill(upper, layer_format, treecopy.Owners.from_words(uids, gids), lowers)
    except RootlessError as error:
        worker.report_error(error)
        return 1
    except OSError as error:
        worker.report_error(files.failure(f"copy the layers to {upper}", error))
        return 1
    worker.report(found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
