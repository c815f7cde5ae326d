"""A container's state in Docker's words: ``Up 3 minutes``, ``Exited (137) 2 hours ago``."""

from __future__ import annotations

from . import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def instant(text: str) -> int:
    """Nanoseconds of a time in a state file; 0 where there is none."""
    if not text:
        return 0
    try:
        return units.parse_time(text)
    except ValueError:
        return 0


def status(state: Mapping[str, Any], now: int, health: str = "") -> str:
    """The STATUS column; HEALTH is starting, healthy, unhealthy or "" for none."""
    word = state["status"]
    code = state.get("exitCode") or 0
    if word in ("running", "paused", "restarting"):
        if word == "restarting":
            return f"Restarting ({code}) {_ago(state.get('finishedAt') or '', now)} ago"
        up = f"Up {_ago(state.get('startedAt') or '', now)}"
        if word == "paused":
            return f"{up} (Paused)"
        if health:
            return f"{up} (health: starting)" if health == "starting" else f"{up} ({health})"
        return up
    if word == "dead":
        return "Dead"
    if word == "created" or not state.get("startedAt"):
        return "Created" if word == "created" else f"Exited ({code})"
    if not state.get("finishedAt"):
        return f"Exited ({code})"
    return f"Exited ({code}) {_ago(state['finishedAt'], now)} ago"


def _ago(text: str, now: int) -> str:
    return units.human_duration(max(0, now - instant(text)) / units.SECOND)
