"""RUN --mount: what stands behind each mount of a step, and the locks that hold while it runs.

Secrets and agents reach the container as binds of files below the runtime directory, which is not on disk;
neither they nor what is in a cache ever comes into a layer.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys

from rootless.errors import BuildError
from rootless.plan.request import MountRequest
from rootless.store import files, worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from rootless.builder.steps import RunStep
    from rootless.plan.request import Placement, RunRequest

    from .buildlayers import Workspace
    from .buildnamed import Place

    Lowers = Callable[[str], Sequence[str]]

MAX_SECRET = 500 << 10


class Secret:
    """A secret of the caller's: the content of a file, or of an environment variable."""

    __slots__ = ("env", "path")

    def __init__(self, path: str = "", env: str = "") -> None:
        self.path = path
        self.env = env

    def read(self, name: str, environ: Mapping[str, str]) -> bytes | None:
        """Its content; None where the variable is not set.  Raises BuildError."""
        if self.env:
            value = environ.get(self.env)
            return None if value is None else value.encode("utf-8", "surrogateescape")
        try:
            data = files.read(self.path)
        except OSError as error:
            raise BuildError(f"cannot read secret {name}: {files.reason(error)}") from None
        if len(data) > MAX_SECRET:
            raise BuildError(f"cannot use secret {name}: it is larger than {MAX_SECRET} bytes")
        return data


