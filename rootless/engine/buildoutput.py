"""What is made of a build's last stage: images, archives, directories, uploads.

Files come first, names in the store after them, uploads last: what fails leaves no name on anything that is not
whole, and no file that is half written.
"""

from __future__ import annotations

import os
from functools import partial

from rootless.builder import attest
from rootless.builder.outputs import STDOUT, Output
from rootless.errors import RootlessError, UsageError
from rootless.oci import descriptor as descriptors
from rootless.oci import media_types
from rootless.oci import reference as references
from rootless.store import files

from . import buildimage, buildlocal, buildsteps, layoutwriter, sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from .buildimage import Image, Made
    from .buildlayers import Workspace
    from .buildprogress import Display, Vertex
    from .context import Context

_TITLES = {
    "image": "exporting to image",
    "oci": "exporting to oci image format",
    "docker": "exporting to docker image format",
    "local": "exporting to client directory",
    "tar": "exporting to client tarball",
}
# In this order; uploads come after all.
_ORDER = ("local", "tar", "oci", "docker", "image")


class Exporter:
    """Makes the OUTPUTS of one build; TAGS are names for all that have names."""

    def __init__(
        self,
        ctx: Context,
        work: Workspace | None,
        display: Display,
        outputs: Sequence[Output],
        tags: Sequence[str],
        epoch: int,
    ) -> None:
        self._ctx = ctx
        self._work = work
        self._display = display
        self._outputs = outputs
        self._tags = list(tags)
        self._epoch = epoch
        self._images: dict[object, Image] = {}
        self._tops: dict[object, dict[str, Any]] = {}
        self.statements: list[tuple[str, dict[str, Any]]] = []
        self.image: Image | None = None
        self.top: dict[str, Any] = {}
        self.names: list[str] = []

    def run(self, made: Made) -> str:
        """Make everything; the image's ID, "" where no image was asked for."""
        for kind in _ORDER:
            for output in self._outputs:
                if output.kind == kind:
                    self._shown(_TITLES[kind], partial(self._one, made, output))
        for output in self._outputs:
            if output.push:
                for name in self._names(output):
                    self._shown(f"pushing {name}", partial(self._push, made, output, name))
        return self.image.id if self.image is not None else ""

    def metadata(self) -> dict[str, Any]:
        """What --metadata-file says of the image, under BuildKit's keys."""
        found: dict[str, Any] = {
            "buildx.build.ref": f"rootless/rootless/{os.urandom(13).hex()[:25]}"
        }
        if self.image is None:
            return found
        image = self.image
        notes = {
            "config.digest": image.id,
            "org.opencontainers.image.created": str(image.config["created"]),
        }
        found["containerimage.config.digest"] = image.id
        top = self.top or image.descriptor
        found["containerimage.descriptor"] = {**top, "annotations": notes}
        found["containerimage.digest"] = top["digest"]
        for kind, predicate in self.statements:
            if kind == attest.PROVENANCE:
                found["buildx.build.provenance"] = predicate
        if self.names:
            found["image.name"] = ",".join(references.parse(name).full() for name in self.names)
        return found

    def _shown(self, title: str, do: Callable[[Vertex], object]) -> None:
        vertex = self._display.begin(title)
        try:
            do(vertex)
        except BaseException as error:
            shown = error.message if isinstance(error, RootlessError) else type(error).__name__
            self._display.end(vertex, error=shown)
            raise
        self._display.end(vertex)

    def _tell(self, vertex: Vertex, line: str) -> None:
        self._display.output(vertex, f"{line}\n".encode())

    def _names(self, output: Output) -> list[str]:
        return list(dict.fromkeys([*self._tags, *map(tag, output.names)]))

    def _one(self, made: Made, output: Output, vertex: Vertex) -> None:
        if output.kind == "local":
            self._local(made, output, vertex)
        elif output.kind == "tar":
            self._to(output.dest, lambda fd: self._rootfs(made, fd))
        else:
            self._image(made, output, vertex)

    # files

    def _rootfs(self, made: Made, fd: int) -> None:
        work = self._work
        assert work is not None
        buildsteps.export(work, work.lowers(made.refs), work.epoch, fd)

    def _local(self, made: Made, output: Output, vertex: Vertex) -> None:
        dest = output.dest
        if output.split:
            document = made.document
            parts = ("os", "architecture", "variant")
            dest += "/" + "_".join(str(document[part]) for part in parts if document.get(part))
        skipped = buildlocal.unpack(dest, lambda fd: self._rootfs(made, fd), delete=output.delete)
        for what, number in sorted(skipped.items()):
            self._tell(vertex, f"left out: {number} {what}")

    @staticmethod
    def _to(dest: str, produce: Callable[[int], Any]) -> None:
        """Call PRODUCE with stdout or with a file that is there when it is whole."""
        try:
            if dest == STDOUT:
                produce(1)
                return
            parent = os.path.dirname(dest)
            if parent:
                os.makedirs(parent, 0o755, exist_ok=True)
            sink.write(dest, produce, 0o644)
        except OSError as error:
            shown = "stdout" if dest == STDOUT else dest
            raise files.failure(f"write {shown}", error) from None

    # images

    def _image(self, made: Made, output: Output, vertex: Vertex) -> None:
        image = self._assembled(made, output)
        names = self._names(output)
        self._tell(vertex, f"exporting manifest {image.descriptor['digest']}")
        self._tell(vertex, f"exporting config {image.id}")
        if self.image is None or output.kind == "image":
            self.image, self.names = image, names
        if output.kind == "image":
            if output.store:
                buildimage.name(self._ctx, image, names)
                self._tell(vertex, f"writing image {image.id}")
                for name in names:
                    self._tell(vertex, f"naming to {name}")
            return
        notes = {"org.opencontainers.image.created": str(image.config["created"])}
        scope = "index-descriptor" if self._indexed(output) else "manifest-descriptor"
        notes.update(output.annotations.get(scope, {}))
        self._layout(self._top(image, output), output, notes)

    def layout(self, top: dict[str, Any], output: Output) -> None:
        """Write an index that is in the store."""
        notes = output.annotations.get("index-descriptor", {})
        self._shown(_TITLES[output.kind], lambda _: self._layout(top, output, notes))

    def _layout(self, top: dict[str, Any], output: Output, notes: Mapping[str, str]) -> None:
        full = [references.parse(name).full() for name in self._names(output)]
        contents = layoutwriter.Contents(
            self._ctx.blobs, top, full, notes, docker=output.kind == "docker"
        )
        if output.tar:
            self._to(output.dest, lambda fd: layoutwriter.archive(contents, fd))
        else:
            layoutwriter.directory(contents, output.dest)

    def _assembled(self, made: Made, output: Output) -> Image:
        oci = output.oci_types
        if oci is None:
            oci = output.kind != "docker" or output.compression.kind == "zstd"
        if output.annotations:
            oci = True
        notes = output.annotations.get("manifest", {})
        form = buildimage.Form(output.compression, notes, docker=not oci)
        wanted = output.compression
        key = (oci, wanted.kind, wanted.level, wanted.forced, *sorted(notes.items()))
        found = self._images.get(key)
        if found is None:
            found = self._images[key] = buildimage.assemble(self._ctx, made, self._epoch, form)
        return found

    def _indexed(self, output: Output) -> bool:
        return bool(self.statements) and (output.kind == "oci" or output.push)

    def _top(self, image: Image, output: Output) -> dict[str, Any]:
        """The descriptor of what leaves: the image's manifest, or an index with what is said of it."""
        if not self._indexed(output):
            return image.descriptor
        from . import buildattest

        notes = output.annotations
        key = (id(image), tuple(self._names(output)), repr(sorted(notes.items())))
        if key not in self._tops:
            self._tops[key] = buildattest.index(
                self._ctx, image, self._names(output), self.statements, notes
            )
        if image is self.image:
            self.top = self._tops[key]
        return self._tops[key]

    def push(self, top: dict[str, Any], output: Output) -> None:
        """Push an index that is in the store."""
        for name in self._names(output):
            self._shown(f"pushing {name}", partial(self._pushed, top, output, name))

    def _push(self, made: Made, output: Output, name: str, vertex: Vertex) -> None:
        image = self._assembled(made, output)
        where = self._pushed(self._top(image, output), output, name, vertex)
        if output.store:
            self._ctx.images.put(image.descriptor, name, where)

    def _pushed(self, top: dict[str, Any], output: Output, name: str, vertex: Vertex) -> str:
        from . import push

        return push.push(
            self._ctx,
            top,
            name,
            lambda line: self._tell(vertex, line),
            by_digest=output.by_digest,
            insecure=output.insecure,
        )


