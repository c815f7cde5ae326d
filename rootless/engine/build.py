"""Building an image from a Dockerfile: stages side by side, steps from the cache or done, one image in the end.

Each stage that the target needs has a thread; it waits for the stages it is built on or copies from, and
holds one of as many slots as there are cores while it works.  A step is looked up by its key; of equal
steps, in this build or another, one does the work and the others wait for its result.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future

from rootless.builder import evaluate, keys
from rootless.builder import graph as graphs
from rootless.builder.outputs import Output
from rootless.builder.steps import CopyStep, MkdirStep, RunStep
from rootless.errors import BuildError, RootlessError
from rootless.oci import platform as platforms
from rootless.plan.request import RunRequest
from rootless.store import compress
from rootless.store.buildcache import BuildCache

from . import buildadd, buildallow, buildimage, buildplatforms, buildsteps, create
from .buildcaches import Imports
from .buildimage import Made
from .buildlayers import Ref, Workspace
from .buildnamed import Places
from .buildoptions import Options
from .buildoutput import Exporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from rootless.builder.parser import Dockerfile, Stage
    from rootless.builder.steps import Settled, Step
    from rootless.store.images import ImageRecord

    from .buildadd import Added
    from .buildcontext import BuildContext
    from .buildprogress import Display, Vertex
    from .context import Context

    Pull = Callable[[str, str], None]
    Do = Callable[[str, Sequence[str]], None]


class Build:
    """One build, from a parsed Dockerfile to an image's ID."""

    def __init__(
        self,
        ctx: Context,
        file: Dockerfile,
        context: BuildContext,
        options: Options,
        display: Display,
        pull: Pull,
    ) -> None:
        self.ctx = ctx
        self.options = options
        self.display = display
        self._pull = pull
        (self._platform,) = buildplatforms.wanted(ctx, options.platform)
        builtin = evaluate.platform_args(self._platform, str(buildplatforms.own(ctx)))
        self.scope = evaluate.Scope(file, options.build_args, builtin)
        self._cache = BuildCache(ctx.paths)
        records = f"{self._cache.directory}/files"
        self._context = context
        self._places = Places(context, options.contexts, options.fetcher, records)
        self.graph = graphs.Graph(file, self.scope, self._places.names, self._places.aliases)
        self._target = self.graph.target(options.target)
        rewritten = all(output.rewrite is not False for output in options.outputs)
        self._epoch = options.epoch if rewritten else -1
        self._work = Workspace(ctx, self._epoch, _compression(options.outputs))
        self._slots = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))
        self._mutex = threading.Lock()
        self._stages: dict[int, Future[Made]] = {}
        self._steps: dict[str, Future[Ref]] = {}
        self._images: dict[tuple[str, str], Future[Made]] = {}
        self._stopped = threading.Event()
        self._inputs: dict[int, buildsteps.Inputs] = {}
        self._failed: BaseException | None = None
        self.metadata: dict[str, Any] = {}
        self._began = buildimage.stamp(-1)
        self._imports = Imports(ctx, options.cache_from, self._platform, display)

    def run(self) -> str:
        """Build; the image's ID.  Raises DockerfileError, BuildError and what steps raise."""
        buildallow.settle(self.ctx, self.options.run, self.display.warning)
        lease = self.ctx.blobs.lease()
        try:
            try:
                for node in self.graph.needed(self._target):
                    self._stage(node.stage)
                made = self._stage(self._target).result()
                image_id = self._export(made)
            except BaseException as error:
                self._stopped.set()
                self._work.stop()
                if isinstance(error, Exception) and self._failed is not None:
                    raise self._failed from None  # the first, which the others follow from
                raise
            finally:
                self._stopped.set()
                for future in list(self._stages.values()):
                    future.exception()
                self._work.close()
                self._places.close()
                self._imports.close()
        finally:
            if lease is not None:
                os.close(lease)
        for name in self.scope.unused():
            self.display.warning(f"one or more build-args {[name]} were not consumed")
        return image_id

    def _export(self, made: Made) -> str:
        options = self.options
        if self.options.labels:
            labels = {**(made.config.get("Labels") or {}), **self.options.labels}
            made = made.child()
            made.config = {**made.config, "Labels": labels}
        if options.cache_to:
            steps = {key: future.result().record for key, future in self._steps.items()}
            own = options.recorder.add(steps, made)
            if any(place.kind == "inline" for place in options.cache_to):
                made = made.child()
                made.inline = own
        if self.options.squash:
            made = buildimage.squashed(made, self._merged)
        exporter = Exporter(
            self.ctx, self._work, self.display, options.outputs, options.tags, options.epoch
        )
        if options.attest:
            from . import buildattest

            bases = [(name, made) for (name, _), made in self._images.items()]
            facts = buildattest.facts(options, self._context, self._began)
            exporter.statements = buildattest.statements(
                self._work,
                self.display,
                options,
                facts,
                made,
                bases,
                lambda: self._image(options.attest.generator),
            )
        image_id = exporter.run(made)
        self.metadata = exporter.metadata()
        return image_id

    def _merged(self, refs: list[Ref], base: list[Ref]) -> dict[str, Any]:
        """The record of one layer for REFS less BASE, which is remembered like a step."""
        key = keys.of_image([ref.record["diff_id"] for ref in refs], f"squash {len(base)}")
        key = keys.of_image([key], f"{self._epoch} {self._work.compression}")
        vertex = self.display.begin("merging layers")
        found = self._cache.get(key)
        cached = found is not None
        if found is None:
            work = self._work
            found = buildsteps.squash(work, work.lowers(refs), work.lowers(base))
            self._cache.put(key, found)
        self.display.end(vertex, cached=cached)
        return found

    # stages

    def _stage(self, stage: Stage) -> Future[Made]:
        """What a stage comes to; its thread is started by who first wants it."""
        with self._mutex:
            future = self._stages.get(stage.index)
            if future is not None:
                return future
            future = self._stages[stage.index] = Future()
        threading.Thread(target=self._stage_thread, args=(stage, future), daemon=True).start()
        return future

    def _stage_thread(self, stage: Stage, future: Future[Made]) -> None:
        try:
            future.set_result(self._build_stage(stage))
        except BaseException as error:
            with self._mutex:
                if self._failed is None:
                    self._failed = error
            self._stopped.set()
            future.set_exception(error)
            self._work.stop()  # nobody waits for what the others still run

    def _build_stage(self, stage: Stage) -> Made:
        node = self.graph.nodes[stage.index]
        platform = self._platform_of(stage)
        if node.base is not None:
            made = self._stage(node.base).result().child()
        elif node.image == graphs.SCRATCH:
            made = self._scratch(platform)
        else:
            made = self._base(node.image, stage)
        settled = evaluate.settle(stage, self.scope, made.config, made.args)
        self._warn(settled)
        for step in settled.steps:
            if isinstance(step, RunStep):
                self._refuse_foreign(step, made)
                buildallow.check(self.ctx, step, self.options.allowed, self.options.network)
        steps = [step for step in settled.steps if step.kind != "meta"]
        shown = f"{stage.title} " if len(self.graph.nodes) > 1 else ""
        if self.options.several:
            shown = f"{platform} {shown}"
        number = 1
        for step in settled.steps:
            if step.kind == "meta":
                made.history.append((step.history, None))
                continue
            number += 1
            self._check_stopped()
            title = f"[{shown}{number}/{len(steps) + 1}] {step.shown}"
            try:
                ref = self._step(stage, step, made, title)
            except RootlessError as error:
                raise self._told(error, step, made, settled) from None
            made.history.append((step.history, ref))
        made.config, made.args = settled.config, settled.args
        made.author = settled.author or made.author
        return made

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise BuildError("cannot go on: another stage of the build failed")

    def _warn(self, settled: Settled) -> None:
        for one, name in settled.unset:
            place = one.line.source.excerpt(one.position, caret=False)
            self.display.warning(
                f"UndefinedVar: Usage of undefined variable '${name}' (line {one.position.line})",
                place,
            )

    def _platform_of(self, stage: Stage | None) -> str:
        """What a stage is built for: what its FROM says, else what all is built for."""
        asked = self.graph.nodes[stage.index].platform if stage is not None else ""
        return str(platforms.parse(asked, self.ctx.facts.arch)) if asked else self._platform

    def _refuse_foreign(self, step: RunStep, made: Made) -> None:
        """Refuse a command that this machine cannot run, before any step of the stage."""
        why = buildplatforms.cannot_run(self.ctx, str(platforms.of(made.document)))
        if why is not None:
            line = step.instruction.line
            raise line.error(why.message, hint=why.hint)

    def _base(self, name: str, stage: Stage) -> Made:
        """What a stage is FROM that no stage is: an image, or a directory as all of it."""
        if self._places.find(name) is None:
            return self._image(name, stage).child()
        made = self._scratch(self._platform_of(stage))
        step = CopyStep(stage.start)
        step.sources, step.dest, step.origin = ["/"], "/", name
        ref = self._step(stage, step, made, f"[{stage.title} 1] FROM {name}")
        made.history.append((f"FROM {name}", ref))
        return made

    def _scratch(self, platform: str) -> Made:
        parts = platform.split("/")
        document = {"os": parts[0], "architecture": parts[1], "history": []}
        if len(parts) > 2:
            document["variant"] = parts[2]
        return Made(document, evaluate.empty_config(), [], keys.EMPTY)

    def _image(self, name: str, stage: Stage | None = None) -> Made:
        """An image as a base, or to copy from."""
        platform = self._platform_of(stage)
        with self._mutex:
            future = self._images.get((name, platform))
            mine = future is None
            if future is None:
                future = self._images[name, platform] = Future()
        if not mine:
            return future.result()
        title = f"[{stage.title} 1] FROM {name}" if stage is not None else f"FROM {name}"
        if self.options.several:
            title = title.replace("[", f"[{platform} ", 1)
        vertex = self.display.begin(title)
        try:
            made = self._found_image(name, platform)
        except BaseException as error:
            self.display.end(vertex, error=str(error))
            future.set_exception(error)
            if isinstance(error, RootlessError) and stage is not None:
                detail = stage.start.line.source.excerpt(stage.start.position)
                raise BuildError(error.message, hint=error.hint, detail=detail) from None
            raise
        self.display.end(vertex, cached=self.options.policy != "always")
        future.set_result(made)
        return made

    def _found_image(self, name: str, platform: str) -> Made:
        one = self._places.named(name)
        if one is not None and one.kind == "layout":
            from . import archive

            found = archive.layout_image(self.ctx, one.value, platform)
            return self._made_of(found, name, platform)
        name = one.value if one is not None else name
        request = RunRequest(image=name, platform=platform)
        record = create.image_for(self.ctx, request, self.options.policy, self._pull)
        return self._made_of(record, name, platform)

    def _made_of(self, record: ImageRecord, name: str, platform: str) -> Made:
        have = platforms.of(record.config)
        wanted = platforms.parse(platform)
        if not platforms.matches(wanted, have):
            raise BuildError(f"cannot build on image {name}: it is for {have}, not for {wanted}")
        refs = [
            Ref({"diff_id": diff_id, "layer": layer, "created": record.created, "base": True})
            for diff_id, layer in zip(record.diff_ids, record.layers)
        ]
        config = dict(record.config.get("config") or {})
        made = Made(record.config, config, refs, keys.of_image(record.diff_ids, str(have)))
        made.base = record.id
        return made

    # steps

    def _step(self, stage: Stage, step: Step, made: Made, title: str) -> Ref:
        """The layer of a step, put onto MADE."""
        vertex: list[Vertex] = []

        def begin() -> Vertex:
            if not vertex:
                vertex.append(self.display.begin(title))
            return vertex[0]

        try:
            key, plain = self._plan(step, made, stage, begin)

            def do(directory: str, lowers: Sequence[str]) -> None:
                begin()
                plain(directory, lowers)

            ref, cached = self._once(key, stage, made, step, do)
        except BaseException as error:
            if not vertex and self._stopped.is_set():
                raise  # what failed is another stage
            shown = error.message if isinstance(error, RootlessError) else str(error)
            self.display.end(begin(), error=shown or type(error).__name__)
            if isinstance(error, buildsteps.RunFailed):
                error.printed = _last_lines(vertex[0])
            raise
        made.key = key if not getattr(step, "link", False) else keys.of_image([made.key, key], "")
        made.refs.append(ref)
        self.display.end(begin(), cached=cached)
        return ref

    def _plan(
        self, step: Step, made: Made, stage: Stage, begin: Callable[[], Vertex]
    ) -> tuple[str, Do]:
        """The step's key, and what does it in (directory, lower trees)."""
        epoch = str(self._epoch) if self._epoch >= 0 else ""
        inputs = self._inputs_of(stage)
        work = self._work
        if isinstance(step, MkdirStep):
            wanted = step
            return keys.of_mkdir(made.key, step, epoch), lambda directory, lowers: buildsteps.mkdir(
                work, directory, wanted, lowers
            )
        if isinstance(step, CopyStep):
            copied = step
            added = self._added(step)
            if added is not None:
                begin()
                content = added.key(lambda text: self._local(step, text))
            else:
                content = self._content(copied, inputs, stage)
            return keys.of_copy(made.key, step, content, epoch), lambda directory, lowers: (
                buildsteps.copy(work, directory, copied, lowers, inputs, added)
            )
        assert isinstance(step, RunStep)
        command = step
        setting = buildallow.setting(step, self.options.run)
        key = keys.of_run(made.key, step, self._mounted(step, inputs, stage), epoch, setting)
        return key, lambda directory, lowers: buildsteps.run(
            work,
            directory,
            command,
            lowers,
            inputs,
            lambda data: self.display.output(begin(), data),
        )

    def _once(self, key: str, stage: Stage, made: Made, step: Step, do: Do) -> tuple[Ref, bool]:
        """The result of the step with that KEY: of whoever is at it already, the cache's, or ours."""
        with self._mutex:
            future = self._steps.get(key)
            mine = future is None
            if future is None:
                future = self._steps[key] = Future()
        if not mine:
            return future.result(), True
        try:
            fresh = self.options.no_cache or stage.name in self.options.no_cache_stages
            found = None if fresh else self._cached(key)
            ref, cached = (found, True) if found else self._done(key, made, step, do, fresh=fresh)
        except BaseException as error:
            future.set_exception(error)
            raise
        future.set_result(ref)
        return ref, cached

    def _cached(self, key: str) -> Ref | None:
        record = self._cache.get(key)
        return Ref(record) if record is not None else None

    def _done(self, key: str, made: Made, step: Step, do: Do, *, fresh: bool) -> tuple[Ref, bool]:
        lock = self._cache.lock(key)
        handed = False
        try:
            found = None if fresh else self._cached(key)  # another build may just have done it
            if found is not None:
                return found, True
            brought = None if fresh else self._imports.step(key)
            if brought is not None:
                self._cache.put(key, brought)
                return Ref(brought), True
            with self._slots:
                self._check_stopped()
                refs = [] if getattr(step, "link", False) else made.refs
                lowers = self._work.lowers(refs)
                directory = self._work.step()
                do(directory, lowers)

            def note(packed: dict[str, Any]) -> dict[str, Any]:
                try:
                    created = buildimage.stamp(self.options.epoch)
                    record = {**packed, "created": created, "shown": step.shown[:200]}
                    self._cache.put(key, record)
                    return record
                finally:
                    self._cache.unlock(key, lock)

            handed = True
            return self._work.finished(directory, lowers, note), False
        finally:
            if not handed:
                self._cache.unlock(key, lock)

    # what steps look at

    def _inputs_of(self, stage: Stage) -> buildsteps.Inputs:
        found = self._inputs.get(stage.index)
        if found is None:
            found = self._inputs[stage.index] = buildsteps.Inputs(
                self._places.find,
                lambda name: self._work.lowers(self._origin(name, stage).refs),
                network=self.options.network,
                secrets=self.options.secrets,
                agents=self.options.agents,
                caches=self._cache.mounts,
                settings=self.options.run,
                tell=self.display.warning,
            )
        return found

    def _origin(self, name: str, stage: Stage) -> Made:
        """The stage or image that --from means."""
        found = self.graph.origin(name, stage.index) or self.graph.origin(name)
        if found is not None and found.index != stage.index:
            return self._stage(found).result()
        return self._image(name)

    def _added(self, step: CopyStep) -> Added | None:
        """The sources of an ADD that has remote ones."""
        if not (step.fetch and any(map(buildadd.is_remote, step.sources))):
            if step.checksum:
                raise BuildError("cannot ADD with --checksum: it is for URLs and git repositories")
            return None
        assert self.options.fetcher is not None
        return buildadd.Added(step, self.options.fetcher)

    def _local(self, step: CopyStep, text: str) -> str:
        place = self._places.find()
        assert place is not None
        return place.content(self.ctx, [text], step.excludes, parents=step.parents)

    def _content(self, step: CopyStep, inputs: buildsteps.Inputs, stage: Stage) -> str:
        """The digest of what a COPY chooses."""
        if not step.sources:
            return ""
        return self._taken(step, inputs, stage)

    def _taken(self, step: CopyStep, inputs: buildsteps.Inputs, stage: Stage) -> str:
        """The digest of what a step takes from another stage or image.

        Remembered by the layers it is taken from, where they are known already, so that nothing is mounted to
        find that nothing changed.
        """
        place = self._places.find(step.origin)
        if place is not None:
            return place.content(self.ctx, step.sources, step.excludes, parents=step.parents)
        refs = self._origin(step.origin, stage).refs  # waits, which nobody may who holds a slot
        known = ""
        if any(to.all for to in self.options.cache_to) or all(ref.packed for ref in refs):
            known = keys.of_content([ref.record["diff_id"] for ref in refs], step)
            record = self._cache.get(known)
            found = str(record["digest"]) if record is not None else self._imports.content(known)
            if found:
                self.options.recorder.chose(known, found)
                return found
        with self._slots:
            found = buildsteps.content(self._work, step, inputs)
        if known:
            self._cache.put(known, {"digest": found, "diff_id": "", "layer": None})
            self.options.recorder.chose(known, found)
        return found

    def _mounted(self, step: RunStep, inputs: buildsteps.Inputs, stage: Stage) -> list[str]:
        """Digests of what the step's bind mounts show, and of what its caches begin with."""
        out = []
        for mount in step.mounts:
            if mount["type"] != "bind" and not (mount["type"] == "cache" and mount.get("from")):
                continue
            view = CopyStep(step.instruction)
            view.sources, view.dest = [mount.get("source") or "/"], "/"
            view.origin = mount.get("from", "")
            out.append(self._taken(view, inputs, stage))
            if mount["type"] == "cache":
                mount["base"] = out[-1]
        return out

    # failure

    def _told(self, error: RootlessError, step: Step, made: Made, settled: Settled) -> BuildError:
        """ERROR with the step's line, its last output, and an image to look into."""
        if isinstance(error, BuildError) and error.detail:
            return error
        where = step.instruction.line.source.excerpt(step.instruction.position, caret=False)
        hint = error.hint
        if isinstance(error, buildsteps.RunFailed):
            where = error.printed + where
            image = self._last_good(made, settled)
            if image:
                hint = f"the steps before it are image {image[7:19]}: rootless run --rm -it {image[7:19]} sh"
        return BuildError(error.message, hint=hint, detail=where)

    def _last_good(self, made: Made, settled: Settled) -> str:
        if not made.refs:
            return ""
        if not any(ref for _, ref in made.history):
            return made.base
        try:
            kept = made.child()
            kept.config = settled.config
            return buildimage.store(self.ctx, kept, self.options.epoch)
        except RootlessError:
            return ""


def _last_lines(vertex: Vertex) -> str:
    """What a step printed last, as it is shown above an error."""
    lines = buildsteps.tail(vertex.tail)
    if not lines:
        return ""
    return "\n".join(["------", f" > {vertex.name}:", *lines, "------", ""])


def _compression(outputs: Sequence[Output]) -> str:
    """How layers are packed: as the first image wants them."""
    for output in outputs:
        if output.has_image:
            return compress.spec(output.compression.kind, output.compression.level)
    return ""
