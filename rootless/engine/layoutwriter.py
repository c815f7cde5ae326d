"""Images as archives and directories in the OCI layout, which a ``manifest.json`` makes docker's, too.

The same image gives the same bytes: members are sorted and have no times.  Blobs are verified while they are
copied.  A directory gets its index last and keeps the images that its index had under other names.
"""

from __future__ import annotations

import os

from rootless import jsonc
from rootless.errors import UsageError
from rootless.oci import media_types
from rootless.oci import reference as references
from rootless.store import files, treecopy
from rootless.store.tarwriter import BLOCK, TarWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from rootless.store.blobs import BlobStore

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
NAME, REF_NAME = "io.containerd.image.name", "org.opencontainers.image.ref.name"
_PIECE = 1 << 20


class Contents:
    """What is written: the manifest or index TOP under NAMES (full), and every blob it leads to.

    NOTES are annotations of its entry in the index; DOCKER adds the list that docker loads by.
    """

    def __init__(
        self,
        store: BlobStore,
        top: Mapping[str, Any],
        names: Sequence[str],
        notes: Mapping[str, str] | None = None,
        *,
        docker: bool = False,
    ) -> None:
        self._store = store
        self._top = top
        self._names = names
        self._notes = dict(notes or {})
        self._docker = docker
        self.blobs: dict[str, int] = {}
        self._images: list[dict[str, Any]] = []
        self._collect(top)

    def _collect(self, entry: Mapping[str, Any]) -> None:
        digest = str(entry["digest"])
        data = self._store.read_small(digest)
        self.blobs[digest] = len(data)
        document = jsonc.loads(data)
        if entry["mediaType"] in media_types.INDEXES:
            for one in document["manifests"]:
                self._collect(one)
            return
        self._images.append(document)
        for one in (document["config"], *document["layers"]):
            self.blobs[str(one["digest"])] = int(one["size"])

    def entries(self) -> list[dict[str, Any]]:
        """Descriptors for index.json: one for each name, or one without."""
        found = []
        for name in self._names or [""]:
            notes = dict(self._notes)
            if name:
                notes.update({NAME: name, REF_NAME: references.parse(name).tag or "latest"})
            found.append({**self._top, **({"annotations": notes} if notes else {})})
        return found

    def documents(self) -> dict[str, bytes]:
        """The small files, by name."""
        found = {"oci-layout": LAYOUT, "index.json": _index(self.entries())}
        if self._docker:
            tags = [references.parse(name).familiar() for name in self._names]
            found["manifest.json"] = jsonc.dumps(
                [
                    {
                        "Config": blob_name(image["config"]["digest"]),
                        "RepoTags": tags,
                        "Layers": [blob_name(layer["digest"]) for layer in image["layers"]],
                    }
                    for image in self._images
                ]
            ).encode()
        return found

    def pieces(self, digest: str) -> Iterator[bytes]:
        """A blob's bytes, verified at their end."""
        with self._store.open_verified(digest, self.blobs[digest]) as reader:
            while True:
                data = reader.read(_PIECE)
                if not data:
                    return
                yield data


def _index(entries: Sequence[Mapping[str, Any]]) -> bytes:
    index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": list(entries)}
    return jsonc.dumps(index).encode()


def blob_name(digest: str) -> str:
    """Where a blob lies in a layout."""
    return f"blobs/{digest.replace(':', '/')}"


def archive(contents: Contents, fd: int) -> None:
    """Write it as a tar to FD; raises OSError, and DigestMismatchError for a damaged blob."""

    def write(data: bytes) -> None:
        files.write_all(fd, data)

    tar = TarWriter(write)
    for directory in sorted({"blobs", *(os.path.dirname(blob_name(d)) for d in contents.blobs)}):
        tar.header(f"{directory}/".encode(), b"5", mode=0o755)
    for digest in sorted(contents.blobs):
        size = contents.blobs[digest]
        tar.header(blob_name(digest).encode(), b"0", mode=0o644, size=size)
        for piece in contents.pieces(digest):
            write(piece)
        write(bytes(-size % BLOCK))
    for name, data in sorted(contents.documents().items()):
        tar.data(name.encode(), data)
    tar.close()


def directory(contents: Contents, path: str) -> None:
    """Write it to the directory PATH, which may be a layout already; no link in it is followed."""
    try:
        os.makedirs(path, 0o755, exist_ok=True)
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            before = _before(root, path)
            for digest in sorted(contents.blobs):
                _blob(root, contents, digest)
            documents = contents.documents()
            names = {entry.get("annotations", {}).get(NAME) for entry in contents.entries()}
            kept = [
                entry
                for entry in before
                if (entry.get("annotations") or {}).get(NAME) not in names
                and (names != {None} or entry.get("digest") not in contents.blobs)
            ]
            documents["index.json"] = _index([*kept, *contents.entries()])
            for name in sorted(documents, key=lambda name: name == "index.json"):
                _file(root, name, [documents[name]])
        finally:
            os.close(root)
    except OSError as error:
        raise files.failure(f"write to {path}", error) from None


def _before(root: int, path: str) -> list[dict[str, Any]]:
    """The entries of a layout that is there already."""
    try:
        fd = os.open("index.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    except FileNotFoundError:
        return []
    with open(fd, "rb") as file:
        try:
            found = jsonc.loads(file.read())["manifests"]
            return [dict(entry) for entry in found]
        except (ValueError, KeyError, TypeError):
            raise UsageError(
                f"cannot write to {path}: its index.json is none", exit_code=1
            ) from None


def _blob(root: int, contents: Contents, digest: str) -> None:
    head, _, base = blob_name(digest).rpartition("/")
    at = os.dup(root)
    try:
        for part in head.split("/"):
            try:
                os.mkdir(part, 0o755, dir_fd=at)
            except FileExistsError:
                pass
            below = os.open(part, treecopy.DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        _file(at, base, contents.pieces(digest))
    finally:
        os.close(at)


def _file(parent: int, name: str, pieces: Sequence[bytes] | Iterator[bytes]) -> None:
    """Write a file beside and give it its name when it is whole."""
    temporary = f".{name[:100]}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o644, dir_fd=parent)
    try:
        try:
            for piece in pieces:
                files.write_all(fd, piece)
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        os.unlink(temporary, dir_fd=parent)
        raise
