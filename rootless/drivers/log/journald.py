"""The driver ``journald``: entries in the journal, with Docker's fields.

Who may read them is the journal's to say: a user sees what processes of the same user have sent, where the
journal is kept on disk per user, and all of it as a member of systemd-journal.
"""

from __future__ import annotations

import os
import struct

from rootless.errors import HostError

from .base import ATTRIBUTES, FAILED, LogDriver, LogInfo, Plan, attributes, ring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SOCKET = "/run/systemd/journal/socket"


def field(key: str, value: str) -> bytes:
    """One field of the native protocol: ``KEY=value``, or with its length where it has several lines."""
    raw = value.encode("utf-8", "surrogateescape")
    if b"\n" not in raw:
        return key.encode() + b"=" + raw + b"\n"
    return key.encode() + b"\n" + struct.pack("<Q", len(raw)) + raw + b"\n"


def field_name(key: str) -> str:
    """A label or variable as the journal allows it: A-Z, 0-9 and _, not first."""
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in key.upper())
    return name.lstrip("_")[:64]


class JournaldDriver(LogDriver):
    """systemd's journal, by its native protocol."""

    name = "journald"
    known = ATTRIBUTES
    reader = "journal"

    def plan(self, options: Mapping[str, str], info: LogInfo) -> Plan:
        """Fields that every entry has."""
        from . import tag

        text = tag.expand(options.get("tag") or tag.DEFAULT, info)
        fields = {
            "CONTAINER_ID": info.id[:12],
            "CONTAINER_ID_FULL": info.id,
            "CONTAINER_NAME": info.name,
            "CONTAINER_TAG": text,
            "IMAGE_NAME": info.image,
            "SYSLOG_IDENTIFIER": text,
        }
        for key, value in attributes(options, info).items():
            name = field_name(key)
            if name and not name[0].isdigit():
                fields.setdefault(name, value)
        plan = Plan()
        plan.target = ("unixgram", SOCKET)
        plan.words.update({"driver": "journald", "buffer": ring(options)})
        plan.words["attrs"] = b"".join(field(key, value) for key, value in fields.items())
        return plan

    def up(self, plan: Plan) -> None:
        """The journal's socket has to be there."""
        from . import sockets

        network, path = plan.target
        if not os.path.exists(path):
            raise HostError(
                f"{FAILED}journald is not enabled on this host",
                hint=f"there is no {path}; json-file needs nothing of the host",
            )
        plan.words["address"] = sockets.find(network, path)
        plan.words["type"] = sockets.TYPES[network]
