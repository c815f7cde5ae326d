"""The trash: what is removed is renamed into it, and emptied in the realm when there is time.

A rename needs no free space and no rights over what lies inside; emptying does, as the files belong to
subordinate IDs, so it is done by a callable that the engine gives.
"""

from __future__ import annotations

import os

from rootless.errors import NoSpaceError, StorageError

from . import files
from .claims import is_locked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rootless.config.paths import Paths


def put(paths: Paths, path: str) -> str:
    """Move PATH into the trash; where it is now, or "" if it was gone.  Raises StorageError."""
    target = f"{paths.trash}/{os.path.basename(path)}.{os.urandom(4).hex()}"
    while True:
        try:
            os.rename(path, target)
            return target
        except FileNotFoundError:
            if not os.path.lexists(path):
                return ""
            files.ensure_dir(paths.trash)
        except OSError as error:
            raise files.failure(f"remove {path}", error) from None


def pending(paths: Paths) -> list[str]:
    """What waits to be emptied; a removal that still is under way keeps its lock and is left out."""
    try:
        found = os.listdir(paths.trash)
    except FileNotFoundError:
        return []
    return [
        f"{paths.trash}/{name}" for name in found if not is_locked(f"{paths.trash}/{name}/lock")
    ]


def empty(paths: Paths, remove_trees: Callable[[Sequence[str]], object]) -> list[str]:
    """Remove what waits, by REMOVE_TREES(paths); what could not be removed stays and is given back."""
    waiting = pending(paths)
    if waiting:
        try:
            remove_trees(waiting)
        except (StorageError, NoSpaceError):
            pass
    return [path for path in waiting if os.path.lexists(path)]
