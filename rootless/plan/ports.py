"""-p, --expose and -P: Docker's grammar of ports, and what of an image's ports is published.

Pure.  A port is ``number/protocol`` where it is a name, a Port where it is published.
"""

from __future__ import annotations

from rootless.errors import UsageError

from . import addresses
from .network import Port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

PROTOCOLS = ("tcp", "udp", "sctp")
ACTIVATE = ",activate"


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise UsageError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text)


def parse_range(text: str) -> tuple[int, int]:
    """(first, last) of ``80`` or ``8000-8010``; raises UsageError."""
    if not text:
        raise UsageError("empty string specified for ports")
    first, dash, last = text.partition("-")
    if not dash:
        return _number(text), _number(text)
    if "-" in last:
        raise UsageError(f"invalid port range format: {text}")
    start, end = _number(first), _number(last)
    if end < start:
        raise UsageError(f"invalid range specified for port: {text}")
    return start, end


def split_protocol(text: str) -> tuple[str, str]:
    """(port, protocol) of ``80/udp``; the protocol is tcp where it is left out."""
    port, _, protocol = text.partition("/")
    return port, protocol.lower() or "tcp"


def parse_ports(texts: Iterable[str]) -> list[Port]:
    """The ports that the values of -p publish, ranges expanded; raises UsageError in Docker's words.

    ``[[address:][host port[-end]]:]port[-end][/protocol][,activate]``, or
    ``published=8080,target=80,protocol=udp``.
    """
    found: list[Port] = []
    for text in texts:
        for port in _parse(text):
            if port not in found:
                found.append(port)
    return found


def readable(texts: Iterable[str]) -> list[Port]:
    """The ports of a record; what an older version let pass is left out."""
    found: list[Port] = []
    for text in texts:
        try:
            found += parse_ports([text])
        except UsageError:
            continue
    return found


def _parse(text: str) -> list[Port]:
    spec = _standard(text)
    activate = spec.endswith(ACTIVATE)
    if activate:
        spec = spec[: -len(ACTIVATE)]
    before, _, inside = spec.rpartition(":")
    host_ip, _, host = before.rpartition(":")
    inside, protocol = split_protocol(inside)
    if not inside:
        raise UsageError(f"no port specified: {text}<empty>")
    if protocol not in PROTOCOLS:
        raise UsageError(f"invalid proto: {protocol}")
    host_ip = _host_ip(host_ip)
    first, last = _checked("containerPort", inside)
    if first == 0:
        raise UsageError(f"invalid containerPort: {inside}")
    start, end = _checked("hostPort", host) if host else (0, 0)
    if host and end - start != last - first and first != last:
        raise UsageError(
            f"invalid ranges specified for container and host Ports: {inside} and {host}"
        )
    if host and first == last:
        return [Port(host_ip, start, first, protocol, activate, end if end != start else 0)]
    step = 1 if host else 0
    return [
        Port(host_ip, start + at * step, first + at, protocol, activate)
        for at in range(last - first + 1)
    ]


def _standard(text: str) -> str:
    """The short form of ``published=8080,target=80,protocol=udp``."""
    if "=" not in text:
        return text
    values = {"published": "", "target": "", "protocol": "tcp"}
    activate = ""
    for field in text.split(","):
        key, equals, value = field.partition("=")
        if field == ACTIVATE[1:]:
            activate = ACTIVATE
        elif not equals:
            raise UsageError(
                f"invalid publish opts format (should be name=value but got '{field}')"
            )
        else:
            values[key] = value
    return f"{values['published']}:{values['target']}/{values['protocol']}{activate}"


def _host_ip(text: str) -> str:
    """An address without its brackets, as it is shown; "" for all, and for none given."""
    if not text:
        return ""
    bare = text
    if text[0] == "[":
        if text[-1] != "]":
            raise UsageError(f"invalid IP address {text}: missing ']' in address")
        bare = text[1:-1]
    address = addresses.parse(bare)
    if address is None:
        raise UsageError(f"invalid IP address: {bare}")
    return addresses.show(address)


def _checked(what: str, text: str) -> tuple[int, int]:
    try:
        return parse_range(text)
    except UsageError:
        raise UsageError(f"invalid {what}: {text}") from None


def parse_expose(texts: Iterable[str]) -> list[str]:
    """The ports that the values of --expose name (``80/tcp``), ranges expanded; raises UsageError."""
    found: list[str] = []
    for text in texts:
        if ":" in text:
            raise UsageError(f"invalid port format for --expose: {text}")
        numbers, protocol = split_protocol(text)
        try:
            first, last = parse_range(numbers)
        except UsageError as error:
            raise UsageError(f"invalid range format for --expose: {text}, error: {error}") from None
        if protocol not in PROTOCOLS:
            raise UsageError(
                f"invalid range format for --expose: {text}, error: invalid proto: {protocol}"
            )
        found += [f"{number}/{protocol}" for number in range(first, last + 1)]
    return list(dict.fromkeys(found))


def exposed(expose: Iterable[str], image_ports: Mapping[str, Any]) -> list[str]:
    """Every port that the image or --expose names, by number; what an image has wrong is left out."""
    found: set[tuple[int, str]] = set()
    for text in (*image_ports, *expose):
        try:
            names = parse_expose([text])
        except UsageError:
            continue
        for name in names:
            number, _, protocol = name.partition("/")
            found.add((int(number), protocol))
    return [f"{number}/{protocol}" for number, protocol in sorted(found) if number]


def published(
    publish: Iterable[str],
    *,
    publish_all: bool = False,
    expose: Iterable[str] = (),
    image_ports: Mapping[str, Any] | None = None,
) -> list[Port]:
    """What is published: -p, and with -P each exposed port that has no -p of its own."""
    found = parse_ports(publish)
    if not publish_all:
        return found
    taken = {(port.container_port, port.protocol) for port in found}
    for name in exposed(expose, image_ports or {}):
        number, _, protocol = name.partition("/")
        if (int(number), protocol) not in taken:
            found.append(Port("", 0, int(number), protocol))
    return found
