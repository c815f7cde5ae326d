"""Every documented build check: one file that earns the remark, with its line, and one that does not."""

from __future__ import annotations

import pytest

from rootless.builder import checks, parser

GOOD = """# syntax=docker/dockerfile:1
ARG BASE=a
FROM $BASE AS build
WORKDIR /src
ARG VERSION=1
ENV A=$VERSION
COPY kept /x
EXPOSE 80/tcp
CMD ["x"]
"""
CASES = [
    ("StageNameCasing", "FROM a AS Build", 1, "Stage name 'Build' should be lowercase"),
    ("FromAsCasing", "FROM a as b", 1, "'as' and 'FROM' keywords' casing do not match"),
    ("NoEmptyContinuation", "FROM a\nRUN x \\\n\n  y", 4, "Empty continuation line"),
    ("ConsistentInstructionCasing", "FROM a\nRUN x\nrun y", 3, "majority (uppercase)"),
    ("DuplicateStageName", "FROM a AS b\nFROM a AS b", 2, "Duplicate stage name 'b'"),
    ("ReservedStageName", "FROM a AS scratch", 1, "reserved stage 'scratch'"),
    ("JSONArgsRecommended", "FROM a\nENTRYPOINT x", 2, "JSON arguments recommended for ENTRYPOINT"),
    ("MaintainerDeprecated", "FROM a\nMAINTAINER me", 2, "in favor of using label"),
    (
        "UndefinedArgInFrom",
        "ARG base=a\nFROM $bse",
        2,
        "'bse' is not declared (did you mean base?)",
    ),
    ("WorkdirRelativePath", "FROM a\nWORKDIR x", 2, "Relative workdir 'x'"),
    ("UndefinedVar", "FROM a\nARG version\nENV a=$verson", 3, "'$verson' (did you mean $version?)"),
    (
        "MultipleInstructionsDisallowed",
        'FROM a\nCMD ["x"]\nCMD ["y"]',
        2,
        "Multiple CMD instructions",
    ),
    ("LegacyKeyValueFormat", "FROM a\nENV a b", 2, '"ENV key=value" should be used'),
    ("RedundantTargetPlatform", "FROM --platform=$TARGETPLATFORM a", 1, "is redundant"),
    ("SecretsUsedInArgOrEnv", "FROM a\nARG API_TOKEN", 2, '(ARG "API_TOKEN")'),
    (
        "InvalidDefaultArgInFrom",
        "ARG t\nFROM a:$t",
        2,
        "results in empty or invalid base image name",
    ),
    ("FromPlatformFlagConstDisallowed", "FROM --platform=linux/amd64 a", 1, '"linux/amd64"'),
    ("CopyIgnoredFile", "FROM a\nCOPY secret /x", 2, "'secret' that is excluded by .dockerignore"),
    ("ExposeProtoCasing", "FROM a\nEXPOSE 80/TCP", 2, "'TCP' in EXPOSE"),
    ("ExposeInvalidFormat", "FROM a\nEXPOSE 127.0.0.1:80:80", 2, "found '127.0.0.1:80:80'"),
]


def remarks(text: str, **args: str) -> list[tuple[str, int, str]]:
    file = parser.parse(text)
    file.ignored = ["secret"]
    return [(one.rule, one.position.line, one.message) for one in checks.check(file, args)]


@pytest.mark.parametrize(("rule", "text", "line", "message"), CASES)
def test_a_check_has_its_say(rule: str, text: str, line: int, message: str) -> None:
    found = [one for one in remarks(text) if one[0] == rule]
    assert found, remarks(text)
    assert found[0][1] == line
    assert message in found[0][2]
    assert rule not in {one[0] for one in remarks(f"# check=skip={rule}\n{text}")}


def test_every_check_is_tried() -> None:
    tried = {rule for rule, *_ in CASES} | {"InvalidDefinitionDescription"}
    assert tried == set(checks.RULES)


def test_a_good_file_earns_nothing() -> None:
    assert remarks(GOOD) == []


def test_descriptions_are_looked_at_where_that_was_asked_for() -> None:
    text = "# about it\nFROM a AS b\n"
    assert remarks(text) == []
    wanted = f"# check=experimental=InvalidDefinitionDescription\n{text}"
    assert [one[0] for one in remarks(wanted)] == ["InvalidDefinitionDescription"]
    assert remarks(wanted.replace("about it", "b is it")) == []


def test_settings_come_from_the_file_or_a_build_argument() -> None:
    text = "# check=skip=all;error=true\nFROM a AS B\n"
    assert remarks(text) == []
    assert checks.settings(parser.parse(text)).error
    found = remarks(text, BUILDKIT_DOCKERFILE_CHECK="skip=FromAsCasing")
    assert [one[0] for one in found] == ["StageNameCasing"]
