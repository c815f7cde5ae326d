"""Ports that are not relayed but handed over: the container inherits the listening socket (LISTEN_FDS).

Made in the host's namespace, so that clients come as they are and at the kernel's speed, whatever network the
container is on.  The service keeps no copy; a port is free again when the container has closed its own.
"""

from __future__ import annotations

import errno
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.plan.network import Port

BACKLOG = 4096


def listen(port: Port, number: int) -> tuple[socket.socket, dict[str, Any]]:
    """A socket for PORT that listens (or takes datagrams) at NUMBER, and what is told of it; raises OSError.

    For all addresses it is one socket of both families.
    """
    if port.host_ip:
        family = socket.AF_INET6 if ":" in port.host_ip else socket.AF_INET
        made = _bound(family, port.host_ip, port, number, both=False)
    else:
        try:
            made = _bound(socket.AF_INET6, "::", port, number, both=True)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
            made = _bound(socket.AF_INET, "0.0.0.0", port, number, both=False)
    return made, {
        "host_ip": port.host_ip or made.getsockname()[0],
        "host_port": made.getsockname()[1],
        "container_port": port.container_port,
        "protocol": port.protocol,
        "activate": True,
    }


def name_of(port: Port) -> str:
    """What the socket is called in LISTEN_FDNAMES."""
    return f"{port.container_port}-{port.protocol}"


def _bound(family: int, ip: str, port: Port, number: int, *, both: bool) -> socket.socket:
    kind = socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM
    protocol = socket.IPPROTO_SCTP if port.protocol == "sctp" else 0
    made = socket.socket(family, kind, protocol)
    try:
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        made.bind((ip, number))
        if kind == socket.SOCK_STREAM:
            made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made
