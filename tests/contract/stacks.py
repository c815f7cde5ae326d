"""Layers of one driver, unpacked in the realm and shown as one tree to a program of the host.

What the contract suites share.  A program runs in the mount namespace that the launcher made, as root of the
container's map: it sees the host's files and, at ``merged``, the container's.  Nothing is mounted outside.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import sys
import tarfile
from typing import TYPE_CHECKING, Any

from rootless.drivers import snapshot
from rootless.drivers.snapshot.base import Tree
from rootless.plan import idmap, launch, tape
from rootless.runtime import realm as realms
from rootless.store import unpack as unpacker
from rootless.store.layers import LayerStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.engine.context import Context

FORMATS = ("overlay", "files")
WHEN = 1_600_000_000  # the modification time of everything in a layer

LOOK = r"""
import hashlib, json, os, stat, sys
root = sys.argv[1]
os.chdir(root)
exec(sys.argv[2])
found = {}
for where, dirs, files in os.walk("."):
    for name in [*dirs, *files]:
        path = os.path.join(where, name)[2:]
        info = os.lstat(path)
        kind = stat.filemode(info.st_mode)
        data = ""
        if stat.S_ISREG(info.st_mode):
            data = open(path, "rb").read().decode("latin-1")
        elif stat.S_ISLNK(info.st_mode):
            data = os.readlink(path)
        found[path] = [kind, info.st_uid, info.st_gid, int(info.st_mtime), data]
os.write(3, json.dumps(found).encode() + b"\n")
"""


def archive(*members: tuple[str, Any]) -> bytes:
    """A layer: (name, text | None for a directory | dict of TarInfo fields)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as out:
        for name, what in members:
            info = tarfile.TarInfo(name)
            data = b""
            info.mode = 0o644
            info.mtime = WHEN
            if what is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(what, dict):
                for key, value in what.items():
                    if key == "data":
                        data = value
                    else:
                        setattr(info, key, value)
            else:
                data = what.encode()
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


class Session:
    """A program beside the merged tree, with a socket to it as its descriptor 3; close() ends it."""

    def __init__(self, stack: Stack, argv: Sequence[str]) -> None:
        self._stack = stack
        before = _children()
        ours, theirs = socket.socketpair()
        errors = os.open(f"{stack.directory}/stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        fds = {2: errors, 3: theirs.fileno(), realms.USER_FD: stack.ctx.realm.user_fd}
        try:
            self._pid = realms.play(
                stack.ctx.paths.libexec, stack.program(argv), f"start {argv[0]}", fds
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(errors)
        self._servers = _children() - before - {self._pid}
        self.stream = ours.makefile("rwb")
        ours.close()

    def ask(self, request: Any) -> Any:
        """One line of JSON there, one back."""
        try:
            self.stream.write(json.dumps(request).encode() + b"\n")
            self.stream.flush()
        except OSError:  # the answer will say why
            pass
        return self.answer()

    def answer(self) -> Any:
        """One line of JSON; AssertionError with what was said if the program ended instead."""
        try:
            line = self.stream.readline()
        except ConnectionResetError:
            line = b""
        if not line:
            code = self.close()
            said = self._stack.log("stderr") + self._stack.log()
            raise AssertionError(f"the program ended with {code}: {said}")
        return json.loads(line)

    def close(self) -> int:
        """End the program and, with it, everything mounted; its exit code."""
        try:
            self.stream.close()
        except BrokenPipeError:
            pass
        if self._pid:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            self._pid = 0
        while self._servers:  # which end when nothing shows their tree any more
            os.waitpid(self._servers.pop(), 0)
        return self._code


def _children() -> set[int]:
    """Processes whose parent we are."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                if int(file.read().rpartition(")")[2].split()[1]) == os.getpid():
                    found.add(int(name))
        except OSError:  # gone already
            continue
    return found


class Stack:
    """Layers of one driver, and a way to look at them merged."""

    def __init__(self, ctx: Context, driver: str, layer_format: str, directory: str) -> None:
        self.ctx = ctx
        self.facts = ctx.facts
        self.limit = 0
        self.driver = snapshot.driver(driver)
        self.layers = LayerStore(ctx.paths, layer_format)
        self.lowers: list[str] = []
        self.directory = directory
        os.makedirs(f"{directory}/merged", exist_ok=True)

    def add(self, *members: tuple[str, Any]) -> str:
        """Unpack a layer on top; its directory."""
        path = self.layers.path(self.unpack(archive(*members)))
        if self.driver.name == "copy":  # which has taken its copy of the layers there were
            self.ctx.remove_trees([f"{self.directory}/upper"])
        self.lowers.insert(0, path)
        return path

    def unpack(self, data: bytes, **options: Any) -> str:
        diff_id = options.pop("diff_id", "sha256:" + hashlib.sha256(data).hexdigest())
        blob = realms.memfd("blob", data)
        run = options.pop("run", self.ctx.run_in_realm)
        try:
            unpacker.unpack(self.layers, diff_id, blob, run, **options)
        finally:
            os.close(blob)
        return str(diff_id)

    def program(self, argv: Sequence[str]) -> bytes:
        """The tape that shows the merged tree to a program of the host."""
        where = self.directory
        tree = Tree(
            self.lowers,
            f"{where}/upper",
            f"{where}/work",
            f"{where}/merged",
            layer_format=self.layers.format,
            log=f"{where}/log",
            limit=self.limit,
        )
        self.driver.up(tree, self.ctx.run_in_realm)
        plan = self.driver.plan(tree, self.facts)
        ids = idmap.from_key("", self.ctx.facts)
        return tape.encode(launch.rootfs_tape(plan.outer, plan.inner, argv, ids))

    def run(self, *words: str) -> Session:
        """Start the host's Python with WORDS beside the merged tree."""
        return Session(self, [sys.executable, "-I", "-S", *words])

    def look(self, script: str = "") -> dict[str, list[Any]]:
        """The merged tree, after SCRIPT ran in it."""
        session = self.run("-c", LOOK, f"{self.directory}/merged", script)
        try:
            found: dict[str, list[Any]] = session.answer()
        finally:
            code = session.close()
        assert code == 0, self.log("stderr")
        return found

    def log(self, name: str = "log") -> str:
        """What a server has said, or, as "stderr", the program."""
        try:
            with open(f"{self.directory}/{name}", encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""


def new_stack(ctx: Context, driver: str, layer_format: str) -> Stack:
    """An empty stack in a directory of its own, which goes with CTX."""
    trees = os.path.join(os.path.dirname(ctx.paths.data_root), "..", "trees")
    directory = os.path.join(os.path.realpath(trees), os.urandom(6).hex())
    os.makedirs(directory)
    return Stack(ctx, driver, layer_format, directory)
