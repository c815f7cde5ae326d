"""Caches elsewhere: in directories, at registries, in images; and what a damaged or forged one can do."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from buildrig import build, cached, config, image, shell
from registry_server import RegistryServer, start_registry
from rig import World, busybox

pytestmark = pytest.mark.requires("ordinary-user", "userns", "overlay")

TEXT = """FROM busybox AS tools
RUN echo tool > /tool; : {0}
RUN echo more > /more
FROM busybox
COPY f /f
COPY --from=tools /tool /tool
RUN cat /f /tool > /both; head -c 16 /dev/urandom | md5sum > /random
LABEL x={0}
"""


@pytest.fixture(scope="module")
def worlds() -> Iterator[tuple[World, World]]:
    """Two stores that know nothing of each other."""
    made = (World(), World())
    try:
        for world in made:
            busybox(world)
        yield made
    finally:
        for world in made:
            world.close()


@pytest.fixture
def ctx(tmp_path: Path) -> Path:
    (tmp_path / "ctx").mkdir()
    (tmp_path / "ctx" / "f").write_text(str(tmp_path))
    return tmp_path / "ctx"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with start_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


def test_a_directory(worlds: tuple[World, World], ctx: Path, tmp_path: Path) -> None:
    one, two = worlds
    cache = tmp_path / "cache"
    done = build(
        one, ctx, TEXT.format(1), "--cache-to", f"type=local,dest={cache},mode=max", "-t", "one"
    )
    assert cached(done) == [False] * 5
    done = build(two, ctx, TEXT.format(1), "--cache-from", f"type=local,src={cache}", "-t", "two")
    assert cached(done) == [True] * 5
    assert shell(one, "one", "cat /random /both") == shell(two, "two", "cat /random /both")
    ids = [
        world.out("image", "inspect", "-f", "{{.Id}}", name)
        for world, name in zip(worlds, ("one", "two"))
    ]
    assert ids[0] == ids[1]
    (ctx / "f").write_text("changed")
    done = build(two, ctx, TEXT.format(1), "--cache-from", f"type=local,src={cache}")
    assert sorted(cached(done)) == [False, False, False, True, True] or sorted(cached(done)) == [
        *(False, False, True, True, True),
    ]


def test_only_what_the_image_has_without_max(
    worlds: tuple[World, World], ctx: Path, tmp_path: Path
) -> None:
    one, two = worlds
    cache = tmp_path / "cache"
    build(one, ctx, TEXT.format(2), "--cache-to", f"type=local,dest={cache},tag=t")
    (entry,) = json.loads((cache / "index.json").read_text())["manifests"]
    _, records = documents(cache, entry["digest"])
    assert len(records["steps"]) == 3
    assert records["contents"] == {}
    done = build(two, ctx, TEXT.format(2), "--cache-from", f"type=local,src={cache},tag=t")
    assert sorted(cached(done)) == [False, False, True, True, True]
    done = build(two, ctx, "FROM busybox\n", "--cache-from", f"type=local,src={cache},tag=no")
    assert "it has no no" in done.stderr


def blob(cache: Path, digest: str) -> Path:
    return cache / "blobs" / digest.replace(":", "/")


def documents(cache: Path, digest: str) -> tuple[dict[str, Any], dict[str, Any]]:
    manifest = json.loads(blob(cache, digest).read_text())
    return manifest, json.loads(blob(cache, manifest["config"]["digest"]).read_text())


def put(cache: Path, data: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    blob(cache, digest).write_bytes(data)
    return {"digest": digest, "size": len(data)}


def forge(cache: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change a cache's documents and make all digests that lead to them right again."""
    index = json.loads((cache / "index.json").read_text())
    (entry,) = index["manifests"]
    manifest, records = documents(cache, entry["digest"])
    change(manifest, records)
    manifest["config"].update(put(cache, json.dumps(records).encode()))
    entry.update(put(cache, json.dumps(manifest).encode()))
    (cache / "index.json").write_text(json.dumps(index))


def swapped(_: dict[str, Any], records: dict[str, Any]) -> None:
    """Each record leads to another's layer, under its own diff ID."""
    layers = [step["layer"] for step in records["steps"]]
    for step, layer in zip(records["steps"], [*layers[1:], layers[0]]):
        step["layer"] = layer


