"""What is said of images: the flags, SLSA provenance, in-toto statements, and lists of packages."""

from __future__ import annotations

import base64

import pytest

from rootless.builder import attest, sbom
from rootless.errors import UsageError


def test_flags() -> None:
    assert not attest.parse([], "", "")
    assert attest.parse([], "true", "").provenance == "min"
    assert attest.parse([], "mode=max", "true").provenance == "max"
    found = attest.parse(["type=provenance,mode=max", "type=sbom,generator=scan:1"], "", "")
    assert (found.provenance, found.sbom, found.generator) == ("max", True, "scan:1")
    assert not attest.parse(["type=provenance", "type=sbom"], "false", "disabled=true")
    for words in (
        (["type=vibes"], "", ""),
        (["mode=max"], "", ""),
        ([], "mode=all", ""),
        ([], "", "mode=max"),
        ([], "version=v0.2", ""),
    ):
        with pytest.raises(UsageError):
            attest.parse(*words)


def facts() -> attest.Facts:
    return attest.Facts(
        path="Dockerfile",
        source="FROM a",
        target="t",
        build_args={"TOKEN": "hidden"},
        secrets=["s"],
        platform="linux/amd64",
        started="A",
        finished="B",
        materials={"host:5000/team/a:1": ("sha256:aa", "linux/arm64")},
    )


def test_provenance_of_mode_min_leaves_out_what_was_passed_in() -> None:
    small = attest.provenance(facts(), "min")
    assert "hidden" not in str(small)
    definition = small["buildDefinition"]
    assert definition["externalParameters"]["request"]["args"] == {"target": "t"}
    assert definition["resolvedDependencies"] == [
        {"uri": "pkg:docker/host:5000/team/a@1?platform=linux%2Farm64", "digest": {"sha256": "aa"}}
    ]
    metadata = small["runDetails"]["metadata"]
    assert (metadata["startedOn"], metadata["finishedOn"]) == ("A", "B")
    large = attest.provenance(facts(), "max")
    request = large["buildDefinition"]["externalParameters"]["request"]
    assert request["args"]["build-arg:TOKEN"] == "hidden"
    assert request["secrets"] == [{"id": "s"}]
    (info,) = large["runDetails"]["metadata"]["buildkit_metadata"]["source"]["infos"]
    assert base64.b64decode(info["data"]) == b"FROM a"


def test_a_statement_names_its_subject() -> None:
    found = attest.statement("kind", {"x": 1}, [], "sha256:ab")
    assert found["subject"] == [{"name": "_", "digest": {"sha256": "ab"}}]
    assert (found["_type"], found["predicateType"]) == (attest.STATEMENT, "kind")


DPKG = b"""Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u4
Description: something
 Package: not this

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""


def test_packages_are_read_from_what_managers_write() -> None:
    for name in ("var/lib/dpkg/status", "lib/apk/db/installed", "var/lib/dpkg/status.d/tzdata"):
        assert sbom.wants(name)
    assert sbom.wants("usr/lib/python3/dist-packages/six-1.16.dist-info/METADATA")
    for name in ("METADATA", "etc/passwd", "var/lib/dpkg/status.d/x.md5sums", "a/METADATA"):
        assert not sbom.wants(name)
    (deb,) = sbom.packages("var/lib/dpkg/status", DPKG)
    assert deb.key == ("deb", "libc6", "2.36-9+deb12u4", "amd64")
    apk = sbom.packages("lib/apk/db/installed", b"C:x\nP:musl\nV:1.2-r1\nA:x86_64\n\nP:broken\n\n")
    assert [one.key for one in apk] == [("apk", "musl", "1.2-r1", "x86_64")]
    body = b"Metadata-Version: 2.1\nName: Typing_Extensions\nVersion: 4.1\n\nVersion: 9\n"
    (pip,) = sbom.packages("x/typing_extensions-4.1.dist-info/METADATA", body)
    listed = [pip, deb, deb, *apk]
    found = sbom.document(listed, "image", sbom.distribution(b'ID="debian"\n'), "T", "tool")
    places = [one["externalRefs"][0]["referenceLocator"] for one in found["packages"]]
    assert places == [
        "pkg:apk/debian/musl@1.2-r1?arch=x86_64",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64",
        "pkg:pypi/typing-extensions@4.1",
    ]
    assert len({one["SPDXID"] for one in found["packages"]}) == 3
    assert found == sbom.document(reversed(listed), "image", "debian", "T", "tool")


def test_hostile_files_are_passed_over() -> None:
    for data in (b"", b"\xff\xfe\0", b"Package\nVersion", b":\n" * 1000, b"Package: a\n"):
        assert sbom.packages("var/lib/dpkg/status", data) == []