def of_each(outputs: Sequence[Output]) -> list[Output]:
    """What is made for each of several platforms: an image for the index, and files in a place of their own.

    Raises UsageError for what several platforms cannot have.
    """
    found: list[Output] = []
    for output in outputs:
        if output.kind in ("docker", "tar"):
            raise UsageError(
                f"{output.kind} exporter does not support several platforms",
                hint="build for one platform at a time",
                exit_code=1,
            )
        if output.kind == "local":
            output.split = True
            found.append(output)
        elif output.kind != "cacheonly" and not any(one.has_image for one in found):
            each = Output()
            each.compression, each.rewrite = output.compression, output.rewrite
            if output.annotations.get("manifest"):
                each.annotations = {"manifest": output.annotations["manifest"]}
            found.append(each)
    return found


def export_index(
    ctx: Context, display: Display, outputs: Sequence[Output], tags: Sequence[str], digest: str
) -> None:
    """Write and push the index DIGEST, which is in the store, as OUTPUTS say."""
    top = descriptors.make(media_types.OCI_INDEX, digest, ctx.blobs.size(digest))
    exporter = Exporter(ctx, None, display, outputs, tags, -1)
    for output in outputs:
        if output.kind == "oci":
            exporter.layout(top, output)
    for output in outputs:
        if output.push:
            exporter.push(top, output)


def reference() -> dict[str, str]:
    """A name for this build, as BuildKit's clients give: builder, node and something unique."""
    return {"buildx.build.ref": f"rootless/rootless/{os.urandom(13).hex()[:25]}"}


def tag(text: str) -> str:
    """A name for an image, checked, as people write it; raises UsageError, ReferenceError_."""
    reference = references.parse(text)
    if reference.digest:
        raise UsageError(f"invalid tag {text!r}: it has a digest")
    return str(reference.with_default_tag().familiar())


def check(outputs: Sequence[Output], tags: Sequence[str], stdout_is_terminal: bool) -> None:
    """Refuse what cannot come out right, before anything is built; raises UsageError."""
    for output in outputs:
        for name in output.names:
            tag(name)
        if output.push and not (tags or output.names):
            raise UsageError("tag is needed when pushing to registry", exit_code=1)
        if output.dest == STDOUT and stdout_is_terminal:
            raise UsageError(
                f"dest file is required for {output.kind} exporter. refusing to write to console",
                exit_code=1,
            )
