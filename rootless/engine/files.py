"""A container's files from outside: what cp, diff, export and commit are made of.

A worker (store/fsworker.py) does the work as root of the container's own user namespace: beside a living
container, or beside a root assembled for the purpose, under the container's lock, so that nobody
starts it meanwhile.
"""

from __future__ import annotations

import os
import threading

from rootless.errors import ConflictError
from rootless.plan import idmap, launch
from rootless.plan.request import RunRequest
from rootless.store import ownership, worker
from rootless.store.treecopy import Owners

from . import events, rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Callable

    from rootless.store.containers import Container

    from .context import Context


def work(
    ctx: Context,
    container: Container,
    verb: str,
    words: Sequence[str],
    fds: Mapping[int, int] | None = None,
    *,
    volumes: bool = True,
) -> dict[str, Any]:
    """Run VERB of the worker on the container's root; its result.

    FDS are its descriptors 0 and 1; VOLUMES: a container that does not run has its volumes mounted,
    too.  Raises what the worker reports.
    """
    what = f"{verb} files of container {container.name}"
    words = [*_journals(ctx, container), *words]
    state = ctx.containers.read_state(container.id)
    if state["status"] in ("running", "paused") and state["pid"]:
        where = f"--pid={state['pid']}:{state['pidStart']}"
        argv = worker.command(worker.FILES, verb, where, *words)

        def beside(argv: Sequence[str], table: Mapping[int, int], _: str) -> int:
            request = RunRequest.from_dict(container.record["request"])
            ids = rootfs.ids_of(ctx, container.record, request)
            pid, born = int(state["pid"]), int(state["pidStart"])
            return ctx.play(launch.beside_tape(pid, born, argv, ids), what, table)

        return worker.run(argv, beside, "", what, fds)
    lock = _lock(ctx, container)
    try:
        argv = worker.command(worker.FILES, verb, "--root={root}", *words)

        def assembled(argv: Sequence[str], table: Mapping[int, int], _: str) -> int:
            return rootfs.run_with_root(ctx, container.record, argv, table, volumes=volumes)[0]

        return worker.run(argv, assembled, "", what, fds)
    finally:
        os.close(lock)


def _journals(ctx: Context, container: Container) -> list[str]:
    """Words that say where ownership is recorded that could not be stored, in a container of one ID."""
    record = container.record
    request = RunRequest.from_dict(record["request"])
    if record["map_key"] != idmap.SINGLE and not idmap.emulated(request, ctx.facts):
        return []
    upper = f"{ctx.paths.containers}/{container.id}/upper"
    own = ownership.journal_of(upper)
    below = [f"--lower={path}" for path in rootfs.lowers(ctx, record, request)]
    return [f"--owners-to={own}", f"--written={upper}", f"--journal={own}", *below]


def _lock(ctx: Context, container: Container) -> int:
    try:
        return ctx.containers.lock(container.id)
    except ConflictError:
        raise ConflictError(
            f"cannot reach the files of container {container.name}: it is being started or stopped"
        ) from None


def stat(ctx: Context, container: Container, path: str, *, follow: bool = False) -> dict[str, Any]:
    """What PATH in the container is: name, size, mode (with its type), mtime_ns, link.

    Raises NotFoundError.
    """
    return work(ctx, container, "stat", [*(["--follow"] if follow else []), _inside(path)])


def get(
    ctx: Context,
    container: Container,
    path: str,
    sink: int,
    *,
    follow: bool = False,
    rename: str = "",
) -> None:
    """Write PATH as a tar stream to the descriptor SINK; its first entry is called RENAME if given."""
    flags = [*(["--follow"] if follow else []), *([f"--as={rename}"] if rename else [])]
    work(ctx, container, "get", [*flags, _inside(path)], {1: sink})
    events.container(ctx, container, "archive-path")


def put(
    ctx: Context, container: Container, path: str, source: int, *, owners: bool = False
) -> dict[str, Any]:
    """Unpack the tar stream from the descriptor SOURCE in the container's directory PATH.

    OWNERS keeps those of the archive, else everything belongs to the container's root.
    """
    flags = [*(["--owners"] if owners else []), "--no-overwrite-dir-non-dir"]
    done = work(ctx, container, "put", [*flags, _inside(path)], {0: source})
    events.container(ctx, container, "extract-to-dir")
    return done


