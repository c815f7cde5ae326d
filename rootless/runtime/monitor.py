"""Starting a container's monitor and talking to it.

Owns the monitor's command line and its client protocol.  It knows nothing of images, requests or terminals.

The protocol: SEQPACKET datagrams, the first byte is the type, stream data is at most 32 KiB per message.

    to the monitor
    A  u8 streams                attach: 1 stdin, 2 stdout, 4 stderr; also asks for X
    I  bytes                     data for the container's stdin
    Z                            end of stdin
    W                            asks for X
    K  u8 signal, u8 flags       signal the first process; flag 1: a manual stop, no restart follows
    T  u8 signal, i32 seconds    stop: signal, then KILL after that time (negative: never)
    R  u16 rows, u16 columns     size of the terminal
    D                            detach: nothing more is wanted, stdin stays open
    Q                            asks for S
    H                            probe the container's health now; answered by V, or by G if there can be none
    U  u8 policy, u32 maximum    change the restart policy: 0 no, 1 always, 2 unless-stopped, 3 on-failure

    from the monitor
    P  u32 pid                   the container's program was executed (also after each restart)
    E  u32 code, text            the start failed; X follows
    1, 2  bytes                  stdout, stderr; a terminal has only 1
    S  text                      state.json
    G  u8 errno                  answer to K, T and U, 0 is success
    V  u8 health, u8 passed      a probe is over; health: 0 none (the container ended), 1 starting, 2 healthy,
                                 3 unhealthy
    X  u32 code, u8 flags        the end, for good, after all output; flag 1: by a signal, 2: out of memory

All of it is also spoken on a second socket, in the container's directory (fallback_socket).  Who comes there
has not found the first, for the runtime directory was wiped, and the monitor makes that anew.

The first client is there before the container, on an inherited descriptor.  Output is held back until it
has sent A, W or D or is gone, so it misses nothing.  A monitor takes one message of stdin at a time: a
signal sent after much stdin on the same connection waits behind it, so signals go over a connection of
their own.
"""

from __future__ import annotations

import _socket
import os
import struct

from rootless import jsonc
from rootless.errors import HostError
from rootless.linux import spawn as spawning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    Message = tuple[bytes, bytes]

CHUNK = 32768
_MESSAGE_MAX = CHUNK + 4096
_ADDRESS_MAX = 107  # bytes of a Unix socket's path, unix(7)
POLICIES = ("no", "always", "unless-stopped", "on-failure")  # as helpers/monitor.h counts them
HEALTHS = ("none", "starting", "healthy", "unhealthy")
_CLIENT_FD, _LOCK_FD, _USER_FD, _NET_FD, _STDIO_FD = 3, 4, 5, 6, 7
# What a monitor is told unless something else is said.
_NEEDED = ("id", "launch", "tape")
_DEFAULTS: dict[str, Any] = {
    "socket": "",
    "run_dir": "",
    "state": "",
    "durable": False,
    "boot_id": "",
    "log": "",
    "log_config": "",
    "log_max_size": 0,
    "log_max_file": 1,
    "tty": False,
    "stdin": False,
    "stdin_once": False,
    "restart": "no",
    "restart_max": 0,
    "stop_signal": 15,
    "stop_timeout": 10,
    "remove_tape": "",
    "container_dir": "",
    "trash_dir": "",
    "names_dir": "",
    "events": "",
    "events_max_size": 0,
    "event_lines": "",
    "exec_id": "",
    "on_exit": "",
    "on_exit_args": (),
    "fallback_socket": "",
    "health": {},
}


