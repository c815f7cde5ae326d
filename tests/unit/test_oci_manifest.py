"""Manifests, indexes and configs: what passes, and what hostile JSON meets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.errors import ImageError
from rootless.oci import descriptor, digest, manifest, media_types

D1 = "sha256:" + "1" * 64
D2 = "sha256:" + "2" * 64


def part(value: str = D1, kind: str = media_types.OCI_LAYER_GZIP) -> dict[str, Any]:
    return {"mediaType": kind, "digest": value, "size": 7}


def image(**changes: Any) -> dict[str, Any]:
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": part(D2, media_types.OCI_CONFIG),
        "layers": [part()],
    }
    return {k: v for k, v in {**document, **changes}.items() if v is not None}


def parse(document: Any, media_type: str = "") -> tuple[str, dict[str, Any]]:
    return manifest.parse(json.dumps(document).encode(), "x:1", media_type)


@pytest.mark.parametrize("kind", media_types.MANIFESTS)
def test_the_media_type_is_the_documents_else_the_transports(kind: str) -> None:
    assert parse(image(mediaType=kind))[0] == kind
    assert parse(image(mediaType=None), kind + "; charset=utf-8")[0] == kind
    assert parse(image(mediaType=kind), "application/json")[0] == kind


def test_without_any_media_type_the_shape_tells() -> None:
    assert parse(image(mediaType=None))[0] == media_types.OCI_MANIFEST
    assert parse({"schemaVersion": 2, "manifests": []})[0] == media_types.OCI_INDEX


@pytest.mark.parametrize(
    ("document", "media_type", "reason"),
    [
        ([], "", "not a JSON object"),
        ("x", "", "not a JSON object"),
        ({}, "", "schemaVersion is not 2"),
        (image(schemaVersion=1), "", "schema 1"),
        (image(mediaType=None), media_types.DOCKER_SCHEMA1[1], "schema 1"),
        (image(manifests=[]), "", "both an index and a manifest"),
        (image(), media_types.OCI_INDEX, "calls itself"),
        (image(mediaType=media_types.OCI_INDEX), "", "not what its media type"),
        (
            {"schemaVersion": 2, "manifests": []},
            media_types.OCI_MANIFEST,
            "not what its media type",
        ),
        (image(mediaType="text/html"), "", "'text/html' is not an image's"),
        (image(mediaType=7), "", "not text"),
        (image(config=None), "", "no descriptor"),
        (image(config=[]), "", "no descriptor"),
        (image(layers=None), "", "no list of layers"),
        (image(layers={}), "", "no list of layers"),
        (image(layers=[part()] * 513), "", "513 layers are more than 512"),
        (image(layers=[{**part(), "size": -1}]), "", "'-1' is not a size"),
        (image(layers=[{**part(), "size": True}]), "", "'True' is not a size"),
        (image(layers=[{**part(), "size": "7"}]), "", "'7' is not a size"),
        (image(layers=[{**part(), "size": 1 << 60}]), "", "is not a size"),
        (image(layers=[part("sha256:../../etc/passwd")]), "", "is not a digest"),
        (image(layers=[part("md5:" + "0" * 32)]), "", "is not a digest"),
        (image(layers=[{**part(), "digest": None}]), "", "is not a digest"),
    ],
)
def test_refused(document: Any, media_type: str, reason: str) -> None:
    with pytest.raises(ImageError, match="x:1") as caught:
        parse(document, media_type)
    assert reason in caught.value.message


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": 1} x', b"nul"])
def test_what_is_not_json(data: bytes) -> None:
    with pytest.raises(ImageError, match="cannot read manifest of x:1: it is not JSON"):
        manifest.parse(data, "x:1")


def test_the_size_limit() -> None:
    with pytest.raises(ImageError, match="too many"):
        manifest.parse(b" " * (manifest.MAX_SIZE + 1), "x:1")


def test_artifacts_and_layers_that_cannot_be_had() -> None:
    manifest.check_image(image(), "x:1")
    for changes, reason in (
        ({"config": part(D2, "application/vnd.cncf.helm.config.v1+json")}, "an artifact"),
        ({"layers": [part(kind="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")]},
         "may not be distributed"),
        ({"layers": [part(kind="application/vnd.oci.image.layer.nondistributable.v1.tar")]},
         "may not be distributed"),
        ({"layers": [part(kind="application/x-squashfs")]}, "unknown media type"),
    ):  # fmt: skip
        with pytest.raises(ImageError, match=reason):
            manifest.check_image(image(**changes), "x:1")


@pytest.mark.parametrize(
    ("config", "layers", "reason"),
    [
        ({}, 1, "no list of diff IDs"),
        ({"rootfs": []}, 1, "no list of diff IDs"),
        ({"rootfs": {"diff_ids": "x"}}, 1, "no list of diff IDs"),
        ({"rootfs": {"diff_ids": [D1]}}, 2, "1 diff IDs for 2 layers"),
        ({"rootfs": {"diff_ids": ["sha256:x"]}}, 1, "is not a digest"),
        ({"rootfs": {"diff_ids": [7]}}, 1, "is not a digest"),
        ([], 0, "not a JSON object"),
    ],
)
def test_configs_that_do_not_fit(config: Any, layers: int, reason: str) -> None:
    with pytest.raises(ImageError, match="config of x:1") as caught:
        manifest.check_config(json.dumps(config).encode(), layers, "x:1")
    assert reason in caught.value.message


def test_configs_that_fit() -> None:
    assert manifest.diff_ids(manifest.check_config(b"{}", 0, "x:1")) == []
    data = json.dumps({"rootfs": {"type": "layers", "diff_ids": [D1, D1]}}).encode()
    assert manifest.diff_ids(manifest.check_config(data, 2, "x:1")) == [D1, D1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(D1),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["digest", "size", "mediaType", "platform", "annotations"]), inner
        )
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["config", "layers", "manifests", "mediaType", "rootfs"]), JSON
    ).map(lambda document: {"schemaVersion": 2, **document})
)
@settings(max_examples=300, deadline=None, database=None)
def test_any_json_gives_a_value_or_one_sentence(document: dict[str, Any]) -> None:
    data = json.dumps(document).encode()
    for check in (
        lambda: manifest.check_image(manifest.parse(data, "x:1")[1], "x:1"),
        lambda: manifest.check_config(data, 1, "x:1"),
    ):
        try:
            check()
        except ImageError as error:
            assert "\n" not in error.message
        except KeyError as error:  # check_image is for manifests; an index has no config
            assert error.args == ("config",)
            assert "manifests" in document


def test_digests_and_descriptors() -> None:
    assert digest.is_valid("sha512:" + "a" * 128)
    assert not digest.is_valid("sha256:" + "A" * 64)
    assert not digest.is_valid("sha256:" + "a" * 63 + "\n")
    assert digest.short(D1) == "1" * 12
    made = descriptor.make(media_types.OCI_LAYER, D1, 3)
    assert descriptor.check(made, "x") is made
