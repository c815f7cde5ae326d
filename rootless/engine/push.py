"""Pushing what the store has: an image's manifest, or an index, with all they name.

Layers go in parallel, manifests after them, the tag last: whoever pulls meanwhile finds the old image or
all of the new one.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from rootless.errors import RegistryError, UsageError
from rootless.oci import manifest as manifests
from rootless.oci import media_types
from rootless.oci import reference as references
from rootless.registry import places
from rootless.registry.upload import Upload

from . import layers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from .context import Context

    Tell = Callable[[str], object]

UPLOADS = 5
_PIECE = 256 << 10


def push(
    ctx: Context,
    top: Mapping[str, Any],
    name: str,
    tell: Tell,
    *,
    by_digest: bool = False,
    insecure: bool = False,
) -> str:
    """Push the manifest or index TOP (a descriptor) as NAME; "REPOSITORY@DIGEST" in full.

    TELL gets lines of progress.  The caller holds a lease of the blobs.  Raises RegistryError,
    RegistryAuthError, ImageNotFoundError, ImageError, DigestMismatchError.
    """
    ref = references.parse(name).with_default_tag()
    if ref.digest:
        raise UsageError(f"cannot push a digest reference: {name}", exit_code=1)
    entries = places.load(places.files(ctx.env, ctx.paths.conf))
    allowed = ctx.settings.get("registry.insecure")
    plain = [*(allowed if isinstance(allowed, list) else []), *([ref.domain] if insecure else [])]
    place = places.places(ref, entries, plain)[-1]  # the registry itself, no mirror
    known = _known_elsewhere(ctx, ref.domain) if place.domain == ref.domain else {}
    job = _Push(ctx, tell, known)
    job.collect(top)
    sources = sorted({known[digest] for digest in job.blobs if digest in known})
    upload = Upload(ref, ctx.env, place, sources)
    try:
        job.run(upload, top, str(top["digest"]) if by_digest else ref.tag)
    finally:
        upload.close()
    return f"{ref.repository}@{top['digest']}"


def _known_elsewhere(ctx: Context, domain: str) -> dict[str, str]:
    """Layers that images pulled from a registry have: digest -> the repository's path there."""
    found: dict[str, str] = {}
    for record in ctx.images.list():
        for name in record.repo_digests:
            ref = references.parse(name)
            if ref.domain == domain:
                found.update((layer["digest"], ref.path) for layer in record.layers)
    return found


class _Push:
    """One push: ``manifests`` bottom-up and ``blobs`` (digest -> size), as they are found."""

    def __init__(self, ctx: Context, tell: Tell, known: Mapping[str, str]) -> None:
        self._ctx = ctx
        self._tell = tell
        self._known = known
        self.manifests: list[tuple[dict[str, Any], bytes]] = []
        self.blobs: dict[str, int] = {}

    def collect(self, top: Mapping[str, Any]) -> None:
        """Find what has to be there before TOP, and TOP."""
        data = self._ctx.blobs.read_small(str(top["digest"]))
        kind, document = manifests.parse(data, str(top["digest"]), str(top.get("mediaType", "")))
        if kind in media_types.INDEXES:
            for entry in document["manifests"]:
                self.collect(entry)
        else:
            for entry in (document["config"], *document["layers"]):
                self.blobs[str(entry["digest"])] = int(entry["size"])
        self.manifests.append(({**top, "mediaType": kind}, data))

    def run(self, upload: Upload, top: Mapping[str, Any], name: str) -> None:
        """Send it all, TOP as NAME at the end."""
        with ThreadPoolExecutor(UPLOADS) as pool:
            jobs = [pool.submit(self._blob, upload, digest) for digest in self.blobs]
            layers.first_error(jobs, upload.abort)
        for entry, data in self.manifests:
            digest = str(entry["digest"])
            last = digest == top["digest"]
            upload.manifest(data, entry["mediaType"], name if last else digest, digest)
        self._tell(f"{name}: digest: {top['digest']} size: {len(self.manifests[-1][1])}")

    def _blob(self, upload: Upload, digest: str) -> None:
        size = self.blobs[digest]
        done = upload.blob(
            digest, size, lambda start: self._bytes(digest, start), self._known.get(digest, "")
        )
        words = {"exists": "Layer already exists", "mounted": "Mounted", "pushed": "Pushed"}
        where = f" from {self._known[digest]}" if done == "mounted" else ""
        self._tell(f"{digest[7:19]}: {words[done]}{where}")

    def _bytes(self, digest: str, start: int) -> Iterator[bytes]:
        """The blob from START on, verified where that is its beginning; the registry checks it again."""
        if not start:
            with self._ctx.blobs.open_verified(digest, self.blobs[digest]) as reader:
                while True:
                    data = reader.read(_PIECE)
                    if not data:
                        return
                    yield data
        try:
            with open(self._ctx.blobs.path(digest), "rb") as file:
                file.seek(start, os.SEEK_SET)
                while True:
                    data = file.read(_PIECE)
                    if not data:
                        return
                    yield data
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise RegistryError(f"cannot read blob {digest}: {reason}") from None
