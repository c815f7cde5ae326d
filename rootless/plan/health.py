"""Health checks: what was asked, over what the image says, as the monitor is told.

Pure.  A check is a dict in the form of Docker's HealthConfig: Test (``["CMD", ...]``, ``["CMD-SHELL",
text]`` or ``["NONE"]``), Interval, Timeout, StartPeriod and StartInterval in nanoseconds, and Retries; 0 or a
missing key says nothing.  The command is run by the monitor (helpers/monitor_health.c), which gets
milliseconds.
"""

from __future__ import annotations

from rootless.errors import UsageError

from .request import ExecRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

MILLISECOND = 1_000_000
SECOND = 1_000 * MILLISECOND
# Docker's keys, with the value that stands for "not said".
DURATIONS = {
    "Interval": 30 * SECOND,
    "Timeout": 30 * SECOND,
    "StartPeriod": 0,
    "StartInterval": 5 * SECOND,
}
RETRIES = 3
ACTIONS = ("none", "kill", "restart", "stop")
SHELL = ("/bin/sh", "-c")


def merged(asked: Mapping[str, Any], image: Mapping[str, Any]) -> dict[str, Any]:
    """The check of a container: what was asked, and the image's where nothing was."""
    found = {key: value for key, value in image.items() if value}
    found.update({key: value for key, value in asked.items() if value})
    return found


def check(found: Mapping[str, Any]) -> None:
    """Refuse what cannot be, in Docker's words; raises UsageError."""
    for key, value in found.items():
        words = key == "Test"
        if not isinstance(value, list if words else int) or (
            words and not all(isinstance(word, str) for word in value)
        ):
            raise UsageError(f"invalid health check: {key} cannot be {value!r}")
    for key in DURATIONS:
        value = int(found.get(key) or 0)
        if value and value < MILLISECOND:
            raise UsageError(f"{key} in Healthcheck cannot be less than 1ms")
    key = "Retries"
    if int(found.get(key) or 0) < 0:
        raise UsageError(f"{key} in Healthcheck cannot be negative")
    test = list(found.get("Test") or ())
    if test and test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise UsageError(f'unknown healthcheck type "{test[0]}" (expected "CMD")')
    if test and test[0] != "NONE" and not any(test[1:]):
        raise UsageError(f"no command in the health check of type {test[0]}")


def command(found: Mapping[str, Any], shell: Sequence[str] = ()) -> list[str]:
    """The words to execute; [] where there is no check.  SHELL is the image's, for CMD-SHELL."""
    test = list(found.get("Test") or ())
    if len(test) < 2 or test[0] == "NONE":
        return []
    if test[0] == "CMD":
        return [str(word) for word in test[1:]]
    return [*(shell or SHELL), " ".join(test[1:])]


def exec_request(words: Sequence[str]) -> ExecRequest:
    """A probe as a process in the container: as its own user, in its own directory."""
    return ExecRequest(args=list(words))


def timing(found: Mapping[str, Any]) -> dict[str, int]:
    """The durations in milliseconds and the retries, by their names in MonitorOptions.health."""
    values = {key: int(found.get(key) or 0) or default for key, default in DURATIONS.items()}
    shown = {key: max(value // MILLISECOND, 0) for key, value in values.items()}
    return {
        "interval": max(shown["Interval"], 1),
        "timeout": max(shown["Timeout"], 1),
        "start-period": shown["StartPeriod"],
        "start-interval": max(shown["StartInterval"], 1),
        "retries": int(found.get("Retries") or 0) or RETRIES,
    }


def timeout_text(found: Mapping[str, Any]) -> str:
    """The time-out as messages show it."""
    return go_duration(int(found.get("Timeout") or 0) or DURATIONS["Timeout"])


def go_duration(nanoseconds: int) -> str:
    """A duration as Go prints one: ``1h30m0s``, ``1.5s``, ``100ms``."""
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < 0:
        return f"-{go_duration(-nanoseconds)}"
    for unit, name in ((MILLISECOND, "ms"), (1000, "µs"), (1, "ns")):
        if unit <= nanoseconds < unit * 1000:
            return f"{_decimal(nanoseconds, unit)}{name}"
    minutes, rest = divmod(nanoseconds, 60 * SECOND)
    seconds = f"{_decimal(rest, SECOND)}s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    if not rest:
        return str(whole)
    return f"{whole}.{str(rest).rjust(len(str(unit)) - 1, '0').rstrip('0')}"
