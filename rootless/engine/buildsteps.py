"""Doing one step of a build: a RUN as a container of this runtime, files copied by a worker beside a root."""

from __future__ import annotations

import os

from rootless import jsonc
from rootless.builder.copying import CONTEXT
from rootless.builder.steps import CopyStep, MkdirStep, RunStep
from rootless.errors import BuildError, NotExecutedError
from rootless.plan import idmap, launch
from rootless.plan import spec as specs
from rootless.plan.image import ImageConfig
from rootless.plan.request import RunRequest
from rootless.runtime import realm
from rootless.store import ownership, unpack, worker

from . import attach, buildallow, cgroups, hostfiles, join, rootfs, start
from .buildlayers import WORKER, clean_stubs
from .buildmounts import Mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from rootless.plan.request import Placement

    from .buildadd import Added
    from .buildlayers import Workspace
    from .buildmounts import Secret
    from .buildnamed import Place
    from .context import Context

HOSTNAME = "buildkitsandbox"
_TAIL = 10


class Inputs:
    """What steps take from beside their stage.

    place     the directory that --from names, "" the build context; None for a stage or image
    lowers    trees of a stage or image by the name that --from gives
    settings  of every RUN, as a request has them: limits, hosts, the size of /dev/shm ...
    """

    __slots__ = ("agents", "caches", "lowers", "network", "place", "secrets", "settings", "tell")

    def __init__(
        self,
        place: Callable[[str], Place | None],
        lowers: Callable[[str], Sequence[str]],
        *,
        network: str = "",
        secrets: Mapping[str, Secret],
        agents: Mapping[str, str],
        caches: str = "",
        settings: Mapping[str, Any],
        tell: Callable[[str], None],
    ) -> None:
        self.place = place
        self.lowers = lowers
        self.network = network
        self.secrets = secrets
        self.agents = agents
        self.caches = caches
        self.settings = settings
        self.tell = tell


class RunFailed(BuildError):
    """A command ended with another code than 0; ``printed`` is its last output, for people."""

    def __init__(self, argv: Sequence[str], status: int) -> None:
        self.printed = ""
        super().__init__(
            f'process "{" ".join(argv)}" did not complete successfully: exit code: {status}'
        )


# RUN


def run(
    work: Workspace,
    directory: str,
    step: RunStep,
    lowers: Sequence[str],
    inputs: Inputs,
    output: Callable[[bytes], None],
) -> None:
    """Run the step's command over LOWERS, its changes in DIRECTORY; raises RunFailed and others."""
    ctx = work.ctx
    request = RunRequest(
        entrypoint=[],
        args=list(step.argv),
        env=[*step.env, *step.hidden],
        user=step.user,
        workdir=step.cwd,
        hostname=HOSTNAME,
        auto_remove=True,
        privileged=step.security == "insecure",
        devices=[(path, path, "rwm") for path in buildallow.devices(step)],
        **inputs.settings,
    )
    default = str(ctx.settings.get("network.default"))
    request.network = "default" if default == "auto" else default
    wanted = step.network if step.network not in ("", "default") else inputs.network
    if wanted not in ("", "default"):
        request.network = wanted
    request.userns = idmap.effective("", ctx.facts)
    mounts = Mounts(
        work,
        directory,
        place=inputs.place,
        lowers=inputs.lowers,
        secrets=inputs.secrets,
        agents=inputs.agents,
        cache_root=inputs.caches,
    )
    try:
        mounts.add(step, request)
        attach.settle(ctx, request, inputs.tell)
        status = _contained(work, directory, request, lowers, mounts, output)
    except NotExecutedError as error:
        output(f"{error.reason}\n".encode())
        raise RunFailed(step.argv, error.status) from None
    finally:
        mounts.close()
    clean_stubs(
        f"{directory}/upper", lowers, mounts.destinations, whole=work.ctx.driver.fills_upper
    )
    if status:
        raise RunFailed(step.argv, status)


def _record(ctx: Context, request: RunRequest) -> dict[str, Any]:
    return {
        "id": os.urandom(32).hex(),
        "image_id": "",
        "layers": [],
        "image_config": ImageConfig().to_dict(),
        "driver": ctx.driver.name,
        "layer_format": ctx.driver.layer_format(ctx.facts),
        "map_key": join.map_key(ctx, request),
        "request": request.to_dict(),
    }


