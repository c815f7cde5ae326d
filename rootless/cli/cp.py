"""rootless cp."""

from __future__ import annotations

import os
import stat
import sys
import threading

from rootless.engine import files
from rootless.engine.context import Context
from rootless.errors import NotFoundError, RootlessError, UsageError
from rootless.store import files as store_files
from rootless.store.layerwriter import LayerWriter
from rootless.store.packer import Packer
from rootless.store.tarreader import TarReader

from . import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rootless.store.containers import Container

    from .parse import Parsed

_CHUNK = 1 << 18
_MAX_LINKS = 40


def split(word: str) -> tuple[str, str]:
    """(container, path) of an argument; the container is "" for a path of the host's."""
    if word.startswith("/"):
        return "", word
    name, colon, path = word.partition(":")
    if not colon or name.startswith("."):
        return "", word
    return name, path


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Copy files between a container and the host."""
    source, target = (split(word) for word in args.args)
    if source[0] and target[0]:
        raise UsageError("copying between containers is not supported", exit_code=1)
    if not source[0] and not target[0]:
        raise UsageError("must specify at least one container source", exit_code=1)
    if not source[1] or not target[1]:
        what = "source" if not source[1] else "destination"
        raise UsageError(f"{what} can not be empty", exit_code=1)
    ctx = Context.load(env)
    container = ctx.containers.resolve(source[0] or target[0])
    copy = Copy(
        ctx,
        container,
        archive=bool(args.get("archive")),
        follow=bool(args.get("follow_link")),
    )
    try:
        size = copy.out(source[1], target[1]) if source[0] else copy.into(source[1], target[1])
    except RootlessError as error:
        raise _as_docker_ends(error) from None
    quiet = bool(args.get("quiet")) if args.given("quiet") else not os.isatty(1)
    if not quiet and "-" not in (source[1], target[1]):
        where = target[1] if source[0] else f"{target[0]}:{target[1]}"
        sys.stderr.write(f"Successfully copied {units.human_size(size)} to {where}\n")
    return 0


def _as_docker_ends(error: RootlessError) -> RootlessError:
    return type(error)(error.message, hint=error.hint, exit_code=1)


class Copy:
    """One copy; Docker's rules for what a path means are in out() and into()."""

    def __init__(self, ctx: Context, container: Container, *, archive: bool, follow: bool) -> None:
        self._ctx = ctx
        self._container = container
        self._archive = archive
        self._follow = follow

    # from the container

    def out(self, source: str, target: str) -> int:
        """Copy from the container to the host; how many bytes of archive that took."""
        if target == "-":
            if os.isatty(1):
                raise UsageError("refusing to write a tar archive to a terminal: redirect it")
            files.get(self._ctx, self._container, source, 1, follow=self._follow)
            return 0
        found = files.stat(self._ctx, self._container, source, follow=self._follow)
        is_dir = stat.S_ISDIR(found["mode"])
        contents = source.rstrip("/").endswith("/.") or source == "."
        if not is_dir and source.endswith(("/", "/.")):
            raise UsageError(f"not a directory: {source}")
        where, name = _host_target(target, found["name"], is_dir=is_dir, contents=contents)
        return self._unpack(source, where, name)

    def _unpack(self, source: str, where: str, name: str) -> int:
        directory = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        receiving, sending = os.pipe2(os.O_CLOEXEC)
        failed: list[RootlessError] = []
        total = 0

        def produce() -> None:
            try:
                files.get(
                    self._ctx, self._container, source, sending, follow=self._follow, rename=name
                )
            except RootlessError as error:
                failed.append(error)
            finally:
                os.close(sending)

        def read() -> bytes:
            nonlocal total
            data = os.read(receiving, _CHUNK)
            total += len(data)
            return data

        thread = threading.Thread(target=produce)
        thread.start()
        mask = os.umask(0)
        # Set-ID to us would let whoever can execute what a container made become us.
        writer = LayerWriter(directory, plain=True, owners=False, set_ids=False, keep_kinds=True)
        try:
            writer.apply(TarReader(read))
        except RootlessError as error:
            failed.append(error)
        except OSError as error:
            failed.append(store_files.failure(f"write to {where}", error))
        finally:
            writer.close()
            os.umask(mask)
            while os.read(receiving, _CHUNK):
                pass
            thread.join()
            os.close(receiving)
            os.close(directory)
        if failed:
            raise failed[0]
        return total

    # into the container

    def into(self, source: str, target: str) -> int:
        """Copy from the host into the container; how many bytes of archive that took."""
        if source == "-":
            if os.isatty(0):
                raise UsageError("refusing to read a tar archive from a terminal: redirect it")
            found = self._inside(target)
            if found is None or not stat.S_ISDIR(found["mode"]):
                raise UsageError(
                    f'destination "{self._container.name}:{target}" must be a directory'
                )
            files.put(self._ctx, self._container, target, 0, owners=True)
            return 0
        info = _host_stat(source, follow=self._follow or source.endswith(("/", "/.")))
        is_dir = stat.S_ISDIR(info.st_mode)
        contents = source.rstrip("/").endswith("/.") or source == "."
        name = os.path.basename(os.path.abspath(source))
        where, name = self._container_target(target, name, is_dir=is_dir, contents=contents)
        return self._pack(source, where, name)

    def _inside(self, path: str) -> dict[str, Any] | None:
        try:
            return files.stat(self._ctx, self._container, path, follow=True)
        except NotFoundError:
            return None

    def _container_target(
        self, target: str, name: str, *, is_dir: bool, contents: bool
    ) -> tuple[str, str]:
        """(directory in the container, name in it) for the copy."""
        target = self._behind_links(target)
        found = self._inside(_bare(target))
        shown = f"{self._container.name}:{target}"
        if found is not None and stat.S_ISDIR(found["mode"]):
            return target, "." if contents else name
        if found is not None and is_dir:
            raise UsageError("cannot copy directory")
        if target.endswith(("/", "/.")) and (found is not None or not is_dir):
            raise UsageError(
                "extraction point is not a directory" if found is not None else "no such directory"
            )
        head, _, base = target.rstrip("/").rpartition("/")
        parent = self._inside(head or "/")
        if parent is None:
            raise NotFoundError(
                f"could not find the file {head or '/'} in container {self._container.name}"
            )
        if not stat.S_ISDIR(parent["mode"]):
            raise UsageError(f"cannot copy to {shown}: {head} is not a directory")
        return head or "/", base

    def _behind_links(self, target: str) -> str:
        """Where a symbolic link at the end of TARGET leads, as long as that is no directory."""
        for _ in range(_MAX_LINKS):
            try:
                found = files.stat(self._ctx, self._container, target)
            except NotFoundError:
                return target
            if not stat.S_ISLNK(found["mode"]):
                return target
            there = self._inside(target)
            if there is not None and stat.S_ISDIR(there["mode"]):
                return target
            target = os.path.join(os.path.dirname(target), found["link"])
        raise UsageError(f"cannot copy to {target}: too many symbolic links")

    def _pack(self, source: str, where: str, name: str) -> int:
        receiving, sending = os.pipe2(os.O_CLOEXEC)
        failed: list[BaseException] = []
        packer = Packer(fd=sending)

        def produce() -> None:
            try:
                _pack_host(packer, source, name, follow=self._follow)
            except BrokenPipeError:
                pass  # the worker says why
            except BaseException as error:
                failed.append(error)
            finally:
                os.close(sending)

        thread = threading.Thread(target=produce)
        thread.start()
        try:
            files.put(self._ctx, self._container, where, receiving, owners=self._archive)
        finally:
            os.close(receiving)
            thread.join()
        if failed:
            raise failed[0]
        return packer.output.total


