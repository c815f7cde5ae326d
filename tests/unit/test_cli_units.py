"""Sizes, durations, times, tables and filters in Docker's words."""

from __future__ import annotations

import datetime
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.cli import filters, suggest, table, units
from rootless.errors import UsageError


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1234567, "1.23MB"),
        (116_500_000, "116MB"),
        (2.5e12, "2.5TB"),
    ],
)
def test_sizes(size: float, text: str) -> None:
    assert units.human_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3540, "59 minutes"),
        (3600, "About an hour"),
        (5399, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (13 * 86400, "13 days"),
        (14 * 86400, "2 weeks"),
        (59 * 86400, "8 weeks"),
        (60 * 86400, "2 months"),
        (729 * 86400, "24 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert units.human_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1h30m", 5400 * 10**9),
        ("-1.5s", -1_500_000_000),
        ("0", 0),
        ("10ms5us3ns", 10_005_003),
        (".5m", 30 * 10**9),
        ("1µs", 1000),
        ("", None),
        ("5", None),
        ("s", None),
        ("1.2.3s", None),
        ("1d", None),
        ("9999999h", None),
    ],
)
def test_go_durations(text: str, nanoseconds: int | None) -> None:
    assert units.parse_duration(text) == nanoseconds


@given(st.datetimes(datetime.datetime(1970, 1, 2), datetime.datetime(2200, 1, 1)))
def test_times_read_back(when: datetime.datetime) -> None:
    stamp = when.replace(tzinfo=datetime.timezone.utc)
    nanos = (
        int(
            (stamp - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc))
            / datetime.timedelta(microseconds=1)
        )
        * 1000
    )
    text = units.format_time(nanos)
    assert units.parse_time(text) == nanos
    assert text.startswith(when.strftime("%Y-%m-%dT%H:%M:%S"))
    assert units.parse_time(when.isoformat() + "+02:00") == nanos - 7200 * units.SECOND


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "2026",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "２026-01-01T00:00:00Z",
    ],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):
        units.parse_time(text)


def test_fixed_times_sort_as_they_pass() -> None:
    assert units.fixed_time("2026-01-01T00:00:00Z") == "2026-01-01T00:00:00.000000000Z"
    assert units.fixed_time("2026-01-01T00:00:00.12Z") == "2026-01-01T00:00:00.120000000Z"
    assert units.format_time(0) == "0001-01-01T00:00:00Z"


def test_since_takes_times_durations_and_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-3")  # three hours east, as POSIX writes it
    time.tzset()
    now = 1_800_000_000 * units.SECOND
    day = 1_767_225_600  # 2026-01-01T00:00:00Z
    try:
        for text, wanted in (
            ("10m", now - 600 * units.SECOND),
            ("1767225600", day * units.SECOND),
            ("1767225600.5", day * units.SECOND + 500_000_000),
            ("2026-01-01T00:00:00Z", day * units.SECOND),
            ("2026-01-01T00:00:00.25Z", day * units.SECOND + 250_000_000),
            ("2026-01-01T01:00:00+01:00", day * units.SECOND),
            ("2026-01-01T03:00:00", day * units.SECOND),
            ("2026-01-01T03:00", day * units.SECOND),
            ("2026-01-01T03", day * units.SECOND),
            ("2026-01-01", (day - 3 * 3600) * units.SECOND),
        ):
            assert units.parse_since("since", text, now) == wanted, text
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    for text in ("yesterday", "2026-99-99", "1.x", "--"):
        with pytest.raises(UsageError, match="failed to parse value as time or duration"):
            units.parse_since("since", text, now)


def test_columns_are_at_least_ten_wide_and_three_apart() -> None:
    text = table.align("A\tLONGER HEADER\tC\nvalue one long\tx\ty\n")
    assert text == "A                LONGER HEADER   C\nvalue one long   x               y\n"


def test_columns_end_where_a_line_has_no_more_cells() -> None:
    text = table.align("a\tbbbbbbbbbbbb\tc\nplain\na\tb\tc")
    assert text == "a         bbbbbbbbbbbb   c\nplain\na         b         c"


def test_same_name_is_or_and_different_names_are_and() -> None:
    wanted = filters.Filters(["status=a", "status=b", "label=x", "label=y"], ("status", "label"))
    tests: dict[str, filters.Match] = {
        "status": lambda row, value: row["status"] == value,
        "label": lambda row, value: value in row["labels"],
    }
    assert wanted.match({"status": "b", "labels": "xy"}, tests)
    assert not wanted.match({"status": "c", "labels": "xy"}, tests)
    assert not wanted.match({"status": "a", "labels": "x"}, tests)


def test_unknown_filters_are_refused() -> None:
    with pytest.raises(UsageError, match="invalid filter 'nope'") as caught:
        filters.Filters(["nope=1"], ("status",))
    assert caught.value.code == 1


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("web", ["web", "my-web-1"], ["we"]),
        ("^web$", ["web"], ["web1", "aweb"]),
        ("^web", ["web1"], ["aweb"]),
        ("web$", ["aweb"], ["web1"]),
        ("w.b", ["wxb"], ["wb"]),
        ("a^b", [], ["a^b", "ab"]),
    ],
)
def test_names_are_searched_as_regular_expressions(
    text: str, yes: list[str], no: list[str]
) -> None:
    match = filters.pattern(text)
    assert all(match(name) for name in yes)
    assert not any(match(name) for name in no)


def test_a_bad_expression_is_one_sentence() -> None:
    with pytest.raises(UsageError, match="invalid filter"):
        filters.pattern("a(")


def test_suggestions_are_near() -> None:
    assert suggest.nearest("rnu", ["run", "rm"]) == "run"
    assert suggest.nearest("imgaes", ["images", "image"]) == "images"
    assert suggest.nearest("xyzzy", ["run", "rm"]) == ""
    assert suggest.distance("kitten", "sitting") == 3
