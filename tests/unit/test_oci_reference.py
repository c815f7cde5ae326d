"""References: the distribution grammar, both spellings, and what is refused."""

from __future__ import annotations

import re
from typing import Optional

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rootless.errors import ReferenceError_
from rootless.oci import reference

DIGEST = "sha256:" + "0123456789abcdef" * 4

# The grammar of the distribution project's documentation, as its productions stand there.
ALNUM = r"[a-z0-9]+"
SEPARATOR = r"(?:[._]|__|[-]+)"
COMPONENT = rf"{ALNUM}(?:{SEPARATOR}{ALNUM})*"
DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
DOMAIN = rf"(?:{DOMAIN_PART}(?:\.{DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
DIGEST_RE = r"(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})"
REFERENCE = re.compile(
    rf"(?P<name>.+?)(?::(?P<tag>{TAG}))?(?:@(?P<digest>{DIGEST_RE}))?\Z", re.DOTALL
)
NAMES = rf"(?:{DOMAIN}/)?{COMPONENT}(?:/{COMPONENT})*"


def model(text: str) -> Optional[tuple[str, str, str, str]]:
    """(domain, path, tag, digest) by the grammar and Docker's rule for what is a domain; None if refused."""
    match = REFERENCE.match(text)
    if match is None or re.fullmatch("[0-9a-f]{64}", text):
        return None
    first, slash, rest = match["name"].partition("/")
    if slash and (re.search("[.:A-Z]", first) or first == "localhost"):
        domain, path = first, rest
    else:
        domain, path = "docker.io", match["name"]
    if domain == "docker.io" and "/" not in path:
        path = "library/" + path
    good = re.fullmatch(DOMAIN, domain) and re.fullmatch(rf"{COMPONENT}(?:/{COMPONENT})*", path)
    if not good or len(f"{domain}/{path}") > 255:
        return None
    return domain, path, match["tag"] or "", match["digest"] or ""


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("debian", "docker.io/library/debian:latest", "debian"),
        ("debian:12", "docker.io/library/debian:12", "debian:12"),
        ("docker.io/debian", "docker.io/library/debian:latest", "debian"),
        ("index.docker.io/library/debian", "docker.io/library/debian:latest", "debian"),
        ("library/debian:12", "docker.io/library/debian:12", "debian:12"),
        ("grafana/grafana", "docker.io/grafana/grafana:latest", "grafana/grafana"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b"),
        ("quay.io/a/b/c:v1", "quay.io/a/b/c:v1", "quay.io/a/b/c:v1"),
        ("localhost/x", "localhost/x:latest", "localhost/x"),
        ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x"),
        ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
        ("Upper/x", "Upper/x:latest", "Upper/x"),
        ("[::1]:5000/x:t", "[::1]:5000/x:t", "[::1]:5000/x:t"),
        (f"debian@{DIGEST}", f"docker.io/library/debian@{DIGEST}", f"debian@{DIGEST}"),
        (f"h.io/a:t@{DIGEST}", f"h.io/a:t@{DIGEST}", f"h.io/a:t@{DIGEST}"),
        ("a_b__c-d---e.f", "docker.io/library/a_b__c-d---e.f:latest", "a_b__c-d---e.f"),
        ("x:" + "T" * 128, "docker.io/library/x:" + "T" * 128, "x:" + "T" * 128),
    ],
)
def test_both_spellings(text: str, full: str, familiar: str) -> None:
    ref = reference.parse(text)
    assert (ref.full(), ref.familiar()) == (full, familiar)
    assert reference.parse(ref.full()).full() == full
    assert ref.with_default_tag().full() == full


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "@", "/", "a b", "-a", "a-", "a..b", "a___b", "a._b", "a/", "/a", "a//b", "a:", "a:-t", "a:.t",
        "x:" + "T" * 129, "a@", "a@sha256:abc", "a@md5:" + "0" * 32, f"a@{DIGEST.upper()}", f"a@{DIGEST}x",
        "host:port/a", "host:/a", "-h.io/a", "h-.io/a", "h..io/a", "[::1/a", "[]:1/a", "[xyz]/a", "é", "a\n",
        "h.io:\u0661/a", "https://h.io/a", "a:b:c", "a\0",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(ReferenceError_) as caught:
        reference.parse(text)
    assert caught.value.message == f"invalid reference format: {text!r}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Foo", "invalid reference format: repository name (library/Foo) must be lowercase"),
        ("h.io/Foo:x", "invalid reference format: repository name (Foo) must be lowercase"),
        (
            "ab" * 32,
            f"invalid reference format: cannot specify 64-byte hexadecimal strings ({'ab' * 32})",
        ),
        (
            "a/" * 130 + "a",
            "invalid reference format: repository name must not be more than 255 characters",
        ),
    ],
)
def test_refused_with_a_reason(text: str, message: str) -> None:
    with pytest.raises(ReferenceError_) as caught:
        reference.parse(text)
    assert caught.value.message == message


@given(
    st.text(alphabet="aB0._-:/@[]", max_size=24)
    | st.from_regex(rf"{NAMES}(?::{TAG})?(?:@{DIGEST_RE})?\Z", fullmatch=True)
)
@example("a__b/c")
@example("0_0.0/0")
@example("[0]/0")
@settings(max_examples=400, deadline=None, database=None)
def test_the_parser_does_what_the_grammar_says(text: str) -> None:
    wanted = model(text)
    try:
        ref = reference.parse(text)
    except ReferenceError_:
        assert wanted is None
        return
    assert (ref.domain, ref.path, ref.tag, ref.digest) == wanted
    assert reference.parse(ref.familiar()) == ref


def test_the_default_tag() -> None:
    assert reference.parse("a").with_default_tag() == reference.parse("a:latest")
    digested = reference.parse(f"a@{DIGEST}")
    assert digested.with_default_tag() is digested
    assert len({reference.parse("a"), reference.parse("docker.io/library/a")}) == 1
