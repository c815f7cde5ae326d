"""rootless port."""

from __future__ import annotations

import sys

from rootless.engine import inspect as inspecting
from rootless.engine.context import Context
from rootless.errors import NotFoundError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """List the published ports of a container, or where one of them is."""
    ctx = Context.load(env)
    found = inspecting.container(ctx, args.args[0])
    ports: dict[str, Any] = found["NetworkSettings"]["Ports"]
    if len(args.args) == 1:
        lines = [
            f"{port} -> {address}"
            for port in sorted(ports, key=_order)
            for address in _where(ports[port])
        ]
    else:
        port = _normal(args.args[1])
        lines = _where(ports.get(port))
        if not lines:
            raise NotFoundError(f"no public port '{port}' published for {args.args[0]}")
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _order(port: str) -> tuple[int, str]:
    number, _, protocol = port.partition("/")
    return (int(number) if number.isdigit() else 0, protocol)


def _normal(text: str) -> str:
    number, slash, protocol = text.partition("/")
    if not (number.isascii() and number.isdigit()) or int(number) > 65535:
        raise UsageError(f"invalid port {number!r}: invalid syntax", exit_code=1)
    return f"{number}/{protocol if slash else 'tcp'}"


def _where(bindings: Any) -> list[str]:
    found = []
    for binding in bindings or ():
        address = binding["HostIp"]
        shown = f"[{address}]" if ":" in address else address
        found.append(f"{shown}:{binding['HostPort']}")
    return found
