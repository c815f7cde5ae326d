"""Images: what manifests are called, found by reference or ID, tagged and removed.

Owns the meaning of index.json's entries.  One image is one config blob (its digest is the image
ID); several entries, each a tag or a pull by digest, may lead to it.  Knows nothing of registries and
containers: who uses an image is told by the caller of remove().
"""

from __future__ import annotations

from rootless import jsonc
from rootless.errors import ImageError, ImageNotFoundError, ReferenceError_, UsageError
from rootless.oci import reference

from . import imageindex
from .blobs import BlobStore
from .imageindex import IMAGE_ID, INDEX, REF_NAME, REMOVED, REPO_DIGEST, note, with_notes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rootless.config.paths import Paths

    from .imageindex import Entry

_HEX = frozenset("0123456789abcdef")


def no_such(text: str) -> ImageNotFoundError:
    """The error for a reference that names no image."""
    return ImageNotFoundError(f"no such image: {text}")


def normalize(text: str) -> tuple[str, str, str]:
    """(repository, tag, digest) of a reference, in full; a digest goes before a tag.

    Raises ReferenceError_.
    """
    full = reference.parse(text).full()
    name, _, digest = full.partition("@")
    slash = name.rfind("/")
    colon = name.find(":", slash)
    repository, tag = (name, "") if colon < 0 else (name[:colon], name[colon + 1 :])
    if digest:
        return repository, "", digest
    return repository, tag or "latest", ""


def repository_of(full: str) -> str:
    """The repository of a full name with a tag or a digest."""
    name = full.partition("@")[0]
    colon = name.find(":", name.rfind("/"))
    return name if colon < 0 else name[:colon]


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = jsonc.loads(data)
    except ValueError as error:
        raise ImageError(f"cannot read {what}: {error}") from None
    if not isinstance(value, dict):
        raise ImageError(f"cannot read {what}: it is not a JSON object")
    return value


