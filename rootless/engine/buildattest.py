"""Attestations as BuildKit stores them: a manifest of statements beside the image's, in one index.

The image's own manifest is what it would be without.  Only outputs that have an index keep them.
"""

from __future__ import annotations

import os
import stat

from rootless import __version__, jsonc
from rootless.builder import attest, sbom
from rootless.builder.steps import MkdirStep, RunStep
from rootless.errors import BuildError, RootlessError
from rootless.oci import descriptor as descriptors
from rootless.oci import media_types
from rootless.oci import platform as platforms
from rootless.oci import reference as references
from rootless.store import files, treecopy

from . import buildimage, buildlocal, buildsteps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from typing import Any

    from rootless.store.tarreader import TarReader

    from .buildcontext import BuildContext
    from .buildimage import Image, Made
    from .buildlayers import Workspace
    from .buildoptions import Options
    from .buildprogress import Display
    from .context import Context

    Statements = Sequence[tuple[str, Mapping[str, Any]]]

SOURCE, RESULTS, SUFFIX = "/run/src/core/sbom", "/run/out", ".spdx.json"
IN_TOTO = "application/vnd.in-toto+json"
_RELEASES = ("etc/os-release", "usr/lib/os-release")


def facts(options: Options, context: BuildContext, began: str) -> attest.Facts:
    """What is known of a build that BEGAN then and whose last stage is there."""
    fixed = buildimage.stamp(options.epoch) if options.epoch >= 0 else ""
    return attest.Facts(
        path=context.name,
        source=context.text,
        target=options.target,
        build_args=options.build_args,
        labels=options.labels,
        secrets=list(options.secrets),
        agents=list(options.agents),
        started=fixed or began,
        finished=fixed or buildimage.stamp(-1),
    )


def statements(
    work: Workspace,
    display: Display,
    options: Options,
    facts: attest.Facts,
    made: Made,
    bases: Sequence[tuple[str, Future[Made]]],
    scanner: Callable[[], Made],
) -> list[tuple[str, dict[str, Any]]]:
    """(predicate type, predicate) of what is to be said of the image MADE.

    BASES are base images by name; SCANNER gives the generator image, where one is asked for.
    """
    if not any(output.kind == "oci" or output.push for output in options.outputs):
        display.warning("attestations are kept only by images that are pushed, or type=oci")
        return []
    found: list[tuple[str, dict[str, Any]]] = []
    if options.attest.provenance:
        facts.platform = str(platforms.parse(f"linux/{work.ctx.facts.arch}"))
        facts.materials = dict(_material(work.ctx, name, base.result()) for name, base in bases)
        found.append((attest.PROVENANCE, attest.provenance(facts, options.attest.provenance)))
    if options.attest.generator:
        generator = scanner()
        vertex = display.begin(f"listing packages by {options.attest.generator}")
        try:
            found += scanned(work, generator, made, lambda data: display.output(vertex, data))
        except RootlessError as error:
            display.end(vertex, error=error.message)
            raise
        display.end(vertex)
    elif options.attest.sbom:
        vertex = display.begin("listing packages")
        created = buildimage.stamp(options.epoch)
        found.append((attest.SPDX, packages(work, made, created)))
        display.end(vertex)
    return found


def _material(ctx: Context, name: str, base: Made) -> tuple[str, tuple[str, str]]:
    record = ctx.images.resolve(base.base)
    ref = references.parse(name)
    here = [one for one in record.repo_digests if one.startswith(f"{ref.repository}@")]
    digest = here[0].rpartition("@")[2] if here else str(record.descriptor["digest"])
    return name, (digest, str(platforms.of(record.config)))


class _Scan:
    """What stands for the line of a Dockerfile."""

    shown = "scan"


def scanned(
    work: Workspace, generator: Made, made: Made, output: Callable[[bytes], None]
) -> list[tuple[str, dict[str, Any]]]:
    """What an image that is a scanner says of MADE, by BuildKit's protocol.

    It runs without a network, with the root to look at in one directory, and leaves statements in another.
    Raises BuildError where it fails or leaves none.
    """
    config = generator.config
    step = RunStep(_Scan())  # type: ignore[arg-type]
    step.argv = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
    step.env = [*(config.get("Env") or ()), f"BUILDKIT_SCAN_SOURCE={SOURCE}"]
    step.env.append(f"BUILDKIT_SCAN_DESTINATION={RESULTS}")
    step.user, step.cwd = str(config.get("User") or ""), str(config.get("WorkingDir") or "/")
    step.network = "none"
    step.mounts = [{"type": "bind", "from": "scanned", "target": SOURCE}]
    inputs = buildsteps.Inputs(
        lambda _: None,
        lambda _: work.lowers(made.refs),
        secrets={},
        agents={},
        settings={},
        tell=lambda text: output(f"{text}\n".encode()),
    )
    below, directory = work.step(), work.step()
    lowers = work.lowers(generator.refs)
    results = MkdirStep(_Scan(), RESULTS, step.user)  # type: ignore[arg-type]
    buildsteps.mkdir(work, below, results, lowers)
    # A driver that copies has all of the image in there.
    beneath = [] if work.ctx.driver.fills_upper else lowers
    buildsteps.run(work, directory, step, [f"{below}/upper", *beneath], inputs, output)
    found = list(_left(f"{directory}/upper"))
    if not found:
        raise BuildError(f"cannot list packages: the scanner left no *{SUFFIX} in {RESULTS}")
    return found


