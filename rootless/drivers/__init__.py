"""What varies by host: families of drivers, each with a registry of its own.

A registry has (module, class) by name, so that a run imports only the drivers that it uses.
"""

from __future__ import annotations

from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    Registry = Mapping[str, tuple[str, str]]


def load(family: str, registry: Registry, name: str) -> Any:
    """The driver that the REGISTRY of the package FAMILY has as NAME, made now."""
    module, kind = registry[name]
    return getattr(__import__(f"{family}.{module}", fromlist=[kind]), kind)()


def unknown(what: str, name: str, known: Iterable[str], setting: str) -> UsageError:
    """What is said of a NAME that no driver of the family WHAT has, which SETTING may have given."""
    return UsageError(
        f"unknown {what} {name!r}: known are auto, {', '.join(known)}",
        hint=f"correct {setting}",
    )
