"""events --format: a Go template over Docker's message."""

from __future__ import annotations

from . import formatted, gotemplate, govalue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _Message(govalue.Object):
    """An event as a template sees it: by the names of the structure's fields, which JSON has others for."""

    type_name = "events.Message"

    def __init__(self, event: dict[str, Any]) -> None:
        self._event = event

    def field(self, name: str) -> Any:
        """The field's value; KeyError where there is none of that name."""
        event, key = self._event, _KEYS[name]
        if name == "Actor":
            attributes = govalue.StrMap(event["Actor"]["Attributes"])
            return {"ID": event["Actor"]["ID"], "Attributes": attributes}
        return event.get(key, "")

    def plain(self) -> dict[str, Any]:
        """The event, for {{json .}}."""
        return self._event


_KEYS = {
    "Status": "status",
    "ID": "id",
    "From": "from",
    "Type": "Type",
    "Action": "Action",
    "Actor": "Actor",
    "Scope": "scope",
    "Time": "time",
    "TimeNano": "timeNano",
}


def shower(form: str) -> Callable[[dict[str, Any]], str]:
    """A function that gives an event's text and a newline; raises TemplateError."""
    template = gotemplate.Template(formatted.unescape(form))
    return lambda event: template.render(_Message(event)) + "\n"
