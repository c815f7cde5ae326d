"""A busybox image from the distribution's static busybox: python3 busybox.py LAYOUT [NAME].

Deterministic but for the program itself.  Users: root, app (1000, also in group extra), nobody.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from typing import Any

BUSYBOX = "/bin/busybox"
NAME = "busybox:latest"
PASSWD = """root:x:0:0:root:/root:/bin/sh
app:x:1000:1000::/home/app:/bin/sh
nobody:x:65534:65534::/:/bin/false
"""
GROUP = "root:x:0:\napp:x:1000:\nextra:x:2000:app\nnobody:x:65534:\n"
DIRS = (
    "bin",
    "dev",
    "etc",
    "home",
    "home/app",
    "proc",
    "root",
    "sys",
    "tmp",
    "usr",
    "usr/bin",
    "var",
)


def _add(tar: tarfile.TarFile, name: str, data: bytes = b"", **fields: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), 0o755, 1700000000
    for key, value in fields.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))


def layer() -> bytes:
    """The tar of the only layer."""
    applets = subprocess.run(
        [BUSYBOX, "--list"], capture_output=True, text=True, check=True
    ).stdout.split()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in DIRS:
            owner = 1000 if name == "home/app" else 0
            mode = 0o1777 if name == "tmp" else 0o755
            _add(tar, name, type=tarfile.DIRTYPE, mode=mode, uid=owner, gid=owner)
        with open(BUSYBOX, "rb") as file:
            _add(tar, "bin/busybox", file.read())
        for applet in applets:
            if applet != "busybox":
                _add(tar, f"bin/{applet}", type=tarfile.SYMTYPE, linkname="busybox")
        _add(tar, "etc/passwd", PASSWD.encode(), mode=0o644)
        _add(tar, "etc/group", GROUP.encode(), mode=0o644)
    return stream.getvalue()


def _blob(layout: str, data: bytes, media_type: str) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    os.makedirs(f"{layout}/blobs/sha256", exist_ok=True)
    with open(f"{layout}/blobs/sha256/{digest}", "wb") as file:
        file.write(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def build(layout: str, name: str = NAME) -> None:
    """Write the image as an OCI layout at LAYOUT, under NAME."""
    tar = layer()
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64"),
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/usr/bin:/bin"]},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}"],
        },
    }
    oci = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{oci}.manifest.v1+json",
        "config": _blob(layout, json.dumps(config).encode(), f"{oci}.config.v1+json"),
        "layers": [_blob(layout, gzip.compress(tar, mtime=0), f"{oci}.layer.v1.tar+gzip")],
    }
    entry = _blob(layout, json.dumps(manifest).encode(), f"{oci}.manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    with open(f"{layout}/index.json", "w", encoding="ascii") as file:
        json.dump({"schemaVersion": 2, "manifests": [entry]}, file)
    with open(f"{layout}/oci-layout", "w", encoding="ascii") as file:
        json.dump({"imageLayoutVersion": "1.0.0"}, file)


if __name__ == "__main__":
    build(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else NAME)
