"""The realm: the caller's user and network namespaces, kept by one tiny holder process.

Owns finding the holder and making it.  The holder is found through the runtime directory, under a key
made from the ID map, so that edited subordinate ranges make a new realm and nobody migrates anything.
A record names pid and start time; it is believed only when a process with both is alive.  If the holder
died, the next command makes another: in the same namespaces if something that still serves them hands them
over, else in new ones; containers of the old realm live on, their namespaces are theirs.

Knows nothing of containers, images or the store.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os

from rootless.errors import HostError, NamespaceError, NoSpaceError, NotExecutedError
from rootless.linux import proc, spawn
from rootless.plan import launch, tape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Callable

    from rootless.config.paths import Paths
    from rootless.facts import Extent, HostFacts
    from rootless.plan.tape import Op

USER_FD = 5
NET_FD = 6


class Realm:
    """Open descriptors of the realm's namespaces; close() when done."""

    __slots__ = ("net_fd", "pid", "user_fd")

    def __init__(self, pid: int, user_fd: int, net_fd: int) -> None:
        self.pid = pid
        self.user_fd = user_fd
        self.net_fd = net_fd

    def close(self) -> None:
        """Close both descriptors; the namespaces stay."""
        os.close(self.user_fd)
        os.close(self.net_fd)


