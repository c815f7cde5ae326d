"""The image of the storage benchmark: python3 benchtree.py DEBIAN_TAR LAYOUT.

DEBIAN_TAR is a Debian with Python and the package python3-sympy.  On top of it comes a layer with /bench:
``tree`` (50,000 files in 500 directories) and ``tree.list`` (their paths), ``small.tar`` (20,000 files),
``lib`` (sympy and mpmath) and ``work.py`` (tests/bench/storage_work.py).
"""

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

NAME = "benchtree:latest"
WORK = os.path.join(os.path.dirname(__file__), "..", "bench", "storage_work.py")
PACKAGES = "usr/lib/python3/dist-packages/"


def _blob(layout: str, data: bytes, kind: str) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    os.makedirs(f"{layout}/blobs/sha256", exist_ok=True)
    with open(f"{layout}/blobs/sha256/{digest}", "wb") as file:
        file.write(data)
    media_type = f"application/vnd.oci.image.{kind}"
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _add(tar: tarfile.TarFile, name: str, data: bytes | None) -> None:
    info = tarfile.TarInfo(name)
    info.mtime = 1_700_000_000
    if data is None:
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(info)
    else:
        info.size, info.mode = len(data), 0o644
        tar.addfile(info, io.BytesIO(data))


def _files(count: int, seed: int) -> list[tuple[str, bytes]]:
    generator = random.Random(seed)
    return [
        (f"d{number // 100:03d}/f{number:05d}", generator.randbytes(generator.randint(200, 3000)))
        for number in range(count)
    ]


def _tree(tar: tarfile.TarFile, prefix: str, files: list[tuple[str, bytes]]) -> None:
    made = set()
    for name, data in files:
        directory = name.partition("/")[0]
        if directory not in made:
            made.add(directory)
            _add(tar, prefix + directory, None)
        _add(tar, prefix + name, data)


def _small() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        _tree(tar, "", _files(20_000, 2))
    return stream.getvalue()


def layer(debian: str) -> bytes:
    """The tar of the upper layer; DEBIAN is the lower one's."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("bench", "bench/tree", "bench/lib"):
            _add(tar, name, None)
        files = _files(50_000, 1)
        _tree(tar, "bench/tree/", files)
        _add(tar, "bench/tree.list", "\n".join(name for name, _ in files).encode())
        _add(tar, "bench/small.tar", _small())
        with open(WORK, "rb") as file:
            _add(tar, "bench/work.py", file.read())
        with tarfile.open(debian) as source:
            for member in source:
                name = member.name.lstrip("./")
                if name.startswith((f"{PACKAGES}sympy", f"{PACKAGES}mpmath")):
                    found = source.extractfile(member) if member.isreg() else None
                    path = "bench/lib/" + name[len(PACKAGES) :]
                    if found or member.isdir():
                        _add(tar, path, found.read() if found else None)
    return stream.getvalue()


def build(debian: str, layout: str) -> None:
    """Write the image as an OCI layout."""
    with open(debian, "rb") as file:
        tars = [file.read(), layer(debian)]
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64"),
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/usr/bin:/bin"]},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars],
        },
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _blob(layout, json.dumps(config).encode(), "config.v1+json"),
        "layers": [
            _blob(layout, gzip.compress(tar, 1, mtime=0), "layer.v1.tar+gzip") for tar in tars
        ],
    }
    entry = _blob(layout, json.dumps(manifest).encode(), "manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": NAME}
    with open(f"{layout}/index.json", "w", encoding="ascii") as file:
        json.dump({"schemaVersion": 2, "manifests": [entry]}, file)
    with open(f"{layout}/oci-layout", "w", encoding="ascii") as file:
        json.dump({"imageLayoutVersion": "1.0.0"}, file)


if __name__ == "__main__":
    build(sys.argv[1], sys.argv[2])
