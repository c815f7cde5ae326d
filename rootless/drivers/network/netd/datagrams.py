"""Many datagrams in one system call: from one sender, of one size but for the last.

Fast senders (QUIC) make them so (UDP_SEGMENT, since Linux 4.18), and a socket that asks for it (UDP_GRO, 5.0)
is given them so.  What came together is sent on together, and arrives as the datagrams it is.
"""

from __future__ import annotations

import errno
import socket
from struct import Struct
from sys import byteorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_UDP_SEGMENT, _UDP_GRO = 103, 104  # linux/udp.h
MOST = 65536  # bytes that come at once
_size = Struct("=H")


def take_many(sock: socket.socket) -> None:
    """Let the kernel hand over several datagrams at a time."""
    try:
        sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
    except OSError:  # before 5.0: one at a time
        pass


def size_of(notes: Sequence[tuple[int, int, bytes]]) -> int:
    """The size of the datagrams that came with NOTES, 0 for a single one."""
    for level, kind, data in notes:
        if level == socket.IPPROTO_UDP and kind == _UDP_GRO:
            return int.from_bytes(data[:4], byteorder)
    return 0


def receive(sock: socket.socket, buffer: bytearray) -> tuple[int, int]:
    """How many bytes came, and the size of the datagrams they are, 0 for a single one."""
    count, notes, _, _ = sock.recvmsg_into([buffer], 64)
    return count, size_of(notes) if notes else 0


def give(
    sock: socket.socket,
    data: bytes | memoryview,
    size: int,
    notes: Sequence[tuple[int, int, bytes]] = (),
    receiver: tuple[Any, ...] | None = None,
) -> None:
    """Send datagrams of SIZE as they came, with NOTES, to RECEIVER unless the socket is connected."""
    if not size or len(data) <= size:
        _send(sock, data, notes, receiver)
        return
    try:
        _send(sock, data, [*notes, (socket.IPPROTO_UDP, _UDP_SEGMENT, _size.pack(size))], receiver)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EIO, errno.EMSGSIZE):
            raise
        for at in range(0, len(data), size):  # larger than the way takes, for instance
            _send(sock, data[at : at + size], notes, receiver)


def _send(
    sock: socket.socket,
    data: bytes | memoryview,
    notes: Sequence[tuple[int, int, bytes]],
    receiver: tuple[Any, ...] | None,
) -> None:
    if notes:
        sock.sendmsg([data], notes, 0, receiver) if receiver else sock.sendmsg([data], notes)
    elif receiver:
        sock.sendto(data, receiver)
    else:
        sock.send(data)
