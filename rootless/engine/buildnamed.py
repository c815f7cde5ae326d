"""The directories that a build copies from: its context, and named contexts that are or become directories.

Each is opened, fetched or unpacked when a step first wants it, and once.  Named contexts that are images
(``docker-image://``, ``oci-layout://``) are the build's to find; what ``target:`` names is a stage.
"""

from __future__ import annotations

import os
import threading

from rootless import jsonc
from rootless.builder.copying import CONTEXT
from rootless.builder.remotes import Names, plain_name
from rootless.builder.tree import Digests, Tree, digest
from rootless.errors import BuildError
from rootless.runtime.realm import memfd
from rootless.store import worker

from . import buildcontext, buildlayers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rootless.builder.remotes import Named

    from .buildcontext import BuildContext
    from .buildremote import Fetcher
    from .context import Context


class Place:
    """A directory and what of it is left out."""

    __slots__ = ("_digests", "_mutex", "_tree", "directory", "fetched", "ignored")

    def __init__(
        self, directory: str, ignored: Sequence[str], records: str, *, fetched: bool = False
    ) -> None:
        self.directory = directory
        self.ignored = list(ignored)
        self.fetched = fetched
        name = directory.replace("%", "%25").replace("/", "%")[-200:]
        self._digests = Digests("" if fetched else f"{records}/{name}")
        self._tree: Tree | None = None
        self._mutex = threading.Lock()

    def content(
        self, ctx: Context, sources: Sequence[str], excludes: Sequence[str], *, parents: bool
    ) -> str:
        """The digest of what SOURCES choose; raises BuildError."""
        with self._mutex:
            if self._tree is None:
                self._tree = Tree(self.directory, self.ignored)
            tree = self._tree
        try:
            found = [one for path in sources for one in tree.find(path, parents=parents)]
            return digest(tree, found, self._digests, excludes)
        except BuildError:
            if not self.fetched:
                raise
        # An archive's files may be closed to their own owner: then as root of the containers' IDs.
        return self._as_root(ctx, sources, excludes, parents=parents)

    def _as_root(
        self, ctx: Context, sources: Sequence[str], excludes: Sequence[str], *, parents: bool
    ) -> str:
        chosen = {
            "root": self.directory,
            "title": CONTEXT,
            "paths": list(sources),
            "ignored": self.ignored,
        }
        wanted = {
            "sources": [chosen],
            "excludes": list(excludes),
            "parents": parents,
            "owners": False,
        }
        fd = memfd("request", jsonc.dumps(wanted).encode())
        try:
            argv = worker.command(buildlayers.WORKER, "digest")
            found = worker.run(argv, ctx.run_in_realm, "", "read the build context", {0: fd})
            return str(found["digest"])
        finally:
            os.close(fd)

    def close(self) -> None:
        """Keep what was learnt of files."""
        self._digests.save()
        if self._tree is not None:
            self._tree.close()


class Places:
    """All such directories of one build; "" is the name of the context itself."""

    def __init__(
        self,
        context: BuildContext,
        named: Mapping[str, Named],
        fetcher: Fetcher | None,
        records: str,
    ) -> None:
        self._named = dict(named)
        self._fetcher = fetcher
        self._records = records
        self._places: dict[str, Place] = {}
        self._mutex = threading.Lock()
        if context.directory:
            self._places[""] = Place(
                context.directory, context.ignored, records, fetched=context.fetched
            )

    @property
    def names(self) -> Names:
        """Names that mean something else than a stage or image of that name."""
        return Names(frozenset(name for name, one in self._named.items() if one.kind != "stage"))

    @property
    def aliases(self) -> dict[str, str]:
        """Names that mean a stage of another name."""
        return {name.lower(): one.value for name, one in self._named.items() if one.kind == "stage"}

    def named(self, name: str) -> Named | None:
        """The named context that NAME means."""
        return self._named.get(plain_name(name))

    def find(self, name: str = "") -> Place | None:
        """The directory that NAME means; None for an image or a stage.  Raises BuildError and others."""
        if not name:
            if "" not in self._places:
                raise BuildError("cannot copy from the build context: there is none")
            return self._places[""]
        one = self.named(name)
        if one is None or one.kind not in ("directory", "git", "url"):
            return None
        with self._mutex:
            if one.name not in self._places:
                self._places[one.name] = self._opened(one)
            return self._places[one.name]

    def _opened(self, one: Named) -> Place:
        if one.kind == "directory":
            directory = os.path.abspath(one.value)
            if not os.path.isdir(directory):
                raise BuildError(f"cannot use context {one.name}: {one.value} is no directory")
            return Place(directory, buildcontext.ignored(directory), self._records)
        assert self._fetcher is not None
        if one.git is not None:
            directory = self._fetcher.tree(self._fetcher.git(one.git, own=True))
        else:
            directory, _ = self._fetcher.url(one.value)
            if not directory:
                raise BuildError(f"cannot use context {one.name}: what its URL gives is no archive")
        ignored = buildcontext.held_ignored(directory)
        return Place(directory, ignored, self._records, fetched=True)

    def close(self) -> None:
        """Close what is open."""
        for place in self._places.values():
            place.close()