def _place(
    work: Workspace,
    record: dict[str, Any],
    request: RunRequest,
    directory: str,
    lowers: Sequence[str],
) -> Placement:
    ctx = work.ctx
    place = start.placement(ctx, record, request, directory=directory, volumes=False)
    place.run_dir = f"{directory}/run"
    place.lowers = list(lowers)
    _, assembly = work.assemble(directory, lowers)
    place.outer, place.root = assembly.outer, assembly.inner
    return place


def _contained(
    work: Workspace,
    directory: str,
    request: RunRequest,
    lowers: Sequence[str],
    mounts: Mounts,
    output: Callable[[bytes], None],
) -> int:
    """Run the request to its end; its exit code, 128 and the signal's number where one ended it."""
    ctx = work.ctx
    record = _record(ctx, request)
    place = _place(work, record, request, directory, lowers)
    mounts.place(place)
    attach.plan(ctx, f"build-{record['id'][:12]}", record, request, place)
    if request.limits:
        start.control_group(ctx, record, request, place)
    spec = specs.build_spec(request, ImageConfig(), ctx.facts, place)
    ops = launch.build_tape(spec, place, ctx.facts)
    os.makedirs(place.run_dir, 0o700, exist_ok=True)
    hostfiles.write(directory, request, HOSTNAME)
    if place.attach is not None:
        attach.ready(ctx)
    receiving, sending = os.pipe2(os.O_CLOEXEC)
    try:
        # The container dies with the thread that started it, which waits here for its end.
        pid = ctx.play(ops, f"run {request.args[0]}", {1: sending, 2: sending})
    except BaseException:
        os.close(receiving)
        raise
    finally:
        os.close(sending)
    work.runs(pid)
    try:
        while True:
            data = os.read(receiving, 1 << 16)
            if not data:
                break
            output(data)
    finally:
        os.close(receiving)
        _until_dead(pid)
        work.ended(pid)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if place.cgroup is not None:
            cgroups.drop(ctx, cgroups.left_by(ctx, record["id"]))
    return status if status >= 0 else 128 - status


