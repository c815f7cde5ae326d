"""The Dockerfile front end: lines, flags, heredocs, typed instructions, and where errors point."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.builder import instructions as ins
from rootless.builder import parser
from rootless.builder.lexer import lex
from rootless.builder.source import Source
from rootless.errors import DockerfileError


def only(text: str) -> ins.Instruction:
    """The one instruction after FROM."""
    (found,) = parser.parse(f"FROM scratch\n{text}").stages[0].instructions
    return found


def fails(text: str, message: str) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        parser.parse(text)
    assert message in str(caught.value)
    return caught.value


def test_comments_and_blank_lines_vanish_inside_a_continuation() -> None:
    run = only("RUN a \\\n  # gone\n\n  && b \\\n    && c\n")
    assert isinstance(run, ins.Run)
    assert run.words == ["a   && b     && c"]
    assert run.line.empty == [4]
    assert (run.position.line, run.line.last) == (2, 6)


def test_two_escape_characters_at_the_end_continue_nothing() -> None:
    file = parser.parse("FROM scratch\nRUN a \\\\\nRUN b\n")
    assert [one.words for one in file.stages[0].instructions] == [["a \\\\"], ["b"]]  # type: ignore[attr-defined]


def test_the_escape_directive_is_obeyed_at_the_top_only() -> None:
    file = parser.parse("# escape=`\nFROM scratch\nRUN a `\n b\n")
    assert file.escape == "`"
    assert file.stages[0].instructions[0].words == ["a  b"]  # type: ignore[attr-defined]
    assert parser.parse("FROM scratch\n# escape=`\nRUN a\n").escape == "\\"
    assert parser.parse("# a comment\n# escape=`\nFROM scratch\n").escape == "\\"
    fails("# escape=x\nFROM scratch", "invalid escape token 'x'")
    fails("# escape=`\n# escape=`\nFROM scratch", "only one escape parser directive")


def test_directives_are_known_by_name() -> None:
    file = parser.parse("# Syntax=docker/dockerfile:1\n# check = skip=all;error=true\nFROM scratch")
    assert file.lexed.directives == {
        "syntax": ("docker/dockerfile:1", 1),
        "check": ("skip=all;error=true", 2),
    }


def test_a_heredoc_belongs_to_its_line() -> None:
    run = only("RUN <<EOF cat > /x\na $b\nEOF\n")
    assert isinstance(run, ins.Run)
    assert [(one.name, one.content, one.expand) for one in run.files] == [("EOF", "a $b\n", True)]


def test_several_heredocs_follow_each_other() -> None:
    copy = only('COPY <<a <<-"b" /d/\n1\na\n\t2\n\tb\n')
    assert isinstance(copy, ins.Copy)
    assert [(one.name, one.text, one.expand) for one in copy.inline] == [
        ("a", "1\n", True),
        ("b", "2\n", False),
    ]
    assert (copy.sources, copy.dest) == ([], "/d/")
    fails("FROM scratch\nRUN <<E\nx\n", "unterminated heredoc")


def test_less_than_signs_elsewhere_are_no_heredoc() -> None:
    assert only("RUN cat<<EOF").files == []  # type: ignore[attr-defined]
    assert only("ENV a=<<EOF").pairs[0][1] == "<<EOF"  # type: ignore[attr-defined]
    assert only("RUN echo $((1 << 3))").files == []  # type: ignore[attr-defined]


def test_flags_stand_before_the_first_argument_only() -> None:
    run = only("RUN --network=none --mount=type=cache,target=/c cmd --mount=x")
    assert isinstance(run, ins.Run)
    assert (run.network, run.words) == ("none", ["cmd --mount=x"])
    assert [(one.kind, one.fields) for one in run.mounts] == [("cache", {"target": "/c"})]


@pytest.mark.parametrize(
    ("text", "words", "shell"),
    [
        ('CMD ["a", "b c"]', ["a", "b c"], False),
        ("CMD [a, b]", ["[a, b]"], True),
        ("CMD a  b", ["a  b"], True),
        ("CMD", [], True),
        ('ENTRYPOINT ["a"]', ["a"], False),
    ],
)
def test_json_and_shell_forms(text: str, words: list[str], shell: bool) -> None:
    found = only(text)
    assert isinstance(found, ins.Words)
    assert (found.words, found.shell) == (words, shell)


def test_healthcheck() -> None:
    found = only("HEALTHCHECK --interval=1m30s --retries=2 CMD curl -f http://x")
    assert isinstance(found, ins.Healthcheck)
    assert (found.words, found.shell) == (["curl -f http://x"], True)
    assert found.options == {"Interval": 90_000_000_000, "Retries": 2}
    assert only("HEALTHCHECK NONE").words == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("RUNN x", "unknown instruction: RUNN (did you mean RUN?)", (2, 1)),
        ("WORKDR /x", "unknown instruction: WORKDR (did you mean WORKDIR?)", (2, 1)),
        ("COPY --form=x a b", "unknown flag: --form (did you mean --from?)", (2, 6)),
        ("COPY --chown=a --chown=b a b", "duplicate flag specified: chown", (2, 16)),
        ("COPY --link=perhaps a b", "expecting boolean value for flag link", (2, 6)),
        ("COPY a", "COPY requires at least two arguments", (2, 6)),
        ("RUN --mount=type=bnd,target=/x y", "unsupported mount type 'bnd'", (2, 5)),
        ("RUN --mount=type=cache y", "a mount of type cache needs a target", (2, 5)),
        ("RUN --mount=type=tmpfs,target=/x,sise=1 y", "unexpected key 'sise'", (2, 5)),
        ("RUN --network=foo y", "network 'foo' is not supported", (2, 5)),
        ("CMD [1]", "arrays must be comprised of strings only", (2, 5)),
        ("SHELL sh -c", "SHELL requires the arguments to be in JSON form", (2, 7)),
        ("ENV a", "ENV must have two arguments", (2, 5)),
        ("ENV a=b c", "can't find = in 'c'", (2, 9)),
        ("LABEL", "LABEL requires at least one argument", (2, 1)),
        ("HEALTHCHECK FOO", "unknown type 'FOO' in HEALTHCHECK", (2, 13)),
        ("HEALTHCHECK --interval=1x CMD a", "invalid duration '1x'", (2, 13)),
        ("ONBUILD ONBUILD RUN x", "chaining ONBUILD", (2, 9)),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger", (2, 9)),
        ("ONBUILD RUNN x", "unknown instruction: RUNN", (2, 9)),
        ("FROM a as 1x", "invalid name for build stage: '1x'", (2, 11)),
        ("FROM a b", "FROM requires either one or three arguments", (2, 6)),
        ("VOLUME []", "VOLUME requires at least one argument", (2, 8)),
    ],
)
def test_errors_point_at_what_is_wrong(text: str, message: str, place: tuple[int, int]) -> None:
    error = fails(f"FROM scratch\n{text}\n", message)
    assert str(error).startswith(f"dockerfile parse error on line {place[0]}: ")
    lines = error.detail.splitlines()
    assert lines[0] == f"Dockerfile:{place[0]}:{place[1]}"
    (at,) = [number for number, line in enumerate(lines) if ">>>" in line]
    assert lines[at + 1].index("^") == len("   2 | >>> ") - 1 + place[1]


def test_an_error_in_a_continuation_names_its_own_line() -> None:
    error = fails(
        "FROM scratch\nCOPY --chown=a \\\n  # c\n  --chwn=b a b\n", "unknown flag: --chwn"
    )
    assert error.detail.startswith("Dockerfile:4:3\n")


def test_a_file_begins_with_from_or_arg() -> None:
    fails("", "file with no instructions")
    fails("# nothing\n", "file with no instructions")
    fails("RUN x\nFROM y\n", "no build stage in current context")
    assert parser.parse("ARG a=1\nFROM x").args[0].args == [("a", "1", 4)]


def test_line_ends_and_a_byte_order_mark_do_not_matter() -> None:
    file = parser.parse("\ufeffFROM scratch\r\nRUN a \\\r\n b\r\n")
    assert file.stages[0].instructions[0].words == ["a  b"]  # type: ignore[attr-defined]


WORDS = st.text(
    alphabet=st.sampled_from(list("abFROMRUNCOPYENV \t\\\n#<-EO\"'`$={}[],:/*\x00é\r")),
    max_size=200,
)


@settings(max_examples=400, deadline=None)
@given(WORDS)
def test_no_text_breaks_the_parser(text: str) -> None:
    """Bounded fuzzing: an answer or a DockerfileError that shows a line, and nothing else."""
    for whole in (
        text,
        f"FROM a\n{text}",
        f"FROM a\nRUN {text}",
        f"FROM a\nCOPY {text}",
        f"FROM a\nENV {text}",
    ):
        try:
            file = parser.parse(whole)
        except DockerfileError as error:
            assert error.detail
            continue
        for stage in file.stages:
            for one in stage.instructions:
                assert 1 <= one.position.line <= len(file.source.lines)
                assert one.line.last <= len(file.source.lines)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet="abc  x=", min_size=1, max_size=12), min_size=1, max_size=6))
def test_every_character_knows_where_it_stands(parts: list[str]) -> None:
    text = " \\\n".join(f"k{part}k" for part in parts)
    source = Source(f"RUN {text}")
    (line,) = lex(source).lines
    for offset, char in enumerate(line.text):
        place = line.position(offset)
        assert source.lines[place.line - 1][place.column - 1] == char