def foreign(_: dict[str, Any], records: dict[str, Any]) -> None:
    records["steps"][0]["layer"]["digest"] = "sha256:" + "0" * 64


def malformed(_: dict[str, Any], records: dict[str, Any]) -> None:
    records["steps"][0]["key"] = "../../../etc/passwd"


def another_version(_: dict[str, Any], records: dict[str, Any]) -> None:
    records["version"] = 99


@pytest.mark.parametrize("change", [swapped, foreign, malformed, another_version])
def test_a_forged_cache_puts_nothing_in(
    worlds: tuple[World, World],
    ctx: Path,
    tmp_path: Path,
    change: Callable[[dict[str, Any], dict[str, Any]], None],
) -> None:
    one, two = worlds
    cache = tmp_path / "cache"
    build(one, ctx, TEXT.format(3), "--cache-to", f"type=local,dest={cache},mode=max")
    forge(cache, change)
    made = image(two, ctx, TEXT.format(3), "--cache-from", f"type=local,src={cache}")
    assert shell(two, made, "cat /both") == f"{tmp_path}tool"
    again = image(two, ctx, TEXT.format(3))
    assert again == made, "nothing of it is left in the store's own cache"


def test_damaged_blobs_cost_the_step(
    worlds: tuple[World, World], ctx: Path, tmp_path: Path
) -> None:
    one, two = worlds
    cache = tmp_path / "cache"
    build(one, ctx, TEXT.format(4), "--cache-to", f"type=local,dest={cache},mode=max")
    whole = tmp_path / "whole"
    shutil.copytree(cache, whole)
    (entry,) = json.loads((cache / "index.json").read_text())["manifests"]
    manifest, _ = documents(cache, entry["digest"])
    for layer in manifest["layers"]:
        path = blob(cache, layer["digest"])
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
    done = build(
        two, ctx, TEXT.format(4), "--cache-from", f"type=local,src={cache}", "-t", "damaged"
    )
    assert "cannot use the cache" in done.stderr
    assert shell(two, "damaged", "cat /both") == f"{tmp_path}tool"
    (ctx / "f").write_text("else")
    blob(whole, manifest["config"]["digest"]).write_text("{}")
    done = build(two, ctx, TEXT.format(4), "--cache-from", f"type=local,src={whole}")
    assert "has another digest" in done.stderr


@pytest.mark.requires("docker-registry", "skopeo", "openssl")
def test_at_a_registry_and_in_images(
    worlds: tuple[World, World], ctx: Path, registry: RegistryServer
) -> None:
    one, two = worlds
    ref = f"{registry.host}/cache:all"
    build(one, ctx, TEXT.format(5), "--cache-to", f"type=registry,ref={ref},mode=max")
    done = build(two, ctx, TEXT.format(5), "--cache-from", f"type=registry,ref={ref}")
    assert cached(done) == [True] * 5
    (ctx / "f").write_text("for the inline one")
    name = f"{registry.host}/inline:1"
    build(one, ctx, TEXT.format(6), "--cache-to", "inline", "--label", "l=1", "--push", "-t", name)
    text = TEXT.format(7)
    done = build(two, ctx, text, "--cache-from", name, "-t", "inlined")
    assert cached(done)[-1] is True
    assert config(two, "inlined")["Labels"] == {"x": "7"}
    done = build(two, ctx, text, "--cache-from", f"{registry.host}/none:1")
    assert "importing cache manifest" in done.stderr
    done = build(two, ctx, text, "--cache-to", "type=registry,ref=127.0.0.1:1/x", code=1)
    done = build(two, ctx, text, "--cache-to", "type=registry,ref=127.0.0.1:1/x,ignore-error=true")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--cache-to=type=s3,bucket=x", "type is one of"),
        ("--cache-to=type=local", "dest is required"),
        ("--cache-to=type=local,dest=x,mode=all", "mode is min or max"),
        ("--cache-to=type=local,dest=x,colour=red", "unknown key 'colour'"),
        ("--cache-from=type=inline", "type is one of"),
        ("--cache-from=type=local,src", "is not KEY=VALUE"),
    ],
)
def test_words_that_are_wrong(
    worlds: tuple[World, World], ctx: Path, flag: str, message: str
) -> None:
    assert message in build(worlds[0], ctx, "FROM busybox\n", flag, check=False).stderr
