"""Images: references, IDs, tags, and removal by Docker's rules."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from rootless.config.paths import Paths
from rootless.errors import (
    ConflictError,
    DigestMismatchError,
    ImageError,
    ImageNotFoundError,
    ReferenceError_,
    StorageError,
    UsageError,
)
from rootless.store import gc
from rootless.store.blobs import BlobStore
from rootless.store.images import ImageStore

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
USER = "c0ffee" + "0" * 58


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(str(tmp_path / "data"), str(tmp_path / "run"), "", "")


@pytest.fixture
def images(paths: Paths) -> ImageStore:
    return ImageStore(paths)


def build(paths: Paths, text: str = "one", **config: Any) -> dict[str, Any]:
    blobs = BlobStore(paths)
    layer, layer_size = blobs.ingest(b"layer of " + text.encode())
    body = {"os": "linux", "created": "2026-01-02T03:04:05Z", "rootfs": {"diff_ids": [layer]}}
    config_digest, config_size = blobs.ingest(json.dumps({**body, **config}).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"digest": config_digest, "size": config_size},
        "layers": [{"digest": layer, "size": layer_size}],
    }
    digest, size = blobs.ingest(json.dumps(manifest).encode())
    return {"mediaType": MANIFEST, "digest": digest, "size": size}


def test_record(paths: Paths, images: ImageStore) -> None:
    descriptor = build(paths, config={"Cmd": ["sh"]})
    record = images.put(descriptor, "app:1", "docker.io/library/app@" + descriptor["digest"])
    assert record.id.startswith("sha256:")
    assert record.descriptor == descriptor
    assert record.references == ["docker.io/library/app:1"]
    assert record.repo_digests == ["docker.io/library/app@" + descriptor["digest"]]
    assert record.config["config"] == {"Cmd": ["sh"]}
    assert record.size == len(b"layer of one")
    assert record.created == "2026-01-02T03:04:05Z"
    assert record.diff_ids == [record.layers[0]["digest"]]


def test_layout_is_an_oci_layout(paths: Paths, images: ImageStore) -> None:
    descriptor = build(paths)
    images.put(descriptor, "app:1")
    with open(f"{paths.images}/oci-layout", encoding="ascii") as file:
        assert json.load(file) == {"imageLayoutVersion": "1.0.0"}
    with open(f"{paths.images}/index.json", encoding="ascii") as file:
        index = json.load(file)
    assert index["schemaVersion"] == 2
    assert index["manifests"][0]["digest"] == descriptor["digest"]
    notes = index["manifests"][0]["annotations"]
    assert notes["org.opencontainers.image.ref.name"] == "docker.io/library/app:1"


def test_index_of_another_tool(paths: Paths, images: ImageStore) -> None:
    images.put(build(paths), "app:1")
    path = f"{paths.images}/index.json"
    with open(path, encoding="ascii") as file:
        index = json.load(file)
    index["manifests"][0]["annotations"].pop("io.rootless.image-id")
    with open(path, "w", encoding="ascii") as file:
        json.dump(index, file)
    record = images.resolve("app:1")
    assert images.resolve(record.id[7:19]).id == record.id


@pytest.mark.parametrize("form", ["app", "app:latest", "library/app", "docker.io/app:latest"])
def test_familiar_forms(paths: Paths, images: ImageStore, form: str) -> None:
    images.put(build(paths), "app")
    assert images.resolve(form).references == ["docker.io/library/app:latest"]


def test_ids(paths: Paths, images: ImageStore) -> None:
    one = images.put(build(paths, "one"), "app:1")
    images.put(build(paths, "two"), "app:2")
    for form in (one.id, one.id[7:], one.id[7:19], one.id[:20]):
        assert images.resolve(form).id == one.id
    with pytest.raises(ImageNotFoundError, match=r"^no such image: 0123456789ab$"):
        images.resolve("0123456789ab")


def test_a_tag_that_looks_like_an_id_wins(paths: Paths, images: ImageStore) -> None:
    one = images.put(build(paths, "one"), "app:1")
    two = images.put(build(paths, "two"), one.id[7:15])
    assert images.resolve(one.id[7:15]).id == two.id
    assert images.resolve(one.id[:15]).id == one.id


def test_ambiguous_prefix(paths: Paths, images: ImageStore) -> None:
    made = [images.put(build(paths, str(n)), f"app:{n}").id for n in range(17)]
    firsts = [image_id[7] for image_id in made]
    twice = next(char for char in firsts if firsts.count(char) > 1)
    with pytest.raises(UsageError, match="multiple IDs found with provided prefix"):
        images.resolve(f"sha256:{twice}")


def test_by_digest(paths: Paths, images: ImageStore) -> None:
    descriptor = build(paths)
    digest = descriptor["digest"]
    record = images.put(descriptor, f"app@{digest}")
    assert record.references == []
    assert record.repo_digests == [f"docker.io/library/app@{digest}"]
    assert images.resolve(f"app@{digest}").id == record.id
    assert images.resolve(f"app:ignored@{digest}").id == record.id
    with pytest.raises(ImageNotFoundError):
        images.resolve(f"other@{digest}")


@pytest.mark.parametrize("text", ["App", "", "a:b:c", "app@sha256:12"])
def test_bad_references(images: ImageStore, text: str) -> None:
    with pytest.raises(ReferenceError_, match="invalid reference format"):
        images.resolve(text)


def test_name_moves_to_the_new_image(paths: Paths, images: ImageStore) -> None:
    old = images.put(build(paths, "old"), "app:1")
    new = images.put(build(paths, "new"), "app:1")
    assert images.resolve("app:1").id == new.id
    assert images.resolve(old.id).references == []
    assert {record.id for record in images.list()} == {old.id, new.id}
    images.put(build(paths, "old"), "app:1")
    assert images.resolve("app:1").id == old.id
    assert len(images.list()) == 2


def test_put_twice_is_one_entry(paths: Paths, images: ImageStore) -> None:
    descriptor = build(paths)
    for _ in range(2):
        images.put(descriptor)
        images.put(descriptor, "app:1")
        images.put(descriptor, "app:1", f"docker.io/library/app@{descriptor['digest']}")
    with open(f"{paths.images}/index.json", encoding="ascii") as file:
        assert len(json.load(file)["manifests"]) == 1


def test_tag(paths: Paths, images: ImageStore) -> None:
    record = images.put(build(paths), "app:1")
    images.tag("app:1", "localhost:5000/team/app")
    images.tag(record.id[7:19], "app:2")
    images.tag("app:1", "app:1")
    assert images.resolve("app:2").references == [
        "docker.io/library/app:1",
        "docker.io/library/app:2",
        "localhost:5000/team/app:latest",
    ]
    with pytest.raises(UsageError, match="digest reference"):
        images.tag("app:1", "app@sha256:" + "0" * 64)
    with pytest.raises(ImageNotFoundError):
        images.tag("nothing", "app:3")


def test_remove_one_of_two_tags(paths: Paths, images: ImageStore) -> None:
    record = images.put(build(paths), "app:1")
    images.tag("app:1", "app:2")
    using = {record.id: [(USER, True)]}
    assert images.remove("app:2", users=using) == (["app:2"], [])
    assert images.resolve("app:1").references == ["docker.io/library/app:1"]


def test_remove_last_tag(paths: Paths, images: ImageStore) -> None:
    descriptor = build(paths)
    digest = f"docker.io/library/app@{descriptor['digest']}"
    record = images.put(descriptor, "app:1", digest)
    untagged, deleted = images.remove("app:1")
    assert untagged == ["app:1", f"app@{descriptor['digest']}"]
    assert deleted == [record.id]
    assert images.list() == []
    with pytest.raises(ImageNotFoundError):
        images.remove("app:1")


def test_last_tag_of_a_repository_takes_its_digests(paths: Paths, images: ImageStore) -> None:
    descriptor = build(paths)
    images.put(descriptor, "app:1", f"docker.io/library/app@{descriptor['digest']}")
    images.tag("app:1", "other:1")
    untagged, deleted = images.remove("app:1")
    assert untagged == ["app:1", f"app@{descriptor['digest']}"]
    assert deleted == []
    assert images.resolve("other:1").repo_digests == []


def test_digest_stays_with_the_other_tag(paths: Paths, images: ImageStore) -> None:
    descriptor = build(paths)
    full = f"docker.io/library/app@{descriptor['digest']}"
    images.put(descriptor, "app:1", full)
    images.tag("app:1", "app:2")
    assert images.remove("app:1") == (["app:1"], [])
    assert images.resolve("app:2").repo_digests == [full]


def test_remove_by_id(paths: Paths, images: ImageStore) -> None:
    record = images.put(build(paths), "app:1")
    assert images.remove(record.id[7:19]) == (["app:1"], [record.id])


def test_remove_by_id_with_two_repositories(paths: Paths, images: ImageStore) -> None:
    record = images.put(build(paths), "app:1")
    images.tag("app:1", "other:1")
    short = record.id[7:19]
    with pytest.raises(ConflictError) as caught:
        images.remove(short)
    assert caught.value.message == (
        f"conflict: unable to delete {short} (must be forced) - "
        "image is referenced in multiple repositories"
    )
    assert images.remove(short, force=True) == (["app:1", "other:1"], [record.id])


@pytest.mark.parametrize("runs", [True, False])
def test_remove_what_is_used(paths: Paths, images: ImageStore, runs: bool) -> None:
    record = images.put(build(paths), "app:1")
    short = record.id[7:19]
    users = {record.id: [(USER, runs)]}
    with pytest.raises(ConflictError) as caught:
        images.remove("app:1", users=users)
    assert caught.value.message == (
        'conflict: unable to remove repository reference "app:1" (must force) - '
        f"container {USER[:12]} is using its referenced image {short}"
    )
    with pytest.raises(ConflictError) as caught:
        images.remove(short, users=users)
    how, kind = ("cannot be forced", "running") if runs else ("must be forced", "stopped")
    assert caught.value.message == (
        f"conflict: unable to delete {short} ({how}) - "
        f"image is being used by {kind} container {USER[:12]}"
    )
    assert images.resolve("app:1").references == ["docker.io/library/app:1"]


def test_forced_removal_keeps_what_a_container_needs(paths: Paths, images: ImageStore) -> None:
    record = images.put(build(paths), "app:1")
    users = {record.id: [(USER, False)]}
    assert images.remove("app:1", force=True, users=users) == (["app:1"], [record.id])
    assert images.list() == []
    with pytest.raises(ImageNotFoundError):
        images.resolve(record.id[7:19])
    assert gc.collect(paths, {record.id}, record.diff_ids).blobs == []
    assert images.resolve(record.id).layers == record.layers
    assert len(gc.collect(paths, (), ()).blobs) == 3
    assert images.list(removed=True) == []


def test_collect_frees_only_what_nothing_needs(paths: Paths, images: ImageStore) -> None:
    shared = images.put(build(paths, "same", author="a"), "app:1")
    images.put(build(paths, "same", author="b"), "app:2")
    images.remove("app:2")
    gone = gc.collect(paths, (), ())
    assert len(gone.blobs) == 2
    assert gone.freed > 0
    assert images.resolve("app:1").config["author"] == "a"
    assert BlobStore(paths).has(shared.layers[0]["digest"])


def test_collect_leaves_a_pull_alone(paths: Paths) -> None:
    blobs = BlobStore(paths)
    lease = blobs.lease()
    assert lease is not None
    digest, _ = blobs.ingest(b"just pulled")
    assert gc.collect(paths, (), ()).blobs == []
    os.close(lease)
    assert gc.collect(paths, (), ()).blobs == [digest]


def test_collect_sweeps_nothing_on_half_knowledge(paths: Paths, images: ImageStore) -> None:
    descriptor = build(paths)
    images.put(descriptor, "app:1")
    with open(BlobStore(paths).path(descriptor["digest"]), "wb"):
        pass
    assert gc.collect(paths, (), ()).blobs == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b"{", "cannot read image config"),
        (b"[]", "it is not a JSON object"),
        (b'{"rootfs":{"diff_ids":[]}}', "1 layers and 0 diff IDs"),
    ],
)
def test_bad_config(paths: Paths, images: ImageStore, config: bytes, message: str) -> None:
    blobs = BlobStore(paths)
    layer, size = blobs.ingest(b"x")
    digest, config_size = blobs.ingest(config)
    manifest = {
        "config": {"digest": digest, "size": config_size},
        "layers": [{"digest": layer, "size": size}],
    }
    top, size = blobs.ingest(json.dumps(manifest).encode())
    record = images.put({"mediaType": MANIFEST, "digest": top, "size": size}, "app:1")
    with pytest.raises(ImageError, match=message):
        assert record.diff_ids


@pytest.mark.parametrize("manifest", [b"{}", b"[]", b'{"config":{"digest":"x"},"layers":[1]}'])
def test_bad_manifest(paths: Paths, images: ImageStore, manifest: bytes) -> None:
    digest, size = BlobStore(paths).ingest(manifest)
    with pytest.raises(ImageError, match="cannot read image manifest"):
        images.put({"mediaType": MANIFEST, "digest": digest, "size": size}, "app:1")
    assert images.list() == []


def test_changed_config_is_found(paths: Paths, images: ImageStore) -> None:
    record = images.put(build(paths), "app:1")
    with open(BlobStore(paths).path(record.id), "ab") as file:
        file.write(b" ")
    with pytest.raises(DigestMismatchError):
        assert images.resolve("app:1").config


def test_damaged_index_is_named(paths: Paths, images: ImageStore) -> None:
    os.makedirs(paths.images)
    with open(f"{paths.images}/index.json", "w", encoding="ascii") as file:
        file.write('{"manifests":[{}]}')
    with pytest.raises(StorageError, match=r"cannot read .*index\.json"):
        images.resolve("app:1")