def _left(upper: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(predicate type, predicate) of each statement that a scanner left; no link of its is followed."""
    root = os.open(upper, treecopy.DIRECTORY)
    try:
        here = treecopy.open_below(root, RESULTS[1:].encode())
    except OSError:
        return
    finally:
        os.close(root)
    try:
        for name in sorted(os.listdir(here)):
            if name.endswith(SUFFIX):
                yield _statement(here, name)
    finally:
        os.close(here)


def _statement(directory: int, name: str) -> tuple[str, dict[str, Any]]:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=directory)
    except OSError as error:
        raise BuildError(f"cannot read {name} of the scanner: {files.reason(error)}") from None
    with open(fd, "rb") as file:
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
        data = file.read(sbom.MAX_FILE + 1) if regular else b""
    try:
        found = jsonc.loads(data if len(data) <= sbom.MAX_FILE else b"")
        kind, predicate = found["predicateType"], found["predicate"]
        if isinstance(kind, str) and isinstance(predicate, dict):
            return kind, predicate
    except (ValueError, KeyError, TypeError):
        pass
    raise BuildError(f"cannot use {name} of the scanner: it is no in-toto statement")


def packages(work: Workspace, made: Made, created: str) -> dict[str, Any]:
    """An SPDX document of the packages that the image's package managers know."""
    found: list[sbom.Package] = []
    distro: list[str] = []

    def take(reader: TarReader) -> None:
        while True:
            entry = reader.next()
            if entry is None:
                return
            name = entry.name.decode("utf-8", "replace")
            release = name in _RELEASES
            asked = entry.sparse is None and (release or sbom.wants(name))
            if not asked or not 0 < entry.size <= sbom.MAX_FILE:
                continue
            if len(found) < sbom.MAX_PACKAGES:
                data = reader.read_all()
                if release:
                    distro.append(sbom.distribution(data))
                else:
                    found.extend(sbom.packages(name, data))

    lowers = work.lowers(made.refs)
    buildlocal.piped(lambda fd: buildsteps.export(work, lowers, work.epoch, fd), take)
    known = next((name for name in distro if name), "")
    tool = f"rootless-{__version__}"
    return sbom.document(found, "image", known, created.partition(".")[0].rstrip("Z") + "Z", tool)


def index(
    ctx: Context,
    image: Image,
    names: Sequence[str],
    statements: Statements,
    notes: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    """The descriptor of an index of IMAGE and what STATEMENTS say of it; NOTES are annotations by scope."""
    config = image.config
    where = {"architecture": config["architecture"], "os": config["os"]}
    if config.get("variant"):
        where["variant"] = config["variant"]
    platform = "/".join(where[key] for key in ("os", "architecture", "variant") if key in where)
    parsed = [references.parse(name).with_default_tag() for name in names]
    subjects = [attest.purl(ref.familiar_name, ref.tag, platform) for ref in parsed]
    digest = str(image.descriptor["digest"])
    first = {**image.descriptor, "platform": where}
    if notes.get("manifest-descriptor"):
        first["annotations"] = dict(sorted(notes["manifest-descriptor"].items()))
    said = _manifest(ctx, subjects, digest, statements)
    said["annotations"] = {
        "vnd.docker.reference.digest": digest,
        "vnd.docker.reference.type": "attestation-manifest",
    }
    said["platform"] = {"architecture": "unknown", "os": "unknown"}
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [first, said],
    }
    if notes.get("index"):
        document["annotations"] = dict(sorted(notes["index"].items()))
    found, size = ctx.blobs.ingest(jsonc.dumps(document).encode())
    return descriptors.make(media_types.OCI_INDEX, found, size)


def _manifest(
    ctx: Context, subjects: Sequence[str], digest: str, statements: Statements
) -> dict[str, Any]:
    layers = []
    for kind, predicate in statements:
        data = jsonc.dumps(attest.statement(kind, predicate, subjects, digest)).encode()
        layer = descriptors.make(IN_TOTO, *ctx.blobs.ingest(data))
        layers.append({**layer, "annotations": {"in-toto.io/predicate-type": kind}})
    config = {
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
    }
    blob = ctx.blobs.ingest(jsonc.dumps(config).encode())
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": descriptors.make(media_types.OCI_CONFIG, *blob),
        "layers": layers,
    }
    found = ctx.blobs.ingest(jsonc.dumps(document).encode())
    return descriptors.make(media_types.OCI_MANIFEST, *found)
