"""What tests of builds share: writing a Dockerfile, building it, looking into the image."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from rig import Done, World


def build(world: World, ctx: Path, text: str, *words: str, **options: Any) -> Done[str]:
    (ctx / "Dockerfile").write_text(text)
    return world("build", "--progress=plain", *words, str(ctx), **options)


def image(world: World, ctx: Path, text: str, *words: str, **options: Any) -> str:
    """The ID of the image that TEXT comes to."""
    (ctx / "Dockerfile").write_text(text)
    return world.out("build", "-q", *words, str(ctx), **options)


def config(world: World, name: str) -> dict[str, Any]:
    (found,) = json.loads(world.out("image", "inspect", name))
    return dict(found["Config"])


def shell(world: World, image_id: str, script: str) -> str:
    return world.out("run", "--rm", "--network=none", image_id, "sh", "-c", script)


def cached(done: Done[str]) -> list[bool]:
    """Of each step (not FROM, not the export): whether it came from the cache."""
    numbers = re.findall(r"^#(\d+) \[.*?\] (?:RUN|COPY|ADD|WORKDIR|copy)", done.stderr, re.M)
    return [f"#{number} CACHED" in done.stderr for number in numbers]


def shell_of(world: World, name: str, script: str) -> str:
    return world.out("run", "--rm", "--entrypoint", "sh", name, "-c", script)


def verify_layout(read: Any) -> dict[str, Any]:
    """The manifest that a layout has, every blob of it checked; READ(name) gives a file's bytes."""
    (entry,) = json.loads(read("index.json"))["manifests"]
    assert json.loads(read("oci-layout"))["imageLayoutVersion"] == "1.0.0"

    def blob(one: dict[str, Any]) -> bytes:
        data = bytes(read(f"blobs/sha256/{one['digest'][7:]}"))
        assert hashlib.sha256(data).hexdigest() == one["digest"][7:]
        assert len(data) == one["size"]
        return data

    manifest = json.loads(blob(entry))
    blob(manifest["config"])
    for layer in manifest["layers"]:
        blob(layer)
    return {"entry": entry, "manifest": manifest}
