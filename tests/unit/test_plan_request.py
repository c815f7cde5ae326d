"""Requests, image configs and placements as values: what a container's record keeps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rootless.errors import ImageError, StorageError
from rootless.plan.image import ImageConfig
from rootless.plan.request import ExecRequest, MountRequest, Placement, RunRequest


def full_request() -> RunRequest:
    """Every field at something other than its default."""
    request = RunRequest()
    other: dict[type, Any] = {str: "x", bool: True, int: 7, list: ["x"], dict: {"k": "v"}}
    for name in RunRequest.__slots__:
        value = getattr(request, name)
        setattr(request, name, 7 if value is None else other[type(value)])
    request.entrypoint = ["/bin/sh"]
    request.mounts = [MountRequest("tmpfs", destination="/t", readonly=True, options=["size=1"])]
    request.devices = [("/dev/a", "/dev/b", "rwm")]
    request.ulimits = [("nofile", 1, -1)]
    return request


def test_request_survives_json() -> None:
    request = full_request()
    again = RunRequest.from_dict(json.loads(json.dumps(request.to_dict())))
    assert again.to_dict() == request.to_dict()
    assert again.mounts[0].to_dict() == request.mounts[0].to_dict()
    assert again.devices == [("/dev/a", "/dev/b", "rwm")]
    assert again.ulimits == [("nofile", 1, -1)]


def test_missing_keys_take_their_defaults() -> None:
    assert RunRequest.from_dict({}).to_dict() == RunRequest().to_dict()
    assert MountRequest.from_dict({"destination": "/x"}).recursive == "enabled"


@pytest.mark.parametrize("data", [{"colour": "red"}, {"mounts": [{"colour": "red"}]}])
def test_unknown_keys_are_refused(data: dict[str, Any]) -> None:
    with pytest.raises(StorageError, match="unknown key 'colour'"):
        RunRequest.from_dict(data)


def test_two_requests_share_nothing() -> None:
    first, second = RunRequest(), RunRequest()
    first.env.append("A=1")
    first.labels["a"] = "b"
    assert second.env == [] and second.labels == {}
    assert Placement().joined is not Placement().joined
    assert ExecRequest(args=["x"]).args == ["x"] and ExecRequest().args == []


CONFIG = {
    "os": "linux",
    "architecture": "arm64",
    "variant": "v8",
    "config": {
        "Env": ["A=1"],
        "Entrypoint": ["/e"],
        "Cmd": None,
        "User": "app",
        "WorkingDir": "/w",
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/v": {}},
        "Labels": {"l": "1"},
        "StopSignal": "SIGQUIT",
        "Healthcheck": {"Test": ["CMD", "true"]},
        "Shell": ["/bin/sh", "-c"],
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:aa"]},
    "history": [],
}


def test_image_config() -> None:
    image = ImageConfig.from_dict(CONFIG)
    assert (image.env, image.entrypoint, image.cmd, image.user) == (["A=1"], ["/e"], [], "app")
    assert (image.os, image.architecture, image.variant) == ("linux", "arm64", "v8")
    assert image.diff_ids == ["sha256:aa"] and image.stop_signal == "SIGQUIT"
    again = ImageConfig.from_dict(json.loads(json.dumps(image.to_dict())))
    assert again.to_dict() == image.to_dict()


def test_empty_image_config() -> None:
    for data in ({}, {"config": None, "rootfs": None}):
        assert ImageConfig.from_dict(data).to_dict() == ImageConfig().to_dict()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "not a JSON object"),
        ({"config": []}, "config is"),
        ({"config": {"Env": "A=1"}}, "Env is 'A=1', not a list"),
        ({"config": {"Cmd": ["sh", 7]}}, "Cmd holds something that is not a string"),
        ({"config": {"User": 0}}, "User is 0"),
        ({"rootfs": {"diff_ids": [None]}}, "diff_ids holds"),
    ],
)
def test_malformed_image_config(data: Any, words: str) -> None:
    with pytest.raises(ImageError, match="cannot read image config") as caught:
        ImageConfig.from_dict(data)
    assert words in caught.value.message
