"""Loading archives: every form and compression, every name kept, and hostile ones in one sentence."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import subprocess
import tarfile
from pathlib import Path
from typing import Any, Callable

import pytest
from oci_layout import (
    Files,
    Layout,
    Members,
    digest_of,
    docker_archive,
    image_config,
    layer_tar,
    tar_of,
)

pytestmark = pytest.mark.requires("overlay")

FILES = [{"etc/": "", "etc/motd": "one\n"}, {"etc/two": "two\n"}]


def zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(data)


def load(rootless: Any, data: bytes, tmp_path: Path) -> list[str]:
    """The lines that loading prints."""
    path = tmp_path / "archive"
    path.write_bytes(data)
    return str(rootless("load", "-i", str(path)).stdout).splitlines()


def store(rootless: Any) -> Path:
    return Path(rootless.env["XDG_DATA_HOME"]) / "rootless"


def refused(rootless: Any, data: bytes, tmp_path: Path) -> str:
    """The one sentence about an archive that cannot be loaded; nothing may be left of it."""
    path = tmp_path / "archive"
    path.write_bytes(data)
    done = rootless("load", "-i", str(path), check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert 1 <= len(done.stderr.splitlines()) <= 2, done.stderr
    assert rootless("images", "-aq").stdout == ""
    assert list(store(rootless).glob("images/ingest/*")) == []
    assert list(store(rootless).glob("cache/*")) == []
    assert [p for p in store(rootless).glob("layers/*/*") if p.suffix == ".tmp"] == []
    return str(done.stderr)


# what is loaded


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd])
def test_every_compression_from_a_file_and_a_pipe(
    rootless: Any, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    data = pack(tar_of(docker_archive(FILES, ["app:1", "other/app"])))
    expected = ["Loaded image: app:1", "Loaded image: other/app:latest"]
    assert load(rootless, data, tmp_path) == expected
    rootless("rmi", "-f", "app:1", "other/app")
    done = subprocess.run(
        [*rootless.argv, "load"], env=rootless.env, input=data, capture_output=True, check=True
    )
    assert done.stdout.decode().splitlines() == expected


def test_a_loaded_image_runs(rootless: Any, tmp_path: Path, libexec: str) -> None:
    program = Path(libexec, "hello").read_bytes()
    layers: list[Files] = [{"bin/": "", "bin/hello": program}]
    data = tar_of(docker_archive(layers, ["app:1"], Entrypoint=["/bin/hello"], Cmd=[]))
    load(rootless, data, tmp_path)
    assert "capabilities" in rootless("run", "--rm", "--network", "none", "app:1").stdout


def test_an_archive_in_the_legacy_layout_with_links(rootless: Any, tmp_path: Path) -> None:
    members = docker_archive([*FILES, FILES[0]], ["old:1"], legacy=True)
    assert any(isinstance(content, tuple) for content in members.values())
    assert load(rootless, tar_of(members), tmp_path) == ["Loaded image: old:1"]
    inspected = json.loads(rootless("image", "inspect", "old:1").stdout)[0]
    assert len(inspected["RootFS"]["Layers"]) == 3


def test_an_image_without_a_name_is_told_by_its_id(rootless: Any, tmp_path: Path) -> None:
    members = docker_archive(FILES, None)
    config = next(name for name in members if name.endswith(".json") and len(name) > 20)
    wanted = f"sha256:{config[:64]}"
    assert load(rootless, tar_of(members), tmp_path) == [f"Loaded image ID: {wanted}"]
    assert rootless("images", "-q", "--no-trunc").stdout.split() == [wanted]


def test_several_images_in_one_archive(rootless: Any, tmp_path: Path) -> None:
    first = docker_archive(FILES, ["a:1"])
    second = docker_archive([FILES[0], {"x": "y"}], ["b:1"])
    entries = [*json.loads(str(first["manifest.json"])), *json.loads(str(second["manifest.json"]))]
    members = {**first, **second, "manifest.json": json.dumps(entries)}
    assert load(rootless, tar_of(members), tmp_path) == ["Loaded image: a:1", "Loaded image: b:1"]


def test_compressed_layers_in_a_docker_archive(rootless: Any, tmp_path: Path) -> None:
    tar = layer_tar(FILES[0])
    members: Members = {
        "c.json": image_config([digest_of(tar)]),
        "l": gzip.compress(tar),
        "manifest.json": json.dumps([{"Config": "c.json", "RepoTags": ["gz:1"], "Layers": ["l"]}]),
    }
    assert load(rootless, tar_of(members), tmp_path) == ["Loaded image: gz:1"]


def test_an_oci_archive_and_its_directory(rootless: Any, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    image = layout.image(FILES)
    layout.name(image, "quay.io/a/b:1")
    layout.name(image, "docker.io/library/c:2")
    layout.name(layout.image([FILES[0]]), "latest")  # a tag alone names no repository
    layout.name(layout.image([FILES[1]]), "1", **{"io.containerd.image.name": "docker.io/x/y:1"})
    lines = load(rootless, layout.archive(), tmp_path)
    assert lines[:2] == ["Loaded image: quay.io/a/b:1", "Loaded image: c:2"]
    assert lines[2].startswith("Loaded image ID: sha256:")
    assert lines[3] == "Loaded image: x/y:1"
    rootless("rmi", "-f", "c:2", "quay.io/a/b:1")
    done = rootless("load", "-i", str(layout.directory))
    assert done.stdout.splitlines() == lines
    digests = rootless("images", "--digests", "--no-trunc").stdout
    assert "c " in digests


def test_of_a_multi_platform_archive_this_machines_image(rootless: Any, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    machine = json.loads(rootless("version", "--format", "json").stdout)
    arch = machine["Client"]["Arch"]
    other = "arm64" if arch == "amd64" else "amd64"
    mine, foreign = layout.image([FILES[0]], arch), layout.image([FILES[1]], other)
    index = layout.index(
        [(foreign, f"linux/{other}"), (mine, f"linux/{arch}"), (foreign, "unknown/unknown")]
    )
    layout.name(index, "multi:1")
    assert load(rootless, layout.archive(), tmp_path) == ["Loaded image: multi:1"]
    wanted = layout.manifest(mine)["config"]["digest"]
    assert rootless("images", "-q", "--no-trunc").stdout.split() == [wanted]


def test_an_archive_of_both_forms(rootless: Any, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    image = layout.image(FILES)
    layout.name(image, "docker.io/library/both:1")
    document = layout.manifest(image)
    path = {d["digest"]: f"blobs/{d['digest'].replace(':', '/')}" for d in
            [document["config"], *document["layers"]]}  # fmt: skip
    (layout.directory / "manifest.json").write_text(
        json.dumps([{
            "Config": path[document["config"]["digest"]],
            "RepoTags": ["both:1"],
            "Layers": [path[layer["digest"]] for layer in document["layers"]],
        }])
    )  # fmt: skip
    assert load(rootless, layout.archive(), tmp_path) == ["Loaded image: both:1"]


@pytest.mark.requires("skopeo")
def test_what_skopeo_writes(rootless: Any, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    layout.name(layout.image(FILES), "it")
    for kind, name in (("docker-archive", "sk/docker:1"), ("oci-archive", "docker.io/sk/oci:1")):
        path = tmp_path / kind
        subprocess.run(
            ["skopeo", "copy", "--quiet", "--insecure-policy", f"oci:{layout.directory}:it",
             f"{kind}:{path}:{name}"],
            check=True,
        )  # fmt: skip
        said = rootless("load", "-i", str(path)).stdout.strip()
        assert said == f"Loaded image: {name.replace('docker.io/', '')}"


# what is refused


def changed(**members: Any) -> bytes:
    """A docker-archive with some members replaced (None: left out)."""
    base = docker_archive([{"a": "b"}], ["x:1"])
    config, layer = (next(n for n in base if n.endswith(end)) for end in (".json", ".tar"))
    names = {"config": config, "layer": layer, "manifest": "manifest.json"}
    for key, value in members.items():
        base[names[key]] = value
    return tar_of({name: content for name, content in base.items() if content is not None})


def manifest(**changes: Any) -> bytes:
    base = docker_archive([{"a": "b"}], ["x:1"])
    entry = {**json.loads(str(base["manifest.json"]))[0], **changes}
    return changed(manifest=json.dumps([entry]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a tar archive|neither manifest.json"),
        (b"hello" * 1000, "it is not a tar archive"),
        (gzip.compress(b"hello" * 1000, mtime=0), "it is not a tar archive"),
        (gzip.compress(changed(), mtime=0)[:-20], "truncated"),
        (bz2.compress(changed())[:-20], "truncated"),
        (lzma.compress(changed())[:-20], "truncated"),
        (zstd(changed())[:-20], "archive"),
        (changed()[:-9000], "truncated|not a tar|missing|unexpected end"),
        (tar_of({"readme": "x"}), "neither manifest.json nor index.json"),
        (changed(manifest="{"), "manifest.json is not JSON"),
        (changed(manifest="[" * 100_000), "manifest.json is not JSON"),
        (changed(manifest="{}"), "holds no list of images"),
        (changed(manifest="[1]"), "names no config"),
        (changed(manifest='[{"Config": 1}]'), "names no config"),
        (changed(manifest=b" " * (9 << 20)), "manifest.json is too large"),
        (manifest(Config="../../../../etc/passwd"), "etc/passwd is missing"),
        (manifest(Config="/etc/passwd"), "/etc/passwd is missing"),
        (manifest(Layers=["../../../etc/passwd"]), "layer ../../../etc/passwd is missing"),
        (manifest(Layers=["none"]), "layer none is missing"),
        (manifest(Layers="abc"), "Layers in manifest.json is no list"),
        (manifest(Layers=[1]), "Layers in manifest.json is no list"),
        (manifest(Layers=[]), "1 diff IDs for 0 layers"),
        (manifest(RepoTags=["Bad:1"]), "must be lowercase"),
        (manifest(RepoTags=[{}]), "RepoTags in manifest.json is no list"),
        (changed(config="{"), "it is not JSON"),
        (changed(config="[]"), "it is not a JSON object"),
        (changed(config="{}"), "no list of diff IDs"),
        (changed(layer=layer_tar({"c": "d"})), "its digest is sha256:"),
        (changed(layer=gzip.compress(b"x" * 2000, mtime=0)), "cannot"),
        (changed(layer=("link", "/etc/passwd")), "is missing"),
        (changed(layer=("link", "../../../../../etc/passwd")), "is missing"),
        (changed(layer=("hard", "manifest.json/")), "its digest is"),
    ],
)  # fmt: skip
def test_hostile_docker_archives(rootless: Any, tmp_path: Path, data: bytes, reason: str) -> None:
    import re

    said = refused(rootless, data, tmp_path)
    assert re.search(reason, said), said


def test_a_link_that_leads_to_itself(rootless: Any, tmp_path: Path) -> None:
    data = tar_of({"manifest.json": ("link", "other"), "other": ("link", "manifest.json")})
    assert "neither manifest.json nor index.json" in refused(rootless, data, tmp_path)


def test_a_member_that_claims_to_be_huge(rootless: Any, tmp_path: Path) -> None:
    info = tarfile.TarInfo("manifest.json")
    for size in (1 << 40, (1 << 63) - 1):
        info.size = size
        data = info.tobuf(tarfile.GNU_FORMAT) + b"[]"
        assert "truncated" in refused(rootless, data, tmp_path)
    sparse = tarfile.TarInfo("manifest.json")
    sparse.pax_headers = {
        "GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,1",
        "GNU.sparse.size": str(1 << 50), "GNU.sparse.name": "manifest.json",
    }  # fmt: skip
    sparse.size = 1
    data = sparse.tobuf(tarfile.PAX_FORMAT) + b"[".ljust(512, b"\0") + bytes(1024)
    assert "sparse or truncated" in refused(rootless, data, tmp_path)


def test_headers_that_recurse(rootless: Any, tmp_path: Path) -> None:
    long = tarfile.TarInfo("././@LongLink")
    long.type = tarfile.GNUTYPE_LONGNAME
    long.size = 2
    one = long.tobuf(tarfile.GNU_FORMAT) + b"a\0".ljust(512, b"\0")
    assert "cannot load" in refused(rootless, one * 5000, tmp_path)


def oci(change: Callable[[Layout, dict[str, Any]], None], tmp_path: Path) -> bytes:
    """An oci-archive that CHANGE has damaged."""
    layout = Layout(tmp_path / "layout")
    image = layout.image([{"a": "b"}])
    layout.name(image, "x:1")
    change(layout, image)
    return layout.archive()


def swap(layout: Layout, digest: str) -> None:
    path = layout.path(digest)
    path.write_bytes(path.read_bytes().replace(b'"', b"'", 1) + b" ")


def index(layout: Layout, document: Any) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    (layout.directory / "index.json").write_text(text)


def nested(layout: Layout, entry: dict[str, Any]) -> None:
    for _ in range(5):
        entry = layout.index([(entry, "linux/amd64"), (entry, "linux/arm64")])
    index(layout, {"schemaVersion": 2, "manifests": [entry]})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x, m: x.path(m["digest"]).unlink(), "is missing"),
        (lambda x, m: x.path(x.manifest(m)["config"]["digest"]).unlink(), "is missing"),
        (lambda x, m: x.path(x.manifest(m)["layers"][0]["digest"]).unlink(), "is missing"),
        (lambda x, m: swap(x, m["digest"]), "the digest of blob"),
        (lambda x, m: swap(x, x.manifest(m)["config"]["digest"]), "the digest of blob"),
        (lambda x, m: swap(x, x.manifest(m)["layers"][0]["digest"]), "cannot verify blob"),
        (lambda x, m: index(x, "{"), "index.json is not JSON"),
        (lambda x, m: index(x, []), "holds no list of images"),
        (lambda x, m: index(x, {"manifests": [1]}), "no descriptor"),
        (lambda x, m: index(x, {"manifests": []}), "lists no image"),
        (
            lambda x, m: index(x, {"manifests": [{**m, "digest": "sha256:../../index.json"}]}),
            "not a digest",
        ),
        (lambda x, m: index(x, {"manifests": [{**m, "size": -5}]}), "not a size"),
        (lambda x, m: x.name(m, "Upper:1"), "must be lowercase"),
        (nested, "it has no image for"),
    ],
)
def test_hostile_oci_archives(
    rootless: Any,
    tmp_path: Path,
    change: Callable[[Layout, dict[str, Any]], None],
    reason: str,
) -> None:
    data = oci(change, tmp_path)
    if reason == "must be lowercase":  # the first image was good, and is loaded before
        path = tmp_path / "archive"
        path.write_bytes(data)
        assert reason in rootless("load", "-i", str(path), check=False).stderr
        return
    assert reason in refused(rootless, data, tmp_path)


def test_a_directory_whose_links_lead_out(rootless: Any, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    image = layout.image([{"a": "b"}])
    layout.name(image, "x:1")
    outside = tmp_path / "outside"
    layout.path(image["digest"]).rename(outside)
    layout.path(image["digest"]).symlink_to(outside)
    done = rootless("load", "-i", str(layout.directory), check=False)
    assert done.returncode == 1
    assert "is missing" in done.stderr


def test_a_file_that_is_not_there(rootless: Any, tmp_path: Path) -> None:
    done = rootless("load", "-i", str(tmp_path / "none"), check=False)
    assert done.returncode == 1
    assert f"cannot open {tmp_path}/none: ENOENT (no such file or directory)" in done.stderr


# the embedded image


def test_the_embedded_image_needs_no_network(rootless: Any) -> None:
    said = rootless("run", "--rm", "--network", "none", "hello", http_proxy="http://127.0.0.1:9")
    assert "Hello" in said.stdout
    first = rootless("images", "-q", "--no-trunc").stdout
    rootless("rmi", "hello")
    rootless("run", "--rm", "--network", "none", "hello:latest")
    assert rootless("images", "-q", "--no-trunc").stdout == first  # the same bytes again


def test_the_embedded_layer_is_a_proper_tar() -> None:
    from rootless.engine import embedded

    data = embedded.layer(b"program")
    assert hashlib.sha256(data).digest() == hashlib.sha256(embedded.layer(b"program")).digest()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = {member.name: member for member in tar}
        program = tar.extractfile("hello")
        assert program is not None
        assert program.read() == b"program"
    assert {"proc", "sys", "dev", "tmp", "etc", "etc/passwd"} <= set(names)
    assert all(member.mtime == 0 and member.uid == 0 for member in names.values())
    assert names["tmp"].mode == 0o1777
