"""Flags about health of `run` and `create`: --health-* and --no-healthcheck, as Docker and podman have them."""

from __future__ import annotations

from rootless import jsonc
from rootless.errors import UsageError
from rootless.plan import health

from . import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.request import RunRequest

    from .parse import Parsed

_DURATIONS = (
    ("health_interval", "Interval"),
    ("health_timeout", "Timeout"),
    ("health_start_period", "StartPeriod"),
    ("health_start_interval", "StartInterval"),
)


def fill(request: RunRequest, args: Parsed) -> None:
    """Put what the flags say of health into REQUEST; raises UsageError."""
    found: dict[str, object] = {}
    if args.get("health_cmd"):
        found["Test"] = test(args.get("health_cmd"))
    for key, name in _DURATIONS:
        value = units.parse_duration(args.get(key) or "0") or 0
        if value < 0:
            raise UsageError(f"--{key.replace('_', '-')} cannot be negative")
        if value:
            found[name] = value
    retries = int(args.get("health_retries") or 0)
    if retries < 0:
        raise UsageError("--health-retries cannot be negative")
    if retries:
        found["Retries"] = retries
    if args.get("no_healthcheck"):
        if found:
            raise UsageError("--no-healthcheck conflicts with --health-* options")
        found = {"Test": ["NONE"]}
    action = args.get("health_on_failure") or "none"
    if action not in health.ACTIONS:
        raise UsageError(
            f"invalid value {action!r} for --health-on-failure: "
            "one of none, kill, restart and stop is expected"
        )
    health.check(found)
    request.health = found
    request.health_on_failure = action


def test(text: str) -> list[str]:
    """The check that --health-cmd names: a shell command, ``none``, or a JSON list of words."""
    if text.strip() == "none":
        return ["NONE"]
    if text.lstrip()[:1] == "[":
        try:
            words = jsonc.loads(text)
        except ValueError:
            words = None  # [ is also the shell's test
        if isinstance(words, list) and words and all(isinstance(word, str) for word in words):
            return words if words[0] in ("NONE", "CMD", "CMD-SHELL") else ["CMD", *words]
    return ["CMD-SHELL", text]