class ImageRecord:
    """One image.

    id           digest of the config blob
    descriptor   of the manifest: mediaType, digest, size
    index        digest of an index that has the images of other platforms beside this, or ""
    references   full names with tags ("docker.io/library/debian:12"), sorted
    repo_digests full names with digests, sorted
    """

    __slots__ = (
        "_blobs",
        "_config",
        "_manifest",
        "descriptor",
        "id",
        "index",
        "references",
        "repo_digests",
    )

    def __init__(self, blobs: BlobStore, image_id: str, entries: list[Entry]) -> None:
        self._blobs = blobs
        self.id = image_id
        first = entries[0]
        keys = ("mediaType", "digest", "size", "platform")
        self.descriptor: dict[str, Any] = {key: first[key] for key in keys if key in first}
        self.references = sorted({note(e, REF_NAME) for e in entries} - {""})
        self.repo_digests = sorted({note(e, REPO_DIGEST) for e in entries} - {""})
        self.index = next((found for found in (note(e, INDEX) for e in entries) if found), "")
        self._manifest: dict[str, Any] | None = None
        self._config: dict[str, Any] | None = None

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest, verified; raises StorageError, ImageError, DigestMismatchError."""
        if self._manifest is None:
            self._manifest = read_manifest(self._blobs, self.descriptor["digest"])
        return self._manifest

    @property
    def config(self) -> dict[str, Any]:
        """The whole config blob, verified; raises as :attr:`manifest` does."""
        if self._config is None:
            data = self._blobs.read_small(self.id)
            self._config = _object(data, f"image config {self.id}")
        return self._config

    @property
    def layers(self) -> list[dict[str, Any]]:
        """Descriptors of the layers, lowest first."""
        return list(self.manifest["layers"])

    @property
    def diff_ids(self) -> list[str]:
        """Diff IDs of the layers, lowest first; raises ImageError where they do not match the layers."""
        found = (self.config.get("rootfs") or {}).get("diff_ids") or []
        if len(found) != len(self.manifest["layers"]):
            raise ImageError(
                f"cannot use image {self.id}: it has {len(self.manifest['layers'])} layers "
                f"and {len(found)} diff IDs"
            )
        return list(found)

    @property
    def size(self) -> int:
        """Bytes of all layers as they are stored."""
        return sum(int(layer.get("size", 0)) for layer in self.manifest["layers"])

    @property
    def created(self) -> str:
        """When the image says it was made, RFC 3339, or ""."""
        value = self.config.get("created")
        return value if isinstance(value, str) else ""

    @property
    def blobs(self) -> list[str]:
        """Digests of everything the image consists of."""
        layers = [str(layer["digest"]) for layer in self.manifest["layers"]]
        return [self.descriptor["digest"], self.id, *layers]

    def others(self) -> list[ImageRecord]:
        """The images of other platforms that are in the same index; raises as :attr:`manifest` does."""
        if not self.index:
            return []
        found = _object(self._blobs.read_small(self.index), f"image index {self.index}")
        out = []
        for one in found.get("manifests") or ():
            if one["digest"] != self.descriptor["digest"]:
                manifest = read_manifest(self._blobs, one["digest"])
                out.append(ImageRecord(self._blobs, str(manifest["config"]["digest"]), [one]))
        return out


def read_manifest(blobs: BlobStore, digest: str) -> dict[str, Any]:
    """A manifest blob with the shape checked that the store depends on."""
    what = f"image manifest {digest}"
    manifest = _object(blobs.read_small(digest), what)
    config = manifest.get("config")
    layers = manifest.get("layers")
    if not isinstance(config, dict) or not isinstance(config.get("digest"), str):
        raise ImageError(f"cannot read {what}: it names no config")
    if not isinstance(layers, list) or not all(
        isinstance(one, dict) and isinstance(one.get("digest"), str) for one in layers
    ):
        raise ImageError(f"cannot read {what}: it names no layers")
    return manifest


class ImageStore:
    """All images of one layout."""

    __slots__ = ("_blobs", "_dir")

    def __init__(self, paths: Paths) -> None:
        self._dir = paths.images
        self._blobs = BlobStore(paths)

    # finding

    def _image_id(self, entry: Entry) -> str:
        found = note(entry, IMAGE_ID)
        if found:
            return found
        return str(read_manifest(self._blobs, entry["digest"])["config"]["digest"])

    def _entries_of(self, entries: list[Entry], image_id: str) -> list[Entry]:
        return [entry for entry in entries if self._image_id(entry) == image_id]

    def _record(self, entries: list[Entry], image_id: str) -> ImageRecord:
        return ImageRecord(self._blobs, image_id, self._entries_of(entries, image_id))

    def resolve(self, text: str) -> ImageRecord:
        """The image that a reference, else an ID or its unambiguous prefix means.

        Raises ImageNotFoundError ("no such image: X"), UsageError (ambiguous), ReferenceError_.
        """
        entries = imageindex.load(self._dir)
        return self._record(entries, self._find(entries, text)[0])

    def _find(self, entries: list[Entry], text: str) -> tuple[str, Entry | None]:
        """(image ID, entry that the reference named or None where TEXT is an ID)."""
        bare = text[7:] if text.startswith("sha256:") else text
        is_hex = bool(bare) and len(bare) <= 64 and _HEX.issuperset(bare)
        if bare is text and not (is_hex and len(bare) == 64):
            try:
                entry = self._by_reference(entries, text)
            except ReferenceError_:
                if not is_hex:
                    raise
                entry = None
            if entry is not None:
                return self._image_id(entry), entry
        if not is_hex:
            raise no_such(text)
        return self._by_prefix(entries, bare, text), None

    def _by_reference(self, entries: list[Entry], text: str) -> Entry | None:
        repository, tag, digest = normalize(text)
        for entry in entries:
            if not digest:
                if note(entry, REF_NAME) == f"{repository}:{tag}":
                    return entry
            elif note(entry, REPO_DIGEST) == f"{repository}@{digest}" or (
                entry["digest"] == digest and repository_of(note(entry, REF_NAME)) == repository
            ):
                return entry
        return None

    def _by_prefix(self, entries: list[Entry], prefix: str, text: str) -> str:
        whole = len(prefix) == 64
        start = f"sha256:{prefix}"
        found = {
            image_id
            for entry in entries
            for image_id in (self._image_id(entry),)
            if (image_id.startswith(start) or note(entry, INDEX).startswith(start))
            and (whole or not note(entry, REMOVED))
        }
        if len(found) > 1:
            raise UsageError(f"multiple IDs found with provided prefix: {text}")
        if not found:
            raise no_such(text)
        return found.pop()

    # changing

    def put(
        self,
        descriptor: Mapping[str, Any],
        ref: str = "",
        repo_digest: str | None = None,
        *,
        index: str = "",
    ) -> ImageRecord:
        """Record a manifest whose blobs are all there, under the full or familiar name REF if given.

        INDEX is the digest of one that has it among others, whose blobs are all there, too.
        An image that had the name keeps living without it.  Raises ImageError, StorageError.
        """
        manifest = read_manifest(self._blobs, descriptor["digest"])
        image_id = str(manifest["config"]["digest"])
        full = ""
        if ref:
            repository, tag, digest = normalize(ref)
            full = f"{repository}:{tag}" if tag else ""
            repo_digest = repo_digest or (f"{repository}@{digest}" if digest else None)
        keys = ("mediaType", "digest", "size", "platform")
        bare = {key: descriptor[key] for key in keys if descriptor.get(key)}
        digest = repo_digest or ""
        entry = with_notes(bare, ref=full, repo_digest=digest, image_id=image_id, index=index)
        with imageindex.Edit(self._dir) as edit:
            edit.entries = _placed(edit.entries, entry)
            edit.save()
            return self._record(edit.entries, image_id)

    def tag(self, source: str, target: str) -> None:
        """Give the image SOURCE the further name TARGET; raises as resolve() does."""
        repository, tag, digest = normalize(target)
        if digest:
            raise UsageError("refusing to create a tag with a digest reference", exit_code=1)
        with imageindex.Edit(self._dir) as edit:
            image_id, named = self._find(edit.entries, source)
            entry = named or self._entries_of(edit.entries, image_id)[0]
            entry = with_notes(entry, ref=f"{repository}:{tag}", repo_digest="", removed="")
            edit.entries = _placed(edit.entries, with_notes(entry, image_id=image_id))
            edit.save()

    def remove(
        self,
        text: str,
        *,
        force: bool = False,
        users: Mapping[str, list[tuple[str, bool]]] | None = None,
    ) -> tuple[list[str], list[str]]:
        """Untag, and delete where nothing else names the image; (untagged names, deleted digests).

        USERS tells image ID -> [(container ID, whether it runs)].  An image that a stopped container
        uses is, by FORCE, hidden until the container is gone.  Blobs and layers are freed by
        :func:`rootless.store.gc.collect`.  Raises ConflictError with Docker's phrases.
        """
        from . import imageremove

        with imageindex.Edit(self._dir) as edit:
            image_id, named = self._find(edit.entries, text)
            mine = self._entries_of(edit.entries, image_id)
            using = (users or {}).get(image_id, [])
            plan = imageremove.plan(text, image_id, named, mine, using, force=force)
            left = [entry for entry in edit.entries if entry not in mine]
            edit.entries = left + plan.keep
            edit.save()
        return plan.untagged, plan.deleted

    def forget_removed(self, used: set[str]) -> None:
        """Drop hidden images whose ID is not in USED."""
        with imageindex.Edit(self._dir) as edit:
            left = [e for e in edit.entries if not note(e, REMOVED) or self._image_id(e) in used]
            if len(left) != len(edit.entries):
                edit.entries = left
                edit.save()

    def list(self, *, removed: bool = False) -> list[ImageRecord]:
        """All images, in the order of the index; with REMOVED also those kept for a container only."""
        groups: dict[str, list[Entry]] = {}
        for entry in imageindex.load(self._dir):
            if removed or not note(entry, REMOVED):
                groups.setdefault(self._image_id(entry), []).append(entry)
        return [ImageRecord(self._blobs, key, group) for key, group in groups.items()]


def _placed(entries: list[Entry], new: Entry) -> list[Entry]:
    """ENTRIES with NEW in it, its name taken from whatever had it, and no entry that says less."""
    name, digest = note(new, REF_NAME), new["digest"]
    out: list[Entry] = []
    for entry in entries:
        if entry["digest"] == digest:
            if note(entry, REMOVED):
                continue
            if note(entry, REF_NAME) in ("", name):
                kept = note(new, REPO_DIGEST) or note(entry, REPO_DIGEST)
                same_repository = not name or repository_of(kept) == repository_of(name)
                if same_repository or note(entry, REF_NAME) == name:
                    new = with_notes(new, repo_digest=kept, ref=name or note(entry, REF_NAME))
                    continue
        taken = entry["digest"] != digest and name and note(entry, REF_NAME) == name
        out.append(with_notes(entry, ref="") if taken else entry)
    return [*_without_bare(out, digest), new]


def _without_bare(entries: list[Entry], digest: str) -> list[Entry]:
    """ENTRIES less those for DIGEST that have neither name nor repository digest."""
    return [
        entry
        for entry in entries
        if entry["digest"] != digest or note(entry, REF_NAME) or note(entry, REPO_DIGEST)
    ]