class Mounts:
    """The mounts of one RUN, while it runs."""

    def __init__(
        self,
        work: Workspace,
        directory: str,
        *,
        place: Callable[[str], Place | None],
        lowers: Lowers,
        secrets: Mapping[str, Secret],
        agents: Mapping[str, str],
        cache_root: str,
    ) -> None:
        self._work = work
        self._ctx = work.ctx
        self._directory = directory
        self._place = place
        self._lowers = lowers
        self._secrets = secrets
        self._agents = agents
        self._caches = cache_root
        self._locks: list[int] = []
        self._private = ""
        self._agent_count = 0
        self.env: list[str] = []
        self.destinations: list[str] = []
        self._volumes: dict[str, dict[str, Any]] = {}
        self._trees: list[Any] = []
        self._early: list[Any] = []

    def add(self, step: RunStep, request: RunRequest) -> None:
        """Turn the step's mounts into mounts of REQUEST; raises BuildError."""
        for number, mount in enumerate(step.mounts):
            _MAKERS[mount["type"]](self, request, mount, f"{self._directory}/mounts/{number}")
        if step.script is not None:
            name, content = step.script
            pipes = f"{self._directory}/pipes"
            os.makedirs(pipes, 0o755)
            files.write(
                f"{pipes}/{name}", content.encode("utf-8", "surrogateescape"), durable=False
            )
            os.chmod(f"{pipes}/{name}", 0o755)
            self._bind(request, pipes, "/dev/pipes")
        request.env += self.env

    def place(self, place: Placement) -> None:
        """Put what the plan has to make on PLACE."""
        driver, facts = self._ctx.driver, self._ctx.facts
        place.volumes.update(self._volumes)
        place.early = [*place.early, *self._early]
        for tree in self._trees:
            os.makedirs(tree.merged, 0o700, exist_ok=True)
            driver.up(tree, self._ctx.run_in_realm)
            assembly = driver.plan(tree, facts)
            place.outer = [*assembly.outer, *place.outer]
            place.beside += assembly.inner

    def close(self) -> None:
        """Give back locks and take secrets away."""
        for fd in self._locks:
            os.close(fd)
        if self._private:
            for name in os.listdir(self._private):
                files.unlink(f"{self._private}/{name}")
            os.rmdir(self._private)

    def _bind(
        self, request: RunRequest, source: str, target: str, *, readonly: bool = True
    ) -> None:
        request.mounts.append(
            MountRequest(type="bind", source=source, destination=target, readonly=readonly)
        )
        self.destinations.append(target)

    # kinds

    def _tree(
        self, request: RunRequest, mount: Mapping[str, str], base: str, lowers: Sequence[str]
    ) -> None:
        """A view of LOWERS, writable to no effect where that was asked for."""
        from rootless.drivers.snapshot.base import Tree

        writable = mount.get("rw", "false") in ("true", "1") and mount.get("ro") is None
        upper = writable or self._ctx.driver.fills_upper
        tree = Tree(
            lowers,
            f"{base}/upper" if upper else "",
            f"{base}/work" if upper else "",
            f"{base}/merged",
            layer_format=self._ctx.driver.layer_format(self._ctx.facts),
            log=f"{self._directory}/storage.log",
        )
        os.makedirs(base, 0o700, exist_ok=True)
        self._trees.append(tree)
        self._below(request, mount, tree.merged, writable=writable)

    def _below(
        self, request: RunRequest, mount: Mapping[str, str], source: str, *, writable: bool
    ) -> None:
        """Mount a part of the directory SOURCE, resolved in it by the kernel."""
        target = mount["target"]
        below = os.path.normpath("/" + mount.get("source", "")).lstrip("/")
        flags = [f"image-subpath={below}"] if below else []
        request.mounts.append(
            MountRequest(type="image", destination=target, readonly=not writable, flags=flags)
        )
        self._volumes[target] = {"type": "bind", "source": source, "options": []}
        self.destinations.append(target)

    def _bound(self, request: RunRequest, mount: dict[str, str], base: str) -> None:
        origin = mount.get("from", "")
        place = self._place(origin)
        if place is None:
            lowers = list(self._lowers(origin))
            if not lowers:
                empty = f"{base}/empty"
                os.makedirs(empty, 0o755)
                lowers = [empty]
            self._tree(request, mount, base, lowers)
            return
        if place.ignored:  # what the ignore file leaves out must not be seen: a copy without it
            self._copied(mount, f"{base}/context", place)
            self._below(request, {**mount}, f"{base}/context", writable=True)
        elif mount.get("rw", "false") in ("true", "1"):
            self._tree(request, mount, base, [place.directory])
        else:
            self._below(request, mount, place.directory, writable=False)

    def _copied(self, mount: Mapping[str, str], target: str, place: Place) -> None:
        """Copy what the step may see of a directory to TARGET."""
        from rootless import jsonc
        from rootless.builder.copying import CONTEXT
        from rootless.runtime.realm import memfd

        source = os.path.normpath("/" + mount.get("source", "")).lstrip("/")
        parent = os.path.dirname(source)
        wanted = {
            "sources": [
                {
                    "root": place.directory,
                    "title": CONTEXT,
                    "paths": [source],
                    "ignored": place.ignored,
                }
            ],
            "inline": [],
            "dest": f"/{source}" if source else "/",
            "excludes": [],
        }
        os.makedirs(f"{target}/{parent}", 0o755)
        argv = worker.command(
            self._worker(),
            "copy",
            f"--root={target}",
            f"--journal={self._directory}/context-owners",
        )
        fd = memfd("request", jsonc.dumps(wanted).encode())
        try:
            worker.run(argv, self._ctx.run_in_realm, "", "copy the build context", {0: fd})
        finally:
            os.close(fd)

    @staticmethod
    def _worker() -> str:
        from .buildlayers import WORKER

        return WORKER

    def _cache(self, request: RunRequest, mount: dict[str, str], base: str) -> None:
        uid, gid = int(mount.get("uid", "0")), int(mount.get("gid", "0"))
        mode = int(mount.get("mode", "0755"), 8)
        words = [mount.get("id") or mount["target"], str(uid), str(gid)]
        if mount.get("from"):  # another beginning is another cache
            words.append(mount["base"])
        name = "\0".join(words)
        path = f"{self._caches}/{hashlib.sha256(name.encode()).hexdigest()[:32]}"
        path = self._held(path, mount.get("sharing", "shared"))
        if mount.get("from"):
            if not os.path.isdir(path):
                from . import buildseed

                place = self._place(mount["from"])
                lowers = self._lowers(mount["from"]) if place is None else ()
                buildseed.fill(self._work, path, mode, mount, place, lowers, base)
        elif not os.path.isdir(path):
            self._early.append(("mkdir_host", (path, mode)))
            if (uid, gid) != (0, 0):
                self._early.append(("chown_host", (path, uid, gid)))
        below = (
            "" if mount.get("from") else os.path.normpath("/" + mount.get("source", "")).lstrip("/")
        )
        readonly = mount.get("ro", "false") in ("true", "1")
        if below:
            self._below(request, mount, path, writable=not readonly)
        else:
            self._bind(request, path, mount["target"], readonly=readonly)

    def _held(self, path: str, sharing: str) -> str:
        """The directory of a cache under the lock that its sharing wants."""
        files.ensure_dir(self._caches)
        number = 0
        while True:
            candidate = f"{path}-{number}" if number else path
            fd = os.open(f"{candidate}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if sharing == "private":
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                else:
                    fcntl.flock(fd, fcntl.LOCK_SH if sharing == "shared" else fcntl.LOCK_EX)
            except BlockingIOError:
                os.close(fd)
                number += 1
                continue
            self._locks.append(fd)
            return candidate

    def _tmpfs(self, request: RunRequest, mount: dict[str, str], base: str) -> None:  # noqa: ARG002
        size = mount.get("size", "")
        request.tmpfs[mount["target"]] = f"exec,size={size}" if size else "exec"
        self.destinations.append(mount["target"])

    def _secret(self, request: RunRequest, mount: dict[str, str], base: str) -> None:  # noqa: ARG002
        name = mount.get("id") or os.path.basename(mount.get("source") or mount["target"])
        secret = self._secrets.get(name)
        data = secret.read(name, self._ctx.env) if secret is not None else None
        if data is None:
            if mount.get("required", "false") in ("true", "1"):
                raise BuildError(
                    f"cannot mount secret {name}: not found",
                    hint=f"give --secret id={name},src=FILE",
                )
            return
        variable = mount.get("env", "")
        if variable:
            self.env.append(f"{variable}={data.decode('utf-8', 'surrogateescape')}")
        target = mount.get("target", "")
        if target or not variable:
            path = self._private_file(data)
            os.chmod(path, int(mount.get("mode", "0400"), 8))
            uid, gid = int(mount.get("uid", "0")), int(mount.get("gid", "0"))
            if (uid, gid) != (0, 0):
                self._give(path, uid, gid)
            self._bind(request, path, target or f"/run/secrets/{name}")

    def _give(self, path: str, uid: int, gid: int) -> None:
        """Make a file somebody else's; with one ID it stays ours, as all there is."""
        code = f"import os; os.chown({path!r}, {uid}, {gid})"
        pid = self._ctx.run_in_realm([sys.executable, "-I", "-S", "-c", code], {})
        if worker.wait(pid) and self._ctx.facts.id_rung != "single":
            raise BuildError(
                f"cannot mount a secret for uid {uid} and gid {gid}: they are not mapped"
            )

    def _private_file(self, data: bytes) -> str:
        if not self._private:
            base = f"{self._ctx.paths.runtime_root}/build"
            files.ensure_dir(base)
            self._private = f"{base}/{os.urandom(8).hex()}"
            os.mkdir(self._private, 0o711)
        path = f"{self._private}/{len(os.listdir(self._private))}"
        files.write(path, data, durable=False)
        return path

    def _ssh(self, request: RunRequest, mount: dict[str, str], base: str) -> None:  # noqa: ARG002
        name = mount.get("id") or "default"
        socket = self._agents.get(name, "")
        if not socket:
            if mount.get("required", "false") in ("true", "1"):
                raise BuildError(
                    f"cannot mount ssh agent {name}: not given", hint="give --ssh default"
                )
            return
        target = mount.get("target") or f"/run/buildkit/ssh_agent.{self._agent_count}"
        self._agent_count += 1
        self._bind(request, socket, target)
        self.env.append(f"SSH_AUTH_SOCK={target}")


_MAKERS: dict[str, Callable[[Mounts, RunRequest, dict[str, str], str], None]] = {
    "bind": Mounts._bound,
    "cache": Mounts._cache,
    "tmpfs": Mounts._tmpfs,
    "secret": Mounts._secret,
    "ssh": Mounts._ssh,
}
