"""Ignore patterns and wildcards, against the rules that Docker documents."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.builder.patterns import Matcher, glob, read_ignore


def test_an_ignore_file_is_read_line_by_line() -> None:
    text = "# comment\n  */temp*  \n\n/abs/\n!/kept\n ! spaced \n #no-comment\n./dot/../x\n"
    assert read_ignore(text) == ["*/temp*", "abs", "!kept", "!spaced", "#no-comment", "x"]


@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        (["*.md"], "a.md", True),
        (["*.md"], "d/a.md", False),
        (["**/*.md"], "a.md", True),
        (["**/*.md"], "d/e/a.md", True),
        (["d"], "d/e/f", True),
        (["d/**"], "d/e", True),
        (["d/**"], "d", False),
        (["*/temp*"], "a/temporary", True),
        (["*/*/temp*"], "a/temporary", False),
        (["temp?"], "tempa", True),
        (["temp?"], "temp", False),
        (["[a-c]x"], "bx", True),
        (["[^a-c]x"], "bx", False),
        (["a.b"], "axb", False),
        (["*", "!keep"], "keep", False),
        (["*", "!keep"], "other", True),
        (["*.md", "!README*.md", "README-secret.md"], "README-secret.md", True),
        (["*.md", "!README*.md", "README-secret.md"], "README.md", False),
        (["d", "!d/e"], "d/e", False),
        (["d", "!d/e"], "d/f", True),
        (["**"], "anything/at/all", True),
        (["a/**/z"], "a/z", True),
        (["a/**/z"], "a/b/c/z", True),
        (["\\*x"], "*x", True),
    ],
)
def test_the_last_pattern_that_matches_decides(
    patterns: list[str], path: str, ignored: bool
) -> None:
    assert Matcher(patterns).matches(path) is ignored


def test_a_left_out_directory_is_entered_where_something_in_it_may_be_wanted() -> None:
    assert Matcher(["d", "!d/e/f"]).may_include_below("d")
    assert Matcher(["d", "!d/e/f"]).may_include_below("d/e")
    assert not Matcher(["d", "!x/e"]).may_include_below("d")
    assert Matcher(["d", "!**/f"]).may_include_below("d")


@pytest.mark.parametrize("bad", ["[a", "x\\", "!"])
def test_a_bad_pattern_is_refused(bad: str) -> None:
    with pytest.raises(ValueError):
        Matcher([bad])


def test_a_wildcard_stays_within_its_component() -> None:
    assert glob("a*.txt").match("ab.txt")
    assert not glob("a*").match("b")
    assert not glob("*").match("a/b")


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab*?", min_size=1, max_size=8), st.text(alphabet="ab", max_size=8))
def test_wildcards_agree_with_the_standard_library(pattern: str, name: str) -> None:
    assert bool(glob(pattern).match(name)) == fnmatch.fnmatchcase(name, pattern)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(alphabet="ab/*?!", min_size=1, max_size=8), max_size=5),
    st.text(alphabet="ab/", min_size=1, max_size=8),
)
def test_skipping_whole_directories_loses_nothing(patterns: list[str], path: str) -> None:
    """What is not ignored is reached, though ignored directories that hold nothing wanted are not entered."""
    path = "/".join(part for part in path.split("/") if part) or "a"
    try:
        matcher = Matcher(patterns)
    except ValueError:
        return
    if matcher.matches(path):
        return
    parts = path.split("/")
    for count in range(1, len(parts)):
        parent = "/".join(parts[:count])
        assert not matcher.matches(parent) or matcher.may_include_below(parent)