def _until_dead(pid: int) -> None:
    """Wait for the end of a process and leave it to be reaped, so that its pid stays its own."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


# files


def beside(
    work: Workspace,
    directory: str,
    lowers: Sequence[str],
    wanted: dict[str, Any],
    views: Sequence[tuple[str, Sequence[str]]] = (),
    verb: str = "copy",
    *,
    words: Sequence[str] = (),
    sink: int = -1,
) -> dict[str, Any]:
    """Have a worker do WANTED in a root over LOWERS; VIEWS are (mount point, trees) it can look into.

    WORDS are further options of the worker, SINK is where it writes an archive to.
    """
    ctx = work.ctx
    tree, assembly = work.assemble(directory, lowers)
    outer, inner = list(assembly.outer), list(assembly.inner)
    for merged, below in views:
        more, before = view(work, merged, below)
        outer, inner = [*more, *outer], [*before, *inner]
    said = [f"--root={tree.merged}", f"--journal={directory}/{ownership.JOURNAL}", *words]
    if wanted.get("unpack") or any(one.get("unpack") for one in wanted.get("sources", ())):
        said += [f"--site={path}" for path in unpack.accelerators()]
    argv = worker.command(WORKER, verb, *said)
    ids = rootfs.ids_of(ctx, {"map_key": map_key(ctx)}, RunRequest())
    fd = realm.memfd("request", jsonc.dumps(wanted).encode())

    def begin(argv: Sequence[str], table: Mapping[int, int], _: str) -> int:
        return ctx.play(
            launch.rootfs_tape(outer, inner, argv, ids), "assemble a root for files", table
        )

    try:
        return worker.run(
            argv, begin, "", f"{verb} files", {0: fd, **({1: sink} if sink >= 0 else {})}
        )
    finally:
        os.close(fd)


def map_key(ctx: Context) -> str:
    """The ID map of every container of a build."""
    request = RunRequest()
    request.userns = idmap.effective("", ctx.facts)
    return join.map_key(ctx, request)


def view(work: Workspace, merged: str, lowers: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """Operations that show LOWERS at MERGED, read-only."""
    from rootless.drivers.snapshot.base import Tree

    ctx = work.ctx
    os.makedirs(merged, 0o700, exist_ok=True)
    upper = ctx.driver.fills_upper
    tree = Tree(
        lowers,
        f"{merged}-upper" if upper else "",
        f"{merged}-work" if upper else "",
        merged,
        layer_format=ctx.driver.layer_format(ctx.facts),
        log=f"{merged}.log",
    )
    ctx.driver.up(tree, ctx.run_in_realm)
    assembly = ctx.driver.plan(tree, ctx.facts)
    return assembly.outer, assembly.inner


def copy_request(step: CopyStep, root: str, ignored: Sequence[str], title: str) -> dict[str, Any]:
    """What the worker is told of a COPY from the tree at ROOT."""
    sources = []
    if step.sources:
        sources = [
            {"root": root, "title": title, "paths": step.sources, "ignored": list(ignored)},
        ]
    return {
        "sources": sources,
        "inline": step.inline,
        "dest": step.dest,
        "chown": step.chown,
        "chmod": step.chmod,
        "excludes": step.excludes,
        "parents": step.parents,
        "unpack": step.unpack and not step.origin,
    }


def copy(
    work: Workspace,
    directory: str,
    step: CopyStep,
    lowers: Sequence[str],
    inputs: Inputs,
    added: Added | None = None,
) -> None:
    """Do a COPY or ADD over LOWERS, of the sources ADDED if some are remote; raises BuildError and others."""
    views = []
    place = inputs.place(step.origin) if step.sources and added is None else None
    if place is not None:
        wanted = copy_request(step, place.directory, place.ignored, CONTEXT)
    else:
        root = f"{directory}/source"
        if step.sources and added is None:
            views = [(root, origin(directory, inputs.lowers(step.origin)))]
        wanted = copy_request(step, root, (), step.origin)
    if added is not None:
        wanted["sources"] = added.sources(inputs.place)
    if work.epoch >= 0:
        wanted["epoch"] = work.epoch
    beside(work, directory, lowers, wanted, views)


def origin(directory: str, lowers: Sequence[str]) -> list[str]:
    """LOWERS, or an empty tree where there are none."""
    if lowers:
        return list(lowers)
    empty = f"{directory}/empty"
    os.makedirs(empty, 0o755, exist_ok=True)
    return [empty]


def content(work: Workspace, step: CopyStep, inputs: Inputs) -> str:
    """The digest of what a COPY --from chooses in another stage or image."""
    directory = work.step()
    root = f"{directory}/source"
    views = [(root, origin(directory, inputs.lowers(step.origin)))]
    wanted = copy_request(step, root, (), step.origin)
    found = beside(work, directory, [], wanted, views, "digest")
    return str(found["digest"])


def export(work: Workspace, lowers: Sequence[str], epoch: int, sink: int) -> None:
    """Write what a container on LOWERS would see as a tar archive to the descriptor SINK."""
    words = [f"--epoch={epoch}", *(f"--lower={path}" for path in lowers)]
    beside(work, work.step(), lowers, {}, verb="export", words=words, sink=sink)


def squash(work: Workspace, lowers: Sequence[str], base: Sequence[str]) -> dict[str, Any]:
    """The record of one layer that makes LOWERS of BASE, trees of which those are the lowest."""
    driver = work.ctx.driver
    words = [
        *("--whole", "--exact"),
        f"--format={driver.layer_format(work.ctx.facts)}",
        *work.packing(),
        *(f"--journal={ownership.journal_of(path)}" for path in lowers if path not in base),
        *(f"--lower={path}" for path in base),
    ]
    directory = work.step()
    return work.stored(
        lambda fd: beside(work, directory, lowers, {}, verb="pack", words=words, sink=fd)
    )


def mkdir(work: Workspace, directory: str, step: MkdirStep, lowers: Sequence[str]) -> None:
    """Make a working directory where it is missing."""
    beside(work, directory, lowers, {"mkdir": step.path, "chown": step.user})


def tail(data: bytes) -> list[str]:
    """The last lines of a command's output, as text without control characters."""
    text = data.decode("utf-8", "replace")
    lines = [line.rstrip("\r") for line in text.split("\n")]
    shown = ["".join(c if c.isprintable() or c == "\t" else "?" for c in line) for line in lines]
    return [line for line in shown if line][-_TAIL:]
