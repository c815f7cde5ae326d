"""What the service has to find again when it was killed: one file per running container.

Written by rename before the container is told that its network is there, removed when its process ended.  A
record is believed only while a process with its pid and start time is alive.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .members import Member


_encode = json.JSONEncoder(separators=(",", ":")).encode


class Records:
    """The files in DIRECTORY."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        os.makedirs(directory, 0o700, exist_ok=True)

    def put(self, member: Member) -> None:
        """Write a container's record."""
        data = {
            "request": member.request.to_dict(),
            "pid": member.pid,
            "start": member.start,
            "endpoints": [
                {
                    "network": one.network.to_dict(),
                    "wish": one.wish.to_dict(),
                    **{
                        key: getattr(one, key)
                        for key in (
                            "id",
                            "index",
                            "interface",
                            "mac",
                            "ip",
                            "ip6",
                            "prefix",
                            "prefix6",
                        )
                    },
                }
                for one in member.endpoints.values()
            ],
            "ports": member.ports,
        }
        write(f"{self.directory}/{member.request.id}.json", data)

    def drop(self, container: str) -> None:
        """Remove a container's record; none is fine."""
        try:
            os.unlink(f"{self.directory}/{container}.json")
        except FileNotFoundError:
            pass

    def all(self) -> list[dict[str, Any]]:
        """All records that can be read."""
        found = []
        for name in sorted(os.listdir(self.directory)):
            if not name.endswith(".json"):
                continue
            try:
                with open(f"{self.directory}/{name}", encoding="utf-8") as file:
                    found.append(json.load(file))
            except (OSError, ValueError):
                continue
        return found


def write(path: str, data: Any) -> None:
    """Write JSON to PATH so that a reader sees the old content or the new."""
    temporary = f"{path}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    with open(fd, "wb", buffering=0) as file:
        file.write(_encode(data).encode("ascii"))
    os.rename(temporary, path)
