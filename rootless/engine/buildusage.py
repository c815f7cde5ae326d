"""What builds keep, as `builder du` lists it and `builder prune` takes it away.

Steps (a record each, and the layer that it names), cache mounts, and what was fetched for builds: files of
URLs and repositories.  A layer that an image has is shared: forgetting the step frees nothing.
"""

from __future__ import annotations

import os

from rootless import jsonc
from rootless.errors import RootlessError
from rootless.store import files
from rootless.store.buildcache import BuildCache
from rootless.store.claims import is_locked

from . import usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from .context import Context

STEP, MOUNT, URL, GIT = "regular", "exec.cachemount", "source.http", "source.git.checkout"
SHORT = 25


class Item:
    """One thing that builds keep.

    kind    STEP, MOUNT, URL or GIT; key: a step's, else the name of its directory
    used    when it was used last (seconds since 1970); created: as the record has it, "" where unknown
    shared  an image has its layer, too; busy: a build holds it now
    paths   what is measured, and for all but steps removed
    """

    __slots__ = (
        *("busy", "created", "description", "diff_id", "key", "kind"),
        *("paths", "shared", "size", "used"),
    )

    def __init__(self, kind: str, key: str, used: float, paths: list[str]) -> None:
        self.kind = kind
        self.key = key
        self.used = used
        self.paths = paths
        self.created = ""
        self.description = ""
        self.diff_id = ""
        self.shared = False
        self.busy = False
        self.size = 0

    @property
    def id(self) -> str:
        """As people see it."""
        return self.key[:SHORT] if self.kind == STEP else f"{_NAMES[self.kind]}-{self.key[:19]}"


_NAMES = {MOUNT: "mount", URL: "url", GIT: "git"}


def items(ctx: Context) -> list[Item]:
    """Everything that builds keep, the most recently used first."""
    cache = BuildCache(ctx.paths)
    found = [*_steps(ctx, cache), *_mounts(cache), *_fetched(cache)]
    paths = sorted({path for item in found for path in item.paths if os.path.lexists(path)})
    sizes = {path: size for path, (size, _) in zip(paths, usage.measure(ctx, paths))}
    for item in found:
        item.size += sum(sizes.get(path, 0) for path in item.paths)
    return sorted(found, key=lambda item: (-item.used, item.kind, item.key))


def _steps(ctx: Context, cache: BuildCache) -> Iterable[Item]:
    kept: set[str] = set()
    for image in ctx.images.list():
        try:
            kept.update(image.diff_ids)
        except RootlessError:
            continue
    store = ctx.layers()
    for record in cache.records():
        if is_content(record):
            continue
        item = Item(STEP, record["key"], record["used"], [])
        item.created, item.description = (
            str(record.get("created", "")),
            str(record.get("shown", "")),
        )
        item.diff_id = str(record.get("diff_id") or "")
        item.shared = item.diff_id in kept
        if item.diff_id:
            item.size = int((record.get("layer") or {}).get("size", 0))
            item.paths = [store.layer_dir(item.diff_id)]
        yield item


def is_content(record: Mapping[str, Any]) -> bool:
    """Whether a record is no step's: it tells what a step chose of layers, and is a line of text."""
    return "digest" in record


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _used(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _mounts(cache: BuildCache) -> Iterable[Item]:
    for name in _names(cache.mounts):
        path = f"{cache.mounts}/{name}"
        if name.endswith(".lock"):
            continue
        item = Item(MOUNT, name, max(_used(path), _used(f"{path}.lock")), [path])
        item.description = "cache mount"
        item.busy = is_locked(f"{path}.lock", shared=True)
        yield item


def _fetched(cache: BuildCache) -> Iterable[Item]:
    for name in _names(f"{cache.directory}/http"):
        path = f"{cache.directory}/http/{name}"
        item = Item(URL, name, max(_used(path), _used(f"{path}/record")), [path])
        try:
            item.description = str(jsonc.loads(files.read(f"{path}/record"))["url"])[:200]
        except (OSError, ValueError, KeyError, TypeError):
            item.description = "file of a URL"
        item.busy = is_locked(f"{path}/lock", shared=True)
        yield item
    for name in _names(f"{cache.directory}/git"):
        path = f"{cache.directory}/git/{name}"
        if name.endswith(".lock"):
            continue
        item = Item(GIT, name.partition(".")[0], _used(path), [path])
        item.description = "objects of a git repository"
        item.busy = is_locked(f"{cache.directory}/git/{item.key}.lock", shared=True)
        yield item
