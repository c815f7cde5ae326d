"""ps --filter: what each name means for a container."""

from __future__ import annotations

from rootless.errors import ImageNotFoundError, ReferenceError_, RootlessError, UsageError

from . import filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from rootless.engine.context import Context

    Row = dict[str, Any]

NAMES = (
    *("ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation"),
    *("label", "label!", "name", "network", "publish", "since", "status", "volume"),
)
STATUSES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
HEALTHS = ("starting", "healthy", "unhealthy", "none")


class PsFilter:
    """The --filter flags of one `ps`."""

    def __init__(self, ctx: Context, flags: Iterable[str]) -> None:
        self.ctx = ctx
        self.filters = filters.Filters(flags, NAMES)
        for key, allowed in (("status", STATUSES), ("health", HEALTHS)):
            for value in self.filters.get(key):
                if value not in allowed:
                    raise UsageError(f"invalid filter '{key}={value}'", exit_code=1)
        for value in self.filters.get("exited"):
            if not value.lstrip("-").isdigit():
                raise UsageError(f"invalid filter 'exited={value}'", exit_code=1)
        filters.boolean("is-task", self.filters.get("is-task"))
        self.ancestors = {value: self._image_ids(value) for value in self.filters.get("ancestor")}
        self.ports = {
            value: _ports(key, value)
            for key in ("expose", "publish")
            for value in self.filters.get(key)
        }
        self.networks = {value: self._network(value) for value in self.filters.get("network")}
        self.names: dict[str, Callable[[str], bool]] = {
            value: filters.pattern(value)
            for key in ("name", "id")
            for value in self.filters.get(key)
        }

    @property
    def wants_all(self) -> bool:
        """Whether the filters ask about containers that do not run."""
        return bool(self.filters.get("status") or self.filters.get("exited"))

    def select(self, rows: list[Row]) -> list[Row]:
        """The rows that pass, in their order."""
        found = self._between(rows)
        return [row for row in found if self.filters.match(row, self._tests())]

    def _between(self, rows: list[Row]) -> list[Row]:
        """The rows that --filter before= and since= leave."""
        for key in ("before", "since"):
            for reference in self.filters.get(key):
                mark = self.ctx.containers.resolve(reference)
                created = float(mark.record.get("created") or 0)
                rows = [
                    row
                    for row in rows
                    if (row["created"] < created if key == "before" else row["created"] > created)
                ]
        return rows

    def _tests(self) -> dict[str, filters.Match]:
        return {
            "ancestor": self._descends,
            "exited": lambda row, value: (
                row["status"] in ("exited", "dead")
                and int(row["state"].get("exitCode") or 0) == int(value)
            ),
            "expose": lambda row, value: bool(self.ports[value] & _exposed(row)),
            "health": lambda row, value: (row["health"] or "none") == value,
            "id": lambda row, value: self.names[value](row["id"]),
            "is-task": lambda row, value: value.lower() in ("0", "f", "false"),  # noqa: ARG005
            "label": lambda row, value: filters.label(row["labels"], value),
            "label!": lambda row, value: not filters.label(row["labels"], value),
            "name": lambda row, value: (
                self.names[value](row["name"]) or self.names[value]("/" + row["name"])
            ),
            "network": self._on_network,
            "publish": lambda row, value: bool(self.ports[value] & _published(row)),
            "status": lambda row, value: row["status"] == value,
            "volume": _has_volume,
        }

    def _network(self, value: str) -> str:
        """The name of a network that was given by name or ID."""
        try:
            return self.ctx.networks.resolve(value).name
        except RootlessError:
            return value

    def _on_network(self, row: Row, value: str) -> bool:
        return self.networks[value] in row["networks"]

    def _image_ids(self, reference: str) -> set[str]:
        try:
            return {self.ctx.images.resolve(reference).id}
        except (ImageNotFoundError, ReferenceError_):
            return set()

    def _descends(self, row: Row, value: str) -> bool:
        return row["image"] == value or row["image_id"] in self.ancestors[value]


def _has_volume(row: Row, value: str) -> bool:
    return any(value in (mount["source"], mount["destination"]) for mount in row["mounts"])


def _ports(key: str, value: str) -> set[str]:
    """The ports (``80/tcp``) that ``port[-end][/protocol]`` means; raises UsageError."""
    from rootless.plan import ports

    numbers, protocol = ports.split_protocol(value)
    try:
        first, last = ports.parse_range(numbers)
    except UsageError as error:
        raise UsageError(f"invalid filter '{key}={value}': {error}", exit_code=1) from None
    return {f"{number}/{protocol}" for number in range(first, last + 1)}


def _published(row: Row) -> set[str]:
    """Container ports that are published, and the host ports that they have."""
    from rootless.plan import ports

    asked = ports.readable(row["request"].get("publish") or ())
    found = {f"{port.container_port}/{port.protocol}" for port in asked}
    for number, protocol, address, outside in row["ports"]:
        if address:
            found |= {f"{number}/{protocol}", f"{outside}/{protocol}"}
    return found


def _exposed(row: Row) -> set[str]:
    from rootless.plan import ports

    image = row["image_config"].get("exposed_ports") or {}
    return _published(row) | set(ports.exposed(row["request"].get("expose") or (), image))
