"""Values of --output: BuildKit's forms, its short ones, and what is refused."""

from __future__ import annotations

import pytest

from rootless.builder import outputs
from rootless.errors import UsageError


def test_without_any_the_image_goes_into_the_store() -> None:
    (only,) = outputs.parse_all([])
    assert (only.kind, only.store, only.push) == ("image", True, False)


def test_short_forms() -> None:
    assert [(o.kind, o.dest) for o in outputs.parse_all(["out/dir", "-"])] == [
        ("local", "out/dir"),
        ("tar", "-"),
    ]


def test_registry_is_an_image_that_is_pushed_and_not_kept() -> None:
    found = outputs.parse("type=registry,name=host/a:1")
    assert (found.kind, found.push, found.store, found.names) == (
        "image",
        True,
        False,
        ["host/a:1"],
    )


def test_names_in_quotes_hold_commas() -> None:
    found = outputs.parse('type=image,"name=host/a:1,host/b:2",push=true')
    assert found.names == ["host/a:1", "host/b:2"]
    assert found.push


def test_compression_and_annotations() -> None:
    found = outputs.parse(
        "type=oci,dest=x.tar,compression=zstd,compression-level=7,force-compression=1,"
        "annotation.a.b=1,annotation-index.c=2,annotation-manifest-descriptor[linux/amd64].d=3"
    )
    assert (found.compression.kind, found.compression.level) == ("zstd", 7)
    assert found.compression.forced
    assert found.annotations == {
        "manifest": {"a.b": "1"},
        "index": {"c": "2"},
        "manifest-descriptor": {"d": "3"},
    }


def test_docker_without_a_destination_is_loaded() -> None:
    found = outputs.parse("type=docker")
    assert (found.kind, found.store) == ("image", True)
    assert outputs.parse("type=docker,dest=-").kind == "docker"
    assert outputs.parse("type=oci").dest == "-"


def test_load_and_push_add_to_what_is_asked_for() -> None:
    pushed = outputs.parse_all([], push=True)
    assert [(o.push, o.store) for o in pushed] == [(True, False)]
    both = outputs.parse_all([], push=True, load=True)
    assert [(o.push, o.store) for o in both] == [(True, True)]
    more = outputs.parse_all(["out"], load=True)
    assert [(o.kind, o.store) for o in more] == [("local", False), ("image", True)]
    assert [o.push for o in outputs.parse_all(["type=image"], push=True)] == [True]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("dest=x", "type is required"),
        ("type=zip,dest=x", "none of"),
        ("type=local", "dest is required"),
        ("type=local,dest=-", "dest is required"),
        ("type=oci,tar=false", "must be a directory"),
        ("type=image,dest=x", "no key 'dest'"),
        ("type=local,dest=x,push=true", "no key 'push'"),
        ("type=image,push=perhaps", "true or false"),
        ("type=image,compression=rar", "gzip, zstd, uncompressed"),
        ("type=image,compression-level=11", "0 to 9"),
        ("type=image,compression=uncompressed,compression-level=1", "no levels"),
        ("type=image,compression=zstd,oci-mediatypes=false", "zstd"),
        ("type=image,annotation.x=1,oci-mediatypes=false", "annotations"),
        ("type=image,annotation-nothing.x=1", "no annotation"),
        ("type=image,name", "KEY=VALUE"),
        ('type=image,"name=a', "quote"),
        ("type=local,dest=x,mode=merge", "copy or delete"),
    ],
)
def test_what_is_refused_says_why(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        outputs.parse(text)


def test_stdout_is_one() -> None:
    with pytest.raises(UsageError, match="several outputs to stdout"):
        outputs.parse_all(["-", "type=oci"])


def test_annotations_of_the_command_line() -> None:
    assert outputs.annotation("a=b=c") == [("manifest", "a", "b=c")]
    assert outputs.annotation("index,manifest-descriptor:k=v") == [
        ("index", "k", "v"),
        ("manifest-descriptor", "k", "v"),
    ]
    for text in ("a", "nothing:a=b", "index:=b"):
        with pytest.raises(UsageError):
            outputs.annotation(text)
