"""JSON and templates for inspect: an object as Docker prints it, with Go's types for --format."""

from __future__ import annotations

import sys

from rootless.errors import RootlessError

from . import render
from .govalue import Map, NilList, NilMap, StrMap, indented

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

# Objects whose keys are data; what is null among them is a nil map, other nulls are nil lists.
_TEXT_MAPS = (
    *("Labels", "Annotations", "Tmpfs", "Sysctls", "Data", "DriverOpts"),
    *("Options", "StorageOpt", "AuxiliaryAddresses"),
)
_MAPS = ("Ports", "Networks", "Containers", "Volumes", "ExposedPorts", "PortBindings")
_POINTERS = ("Healthcheck", "Health", "IPAMConfig", "MemorySwappiness", "OomKillDisable")
_LOG_CONFIG = "Config"


def shower(form: str) -> Callable[[dict[str, Any]], str]:
    """A function that shows one object as --format FORM says; raises TemplateError."""
    if not form:
        return lambda data: indented(data, level=1)
    from . import formatted, gotemplate

    body = "{{json .}}" if form == "json" else formatted.unescape(form)
    template = gotemplate.Template(body)
    return lambda data: template.render(typed(data))


def write(
    names: Iterable[str], find: Callable[[str], dict[str, Any]], form: str
) -> list[RootlessError]:
    """Print what FIND gives for each name, as --format FORM says, then the errors, which are given back."""
    show = shower(form)
    shown: list[str] = []
    failed: list[RootlessError] = []
    for name in names:
        try:
            shown.append(show(find(name)))
        except RootlessError as error:
            failed.append(error)
    sys.stdout.write(joined(shown, formatted=bool(form)))
    sys.stdout.flush()
    for failure in failed:
        render.write(render.text(failure))
    return failed


def joined(results: list[str], *, formatted: bool) -> str:
    """What was shown of several objects: lines, or a JSON list."""
    if formatted:
        return "".join(f"{text}\n" for text in results)
    if not results:
        return "[]\n"
    return "[\n" + ",\n".join(f"    {text}" for text in results) + "\n]\n"


def typed(value: Any, key: str = "", parent: str = "") -> Any:
    """VALUE with Go's types: which objects are maps, which nulls are nil maps or nil lists."""
    is_text_map = key in _TEXT_MAPS or (key == _LOG_CONFIG and parent == "LogConfig")
    if value is None:
        if key in _POINTERS:
            return None
        return NilMap() if is_text_map or key in _MAPS else NilList()
    if isinstance(value, dict):
        items = {name: typed(item, name, key) for name, item in value.items()}
        if is_text_map:
            return StrMap(items)
        return Map(items) if key in _MAPS else items
    if isinstance(value, list):
        return [typed(item, "", key) for item in value]
    return value
