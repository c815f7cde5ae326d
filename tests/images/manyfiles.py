"""An image of about 300 MB in many files, for the pull benchmark: python3 manyfiles.py LAYOUT [MEGABYTES]."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import sys
import tarfile
from typing import Any

LAYERS = 4
NAME = "many:latest"
MEAN_FILE = 14 << 10


def _blob(layout: str, data: bytes, media_type: str) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    os.makedirs(f"{layout}/blobs/sha256", exist_ok=True)
    with open(f"{layout}/blobs/sha256/{digest}", "wb") as file:
        file.write(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _content(generator: random.Random, size: int, words: list[bytes]) -> bytes:
    """Half text that compresses well, half noise that does not, as in programs and libraries."""
    if generator.random() < 0.25:
        return generator.randbytes(size)
    text = b" ".join(generator.choices(words, k=size // 6 + 1))
    return text[:size]


def layer(number: int, megabytes: int) -> bytes:
    """The tar of one layer."""
    generator = random.Random(number)
    words = [generator.randbytes(generator.randint(2, 10)).hex().encode() for _ in range(4000)]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        total, index = 0, 0
        while total < megabytes << 20:
            directory = f"usr/share/l{number}/d{index // 40:04d}"
            if index % 40 == 0:
                info = tarfile.TarInfo(directory)
                info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, 1700000000
                tar.addfile(info)
            size = min(int(generator.expovariate(1 / MEAN_FILE)), 4 << 20)
            data = _content(generator, size, words)
            info = tarfile.TarInfo(f"{directory}/f{index:06d}")
            info.size, info.mode, info.mtime = len(data), 0o644, 1700000000 + index
            if index % 7 == 0:
                info.uid = info.gid = 33
            tar.addfile(info, io.BytesIO(data))
            total += len(data)
            index += 1
    return stream.getvalue()


def build(layout: str, megabytes: int = 300) -> None:
    """Write the image as an OCI layout."""
    descriptors, diff_ids = [], []
    for number in range(LAYERS):
        tar = layer(number, megabytes // LAYERS)
        diff_ids.append(f"sha256:{hashlib.sha256(tar).hexdigest()}")
        packed = gzip.compress(tar, 6, mtime=0)
        descriptors.append(_blob(layout, packed, "application/vnd.oci.image.layer.v1.tar+gzip"))
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64"),
        "os": "linux",
        "config": {"Cmd": ["/none"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _blob(
            layout, json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"
        ),
        "layers": descriptors,
    }
    entry = _blob(layout, json.dumps(manifest).encode(), manifest["mediaType"])  # type: ignore[arg-type]
    entry["annotations"] = {"org.opencontainers.image.ref.name": NAME}
    with open(f"{layout}/index.json", "w", encoding="ascii") as file:
        json.dump({"schemaVersion": 2, "manifests": [entry]}, file)
    with open(f"{layout}/oci-layout", "w", encoding="ascii") as file:
        json.dump({"imageLayoutVersion": "1.0.0"}, file)


if __name__ == "__main__":
    build(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 300)
