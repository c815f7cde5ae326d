"""What a build takes from elsewhere than directories of the caller: archives, URLs and git repositories.

What comes is put below a directory of this build, which is removed with it; a killed build's is swept by the
next.  Archives are unpacked by a worker as root of the containers' IDs, so that modes are theirs and no
entry lands outside.
"""

from __future__ import annotations

import os
import threading

from rootless.errors import BuildError
from rootless.store import unpack, worker
from rootless.store.buildcache import BuildCache

from . import buildlayers
from .buildhttp import HttpFiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rootless.builder.remotes import GitSource

    from .buildgit import Git
    from .buildmounts import Secret
    from .context import Context

MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
HEAD = 512


class Fetcher:
    """Fetches for one build; LOAD gives the engine's context when it is needed."""

    def __init__(
        self,
        load: Callable[[], Context],
        env: Mapping[str, str],
        secrets: Mapping[str, Secret] | None = None,
        agents: Mapping[str, str] | None = None,
    ) -> None:
        self._load = load
        self._env = env
        self._secrets = secrets or {}
        self._agents = agents or {}
        self._ctx: Context | None = None
        self._directory = ""
        self._lock_fd = -1
        self._count = 0
        self._mutex = threading.RLock()
        self._checking = threading.Lock()
        self._trees: dict[tuple[str, str, bool, bool], str] = {}

    @property
    def ctx(self) -> Context:
        """The engine's context."""
        with self._mutex:
            if self._ctx is None:
                self._ctx = self._load()
            return self._ctx

    @property
    def http(self) -> HttpFiles:
        """Files of URLs."""
        return HttpFiles(BuildCache(self.ctx.paths).directory, self._env)

    def directory(self) -> str:
        """A new name in the build's directory, for a directory that is not there yet."""
        with self._mutex:
            if not self._directory:
                self._directory, self._lock_fd = buildlayers.begin(self.ctx)
            self._count += 1
            return f"{self._directory}/{self._count}"

    def close(self) -> None:
        """Remove what was fetched for this build only."""
        if not self._directory:
            return
        try:
            self.ctx.remove_trees([self._directory])
        finally:
            os.close(self._lock_fd)
            self._directory = ""

    # archives

    def unpack(self, chunks: Iterator[bytes]) -> str:
        """The directory that an archive becomes; raises BuildError and what CHUNKS raises."""
        path = self.directory()
        os.makedirs(path, 0o755)
        receiving, sending = os.pipe2(os.O_CLOEXEC)
        failed: list[BaseException] = []
        feeding = threading.Thread(target=_feed, args=(chunks, sending, failed), daemon=True)
        feeding.start()
        sites = [f"--site={one}" for one in unpack.accelerators()]
        argv = worker.command(buildlayers.WORKER, "unpack", f"--root={path}", *sites)
        try:
            found = worker.run(
                argv, self.ctx.run_in_realm, "", "unpack the build context", {0: receiving}
            )
        finally:
            os.close(receiving)  # the thread's next write fails, if it is not done
        feeding.join()
        if failed:
            raise failed[0]
        if not found["entries"]:
            raise BuildError("cannot unpack the context: the archive is empty")
        return path

    def url(self, url: str) -> tuple[str, bytes]:
        """What a URL gives as a context: (directory of an archive, b"") or ("", bytes of a Dockerfile)."""
        http = self.http
        file = http.ready(http.find(url))
        with open(file.path, "rb") as data:
            head = data.read(HEAD)
            if not is_archive(head):
                from .buildcontext import MAX_DOCKERFILE

                return "", head + data.read(MAX_DOCKERFILE + 1 - len(head))
            data.seek(0)
            return self.unpack(iter(lambda: data.read(1 << 18), b"")), b""

    # git

    def git(self, source: GitSource, *, own: bool) -> Git:
        """The repository, to be asked; OWN: the user named it."""
        from .buildgit import Git

        token = self._secret("GIT_AUTH_TOKEN", source.remote)
        header = self._secret("GIT_AUTH_HEADER", source.remote)
        cache = BuildCache(self.ctx.paths).directory
        agent = self._agents.get("default", "")
        return Git(source, cache, self._env, own=own, agent=agent, token=token, header=header)

    def tree(self, git: Git) -> str:
        """The directory that the repository is checked out to, once a build."""
        source = git.source
        key = (
            source.remote,
            git.resolve() if not git.sha else git.sha,
            source.keep_git_dir,
            source.submodules,
        )
        with self._checking:
            if key not in self._trees:
                path = self.directory()
                git.checkout(path)
                self._trees[key] = path
            return git.inside(self._trees[key])

    def _secret(self, name: str, remote: str) -> str:
        """The secret NAME, or that of the remote's host, as text without its last newline."""
        host = remote.partition("://")[2].partition("/")[0].rpartition("@")[2]
        for one in (f"{name}.{host}", name):
            secret = self._secrets.get(one)
            data = secret.read(one, self._env) if secret is not None else None
            if data:
                text = data.decode("utf-8", "replace").strip()
                if not text.isprintable():
                    raise BuildError(f"cannot use secret {one}: it is more than one line")
                return text
        return ""


def is_archive(head: bytes) -> bool:
    """Whether bytes begin an archive that can be a context, perhaps compressed."""
    return head[257:262] == b"ustar" or head.startswith(MAGIC)


def _feed(chunks: Iterator[bytes], fd: int, failed: list[BaseException]) -> None:
    try:
        for data in chunks:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
    except BrokenPipeError:
        pass  # the reader has told why
    except BaseException as error:
        failed.append(error)
    finally:
        os.close(fd)
