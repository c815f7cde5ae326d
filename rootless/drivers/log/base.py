"""What a log driver is: the meaning of a container's log options.

check() refuses options and plan() says what the monitor is told; both are pure.  up() finds out at a start
whether whoever takes the log is there, and where.  The writing itself is the monitor's (helpers/log_*.c), which
reads what Plan.encode() gives.  Every driver passes tests/contract/.
"""

from __future__ import annotations

from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Union

    Value = Union[str, int, bytes]

NON_BLOCKING = "non-blocking"
RING_SIZE = 1_000_000  # Docker's
ATTRIBUTES = ("labels", "labels-regex", "env", "env-regex", "tag")
FAILED = "failed to initialize logging driver: "


class LogInfo:
    """The container that logs, as far as its log may speak of it."""

    __slots__ = (
        "command",
        "directory",
        "env",
        "host",
        "id",
        "image",
        "image_id",
        "labels",
        "name",
        "zone",
    )

    def __init__(
        self,
        *,
        id: str = "",  # noqa: A002
        name: str = "",
        image: str = "",
        image_id: str = "",
        command: str = "",
        labels: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        directory: str = "",
        host: str = "",
        zone: int = 0,
    ) -> None:
        self.id = id
        self.name = name
        self.image = image
        self.image_id = image_id
        self.command = command
        self.labels = labels or {}
        self.env = env or {}
        self.directory = directory
        self.host = host
        self.zone = zone


class Plan:
    """What a monitor is told about a log.

    path    of the file; "" where there is none
    words   what helpers/log_setup.c reads
    stdio   the container gets the caller's own descriptors, and nothing is logged
    target  (network, address) of a socket that up() is to find
    """

    __slots__ = ("path", "stdio", "target", "words")

    def __init__(self, path: str = "", *, stdio: bool = False) -> None:
        self.path = path
        self.stdio = stdio
        self.words: dict[str, Value] = {}
        self.target = ("", "")

    def encode(self) -> bytes:
        """The words as the monitor reads them: length, ``key=value``, a zero byte."""
        out = bytearray()
        for key, value in self.words.items():
            raw = (
                value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
            )
            pair = key.encode() + b"=" + raw + b"\0"
            out += len(pair).to_bytes(4, "little") + pair
        return bytes(out)


class LogDriver:
    """Base of all log drivers.

    name    as in --log-driver
    known   its options, beside mode and max-buffer-size
    reader  how `logs` reads what it wrote: "files", "journal" or "" (not at all)
    logs    whether it logs anything
    """

    name = ""
    known: tuple[str, ...] = ()
    reader = ""
    logs = True

    def check(self, options: Mapping[str, str]) -> None:
        """Refuse options that mean nothing or cannot be; raises UsageError, HostError."""
        check_mode(options)
        for key in options:
            if key not in self.known and key not in ("mode", "max-buffer-size"):
                raise UsageError(f"unknown log opt '{key}' for {self.name} log driver")
        check_attributes(options)

    def plan(self, options: Mapping[str, str], info: LogInfo) -> Plan:
        """What the monitor is told; the options have been checked."""
        raise NotImplementedError

    def up(self, plan: Plan) -> None:
        """Find who takes the log; raises HostError where nobody does."""


def check_mode(options: Mapping[str, str]) -> None:
    """mode and max-buffer-size, which every driver has, in Docker's words."""
    mode = options.get("mode", "")
    if mode not in ("", "blocking", NON_BLOCKING):
        raise UsageError(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != NON_BLOCKING:
            raise UsageError(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
            )
        try:
            parse_size(options["max-buffer-size"], 1024)
        except ValueError as error:
            raise UsageError(f"error parsing option max-buffer-size: {error}") from None


def check_attributes(options: Mapping[str, str]) -> None:
    """Regular expressions that can be compiled, a template that can be expanded."""
    for key in ("labels-regex", "env-regex"):
        if options.get(key):
            _matcher(key, options[key])
    if options.get("tag"):
        from . import tag

        tag.expand(options["tag"], LogInfo())


def ring(options: Mapping[str, str]) -> int:
    """Bytes that wait at most where the container must not; 0 where it may."""
    if options.get("mode") != NON_BLOCKING:
        return 0
    return max(1, parse_size(options.get("max-buffer-size", str(RING_SIZE)), 1024))


def _matcher(key: str, pattern: str) -> Callable[[str], object]:
    import re

    try:
        return re.compile(pattern).search
    except re.error as error:
        raise UsageError(f"{FAILED}cannot parse {key} {pattern!r}: {error}") from None


def attributes(options: Mapping[str, str], info: LogInfo) -> dict[str, str]:
    """Labels and environment variables that each entry is to carry."""
    found: dict[str, str] = {}
    for kind, values in (("labels", info.labels), ("env", info.env)):
        for key in options.get(kind, "").split(","):
            if key in values:
                found[key] = values[key]
        pattern = options.get(f"{kind}-regex")
        if pattern:
            matches = _matcher(f"{kind}-regex", pattern)
            found.update((key, value) for key, value in values.items() if matches(key))
    return found


def parse_size(text: str, base: int) -> int:
    """Bytes of a size as Docker's units package reads it, with powers of BASE; raises ValueError."""
    lowered = text.strip().lower()
    bare = lowered[:-1] if lowered.endswith("b") else lowered
    bare = bare[:-1] if bare.endswith("i") and len(bare) > 1 else bare
    power = "kmgtp".find(bare[-1:]) + 1 if bare[-1:] else 0
    number = bare[:-1].rstrip() if power else bare
    whole, dot, part = number.partition(".")
    digits = whole + part
    if not (digits.isascii() and digits.isdigit()) or not whole or (dot and not part):
        raise ValueError(f"invalid size: '{text}'")
    scale: int = base**power
    return int(digits) * scale // int(10 ** len(part))
