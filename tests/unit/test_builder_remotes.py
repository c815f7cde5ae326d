"""Words for what lies elsewhere: what is git's, what is HTTP's, and what git must never be told."""

from __future__ import annotations

import pytest

from rootless.builder import remotes
from rootless.builder.remotes import Names, git, named, plain_name
from rootless.engine.buildgit import without_secret
from rootless.engine.buildhttp import http_time
from rootless.errors import UsageError


@pytest.mark.parametrize(
    ("text", "remote", "ref", "subdir"),
    [
        ("https://h/x.git", "https://h/x.git", "", ""),
        ("https://h/x.git#main", "https://h/x.git", "main", ""),
        ("https://h/x.git#v1:a/b", "https://h/x.git", "v1", "a/b"),
        ("https://h/x.git#:../../a", "https://h/x.git", "", "a"),
        ("http://u:p@h:80/x.git", "http://u:p@h:80/x.git", "", ""),
        ("git@h:x/y.git#main", "git@h:x/y.git", "main", ""),
        ("git@h:x/y", "git@h:x/y", "", ""),
        ("ssh://git@h:22/x/y", "ssh://git@h:22/x/y", "", ""),
        ("git://h/x", "git://h/x", "", ""),
        ("github.com/a/b", "", "", ""),
        ("https://h/x.git?branch=b&subdir=d", "https://h/x.git", "refs/heads/b", "d"),
        ("https://h/x.git?ref=r#other:s", "https://h/x.git", "other", "s"),
        ("ssh://[::1]:22/x", "ssh://[::1]:22/x", "", ""),
    ],
)
def test_repositories(text: str, remote: str, ref: str, subdir: str) -> None:
    found = git(text)
    if not remote:
        assert found is None  # no ".git": what it would be of HTTP
        return
    assert found is not None
    assert (found.remote, found.ref, found.subdir) == (remote, ref, subdir)


@pytest.mark.parametrize(
    "text",
    [
        "https://h/x.tar.gz",
        "dir",
        "./x.git",
        "/abs/x.git",
        "a:b",
        "file:///x.git",
        "ext::sh -c x",
        "x@y",
        "",
    ],
)
def test_what_is_no_repository(text: str) -> None:
    assert git(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *("ssh://-oProxyCommand=x/y", "https://h/x.git#--upload-pack=x", "https://h/x.git#a..b"),
        *("https://h/x.git#a b", "https://h/x.git#a:b#c\n", "git://h/a\nb", "https://h/x.git#@{u}"),
        *("https://h/x.git?tag=a&branch=b", "https://h/x.git?ref=a&ref=b", "https://h/x.git?x=1"),
        *("https://h/x.git?submodules=maybe", "https://h/x.git?checksum=zz", "https:///x.git"),
        *("https://h/x.git#refs/../x", "https://h/x.git#a.lock/", "https://h h/x.git"),
    ],
)
def test_what_git_is_never_told(text: str) -> None:
    try:
        found = git(text)
    except UsageError:
        return
    assert found is not None
    assert not found.remote.startswith("-")
    assert "\n" not in found.remote + found.ref
    assert text == "https://h/x.git#a:b#c\n"  # a directory's name may hold anything


def test_a_path_is_the_users_to_name() -> None:
    assert git("file:///x.git") is None
    found = git("file:///x#main:d", local=True)
    assert found is not None
    assert (found.remote, found.local, found.ref, found.subdir) == ("file:///x", True, "main", "d")


def test_queries() -> None:
    found = git("https://h/x.git?commit=abcdef1&keep-git-dir=1&submodules=0")
    assert found is not None
    assert (found.checksum, found.keep_git_dir, found.submodules) == ("abcdef1", True, False)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h/a/b.tgz?x=/y#z", "b.tgz"),
        ("http://h", "__unnamed__"),
        ("http://h/a/", "__unnamed__"),
        ("http://h/a%20b", "a b"),
        ("http://h/..", "__unnamed__"),
        ("http://h/a%2f..", "__unnamed__"),
        ("http://h/%2e%2e%2fx", "x"),
        ("http://h/x%00", "__unnamed__"),
    ],
)
def test_file_names(url: str, name: str) -> None:
    assert remotes.file_name(url) == name
    assert "/" not in name


def test_named_contexts() -> None:
    kinds = {
        "a=dir": ("directory", "dir"),
        "a=docker-image://b:1": ("image", "b:1"),
        "a=oci-layout:///p:1": ("layout", "/p:1"),
        "a=target:x": ("stage", "x"),
        "a=https://h/x.tar": ("url", "https://h/x.tar"),
        "a=https://h/x.git#m": ("git", "https://h/x.git#m"),
    }
    for text, (kind, value) in kinds.items():
        found = named(text)
        assert (found.name, found.kind, found.value) == ("a", kind, value)
    for text in ("a", "=b", "a=", "a=ftp://x", "a=target:"):
        with pytest.raises(UsageError):
            named(text)
    assert plain_name("docker.io/library/debian:latest") == "debian"
    assert "debian:latest" in Names(frozenset({"debian"}))
    assert "debian:12" not in Names(frozenset({"debian"}))


def test_passwords_are_not_shown() -> None:
    assert remotes.without_password("https://u:p@h/x") == "https://u:xxxxx@h/x"
    for text, clean in (
        ("https://u:p@h/x.git", "https://h/x.git"),
        ("ssh://git@h/x", "ssh://git@h/x"),
        ("git@h:x", "git@h:x"),
    ):
        found = git(text)
        assert found is not None
        assert without_secret(found) == clean


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1445412480),
        ("", 0),
        ("yesterday", 0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", 0),
        ("Thu, 01 Jan 1960 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", (1 << 36) - 1),
    ],
)
def test_times_of_http(text: str, seconds: int) -> None:
    found = http_time(text)
    assert found == seconds or (text.startswith("Wed, 99") and found >= 0)