def _inside(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def export(ctx: Context, container: Container, sink: int) -> None:
    """Write the container's root as one tar stream, without what is mounted in it."""
    state = ctx.containers.read_state(container.id)
    mounted = _mount_points(int(state["pid"])) if state["pid"] else []
    work(ctx, container, "export", mounted, {1: sink}, volumes=False)
    events.container(ctx, container, "export")


def _mount_points(pid: int) -> list[str]:
    """Paths in the container at which something is mounted."""
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            found = [line.split(" ")[4] for line in file]
    except OSError:
        return []
    return [_unescaped(path) for path in found if path != "/"]


def _unescaped(text: str) -> str:
    """Undo the octal escapes of mountinfo."""
    parts = text.split("\\")
    return parts[0] + "".join(chr(int(part[:3], 8)) + part[3:] for part in parts[1:])


def _layer_words(ctx: Context, container: Container) -> list[str]:
    record = container.record
    request = RunRequest.from_dict(record["request"])
    words = [f"--format={record['layer_format']}"]
    if record["driver"] == "copy":
        words.append("--whole")
        if record["map_key"] and not ctx.layer_map(record):
            ids = idmap.from_key(record["map_key"], ctx.facts)
            uids, gids = Owners(ids.uid, ids.gid).words()
            words += [f"--uids={uids}", f"--gids={gids}"]
    elif record["driver"] == "fuse-overlayfs":
        words.append("--marks")  # it writes them whatever form it finds
    words.append(f"--upper={ctx.paths.containers}/{container.id}/upper")
    words.append(f"--journal={ctx.paths.containers}/{container.id}/{ownership.JOURNAL}")
    return words + [f"--lower={path}" for path in rootfs.lowers(ctx, record, request)]


def _on_layer(ctx: Context, container: Container, verb: str, sink: int) -> dict[str, Any]:
    """Run VERB on the writable layer, which lies there whether the container runs or not."""
    from . import present

    record = container.record
    if not os.path.isdir(f"{ctx.paths.containers}/{container.id}/upper"):
        rootfs.make_upper(ctx, record)
    if record["layers"]:
        present.ensure_layers(ctx, record)
    argv = worker.command(worker.FILES, verb, *_layer_words(ctx, container))
    what = f"compare container {container.name} with its image"
    # A copy is as the container sees it, whatever its layers are.
    whose = record["map_key"] if record["driver"] == "copy" else ctx.layer_map(record)
    return worker.run(argv, ctx.run_in_realm, whose, what, {1: sink})


def streamed(produce: Callable[[int], Any], take: Callable[[bytes], Any]) -> None:
    """Call PRODUCE with a descriptor and TAKE with what is written to it, until both are done.

    The first error of either is raised.
    """
    receiving, sending = os.pipe2(os.O_CLOEXEC)
    failed: list[BaseException] = []

    def drain() -> None:
        try:
            while True:
                data = os.read(receiving, 1 << 18)
                if not data:
                    return
                if not failed:
                    take(data)
        except BaseException as error:
            failed.append(error)
            while os.read(receiving, 1 << 18):
                pass

    thread = threading.Thread(target=drain, daemon=True)
    thread.start()
    try:
        produce(sending)
    finally:
        os.close(sending)
        thread.join()
        os.close(receiving)
    if failed:
        raise failed[0]


def changes(ctx: Context, container: Container) -> list[tuple[str, str]]:
    """(kind, path) of what the container changed; the kind is A, C or D."""
    parts: list[bytes] = []
    streamed(lambda fd: _on_layer(ctx, container, "changes", fd), parts.append)
    found = b"".join(parts).split(b"\0")[:-1]
    return [(line[:1].decode(), os.fsdecode(line[2:])) for line in found]


def changed_bytes(ctx: Context, container: Container) -> int:
    """Bytes in the files that the container added or changed."""
    if not os.path.isdir(f"{ctx.paths.containers}/{container.id}/upper"):
        return 0
    sink = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
    try:
        return int(_on_layer(ctx, container, "changes", sink)["bytes"])
    finally:
        os.close(sink)


def layer(ctx: Context, container: Container, take: Callable[[bytes], Any]) -> None:
    """Give the container's changes, as the tar stream of an image layer, to TAKE piece by piece."""
    streamed(lambda fd: _on_layer(ctx, container, "layer", fd), take)


def check_rootfs(container: Container, verb: str) -> None:
    """Refuse what makes no sense without an image; raises ConflictError."""
    if not container.record["image_id"]:
        raise ConflictError(
            f"cannot {verb} container {container.name}: it was made from a directory (--rootfs)"
        )