def map_hash(uid_map: Sequence[Extent], gid_map: Sequence[Extent]) -> str:
    """Sixteen hex digits that name an ID map (FNV-1a, 64 bits: a file name, not a secret)."""
    value = 0xCBF29CE484222325
    for byte in repr((tuple(uid_map), tuple(gid_map))).encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def ensure(
    paths: Paths, facts: HostFacts, kept: Callable[[], tuple[int, int] | None] = lambda: None
) -> Realm:
    """The realm for the map in FACTS, made if there is none; raises NamespaceError where it cannot be.

    KEPT gives descriptors of the user and network namespaces of a realm whose holder died, if they are known.
    """
    directory = paths.realms
    record = f"{directory}/{map_hash(facts.uid_map, facts.gid_map)}"
    realm = _open(record)
    if realm is not None:
        return realm
    os.makedirs(directory, 0o700, exist_ok=True)
    lock = os.open(record + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        realm = _open(record)
        if realm is None:
            _make(record, paths, facts, kept())
            realm = _open(record)
    finally:
        os.close(lock)
    if realm is None:
        raise NamespaceError("cannot enter the realm: its holder ended at once")
    return realm


def end(paths: Paths, facts: HostFacts) -> None:
    """End the holder of the realm, if it lives; containers that run in it live on."""
    record = f"{paths.realms}/{map_hash(facts.uid_map, facts.gid_map)}"
    realm = _open(record)
    if realm is None:
        return
    start = proc.starttime(realm.pid)
    realm.close()
    os.unlink(record)
    if start is not None:
        proc.send_signal(realm.pid, start, 15)


def _open(record: str) -> Realm | None:
    try:
        with open(record, encoding="ascii") as file:
            pid, start = map(int, file.read().split())
    except (OSError, ValueError):
        return None
    fds: list[int] = []
    try:
        for kind in ("user", "net"):
            fds.append(os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        fds = _close_all(fds)
    # After the descriptors are open: a reused pid would show another start time.
    if fds and proc.starttime(pid) != start:
        fds = _close_all(fds)
    return Realm(pid, fds[0], fds[1]) if fds else None


def _close_all(fds: list[int]) -> list[int]:
    for fd in fds:
        os.close(fd)
    return []


def _make(record: str, paths: Paths, facts: HostFacts, kept: tuple[int, int] | None = None) -> None:
    ops = launch.realm_tape(facts, paths.libexec, again=kept is not None)
    name = os.path.basename(record)
    program = tape.encode([*keeping(f"realm-{name}", "rootless: namespaces", facts), *ops])
    fds = dict(zip((USER_FD, NET_FD), kept or ()))
    try:
        pid = play(paths.libexec, program, "make the realm", fds)
    finally:
        _close_all(list(fds.values()))
    start = proc.starttime(pid)
    if start is None:
        raise NamespaceError("cannot make the realm: its holder ended at once")
    temporary = f"{record}.{os.getpid()}"
    with open(temporary, "w", encoding="ascii") as file:
        file.write(f"{pid} {start}\n")
    os.rename(temporary, record)


def keeping(name: str, description: str, facts: HostFacts) -> list[Op]:
    """Operations that keep who plays them from ending with the session that starts it.

    Where containers have scopes, what they share has one as well; else all of it is the session's, which is
    what somebody who is in a job of a scheduler expects.
    """
    if facts.cgroup_rung != "systemd":
        return []
    from rootless.drivers.cgroup import systemd

    return [systemd.keeper(f"{name}-{os.getpid()}", description, facts)]


def memfd(name: str, data: bytes) -> int:
    """A sealed-by-convention anonymous file holding DATA, at offset 0."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def play(libexec: str, program: bytes, what: str, fds: Mapping[int, int]) -> int:
    """Play a tape until it executes a program or ends; the pid to wait for (ours to reap).

    WHAT ends the sentence "cannot ..." if it fails; FDS maps further descriptors of the player to
    ours.  Raises NamespaceError with the launcher's reason, NotExecutedError where the program is the reason.
    """
    launcher, pid, number, failure, _ = _play(libexec, program, fds)
    if pid:
        os.waitpid(launcher, 0)
    if number == errno.ENOSPC:
        raise NoSpaceError(f"cannot {what}: {failure}")
    if failure:
        status = os.waitstatus_to_exitcode(os.waitpid(pid or launcher, 0)[1])
        if status in (126, 127):
            raise NotExecutedError(f"cannot {what}: {failure}", failure, status)
        raise NamespaceError(f"cannot {what}: {failure}")
    return pid or launcher


def try_tape(libexec: str, program: bytes) -> tuple[int, str]:
    """Play a tape to its end and reap what it leaves: (errno, reason), (0, "") if all of it worked.

    Servers that the tape started end with what they serve, and are reaped last: before Linux 6.11 a process
    keeps its seccomp filter, whose end a supervisor waits for, until it is reaped itself.
    """
    launcher, pid, number, failure, servers = _play(libexec, program, {})
    code = os.waitstatus_to_exitcode(os.waitpid(launcher, 0)[1])
    if pid:
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except ChildProcessError:
            pass
    for server in servers:
        os.waitpid(server, 0)
    if code and not failure:
        return errno.EIO, f"the launcher ended with status {code}"
    return number, failure


def _play(
    libexec: str, program: bytes, fds: Mapping[int, int]
) -> tuple[int, int, int, str, list[int]]:
    """(pid of the launcher, of its child or 0, errno, reason, pids of servers) once the end or exec came."""
    ours, theirs = _socket.socketpair(
        _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
    )
    tape_fd = memfd("tape", program)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    slot = max(2, *fds) + 1 if fds else 3
    table = {0: null, 1: null, 2: null, slot: tape_fd, slot + 1: theirs.fileno(), **fds}
    try:
        child = spawn.spawn([f"{libexec}/launch", str(slot), str(slot + 1)], table, {})
    except OSError as error:
        ours.close()
        raise HostError(
            f"cannot execute {libexec}/launch: {os.strerror(error.errno or 0).lower()}",
            hint="run install.sh again to build the helper programs",
        ) from None
    finally:
        os.close(tape_fd)
        os.close(null)
        theirs.close()
    pid, number, failure = 0, 0, ""
    servers = []
    while True:
        message = ours.recv(65536)
        if not message:
            break
        if message[:1] == b"P":
            pid = int.from_bytes(message[1:5], "little")
        elif message[:1] in (b"H", b"O", b"N", b"F"):
            servers.append(int.from_bytes(message[1:5], "little"))
        elif message[:1] == b"E":
            number = int.from_bytes(message[9:13], "little")
            failure = message[13:].decode("utf-8", "replace")
    ours.close()
    return child, pid, number, failure, servers
