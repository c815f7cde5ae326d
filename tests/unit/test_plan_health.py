"""Health checks as they are asked for and as the monitor is told."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.cli import commands, healthflags, parse
from rootless.errors import UsageError
from rootless.plan import health
from rootless.plan.request import RunRequest

S = health.SECOND


def asked(*words: str) -> RunRequest:
    request = RunRequest()
    command = commands.find("run")
    assert command is not None
    healthflags.fill(request, parse.parse(command, [*words, "image"], "run"))
    return request


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("--health-cmd~curl -f x || exit 1", {"Test": ["CMD-SHELL", "curl -f x || exit 1"]}),
        ('--health-cmd~["curl", "-f"]', {"Test": ["CMD", "curl", "-f"]}),
        ('--health-cmd~["CMD-SHELL", "a b"]', {"Test": ["CMD-SHELL", "a b"]}),
        ("--health-cmd~[ -e /x ]", {"Test": ["CMD-SHELL", "[ -e /x ]"]}),
        ("--health-cmd~none", {"Test": ["NONE"]}),
        ("--no-healthcheck", {"Test": ["NONE"]}),
        (
            "--health-interval~1m~--health-timeout~1.5s~--health-retries~2~--health-start-period~3s"
            "~--health-start-interval~500ms",
            {
                "Interval": 60 * S,
                "Timeout": 3 * S // 2,
                "Retries": 2,
                "StartPeriod": 3 * S,
                "StartInterval": S // 2,
            },
        ),
    ],
)
def test_flags(words: str, found: dict[str, Any]) -> None:
    assert asked(*words.split("~")).health == found


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--no-healthcheck~--health-cmd~x", "--no-healthcheck conflicts with --health-* options"),
        ("--health-interval~-1s", "--health-interval cannot be negative"),
        ("--health-timeout~-1s", "--health-timeout cannot be negative"),
        ("--health-start-period~-1s", "--health-start-period cannot be negative"),
        ("--health-start-interval~-1s", "--health-start-interval cannot be negative"),
        ("--health-retries~-1", "--health-retries cannot be negative"),
        ("--health-interval~10us", "Interval in Healthcheck cannot be less than 1ms"),
        ("--health-start-interval~1ns", "StartInterval in Healthcheck cannot be less than 1ms"),
        ("--health-on-failure~explode", "invalid value 'explode' for --health-on-failure"),
    ],
)
def test_flags_that_cannot_be(words: str, text: str) -> None:
    with pytest.raises(UsageError, match=text.replace("*", ".")):
        asked(*words.split("~"))


def test_what_is_not_asked_is_the_images() -> None:
    image = {"Test": ["CMD", "old"], "Interval": 7 * S, "Retries": 9}
    assert health.merged({}, image) == image
    merged = health.merged({"Test": ["CMD-SHELL", "new"], "Interval": 0, "Retries": 1}, image)
    assert merged == {"Test": ["CMD-SHELL", "new"], "Interval": 7 * S, "Retries": 1}
    assert health.command(health.merged({"Test": ["NONE"]}, image)) == []


@pytest.mark.parametrize(
    ("test", "shell", "words"),
    [
        (["CMD", "a", "b c"], [], ["a", "b c"]),
        (["CMD-SHELL", "a b"], [], ["/bin/sh", "-c", "a b"]),
        (["CMD-SHELL", "a b"], ["/bin/bash", "-ec"], ["/bin/bash", "-ec", "a b"]),
        (["NONE"], [], []),
        ([], [], []),
    ],
)
def test_command(test: list[str], shell: list[str], words: list[str]) -> None:
    assert health.command({"Test": test}, shell) == words


@pytest.mark.parametrize(
    "found",
    [
        {"Test": "CMD true"},
        {"Test": ["CMD", 1]},
        {"Test": ["EXEC", "true"]},
        {"Test": ["CMD"]},
        {"Test": ["CMD-SHELL", ""]},
        {"Interval": "1s"},
        {"Interval": 5},
        {"Retries": -1},
        {"Timeout": [1]},
    ],
)
def test_an_images_check_that_cannot_be(found: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        health.check(found)


def test_timing_has_dockers_defaults() -> None:
    assert health.timing({}) == {
        "interval": 30000,
        "timeout": 30000,
        "start-period": 0,
        "start-interval": 5000,
        "retries": 3,
    }
    assert health.timeout_text({}) == "30s"
    assert health.timing({"Timeout": S // 1000, "Retries": 1})["timeout"] == 1


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1500, "1.5µs"),
        (100 * health.MILLISECOND, "100ms"),
        (S, "1s"),
        (3 * S // 2, "1.5s"),
        (90 * S, "1m30s"),
        (60 * S, "1m0s"),
        (3600 * S, "1h0m0s"),
        (3661 * S + S // 1000, "1h1m1.001s"),
        (-S, "-1s"),
    ],
)
def test_durations_as_go_prints_them(nanoseconds: int, text: str) -> None:
    assert health.go_duration(nanoseconds) == text
