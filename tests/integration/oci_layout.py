"""Images for tests, made from nothing: OCI layouts and docker-archives whose every byte is known."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

Files = Mapping[str, Union[bytes, str]]
Members = dict[str, Union[bytes, str, tuple[str, str]]]
OCI = "application/vnd.oci.image"


def digest_of(data: bytes) -> str:
    """sha256:..."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer_tar(files: Files) -> bytes:
    """An uncompressed layer; a name that ends in "/" is a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name.rstrip("/"))
            info.mode = 0o755
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def image_config(
    diff_ids: list[str], architecture: str = "amd64", variant: str = "", **config: Any
) -> bytes:
    """A config blob."""
    document: dict[str, Any] = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/usr/bin:/bin"], **config},
        "created": "2020-02-02T02:02:02Z",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    if variant:
        document["variant"] = variant
    return json.dumps(document).encode()


class Layout:
    """An OCI image layout in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "blobs/sha256").mkdir(parents=True)
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.entries: list[dict[str, Any]] = []
        self._write_index()

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        """Store DATA; its descriptor."""
        digest = digest_of(data)
        self.path(digest).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def path(self, digest: str) -> Path:
        """The file of a blob."""
        return self.directory / "blobs" / digest.replace(":", "/")

    def image(
        self, layers: Sequence[Files], architecture: str = "amd64", variant: str = "", **config: Any
    ) -> dict[str, Any]:
        """Store an image of gzipped layers; the descriptor of its manifest, not yet in the index."""
        tars = [layer_tar(files) for files in layers]
        diff_ids = [digest_of(tar) for tar in tars]
        data = image_config(diff_ids, architecture, variant, **config)
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": self.blob(data, f"{OCI}.config.v1+json"),
            "layers": [
                self.blob(gzip.compress(tar, 1, mtime=0), f"{OCI}.layer.v1.tar+gzip")
                for tar in tars
            ],
        }
        return self.blob(json.dumps(manifest).encode(), f"{OCI}.manifest.v1+json")

    def index(self, manifests: list[tuple[dict[str, Any], str]]) -> dict[str, Any]:
        """Store an index over (descriptor, "os/arch[/variant]"); its descriptor."""
        entries = []
        for descriptor, platform in manifests:
            names = ("os", "architecture", "variant")
            entries.append({**descriptor, "platform": dict(zip(names, platform.split("/")))})
        document = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.index.v1+json",
            "manifests": entries,
        }
        return self.blob(json.dumps(document).encode(), f"{OCI}.index.v1+json")

    def name(self, descriptor: dict[str, Any], ref: Optional[str], **notes: str) -> None:
        """List DESCRIPTOR in index.json, under the name REF unless that is None."""
        entry = dict(descriptor)
        if ref is not None:
            notes = {"org.opencontainers.image.ref.name": ref, **notes}
        if notes:
            entry["annotations"] = notes
        self.entries.append(entry)
        self._write_index()

    def _write_index(self) -> None:
        document = {"schemaVersion": 2, "manifests": self.entries}
        (self.directory / "index.json").write_text(json.dumps(document))

    def manifest(self, descriptor: dict[str, Any]) -> dict[str, Any]:
        """The document that DESCRIPTOR leads to."""
        document: dict[str, Any] = json.loads(self.path(descriptor["digest"]).read_bytes())
        return document

    def archive(self) -> bytes:
        """The layout as an oci-archive."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            tar.add(self.directory, ".")
        return out.getvalue()


def tar_of(members: Members) -> bytes:
    """A tar of files by name; a tuple ("link" or "hard", target) makes a link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                info.type = tarfile.SYMTYPE if content[0] == "link" else tarfile.LNKTYPE
                info.linkname = content[1]
                tar.addfile(info)
                continue
            data = content.encode() if isinstance(content, str) else content
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def docker_archive(
    layers: Sequence[Files], tags: Optional[list[str]], *, legacy: bool = False, **config: Any
) -> Members:
    """The members of a docker-archive, for tar_of(); LEGACY links a layer that occurs twice."""
    tars = [layer_tar(files) for files in layers]
    data = image_config([digest_of(tar) for tar in tars], **config)
    members: Members = {}
    names = []
    first: dict[bytes, str] = {}
    for number, tar in enumerate(tars):
        name = f"{number:064x}/layer.tar" if legacy else f"{digest_of(tar)[7:]}.tar"
        if legacy:
            members[f"{number:064x}/VERSION"] = "1.0"
        if legacy and tar in first:
            members[name] = ("link", f"../{first[tar]}")
        else:
            members[name] = tar
        first.setdefault(tar, name)
        names.append(name)
    config_name = f"{digest_of(data)[7:]}.json"
    members[config_name] = data
    members["manifest.json"] = json.dumps(
        [{"Config": config_name, "RepoTags": tags, "Layers": names}]
    )
    return members
