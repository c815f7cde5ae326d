"""Finding the socket that a log is sent to: names to addresses, and whether somebody is there.

Gives the bytes of a sockaddr, which the monitor connects to again whenever it has to.
"""

from __future__ import annotations

import _socket
import os
import struct

from rootless.errors import HostError

from .base import FAILED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 10.0  # seconds for a connection
_PATH_MAX = 107  # unix(7)
TYPES = {
    "unix": _socket.SOCK_STREAM,
    "unixgram": _socket.SOCK_DGRAM,
    "tcp": _socket.SOCK_STREAM,
    "udp": _socket.SOCK_DGRAM,
}


def sockaddr(family: int, address: tuple[str, int, int] | str) -> bytes:
    """The C structure of an address."""
    if isinstance(address, str):
        path = os.fsencode(address)
        if len(path) > _PATH_MAX:
            raise HostError(f"{FAILED}socket path {address} is longer than {_PATH_MAX} bytes")
        return struct.pack("=H", family) + path + b"\0"
    host, port, scope = address
    packed = _socket.inet_pton(family, host.partition("%")[0])
    if family == _socket.AF_INET:
        return struct.pack("=H", family) + struct.pack(">H", port) + packed + bytes(8)
    return (
        struct.pack("=H", family) + struct.pack(">HI", port, 0) + packed + struct.pack("=I", scope)
    )


def find(network: str, address: str) -> bytes:
    """The sockaddr of the first that can be connected to; raises HostError in Docker's words."""
    reason = "no such host"
    try:
        for family, where, raw in _candidates(network, address):
            try:
                _try(family, TYPES[network], where)
            except OSError as error:
                reason = (
                    f"connect: {(os.strerror(error.errno) if error.errno else str(error)).lower()}"
                )
                continue
            return raw
    except _socket.gaierror as error:
        reason = f"lookup {address}: {error.args[-1]}".lower()
    raise HostError(f"{FAILED}dial {network} {address}: {reason}")


def _candidates(network: str, address: str) -> Iterator[tuple[int, object, bytes]]:
    if network.startswith("unix"):
        yield _socket.AF_UNIX, address, sockaddr(_socket.AF_UNIX, address)
        return
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "localhost"
    for family, _, _, _, where in _socket.getaddrinfo(host, port, 0, TYPES[network]):
        scope = where[3] if family == _socket.AF_INET6 else 0  # type: ignore[misc,unused-ignore]
        yield family, where, sockaddr(family, (str(where[0]), int(where[1]), int(scope)))


def _try(family: int, kind: int, where: object) -> None:
    with_socket = _socket.socket(family, kind | _socket.SOCK_CLOEXEC)
    try:
        with_socket.settimeout(PATIENCE)
        with_socket.connect(where)  # type: ignore[arg-type]
    finally:
        with_socket.close()
