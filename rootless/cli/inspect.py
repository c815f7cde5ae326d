"""rootless inspect, container inspect, image inspect."""

from __future__ import annotations

import sys

from rootless.engine import inspect as inspecting
from rootless.engine.context import Context
from rootless.errors import NotFoundError, RootlessError, UsageError

from . import render
from .govalue import Map, NilList, NilMap, StrMap, indented

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .parse import Parsed

TYPES = ("", "container", "image")

# Objects whose keys are data; what is null among them is a nil map, other nulls are nil lists.
_TEXT_MAPS = (
    *("Labels", "Annotations", "Tmpfs", "Sysctls", "Data", "DriverOpts"),
    *("Options", "StorageOpt"),
)
_MAPS = ("Ports", "Networks", "Volumes", "ExposedPorts", "PortBindings")
_POINTERS = ("Healthcheck", "Health", "IPAMConfig", "MemorySwappiness", "OomKillDisable")
_LOG_CONFIG = "Config"


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Print what is known about containers and images as JSON, or as --format says."""
    ctx = Context.load(env)
    kind = {"container inspect": "container", "image inspect": "image"}.get(args.command, "")
    kind = kind or args.get("type") or ""
    if kind not in TYPES:
        raise UsageError(f'"{kind}" is not a valid value for --type', exit_code=1)
    show = _shower(args.get("format") or "")
    find = _finder(ctx, kind, bool(args.get("size")))
    results: list[str] = []
    failed: list[RootlessError] = []
    code = 0
    for reference in args.args:
        try:
            results.append(show(find(reference)))
        except RootlessError as error:
            failed.append(error)
            code = max(code, 1 if isinstance(error, NotFoundError) else error.code)
    sys.stdout.write(_joined(results, bool(args.get("format"))))
    sys.stdout.flush()
    for failure in failed:
        render.write(render.text(failure))
    return code


def _finder(ctx: Context, kind: str, size: bool) -> Callable[[str], dict[str, Any]]:
    def find(reference: str) -> dict[str, Any]:
        if kind != "image":
            try:
                return inspecting.container(ctx, reference, size=size)
            except NotFoundError:
                if kind == "container":
                    raise
        try:
            return inspecting.image(ctx, reference)
        except RootlessError:
            if kind == "image":
                raise
        raise NotFoundError(f"no such object: {reference}")

    return find


def _shower(form: str) -> Callable[[dict[str, Any]], str]:
    if not form:
        return lambda data: indented(data, level=1)
    from . import formatted, gotemplate

    body = "{{json .}}" if form == "json" else formatted.unescape(form)
    template = gotemplate.Template(body)
    return lambda data: template.render(typed(data))


def _joined(results: list[str], formatted: bool) -> str:
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