def _bare(path: str) -> str:
    """PATH without what says that it is a directory."""
    while path.endswith(("/", "/.")) and path.strip("/."):
        path = path[:-2] if path.endswith("/.") else path[:-1]
    return path


def _host_stat(path: str, *, follow: bool) -> os.stat_result:
    try:
        return os.stat(path) if follow else os.lstat(path)
    except OSError as error:
        raise UsageError(f"lstat {path}: {(error.strerror or '').lower()}") from None


def _host_target(target: str, name: str, *, is_dir: bool, contents: bool) -> tuple[str, str]:
    """(directory of the host, name in it) for a copy to TARGET; raises UsageError."""
    if os.path.islink(target) and not os.path.isdir(target):
        target = os.path.realpath(target)  # what it names is written, there or not
    try:
        there = os.stat(target)
    except FileNotFoundError:
        there = None
    except OSError as error:
        raise UsageError(f"cannot copy to {target}: {(error.strerror or '').lower()}") from None
    if there is not None and stat.S_ISDIR(there.st_mode):
        return target, "." if contents else ("." if name == "/" else name)
    if there is not None and is_dir:
        raise UsageError("cannot copy directory")
    if target.endswith(("/", "/.")) and (there is not None or not is_dir):
        raise UsageError("extraction point is not a directory" if there else "no such directory")
    head, base = os.path.split(target.rstrip("/"))
    if not os.path.isdir(head or "."):
        raise UsageError(f'invalid output path: directory "{head}" does not exist')
    return head or ".", base


def _pack_host(packer: Packer, source: str, name: str, *, follow: bool) -> None:
    """SOURCE of the host's as an archive whose first entry is called NAME."""
    real = os.path.realpath(source) if follow or source.endswith(("/", "/.")) else source
    info = _host_stat(source, follow=real != source or source.endswith(("/", "/.")))
    raw = os.fsencode(name)
    if stat.S_ISDIR(info.st_mode):
        directory = os.open(real, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        packer.one(raw, info, directory, b".")
        packer.content(directory, b"" if raw == b"." else raw)
        os.close(directory)
    else:
        head, base = os.path.split(os.path.abspath(real) if follow else os.path.join(".", real))
        directory = os.open(head or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        packer.one(raw, info, directory, os.fsencode(base))
        os.close(directory)
    packer.close()
