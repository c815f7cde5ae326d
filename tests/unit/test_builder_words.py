"""Expansion in a Dockerfile: quotes, the escape character, every operator of ${...}."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.builder import words

ENV = {"a": "value", "e": "", "p": "/one/two/three.tar.gz", "s": "x y", "star": "a*b"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$a", "value"),
        ("${a}", "value"),
        ("$a$a", "valuevalue"),
        ("$ax", ""),
        ("${a}x", "valuex"),
        ("$", "$"),
        ("a$", "a$"),
        ("$.", "$."),
        (r"\$a", "$a"),
        ("'$a'", "$a"),
        ('"$a"', "value"),
        (r'"\$a"', "$a"),
        (r'"\x"', r"\x"),
        (r"\x", "x"),
        ("a'b'\"c\"d", "abcd"),
        ("$nope", ""),
        ("${nope:-d}", "d"),
        ("${nope-d}", "d"),
        ("${e:-d}", "d"),
        ("${e-d}", ""),
        ("${a:-d}", "value"),
        ("${a:+alt}", "alt"),
        ("${a+alt}", "alt"),
        ("${e:+alt}", ""),
        ("${e+alt}", "alt"),
        ("${nope:+alt}", ""),
        ("${nope:-${a}}", "value"),
        ("${nope:-'q r'}", "q r"),
        ("${a:?no}", "value"),
        ("${p#*/}", "one/two/three.tar.gz"),
        ("${p##*/}", "three.tar.gz"),
        ("${p%.*}", "/one/two/three.tar"),
        ("${p%%.*}", "/one/two/three"),
        ("${p#nothing}", "/one/two/three.tar.gz"),
        ("${p%?}", "/one/two/three.tar.g"),
        ("${a/l/L}", "vaLue"),
        ("${p//t/T}", "/one/Two/Three.Tar.gz"),
        ("${p/o*e/X}", "/X.tar.gz"),
        (r"${star#a\*}", "b"),
        ("${a/value/x\\y}", "x\\y"),
    ],
)
def test_a_word_is_expanded(text: str, expected: str) -> None:
    assert words.process_word(text, ENV) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${a", "missing '}'"),
        ("${", "missing '}'"),
        ("${}", "bad substitution"),
        ("${:x}", "bad substitution"),
        ("${a^}", "unsupported modifier (^) in substitution"),
        ("${a:#x}", "unsupported modifier (:#) in substitution"),
        ("'a", "matching single-quote"),
        ('"a', "matching double-quote"),
        ("${nope?gone}", "nope: gone"),
        ("${nope?}", "nope: is not allowed to be unset"),
        ("${e:?}", "e: is not allowed to be empty"),
    ],
)
def test_a_bad_word_is_told(text: str, message: str) -> None:
    with pytest.raises(words.WordError) as caught:
        words.process_word(text, ENV)
    assert message in caught.value.message
    assert 0 <= caught.value.offset <= len(text)


def test_words_are_parted_by_blanks_outside_of_quotes() -> None:
    assert words.process_words('a "b c" $s \'$s\' d"e f"', ENV) == [
        "a",
        "b c",
        "x",
        "y",
        "$s",
        "de f",
    ]
    assert words.split("a 'b c' \"d\" $e", "\\") == ["a", "'b c'", '"d"', "$e"]


def test_names_without_a_value_are_collected() -> None:
    unset: set[str] = set()
    words.process_word("$a $b ${c:-x} ${d:+x} ${f}", ENV, unset=unset)
    assert unset == {"b", "f"}


def test_heredoc_bodies_keep_their_quotes() -> None:
    assert words.process_word('it\'s "$a" \\$a', ENV, quotes=False) == 'it\'s "value" $a'


def test_the_escape_character_may_be_another() -> None:
    assert words.process_word("C:\\x `$a", ENV, escape="`") == "C:\\x $a"


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab${}:-+?#%/'\"\\ *", max_size=40))
def test_no_word_breaks_the_expander(text: str) -> None:
    try:
        out = words.process_word(text, ENV)
    except words.WordError as error:
        assert 0 <= error.offset <= len(text)
        return
    if not set(text) & set("$'\"\\"):
        assert out == text


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="xyz./", max_size=12), st.text(alphabet="xyz./", max_size=4))
def test_prefix_and_suffix_are_what_they_say(value: str, affix: str) -> None:
    env = {"v": value}
    assert words.process_word(f"${{v#{affix}}}", env) == value.removeprefix(affix)
    assert words.process_word(f"${{v%{affix}}}", env) == value.removesuffix(affix)
