"""events --filter: what each name means for an event."""

from __future__ import annotations

from rootless.engine import listing

from . import filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Event = dict[str, Any]

# Kinds of things that Docker tells of, whether or not there are any here.
_KINDS = (
    "config",
    "container",
    "daemon",
    "network",
    "node",
    "plugin",
    "secret",
    "service",
    "volume",
)
NAMES = (*_KINDS, "action", "event", "image", "label", "scope", "type")
# What stands before a colon and a text of its own.
_OPEN = ("exec_create", "exec_start", "health_status")


def test(flags: Iterable[str] | None) -> filters.Filters:
    """What the --filter flags ask for; raises UsageError for a name that is none."""
    return filters.Filters(flags, NAMES)


def match(event: Event, wanted: filters.Filters) -> bool:
    """Whether EVENT passes."""
    return wanted.match(event, _TESTS)


def _action(event: Event, value: str) -> bool:
    action = str(event["Action"])
    return action == value or (value in _OPEN and action.startswith(value))


def _image(event: Event, value: str) -> bool:
    actor = event["Actor"]
    key = "name" if event["Type"] == "image" else "image"
    names = {actor["Attributes"].get(key, "")} | ({actor["ID"]} if key == "name" else set())
    return value in names or value in {_bare(name) for name in names if name}


def _bare(name: str) -> str:
    if name.startswith("sha256:"):
        return name
    return listing.familiar(listing.split_reference(name)[0])


def _of(kind: str) -> filters.Match:
    """An object of that kind by the beginning of its ID or name."""

    def test(event: Event, value: str) -> bool:
        actor = event["Actor"]
        names = (actor["ID"], actor["Attributes"].get("name", ""))
        return event["Type"] == kind and any(name.startswith(value) for name in names)

    return test


_TESTS: dict[str, filters.Match] = {
    **{kind: _of(kind) for kind in _KINDS},
    "action": _action,
    "event": _action,
    "image": _image,
    "label": lambda event, value: filters.label(event["Actor"]["Attributes"], value),
    "scope": lambda event, value: event["scope"] == value,
    "type": lambda event, value: event["Type"] == value,
}
