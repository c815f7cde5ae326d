"""What is told of a build's image, and that it is the same again: metadata, annotations, attestations."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from buildrig import build, image, shell, verify_layout
from registry_server import RegistryServer, start_registry
from rig import World, busybox

pytestmark = pytest.mark.requires("ordinary-user", "userns", "overlay")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with start_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


# one layer, and what is told


def test_squashing_leaves_one_layer_over_the_base(world: World, ctx: Path) -> None:
    text = (
        "FROM busybox\nRUN mkdir /d && echo 1 > /d/one && echo 2 > /d/two && touch -d @1000 /d/one\n"
        "RUN rm /d/two && rm -r /home && echo 9 > /d/one && touch -d @1000 /d/one && chown 1000 /d/one\n"
        "RUN chmod 700 /d && ln /d/one /d/hard\n"
        "RUN cp /etc/passwd /tmp/p && sed s/root:x/toor:x/ /tmp/p > /etc/passwd"
        " && touch -d @1700000000 /etc/passwd && rm /tmp/p\n"
    )
    plain = image(world, ctx, text)
    made = image(world, ctx, text, "--squash")
    (record,) = json.loads(world.out("image", "inspect", made))
    assert len(record["RootFS"]["Layers"]) == 2
    script = (
        "cd /; stat -c '%n %a %u %Y' d d/* etc/passwd; stat -c %h d/one; cat d/one etc/passwd;"
        "ls -d home 2>&1; ls -A tmp"
    )
    assert shell(world, made, script) == shell(world, plain, script)
    # Neither size nor time tell that this file is another.
    told = "stat -c '%s %Y' /etc/passwd"
    assert shell(world, made, told) == shell(world, "busybox", told)
    assert "toor:x" in shell(world, made, "cat /etc/passwd")
    assert image(world, ctx, text, "--squash") == made
    history = world.out("history", made, check=False)
    assert "Traceback" not in history


def test_metadata_is_written_under_buildkits_keys(world: World, ctx: Path, tmp_path: Path) -> None:
    text = "FROM busybox\nRUN echo meta > /m\n"
    words = ("-t", "meta:1", "-t", "meta:2", "--metadata-file", f"{tmp_path}/meta.json")
    made = image(world, ctx, text, *words)
    found = json.loads((tmp_path / "meta.json").read_text())
    assert found["containerimage.config.digest"] == made
    assert found["image.name"] == "docker.io/library/meta:1,docker.io/library/meta:2"
    descriptor = found["containerimage.descriptor"]
    assert descriptor["digest"] == found["containerimage.digest"]
    assert descriptor["annotations"]["config.digest"] == made
    blob = f"{world.home}/.local/share/rootless/images/blobs/sha256/{descriptor['digest'][7:]}"
    data = Path(blob).read_bytes()
    assert (len(data), json.loads(data)["config"]["digest"]) == (descriptor["size"], made)
    assert found["buildx.build.ref"].count("/") == 2
    image(
        world, ctx, text, "-o", str(tmp_path / "files"), "--metadata-file", f"{tmp_path}/two.json"
    )
    assert list(json.loads((tmp_path / "two.json").read_text())) == ["buildx.build.ref"]


def test_annotations_go_where_their_scope_says(world: World, ctx: Path, tmp_path: Path) -> None:
    dest = tmp_path / "a.tar"
    words = ("--annotation", "a=1", "--annotation", "manifest-descriptor:b=2")
    text = "FROM busybox\nLABEL l=1 m=1\n"
    build(world, ctx, text, *words, "-o", f"type=oci,dest={dest},annotation.c=3", "--label", "m=2")
    with tarfile.open(dest) as tar:
        found = verify_layout(lambda name: tar.extractfile(name).read())  # type: ignore[union-attr]
        name = f"blobs/sha256/{found['manifest']['config']['digest'][7:]}"
        config = json.loads(tar.extractfile(name).read())  # type: ignore[union-attr]
    assert found["manifest"]["annotations"] == {"a": "1", "c": "3"}
    assert found["entry"]["annotations"]["b"] == "2"
    assert config["config"]["Labels"] == {"l": "1", "m": "2"}
    for words, reason in (
        (("--annotation", "index:a=1"), "index annotations are for images with an index"),
        (("--annotation", "nowhere:a=1"), "is none of"),
        (("--annotation", "a=1", "-o", "type=image,oci-mediatypes=false"), "annotations go not"),
    ):
        assert reason in build(world, ctx, text, *words, code=1).stderr


# the same again


def digests(path: Path) -> tuple[str, str]:
    """Digest of an archive, and of the manifest it holds."""
    with tarfile.open(path) as tar:
        found = verify_layout(lambda name: tar.extractfile(name).read())  # type: ignore[union-attr]
    return hashlib.sha256(path.read_bytes()).hexdigest(), found["entry"]["digest"]


REPEATED = (
    "FROM busybox\nARG WHO\nCOPY . /srv/\nRUN mkdir /a && echo x > /a/b && ln -s b /a/c"
    " && chown -R 1000:1000 /a && mkfifo /a/p && rm -r /home\nWORKDIR /w\nENV A=b\n"
)


def test_the_same_input_gives_the_same_bytes(world: World, ctx: Path, tmp_path: Path) -> None:
    for name in ("z", "a", "m"):
        (ctx / name).write_text(name)
    env = {"SOURCE_DATE_EPOCH": "1700000000"}
    seen = []
    for number, at in enumerate((1_800_000_000, 1_900_000_000)):
        os.utime(ctx / "a", (at, at))
        dest = tmp_path / f"{number}.tar"
        output = f"type=oci,dest={dest},rewrite-timestamp=true"
        build(world, ctx, REPEATED, "--no-cache", "-t", "same:1", "-o", output, env=env)
        seen.append(digests(dest))
    assert seen[0] == seen[1]
    single = World()
    try:
        single.env["ROOTLESS_IDMAP_MODE"] = "single"
        busybox(single)
        dest = tmp_path / "single.tar"
        output = f"type=oci,dest={dest}"
        build(
            single,
            ctx,
            REPEATED,
            *("-t", "same:1", "-o", output),
            env=env,
        )
        assert digests(dest) == seen[0]
        trees = [tmp_path / "tree-many", tmp_path / "tree-one"]
        for one, tree in zip((world, single), trees):
            build(one, ctx, REPEATED, "-o", f"type=tar,dest={tree}", env=env)
        assert trees[0].read_bytes() == trees[1].read_bytes()
        with tarfile.open(trees[1]) as tar:
            assert tar.getmember("a/b").uid == 1000
    finally:
        single.close()
    with tarfile.open(tmp_path / "0.tar") as tar:
        manifest = verify_layout(lambda name: tar.extractfile(name).read())["manifest"]  # type: ignore[union-attr]
        for layer in manifest["layers"][1:]:
            stream = tar.extractfile(f"blobs/sha256/{layer['digest'][7:]}")
            with tarfile.open(fileobj=stream) as inner:
                assert max(member.mtime for member in inner) <= 1700000000


def test_times_of_files_stay_where_they_shall(world: World, ctx: Path, tmp_path: Path) -> None:
    (ctx / "new").write_text("new")
    os.utime(ctx / "new", (1_800_000_000, 1_800_000_000))
    env = {"SOURCE_DATE_EPOCH": "1700000000"}
    for rewrite, wanted in (("true", 1_700_000_000), ("false", 1_800_000_000)):
        dest = tmp_path / f"{rewrite}.tar"
        output = f"type=oci,dest={dest},rewrite-timestamp={rewrite}"
        build(world, ctx, "FROM scratch\nCOPY new /\n", "-o", output, env=env)
        with tarfile.open(dest) as tar:
            found = verify_layout(lambda name: tar.extractfile(name).read())  # type: ignore[union-attr]
            (layer,) = found["manifest"]["layers"]
            stream = tar.extractfile(f"blobs/sha256/{layer['digest'][7:]}")
            with tarfile.open(fileobj=stream) as inner:
                assert inner.getmember("new").mtime == wanted
            name = f"blobs/sha256/{found['manifest']['config']['digest'][7:]}"
            config = json.loads(tar.extractfile(name).read())  # type: ignore[union-attr]
        assert config["created"] == "2023-11-14T22:13:20Z"


@pytest.mark.parametrize("driver", ["fuse-overlayfs", "fusepy", "copy"])
def test_other_storage_drivers_give_the_same_files(
    world: World, ctx: Path, tmp_path: Path, driver: str
) -> None:
    (ctx / "f").write_text("f")
    env = {"SOURCE_DATE_EPOCH": "1700000000"}
    seen = []
    (ctx / "Dockerfile").write_text(REPEATED)
    for name in ("overlay", driver):
        words = ("--storage-driver", name, "build", "-q", "--no-cache", "--squash")
        output = ("-o", f"type=tar,dest={tmp_path}/{name}.tar", "--load")
        made = world.out(*words, *output, str(ctx), env=env)
        seen.append((made, (tmp_path / f"{name}.tar").read_bytes()))
    assert seen[0][0] == seen[1][0]
    assert seen[0][1] == seen[1][1]


# what is said beside an image

DISTRIBUTION = (
    "FROM busybox\nRUN mkdir -p /var/lib/dpkg /usr/lib && printf "
    "'Package: tool\\nStatus: install ok installed\\nArchitecture: all\\nVersion: 1.2\\n'"
    " > /var/lib/dpkg/status && echo ID=debian > /usr/lib/os-release\n"
)


def attested(read: Any) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """(descriptor of the image's manifest, statements by predicate type) of a layout."""
    (entry,) = json.loads(read("index.json"))["manifests"]

    def blob(digest: str) -> Any:
        data = read(f"blobs/sha256/{digest[7:]}")
        assert hashlib.sha256(data).hexdigest() == digest[7:]
        return json.loads(data)

    index = blob(entry["digest"])
    image, said = index["manifests"]
    assert image["platform"]["os"] == "linux"
    assert said["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert said["annotations"] == {
        "vnd.docker.reference.digest": image["digest"],
        "vnd.docker.reference.type": "attestation-manifest",
    }
    manifest = blob(said["digest"])
    assert blob(manifest["config"]["digest"])["rootfs"]["diff_ids"] == [
        layer["digest"] for layer in manifest["layers"]
    ]
    found = {}
    for layer in manifest["layers"]:
        assert layer["mediaType"] == "application/vnd.in-toto+json"
        statement = blob(layer["digest"])
        assert layer["annotations"]["in-toto.io/predicate-type"] == statement["predicateType"]
        assert statement["subject"][0]["digest"]["sha256"] == image["digest"][7:]
        found[statement["predicateType"]] = statement
    return image, found


def test_attestations_lie_beside_the_image_in_an_index(
    world: World, ctx: Path, tmp_path: Path
) -> None:
    words = ["--provenance=mode=max", "--sbom=true", "--build-arg", "A=1", "-t", "said:1"]
    words += ["--annotation", "index:where=here", "--annotation", "manifest-descriptor:d=e"]
    env = {"SOURCE_DATE_EPOCH": "1700000000"}
    archives = []
    for name in ("one", "two"):
        dest = tmp_path / f"{name}.tar"
        archives.append(dest)
        meta = ("--metadata-file", f"{tmp_path}/meta.json", "--no-cache")
        build(world, ctx, DISTRIBUTION, *words, *meta, "-o", f"type=oci,dest={dest}", env=env)
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with tarfile.open(archives[0]) as tar:
        image_entry, found = attested(lambda name: tar.extractfile(name).read())  # type: ignore[union-attr]
        (top,) = json.loads(tar.extractfile("index.json").read())["manifests"]  # type: ignore[union-attr]
        index = json.loads(tar.extractfile(f"blobs/sha256/{top['digest'][7:]}").read())  # type: ignore[union-attr]
    assert index["annotations"] == {"where": "here"}
    assert image_entry["annotations"] == {"d": "e"}
    provenance = found["https://slsa.dev/provenance/v1"]
    assert provenance["subject"][0]["name"].startswith("pkg:docker/said@1?platform=linux%2F")
    definition = provenance["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["request"]["args"]["build-arg:A"] == "1"
    (base,) = definition["resolvedDependencies"]
    assert base["uri"].startswith("pkg:docker/busybox@latest")
    listed = found["https://spdx.dev/Document"]["predicate"]["packages"]
    places = [one["externalRefs"][0]["referenceLocator"] for one in listed]
    assert places == ["pkg:deb/debian/tool@1.2?arch=all"]
    told = json.loads((tmp_path / "meta.json").read_text())
    assert told["containerimage.digest"] == top["digest"]
    assert told["buildx.build.provenance"] == provenance["predicate"]
    # The image is what it is without, and can be loaded.
    plain = tmp_path / "plain.tar"
    build(world, ctx, DISTRIBUTION, "-t", "said:1", "-o", f"type=oci,dest={plain}", env=env)
    assert digests(plain)[1] == image_entry["digest"]
    world("load", "-i", str(archives[0]))
    assert shell(world, "said:1", "cat /usr/lib/os-release") == "ID=debian"
    world("rmi", "said:1")
    done = build(world, ctx, DISTRIBUTION, "--sbom=true")
    assert "attestations are kept only by" in done.stderr


@pytest.mark.requires("docker-registry", "skopeo", "openssl")
def test_attestations_are_pushed_with_the_image(
    world: World, ctx: Path, tmp_path: Path, registry: RegistryServer
) -> None:
    name = f"{registry.host}/said:1"
    words = ("--push", "-t", name, "--provenance=true", "--metadata-file", f"{tmp_path}/m.json")
    build(world, ctx, DISTRIBUTION, *words)
    digest = json.loads((tmp_path / "m.json").read_text())["containerimage.digest"]
    index = json.loads(registry.blob_file(digest).read_bytes())
    assert len(index["manifests"]) == 2
    for entry in index["manifests"]:
        manifest = json.loads(registry.blob_file(entry["digest"]).read_bytes())
        assert all(registry.blob_file(layer["digest"]).exists() for layer in manifest["layers"])
    world("pull", name)
    assert shell(world, name, "cat /usr/lib/os-release") == "ID=debian"
    (record,) = json.loads(world.out("image", "inspect", name))
    assert record["RepoDigests"] == [f"{registry.host}/said@{digest}"]
    world("rmi", name)


SCANNER = """FROM busybox
COPY <<'EOF' /scan
#!/bin/sh
set -e
test "$BUILDKIT_SCAN_SOURCE" = /run/src/core/sbom
! touch $BUILDKIT_SCAN_SOURCE/x 2>/dev/null
read line < $BUILDKIT_SCAN_SOURCE/var/lib/dpkg/status
case $1 in
statement) echo '{"predicateType": "https://spdx.dev/Document", "predicate": {"line": "'$line'"}}' ;;
nonsense) echo nonsense ;;
esac > $BUILDKIT_SCAN_DESTINATION/found.spdx.json
case $1 in
nothing) rm $BUILDKIT_SCAN_DESTINATION/* ;;
link) rm $BUILDKIT_SCAN_DESTINATION/*; ln -s /etc/passwd $BUILDKIT_SCAN_DESTINATION/l.spdx.json ;;
esac
EOF
RUN chmod 755 /scan
ENTRYPOINT ["/scan"]
"""


def test_a_scanner_image_lists_packages(world: World, ctx: Path, tmp_path: Path) -> None:
    for mode in ("statement", "nonsense", "nothing", "link"):
        image(world, ctx, f'{SCANNER}CMD ["{mode}"]\n', "-t", f"scan:{mode}")
    dest = tmp_path / "a.tar"
    for driver in ("overlay", "copy"):
        (ctx / "Dockerfile").write_text(DISTRIBUTION)
        words = ("--storage-driver", driver, "build", "--sbom=generator=scan:statement")
        world(*words, "-o", f"type=oci,dest={dest}", str(ctx))
        with tarfile.open(dest) as tar:
            _, found = attested(lambda name, tar=tar: tar.extractfile(name).read())
        assert found["https://spdx.dev/Document"]["predicate"] == {"line": "Package: tool"}
    dest.unlink()
    for mode, reason in (
        ("nonsense", "it is no in-toto statement"),
        ("nothing", "the scanner left no"),
        ("link", "cannot read l.spdx.json of the scanner: ELOOP"),
    ):
        words = (f"--attest=type=sbom,generator=scan:{mode}", "-o", f"type=oci,dest={dest}")
        assert reason in build(world, ctx, DISTRIBUTION, *words, code=1).stderr
        assert not dest.exists()
