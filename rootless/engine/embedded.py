"""The image that comes with rootless: one static program that tells what a container isolates.

Made from libexec/hello when it is first asked for, with bytes that depend on that program alone.
"""

from __future__ import annotations

import hashlib
import os
import struct

from rootless import jsonc
from rootless.errors import HostError
from rootless.oci import descriptor, media_types, platform, reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context

NAME = "docker.io/library/hello:latest"
_DIRS = ("dev", "etc", "proc", "sys", "tmp")


def provides(text: str) -> bool:
    """Whether TEXT names the embedded image."""
    return reference.parse(text).full() == NAME


def _entry(name: str, mode: int, data: bytes, kind: bytes) -> bytes:
    """One ustar entry owned by root, of 1 January 1970."""
    fields = struct.pack(
        "100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x",
        name.encode(),
        b"%07o\0" % mode,
        b"0000000\0",
        b"0000000\0",
        b"%011o\0" % len(data),
        b"00000000000\0",
        b" " * 8,
        kind,
        b"",
        b"ustar\0",
        b"00",
        b"",
        b"",
        b"0000000\0",
        b"0000000\0",
        b"",
    )
    checksum = b"%06o\0 " % sum(fields)
    return fields[:148] + checksum + fields[156:] + data + bytes(-len(data) % 512)


def layer(program: bytes) -> bytes:
    """The layer's tar: the program, and what a container expects to find."""
    parts = [_entry("hello", 0o755, program, b"0")]
    parts += [_entry(f"{name}/", 0o1777 if name == "tmp" else 0o755, b"", b"5") for name in _DIRS]
    parts.append(_entry("etc/passwd", 0o644, b"root:x:0:0:root:/:/hello\n", b"0"))
    parts.append(_entry("etc/group", 0o644, b"root:x:0:\n", b"0"))
    return b"".join(parts) + bytes(1024)


def hello_image(ctx: Context) -> None:
    """Put the embedded image into the store; raises HostError where the program was not built."""
    path = f"{ctx.paths.libexec}/hello"
    try:
        with open(path, "rb") as file:
            program = file.read()
    except OSError as error:
        raise HostError(
            f"cannot read {path}: {os.strerror(error.errno or 0).lower()}",
            hint="run install.sh again to build the helper programs",
        ) from None
    tar = layer(program)
    diff_id = f"sha256:{hashlib.sha256(tar).hexdigest()}"
    here = platform.Platform("linux", ctx.facts.arch)
    config = {
        "architecture": here.architecture,
        "os": "linux",
        "config": {"Cmd": ["/hello"], "Env": [], "WorkingDir": "/"},
        "created": "1970-01-01T00:00:00Z",
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "rootless"}],
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    lease = ctx.blobs.lease()
    try:
        digest, size = ctx.blobs.ingest(jsonc.dumps(config).encode())
        ctx.blobs.ingest(tar, diff_id)
        manifest = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": descriptor.make(media_types.OCI_CONFIG, digest, size),
            "layers": [descriptor.make(media_types.OCI_LAYER, diff_id, len(tar))],
        }
        digest, size = ctx.blobs.ingest(jsonc.dumps(manifest).encode())
        ctx.images.put(descriptor.make(media_types.OCI_MANIFEST, digest, size), NAME)
    finally:
        if lease is not None:
            os.close(lease)
