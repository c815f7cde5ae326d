"""Platforms: spellings, and which entry of an index runs where."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from rootless.errors import UsageError
from rootless.oci import platform


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("amd64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("Linux/ARM/V7", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("armv7l", "linux/arm/v7"),
        ("armhf", "linux/arm/v7"),
        ("armel", "linux/arm/v6"),
        ("i686", "linux/386"),
        ("linux", "linux/arm64"),
        ("windows/amd64", "windows/amd64"),
        ("linux/riscv64", "linux/riscv64"),
    ],
)
def test_spellings(text: str, normal: str) -> None:
    assert str(platform.parse(text, "aarch64")) == normal


@pytest.mark.parametrize("text", ["", "/", "linux/", "linux//v7", "a/b/c/d", "linux/am d64", "*"])
def test_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid platform"):
        platform.parse(text)


def entries(*names: str) -> list[dict[str, Any]]:
    keys = ("os", "architecture", "variant")
    found: list[dict[str, Any]] = [
        {"digest": name, "platform": dict(zip(keys, name.split("/")))} for name in names
    ]
    return [*found, {"digest": "none"}, {"digest": "odd", "platform": "linux"}]


@pytest.mark.parametrize(
    ("wanted", "listed", "chosen"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["linux/amd64/v2", "linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["linux/amd64/v3"], None),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], "linux/amd64/v2"),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], "linux/arm/v6"),
        ("linux/arm/v7", ["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("linux/arm64", ["linux/arm64/v8", "linux/arm/v7"], "linux/arm64/v8"),
        ("linux/arm64", ["linux/arm64/v9"], None),
        ("linux/amd64", ["windows/amd64", "unknown/unknown"], None),
        ("linux/s390x", ["linux/s390x"], "linux/s390x"),
    ],
)
def test_choice(wanted: str, listed: list[str], chosen: Optional[str]) -> None:
    found = platform.choose(platform.parse(wanted), entries(*listed))
    assert (found and found["digest"]) == chosen


def test_of_equals_the_first_listed_wins() -> None:
    first, second = (
        {"digest": n, "platform": {"os": "linux", "architecture": "386"}} for n in "ab"
    )
    assert platform.choose(platform.parse("386"), [first, second]) is first
