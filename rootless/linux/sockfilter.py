"""Whether a process may filter what its own TCP sockets receive (SO_ATTACH_FILTER).

Anybody could, until the kernel asked for CAP_NET_ADMIN over the network namespace in 2026 (commit
5d39580f68e6), in updates of older versions too: so it is tried.
"""

from __future__ import annotations

import _socket
import array
import struct

_SO_ATTACH_FILTER = 26
_RET_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0xFFFFFFFF)


def can_attach() -> bool:
    """Try it on a socket of our own, in the network namespace that we are in."""
    code = array.array("B", _RET_ALL)
    program = struct.pack("HP", 1, code.buffer_info()[0])
    one = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        one.setsockopt(_socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError:
        return False
    finally:
        one.close()
    return True
