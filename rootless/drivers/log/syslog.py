"""The driver ``syslog``: messages to a syslog server, local or not."""

from __future__ import annotations

import os

from rootless.errors import HostError, UsageError

from .base import ATTRIBUTES, FAILED, LogDriver, LogInfo, Plan, ring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")
FACILITIES = (
    *(
        "kern",
        "user",
        "mail",
        "daemon",
        "auth",
        "syslog",
        "lpr",
        "news",
        "uucp",
        "cron",
        "authpriv",
        "ftp",
    ),
    *(
        "",
        "",
        "",
        "",
        "local0",
        "local1",
        "local2",
        "local3",
        "local4",
        "local5",
        "local6",
        "local7",
    ),
)
LOCAL = ("/dev/log", "/var/run/syslog", "/var/run/log")
_TLS = tuple(f"syslog-tls-{key}" for key in ("ca-cert", "cert", "key", "skip-verify"))
DEFAULT_PORT = "514"


def facility(text: str) -> int:
    """The number of a facility given by name or number; raises UsageError."""
    if not text:
        return FACILITIES.index("daemon")
    if text in FACILITIES:
        return FACILITIES.index(text)
    if text.isascii() and text.isdigit() and int(text) < len(FACILITIES):
        return int(text)
    raise UsageError("invalid syslog facility")


def address(text: str) -> tuple[str, str]:
    """(network, path or host:port) of a syslog-address; raises UsageError."""
    if not text:
        return "", ""
    network, separator, rest = text.partition("://")
    if not separator:
        network, rest = "", text
    if network in ("unix", "unixgram"):
        return network, rest
    if network == "tcp+tls":
        raise HostError(
            "cannot log to a syslog server by tcp+tls: the monitor speaks no TLS",
            hint="send to a syslog daemon of this host (unix, udp, tcp), which forwards with TLS",
        )
    if network not in ("udp", "tcp"):
        raise UsageError(f"unsupported scheme: '{network}'")
    host = rest.partition("/")[0]
    if host.endswith("]") or ":" not in host:
        host = f"{host}:{DEFAULT_PORT}"
    port = host.rpartition(":")[2]
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(f'parse "{text}": invalid port ":{port}" after host')
    return network, host


class SyslogDriver(LogDriver):
    """Docker's ``syslog``, but for TLS."""

    name = "syslog"
    known = ("syslog-address", "syslog-facility", "syslog-format", *_TLS, *ATTRIBUTES)

    def check(self, options: Mapping[str, str]) -> None:
        """Address, facility and format; raises UsageError, HostError."""
        super().check(options)
        address(options.get("syslog-address", ""))
        facility(options.get("syslog-facility", ""))
        if options.get("syslog-format", "") not in FORMATS:
            raise UsageError("invalid syslog format")
        for key in _TLS:
            if key in options:
                raise HostError(f"cannot use log opt {key}: the monitor speaks no TLS")

    def plan(self, options: Mapping[str, str], info: LogInfo) -> Plan:
        """Where to and in which form."""
        from . import tag

        plan = Plan()
        plan.target = address(options.get("syslog-address", ""))
        plan.words.update(
            {
                "driver": "syslog",
                "buffer": ring(options),
                "format": options.get("syslog-format", ""),
                "facility": facility(options.get("syslog-facility", "")),
                "tag": tag.expand(options.get("tag") or tag.DEFAULT, info),
                "host": info.host or "localhost",
                "zone": info.zone,
            }
        )
        return plan

    def up(self, plan: Plan) -> None:
        """Connect once, as Docker does; without an address, to the first local socket there is."""
        from . import sockets

        network, where = plan.target
        tried = [(network, where)] if network else _local()
        for number, (one, path) in enumerate(tried):
            try:
                plan.words["address"] = sockets.find(one, path)
            except HostError:
                if number == len(tried) - 1:
                    raise
                continue
            plan.words["type"] = sockets.TYPES[one]
            return
        raise HostError(
            f"{FAILED}Unix syslog delivery error", hint=f"there is none of {', '.join(LOCAL)}"
        )


def _local() -> list[tuple[str, str]]:
    there = [path for path in LOCAL if os.path.exists(path)]
    return [(network, path) for path in there for network in ("unixgram", "unix")]