class MonitorOptions:
    """What a monitor is told on its command line; "" and () leave an option out.

    id, launch, tape       container ID; the launcher; the tape it plays at each start
    socket, run_dir        where to listen; the directory that is removed at the end
    state, durable         state.json; whether the end is synced to disk
    boot_id                recorded in the state
    log, log_max_size, log_max_file  the json-file log; bytes before it is rotated (0 never); files kept
    log_config             a file that says more of the log, as drivers/log/base.py encodes it
    tty                    the tape opens a pty
    stdin, stdin_once      keep a stdin pipe; end it with the client that feeds it
    restart, restart_max   "no", "always", "unless-stopped" or "on-failure"; 0 is no limit
    stop_signal, stop_timeout  for a stop that the monitor makes itself, when it is sent SIGTERM; seconds
    events, events_max_size, event_lines  the file of events; bytes before it is renamed; what the container's
                           events say of it (engine/events.py)
    exec_id                this is a session in a container that runs
    remove_tape, container_dir, trash_dir, names_dir  remove the container at its end
    on_exit, on_exit_args  a program to run at the end
    fallback_socket        where to listen besides, should the first place be wiped
    health                 what the monitor is told of health, without "health-": tape and file (what plays a
                           probe, what shows the results), interval, timeout, start-period and start-interval
                           (milliseconds), timeout-text, retries, on-failure
    """

    __slots__ = (*_NEEDED, *_DEFAULTS)

    id: str
    launch: str
    tape: str
    socket: str
    run_dir: str
    state: str
    durable: bool
    boot_id: str
    log: str
    log_config: str
    log_max_size: int
    log_max_file: int
    tty: bool
    stdin: bool
    stdin_once: bool
    restart: str
    restart_max: int
    stop_signal: int
    stop_timeout: int
    remove_tape: str
    container_dir: str
    trash_dir: str
    names_dir: str
    events: str
    events_max_size: int
    event_lines: str
    exec_id: str
    on_exit: str
    on_exit_args: Sequence[str]
    fallback_socket: str
    health: Mapping[str, str | int]

    def __init__(self, **values: Any) -> None:
        """Raises TypeError for a name that is none, and where one that is needed is missing."""
        unknown = set(values) - set(self.__slots__)
        missing = set(_NEEDED) - set(values)
        if unknown or missing:
            raise TypeError(f"cannot make options of {sorted(unknown)} without {sorted(missing)}")
        for name, value in {**_DEFAULTS, **values}.items():
            setattr(self, name, value)

    def argv(self) -> list[str]:
        """The options as arguments."""
        argv = []
        for name in self.__slots__:
            value = getattr(self, name)
            if name in ("on_exit_args", "health") or value == "":
                continue
            text = value if isinstance(value, str) else str(int(value))
            argv.append(f"--{name.replace('_', '-')}={text}")
        argv += [f"--on-exit-arg={value}" for value in self.on_exit_args]
        argv += [f"--health-{key}={value}" for key, value in self.health.items()]
        return argv


