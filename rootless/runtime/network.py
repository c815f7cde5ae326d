"""The network service of the realm, seen by the engine: start it where it is not, and ask it.

The listening socket is made here and given to netguard, which starts the service and starts it again when it
dies; so a container's launcher can connect at once and waits until it is served.  Paths, below
``<runtime>/net/<hash of the ID map>/``: ``sock``, ``lock`` (held while the socket is made or taken away),
``log``, and ``state/``, which is the service's own.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import sys

from rootless import jsonc
from rootless.errors import ConflictError, HostError, NotFoundError, UsageError
from rootless.plan import tape

from . import realm as realms
from .realm import map_hash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rootless.config.paths import Paths
    from rootless.facts import HostFacts

    from .realm import Realm

LISTEN_FD, USER_FD, NET_FD = 3, 4, 5
BACKLOG = 512
PATIENCE = 20.0  # seconds for an answer
_HOST_PROGRAM = 2  # exec's flag: inherited descriptors are kept
_PROGRAM = "drivers/network/netd/server.py"
_ERRORS = {"not-found": NotFoundError, "conflict": ConflictError, "usage": UsageError}


def directory(paths: Paths, facts: HostFacts) -> str:
    """Where the service of the realm has its socket."""
    return f"{paths.runtime_root}/net/{map_hash(facts.uid_map, facts.gid_map)}"


def connect(top: str) -> _socket.socket | None:
    """A connection to the service in TOP, or None if there is none; it does not retire while one is open."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        fd, path = _short(top)
    except OSError:
        connection.close()
        return None
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        return None
    finally:
        os.close(fd)
    return connection


def _short(top: str) -> tuple[int, str]:
    """(descriptor, path) of the socket in TOP by way of the descriptor: an address holds 107 bytes only."""
    fd = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return fd, f"/proc/self/fd/{fd}/sock"


def ensure(
    paths: Paths, facts: HostFacts, realm: Realm, options: Mapping[str, Any]
) -> _socket.socket:
    """A connection to the service, which is started if need be; to be kept until the launcher has its own.

    OPTIONS are the service's own, see netd/server.py.  Raises HostError.
    """
    top = directory(paths, facts)
    found = connect(top)
    if found is not None:
        return found
    os.makedirs(f"{top}/state", 0o700, exist_ok=True)
    lock = os.open(f"{top}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = connect(top)
        if found is None:
            _start(paths, facts, top, realm, options)
            found = connect(top)
    finally:
        os.close(lock)
    if found is None:
        raise HostError(f"cannot start the network service: see {top}/log")
    return found


def _start(
    paths: Paths, facts: HostFacts, top: str, realm: Realm, options: Mapping[str, Any]
) -> None:
    path = f"{top}/sock"
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    fd, short = _short(top)
    try:
        listener.bind(short)
        # The directory is what keeps others out.  A launcher that asks again has other IDs by then.
        os.chmod(short, 0o666)
        listener.listen(BACKLOG)
        program = os.path.join(
            os.path.dirname(os.path.dirname(os.path.abspath(__file__))), _PROGRAM
        )
        words = {"socket": path, "state": f"{top}/state", **options}
        argv = [f"{paths.libexec}/netguard", f"{top}/log", "--", sys.executable, "-I", "-S"]
        argv += [program, jsonc.dumps(words)]
        table = {LISTEN_FD: listener.fileno(), USER_FD: realm.user_fd, NET_FD: realm.net_fd}
        kept = realms.keeping("network", "rootless: network service", facts)
        program_ops = [*kept, ("exec", (argv[0], argv, ["LANG=C.UTF-8"], _HOST_PROGRAM))]
        pid = realms.play(
            paths.libexec, tape.encode(program_ops), "start the network service", table
        )
        os.waitpid(pid, 0)  # it goes into the background
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise HostError(f"cannot start the network service: {reason}") from None
    finally:
        os.close(fd)
        listener.close()


def ask(top: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Send the service in TOP a request, give its answer; raises the error that it answers with.

    Raises HostError where no service is or it does not answer.
    """
    connection = connect(top)
    if connection is None:
        raise HostError("cannot reach the network service: it does not run")
    try:
        connection.settimeout(PATIENCE)
        connection.sendall(jsonc.dumps(request).encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            part = connection.recv(1 << 16)
            if not part:
                break
            data += part
    except OSError as error:
        raise HostError(f"cannot reach the network service: {error}") from None
    finally:
        connection.close()
    if not data:
        raise HostError("cannot reach the network service: it gave no answer")
    answer: dict[str, Any] = jsonc.loads(data.decode())
    if "error" in answer:
        raise _ERRORS.get(answer.get("slug", ""), HostError)(
            answer["error"], hint=answer.get("hint", "")
        )
    return answer


def namespaces(paths: Paths, facts: HostFacts) -> tuple[int, int] | None:
    """Descriptors of the user and the network namespace that the service works in, or None if there is none."""
    connection = connect(directory(paths, facts))
    if connection is None:
        return None
    try:
        connection.settimeout(PATIENCE)
        connection.sendall(b'{"op":"realm"}\n')
        _, notes, _, _ = connection.recvmsg(1 << 12, _socket.CMSG_SPACE(2 * 4))
    except OSError:
        return None
    finally:
        connection.close()
    found = [
        int.from_bytes(body[at : at + 4], sys.byteorder)
        for level, kind, body in notes
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)
        for at in (0, 4)
    ]
    for fd in found:
        os.set_inheritable(fd, False)
    return (found[0], found[1]) if found else None


def stop(paths: Paths, facts: HostFacts) -> None:
    """End the service, if it runs; what containers have stays until they end."""
    try:
        ask(directory(paths, facts), {"op": "stop"})
    except HostError:
        return
