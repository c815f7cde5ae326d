"""The sources of an ADD: paths of the context, URLs and git repositories, in the order that it names them.

What a step's result depends on is found first: of a URL the digest of what it gives now, or the checksum
that the step promises (then nobody is asked), of a repository the commit.  Only a step that is not in the
cache has them on disk.
"""

from __future__ import annotations

from rootless.builder import remotes
from rootless.builder.copying import CONTEXT
from rootless.errors import BuildError, UsageError

from .buildhttp import File

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.builder.steps import CopyStep

    from .buildgit import Git
    from .buildnamed import Place
    from .buildremote import Fetcher


class Added:
    """The sources of one ADD that has remote ones."""

    def __init__(self, step: CopyStep, fetcher: Fetcher) -> None:
        self._step = step
        self._fetcher = fetcher
        self._found: dict[str, Git | File] = {}
        if step.checksum and len(step.sources) != 1:
            raise BuildError("cannot ADD with --checksum: it is for one source")

    def key(self, local: Callable[[str], str]) -> str:
        """The digest of what the sources give; LOCAL tells that of a path.  Raises BuildError and others."""
        step = self._step
        parts = [f"unpack {step.unpack_fetched}"]
        for text in step.sources:
            source = git_source(text)
            if source is not None:
                parts.append(self._git(text, source))
            elif remotes.is_http(text):
                http = self._fetcher.http
                ask = http.promised if step.checksum else http.find
                file = self._found[text] = ask(text, step.checksum)
                parts.append(file.key)
            else:
                parts.append(local(text))
        return "\n".join(parts)

    def _git(self, text: str, source: remotes.GitSource) -> str:
        step = self._step
        source.keep_git_dir = source.keep_git_dir or step.keep_git_dir
        if step.checksum:
            if source.checksum and source.checksum != step.checksum:
                raise BuildError("cannot ADD with --checksum: the URL has another checksum")
            source.checksum = step.checksum.lower()
            if not remotes.is_commit(source.checksum):
                raise BuildError(f"invalid checksum {step.checksum!r}: it is no commit")
        git = self._found[text] = self._fetcher.git(source, own=False)
        flags = f"{source.keep_git_dir} {source.submodules}"
        name = source.shown if source.keep_git_dir else ""
        return f"git {git.resolve()} {source.subdir} {flags} {name}"

    def sources(self, place: Callable[[str], Place | None]) -> list[dict[str, Any]]:
        """What the worker is told of each source, which is on disk then."""
        out = []
        for text in self._step.sources:
            found = self._found.get(text)
            if found is None:
                here = place("")
                assert here is not None
                out.append(_source(here.directory, text, ignored=here.ignored))
            elif isinstance(found, File):
                file = self._fetcher.http.ready(found)
                one = _source(file.directory, file.name, unpack=self._step.unpack_fetched)
                out.append({**one, "name": remotes.file_name(text)})
            else:
                out.append({**_source(self._fetcher.tree(found), "", unpack=False), "name": ""})
        return out


def _source(
    root: str, path: str, *, ignored: list[str] | None = None, unpack: bool | None = None
) -> dict[str, Any]:
    out: dict[str, Any] = {
        "root": root,
        "title": CONTEXT,
        "paths": [path],
        "ignored": ignored or [],
    }
    return out if unpack is None else {**out, "unpack": unpack}


def git_source(text: str) -> remotes.GitSource | None:
    """The repository that a source of an ADD is; raises BuildError."""
    try:
        return remotes.git(text) if not text.startswith("github.com/") else None
    except UsageError as error:
        raise BuildError(error.message) from None


def is_remote(text: str) -> bool:
    """Whether a source is a URL or a repository; raises BuildError."""
    return remotes.is_http(text) or git_source(text) is not None