class Client:
    """One connection to a monitor.  That the monitor is gone is learnt from what receives, not from a send."""

    __slots__ = ("_child", "_queued", "_socket", "path")

    def __init__(self, connection: _socket.socket, path: str = "", child: int = 0) -> None:
        self._socket = connection
        self._child = child
        self._queued: list[Message] = []
        self.path = path

    def fileno(self) -> int:
        """The descriptor, for poll."""
        return self._socket.fileno()

    def _send(self, data: bytes, flags: int = 0) -> bool:
        """Send one message; False if there is no room for it and FLAGS say not to wait.

        What a monitor that has ended was still to be told is of no use to anyone: what it has said before
        waits to be received, and after that the end of the connection.
        """
        try:
            self._socket.send(data, flags)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            pass
        return True

    def attach(self, *, stdin: bool, stdout: bool, stderr: bool) -> None:
        """Ask for these streams, and for the end."""
        self._send(bytes((65, stdin | stdout << 1 | stderr << 2)))

    def stdin(self, data: bytes) -> bool:
        """Send at most CHUNK bytes of stdin; False if there is no room for them now (poll for POLLOUT)."""
        return self._send(b"I" + data, _socket.MSG_DONTWAIT)

    def eof(self) -> bool:
        """Send the end of stdin; False if there is no room for it now."""
        return self._send(b"Z", _socket.MSG_DONTWAIT)

    def wait(self) -> None:
        """Ask for the end."""
        self._send(b"W")

    def kill(self, signal: int, *, manual_stop: bool = False) -> bool:
        """Send SIGNAL to the first process, which :meth:`wait_ack` answers; False if there is no room now."""
        return self._send(bytes((75, signal, manual_stop)), _socket.MSG_DONTWAIT)

    def stop(self, signal: int, timeout: int) -> None:
        """Stop with SIGNAL, and with KILL after TIMEOUT seconds (negative: never)."""
        self._send(struct.pack("<cBi", b"T", signal, max(-1, min(timeout, 0x7FFFFFFF))))

    def resize(self, rows: int, columns: int) -> bool:
        """Tell the size of the terminal; False if there is no room for it now."""
        message = struct.pack("<cHH", b"R", rows & 0xFFFF, columns & 0xFFFF)
        return self._send(message, _socket.MSG_DONTWAIT)

    def detach(self) -> None:
        """Say that nothing more is wanted."""
        self._send(b"D")

    def probe(self) -> tuple[str, bool] | int:
        """Have the health probed now: (health, whether the probe passed), or an errno where it cannot be.

        Raises OSError if the monitor is gone.
        """
        self._send(b"H")
        message = self._expect(b"GV")
        if len(message) == 1:
            return message[0]
        return HEALTHS[message[0]], bool(message[1])

    def set_policy(self, policy: str, maximum: int = 0) -> int:
        """Change the restart policy: 0 or an errno; raises OSError if the monitor is gone."""
        self._send(struct.pack("<cBI", b"U", POLICIES.index(policy), maximum))
        return self.wait_ack()

    def query(self) -> dict[str, Any]:
        """The container's state as the monitor knows it; raises OSError if the monitor is gone."""
        self._send(b"Q")
        state: dict[str, Any] = jsonc.loads(self._expect(b"S"))
        return state

    def wait_ack(self) -> int:
        """The answer to the last kill or stop: 0 or an errno; raises OSError if the monitor is gone."""
        return self._expect(b"G")[0]

    def _expect(self, kind: bytes) -> bytes:
        while True:
            message = self._receive()
            if message is None:
                raise ConnectionResetError("cannot ask the monitor: it is gone")
            if message[0] in kind:
                return message[1]
            self._queued.append(message)

    def _receive(self) -> Message | None:
        try:
            data = self._socket.recv(_MESSAGE_MAX)
        except ConnectionResetError:
            # The monitor ended with something of ours unread.  The kernel says so once, before what it
            # has sent us, which is still there.
            data = self._socket.recv(_MESSAGE_MAX)
        self._reap()
        return (data[:1], data[1:]) if data else None

    def recv(self) -> Message | None:
        """The next message as (type, payload), or None when the monitor is gone."""
        if self._queued:
            return self._queued.pop(0)
        return self._receive()

    def _reap(self) -> None:
        # The process we started ends at once; it has by the time that the monitor talks to us.
        if self._child:
            child, self._child = self._child, 0
            try:
                os.waitpid(child, 0)
            except ChildProcessError:
                pass

    def close(self) -> None:
        """Leave."""
        self._reap()
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def spawn(
    libexec: str,
    options: MonitorOptions,
    *,
    stdio: bool = False,
    lock_fd: int = -1,
    user_ns_fd: int = -1,
    net_ns_fd: int = -1,
) -> Client:
    """Start a monitor, which starts the container, and be its first client.

    The monitor gets copies of the descriptors given and nothing else of ours; it lives on without us.
    STDIO: the container gets our own stdin, stdout and stderr.
    Raises HostError where the program cannot be executed.
    """
    ours, theirs = _socket.socketpair(
        _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
    )
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    argv = [f"{libexec}/monitor", *options.argv()]
    fds = {0: null, 1: null, 2: null}
    for name, number, fd in (
        ("client", _CLIENT_FD, theirs.fileno()),
        ("lock", _LOCK_FD, lock_fd),
        ("user-ns", _USER_FD, user_ns_fd),
        ("net-ns", _NET_FD, net_ns_fd),
    ):
        if fd >= 0:
            fds[number] = fd
            argv.append(f"--{name}-fd={number}")
    if stdio:
        fds.update((_STDIO_FD + number, number) for number in range(3))
        argv.append(f"--stdio-fd={_STDIO_FD}")
    try:
        child = spawning.spawn(argv, fds, {})
    except OSError as error:
        ours.close()
        raise HostError(
            f"cannot execute {argv[0]}: {os.strerror(error.errno or 0).lower()}",
            hint="run install.sh again to build the helper programs",
        ) from None
    finally:
        theirs.close()
        os.close(null)
    return Client(ours, options.socket, child)


def connect(path: str) -> Client:
    """A connection to the monitor that listens at PATH; raises OSError where none does."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    directory = -1
    try:
        address = path
        if len(os.fsencode(path)) > _ADDRESS_MAX:
            parent, _, name = path.rpartition("/")
            directory = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            address = f"/proc/self/fd/{directory}/{name}"
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    finally:
        if directory >= 0:
            os.close(directory)
    return Client(connection, path)


def wait_exit(client: Client) -> int | None:
    """The exit code, once the container has ended for good; None if the monitor is lost before.

    The client must have asked for the end (wait or attach) or be the monitor's first.
    """
    while True:
        message = client.recv()
        if message is None:
            return None
        if message[0] == b"X":
            return int.from_bytes(message[1][:4], "little")
