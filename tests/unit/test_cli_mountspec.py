"""The grammar of -v and --mount: what each form means, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.cli import mountspec
from rootless.errors import UsageError


def volume(text: str) -> dict[str, Any]:
    return mountspec.volume_flag(text, "/cwd", "/home/me")


def mount(text: str) -> dict[str, Any]:
    return mountspec.mount_flag(text, "/cwd")


@pytest.mark.parametrize(
    ("text", "kind", "source", "destination"),
    [
        ("/data", "volume", "", "/data"),
        ("name:/data", "volume", "name", "/data"),
        ("/src:/dst", "bind", "/src", "/dst"),
        ("./src:/dst", "bind", "/cwd/src", "/dst"),
        ("../src:/dst/", "bind", "/src", "/dst"),
        ("~/src:/dst", "bind", "/home/me/src", "/dst"),
    ],
)
def test_sources_of_v(text: str, kind: str, source: str, destination: str) -> None:
    found = volume(text)
    assert (found["type"], found["source"], found["destination"]) == (kind, source, destination)
    assert found["origin"] == "v"
    assert found["create_source"] == (kind == "bind")


def test_options_of_v() -> None:
    found = volume("name:/x:ro,nocopy,z")
    assert found["readonly"]
    assert found["flags"] == ["nocopy", "z"]
    found = volume("/a:/b:O,rslave,nosuid")
    assert found["flags"] == ["O"]
    assert (found["propagation"], found["options"]) == ("rslave", ["nosuid"])
    assert not found["create_source"], "there is nothing to lay changes over"
    assert volume("name:/x:U")["flags"] == ["U"]


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", ":/x", "a:", "a:b", "a:/x:ro:rw", "/", "a:/", "a:/x:wrong"),
        *("/a:/x:nocopy", "a:/x:rshared", "a:/x:U,O", "a::ro"),
    ],
)
def test_what_v_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="invalid volume specification"):
        volume(text)


def test_types_of_mount() -> None:
    found = mount("src=data,dst=/x,volume-nocopy,volume-subpath=a/./b,volume-opt=type=tmpfs")
    assert (found["type"], found["source"], found["origin"]) == ("volume", "data", "mount")
    assert found["flags"] == ["nocopy", "volume-subpath=a/b", "volume-opt=type=tmpfs"]
    found = mount('type=volume,target=/x,"volume-opt=o=size=1m,mode=700",volume-label=a=b')
    assert found["flags"] == ["volume-opt=o=size=1m,mode=700", "volume-label=a=b"]
    found = mount("type=bind,src=rel,dst=/x,bind-recursive=readonly,ro,bind-create-src,U")
    assert (found["source"], found["recursive"], found["readonly"]) == (
        "/cwd/rel",
        "readonly",
        True,
    )
    assert (found["create_source"], found["flags"]) == (True, ["U"])
    found = mount("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1777")
    assert found["options"] == ["size=1048576", "mode=1777"]
    found = mount("type=image,src=busybox,dst=/i,image-subpath=etc")
    assert found["readonly"]
    assert found["flags"] == ["image-subpath=etc"]
    assert mount("dst=/x,relabel=private,volume-nocopy=false")["flags"] == ["Z"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("type=nfs,dst=/x", "unknown mount type 'nfs'"),
        ("type=bind,dst=/x", "source is required"),
        ("type=image,dst=/x", "source is required"),
        ("type=volume,src=a", "target is required"),
        ("type=tmpfs,src=a,dst=/x", "tmpfs takes no source"),
        ("type=volume,dst=x", "mount path must be absolute"),
        ("type=volume,dst=/x,bogus=1", "unexpected key 'bogus'"),
        ("type=volume,dst=/x,bogus", "must be a key=value pair"),
        ("type=volume,dst=/x,bind-propagation=shared", "cannot mix 'bind-"),
        ("type=bind,src=/a,dst=/x,volume-nocopy", "cannot mix 'volume-"),
        ("type=bind,src=/a,dst=/x,tmpfs-size=1", "cannot mix 'tmpfs-"),
        ("type=volume,dst=/x,image-subpath=a", "cannot mix 'image-"),
        ("type=bind,src=/a,dst=/x,bind-recursive=readonly", "requires 'readonly'"),
        (
            "type=bind,src=/a,dst=/x,ro,bind-recursive=readonly,bind-propagation=shared",
            "requires 'bind-propagation=rprivate'",
        ),
        ("type=volume,src=a,dst=/x,volume-subpath=/etc", "must be a relative path"),
        ("type=volume,src=a,dst=/x,volume-subpath=a/../../b", "must be a relative path"),
        ("type=volume,src=a,dst=/x,volume-subpath=", "must be a relative path"),
        ("type=image,src=a,dst=/x,readonly=false", "an image is mounted readonly"),
        ("type=volume,dst=/x,volume-opt==", "has no value"),
        ("type=tmpfs,dst=/x,tmpfs-mode=8", "invalid tmpfs-mode"),
        ('type=volume,"dst=/x', "a quote is not closed"),
    ],
)
def test_what_mount_refuses(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        mount(text)
    assert reason in caught.value.message
