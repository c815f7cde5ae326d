"""Attaching this process's terminal or streams to a container.

Owns the terminal's mode, the detach keys, the forwarding of signals and of the terminal's size.  It knows
the monitor only as a :class:`rootless.runtime.monitor.Client`.

Nothing here blocks but poll, so that each direction goes on while the other is stuck: a pipe that poll
calls writable takes PIPE_BUF bytes at once (pipe(7)), and more is never written to one in a piece.
"""

from __future__ import annotations

import _signal
import errno
import fcntl
import os
import select
import stat
import struct
import termios

from rootless.errors import HostError, UsageError

from . import monitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from .monitor import Client

_PIPE_BUF = 4096
_BROKEN_PIPE = 128 + int(_signal.SIGPIPE)
_HUNG_UP = 128 + int(_signal.SIGHUP)

# Not forwarded: what cannot be caught and what is about this process alone (a child of ours, our own
# fault, our place in a job).
_NOT_PROXIED = {
    "SIGKILL", "SIGSTOP", "SIGCHLD", "SIGPIPE", "SIGURG", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL",
    "SIGTRAP", "SIGSYS", "SIGTTIN", "SIGTTOU",
}  # fmt: skip


class AttachResult:
    """How an attachment ended.

    exit_code  of the container, 128 + n where signal n ended it; None after a detach or if the monitor
               is lost
    detached   the detach keys were typed
    error      (exit code, reason) if the container could not be started
    signalled  a signal ended it
    """

    __slots__ = ("detached", "error", "exit_code", "signalled")

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self.detached = False
        self.error: tuple[int, str] | None = None
        self.signalled = False


def parse_detach_keys(text: str) -> bytes:
    """The bytes of a sequence like "ctrl-p,ctrl-q" or "a,ctrl-]"; "" is none.  Raises UsageError."""
    keys = bytearray()
    for key in text.split(",") if text else ():
        name = key[5:] if key.startswith("ctrl-") else ""
        code = ord(name.upper()) if len(name) == 1 else 0
        if len(key) == 1 and ord(key) < 128:
            keys.append(ord(key))
        elif code == 0x3F or (64 <= code <= 95):  # @ A-Z [ \ ] ^ _ and ?, which is DEL
            keys.append(code ^ 64)
        else:
            raise UsageError(f"invalid detach keys ({text}) provided: unknown character: '{key}'")
    return bytes(keys)


class KeyMatcher:
    """Finds the detach sequence in what is typed, and lets everything else through."""

    __slots__ = ("_held", "_keys")

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what to pass on, whether the sequence is complete); a beginning of it is held back."""
        keys, held = self._keys, self._held
        if not keys or (not held and keys[0] not in data):
            return data, False
        passed = bytearray()
        for byte in data:
            held += bytes((byte,))
            while held and not keys.startswith(held):
                passed.append(held[0])
                held = held[1:]
            if held == keys:
                self._held = b""
                return bytes(passed), True
        self._held = held
        return bytes(passed), False

    def rest(self) -> bytes:
        """What is still held back, when nothing follows."""
        held, self._held = self._held, b""
        return held


class Terminal:
    """A terminal in raw mode; a descriptor that is none is left alone."""

    __slots__ = ("_fd", "_saved")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved: list[Any] | None = None

    def enter(self) -> None:
        """Switch to raw mode: every byte goes through as it is typed."""
        try:
            saved = termios.tcgetattr(self._fd)
        except termios.error:
            return
        if self._saved is None:
            self._saved = saved
        raw = [*saved[:6], list(saved[6])]
        raw[0] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
            | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
        )  # fmt: skip
        raw[1] &= ~termios.OPOST
        raw[2] = (raw[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
        raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSADRAIN, raw)

    def leave(self) -> None:
        """Give the terminal its former mode back."""
        saved, self._saved = self._saved, None
        if saved is not None:
            try:
                termios.tcsetattr(self._fd, termios.TCSADRAIN, saved)
            except termios.error:
                pass  # it was hung up


def window_size(*fds: int) -> tuple[int, int] | None:
    """(rows, columns) of the first of FDS that is a terminal and knows."""
    for fd in fds:
        try:
            packed = fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))
        except OSError:
            continue
        rows, columns = struct.unpack("<HHHH", packed)[:2]
        if rows and columns:
            return rows, columns
    return None


class _Signals:
    """Handlers that are put back at the end."""

    __slots__ = ("_saved",)

    def __init__(self) -> None:
        self._saved: list[tuple[int, Any]] = []

    def handle(self, number: int, handler: Callable[[int, Any], Any]) -> None:
        try:
            self._saved.append((number, _signal.signal(number, handler)))
        except (OSError, ValueError):
            pass  # not catchable, or not the main thread

    def restore(self) -> None:
        while self._saved:
            number, handler = self._saved.pop()
            _signal.signal(number, _signal.SIG_DFL if handler is None else handler)


class _Writer:
    """One of our output descriptors and what is still to be written to it."""

    __slots__ = ("_piece", "data", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.data = memoryview(b"")
        try:
            regular = stat.S_ISREG(os.fstat(fd).st_mode)
        except OSError:
            regular = False
        self._piece = monitor.CHUNK if regular else _PIPE_BUF

    def write(self) -> None:
        self.data = self.data[os.write(self.fd, self.data[: self._piece]) :]


class _Session:
    """One attachment, from the first message to the last."""

    def __init__(
        self, client: Client, *, tty: bool, in_fd: int, out_fd: int, err_fd: int, keys: bytes
    ) -> None:
        self.client = client
        self.tty = tty
        self.in_fd = in_fd
        self.out = _Writer(out_fd)
        self.err = _Writer(err_fd)
        self.keys = KeyMatcher(keys)
        self.terminal = Terminal(in_fd)
        self.signals = _Signals()
        self.result = AttachResult()
        self.reading = False  # our stdin
        self.typed = b""  # read and not sent yet
        self.ending = False  # the end of stdin is to be sent
        self.control: Client | None = None
        self.running: Callable[[], None] | None = None
        self.done = False

    def _urgent(self) -> Client:
        """A connection on which nothing waits behind stdin; the only one where there is no socket."""
        if self.control is None and self.client.path:
            try:
                self.control = monitor.connect(self.client.path)
            except OSError:
                pass  # it does not listen yet, or is about to end
        return self.control or self.client

    def forward(self, number: int, _frame: Any) -> None:
        self._urgent().kill(number)

    def resize(self, _number: int = 0, _frame: Any = None) -> None:
        size = window_size(self.out.fd, self.in_fd)
        if size and not self.client.resize(*size):
            self._urgent().resize(*size)

    def resume(self, _number: int, _frame: Any) -> None:
        """We were stopped, and the shell has set the terminal as it likes it."""
        self.terminal.enter()
        self.resize()

    def die(self, number: int, _frame: Any) -> None:
        """A signal that is not forwarded ends us, but not before the terminal is as it was."""
        self.terminal.leave()
        _signal.signal(number, _signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def install_signals(self, *, proxy: bool, raw: bool) -> None:
        if proxy:
            skipped = {getattr(_signal, name, 0) for name in _NOT_PROXIED}
            for number in _signal.valid_signals():
                if number not in skipped:
                    self.signals.handle(number, self.forward)
        elif raw:
            for number in (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT):
                self.signals.handle(number, self.die)
        if self.tty:
            self.signals.handle(_signal.SIGWINCH, self.resize)
        if raw:
            self.signals.handle(_signal.SIGCONT, self.resume)

    def read_stdin(self) -> None:
        try:
            data = os.read(self.in_fd, monitor.CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # a terminal that was hung up gives EIO
        if not data:
            self.typed = self.keys.rest()
            self.reading = False
            self.ending = not self.tty
            return
        self.typed, detached = self.keys.feed(data)
        if detached:
            if self.typed:
                self.client.stdin(self.typed)
            self.client.detach()
            self.result.detached = self.done = True

    def send_stdin(self) -> None:
        if self.typed and self.client.stdin(self.typed):
            self.typed = b""
        if not self.typed and self.ending and self.client.eof():
            self.ending = False

    def take_message(self) -> None:
        message = self.client.recv()
        if message is None:
            self.done = True
            return
        kind, payload = message
        if kind == b"1":
            self.out.data = memoryview(payload)
        elif kind == b"2":
            self.err.data = memoryview(payload)
        elif kind == b"P":
            if self.running is not None:
                self.running()
            self.running = None  # P comes again after each restart
        elif kind == b"E":
            text = payload[4:].decode("utf-8", "replace")
            self.result.error = (int.from_bytes(payload[:4], "little"), text)
        elif kind == b"X":
            self.result.exit_code = int.from_bytes(payload[:4], "little")
            self.result.signalled = bool(payload[4] & 1)
            self.done = True

    def write_output(self, writer: _Writer) -> None:
        try:
            writer.write()
        except BlockingIOError:
            return
        except OSError as error:
            self.stop_writing(writer, error)

    def stop_writing(self, writer: _Writer, error: OSError) -> None:
        """Nobody takes our output: end as a program that is sent SIGPIPE; the container goes on."""
        writer.data = memoryview(b"")
        if error.errno == errno.EBADF:
            return  # started with this descriptor closed
        self.client.detach()
        self.done = True
        if error.errno in (errno.EPIPE, errno.EIO):
            self.result.exit_code = _BROKEN_PIPE if error.errno == errno.EPIPE else _HUNG_UP
            self.result.signalled = True
            return
        reason = f"{errno.errorcode.get(error.errno or 0, '?')} ({os.strerror(error.errno or 0).lower()})"
        raise HostError(f"cannot write the container's output to descriptor {writer.fd}: {reason}")

    def poll_set(self) -> dict[int, int]:
        """What to wait for: one piece of data at a time in each direction."""
        wanted: dict[int, int] = {}
        socket = self.client.fileno()
        if self.out.data:
            wanted[self.out.fd] = select.POLLOUT
        elif self.err.data:
            wanted[self.err.fd] = select.POLLOUT
        else:
            wanted[socket] = select.POLLIN
        if self.typed or self.ending:
            wanted[socket] = wanted.get(socket, 0) | select.POLLOUT
        elif self.reading:
            wanted[self.in_fd] = wanted.get(self.in_fd, 0) | select.POLLIN
        return wanted

    def loop(self) -> None:
        while not self.done:
            poller = select.poll()
            for fd, events in self.poll_set().items():
                poller.register(fd, events)
            ready = dict(poller.poll())
            if self.out.data:
                if self.out.fd in ready:
                    self.write_output(self.out)
            elif self.err.data:
                if self.err.fd in ready:
                    self.write_output(self.err)
            elif ready.get(self.client.fileno(), 0) & ~select.POLLOUT:
                self.take_message()
            if self.reading and not self.typed and ready.get(self.in_fd, 0) & ~select.POLLOUT:
                self.read_stdin()
            if (self.typed or self.ending) and not self.done:
                self.send_stdin()

    def close(self) -> None:
        self.terminal.leave()
        self.signals.restore()
        if self.control is not None:
            self.control.close()


def attach(
    client: Client,
    *,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
    detach_keys: bytes | None = None,
    sig_proxy: bool = False,
    running: Callable[[], None] | None = None,
    in_fd: int = 0,
    out_fd: int = 1,
    err_fd: int = 2,
) -> AttachResult:
    """Join our descriptors to the container's streams until it ends or the detach keys are typed.

    RUNNING is called once a container that is being started has executed its program.
    The terminal is put back on every way out.  Where the reader of our output is gone the exit code is
    141, as of a program that SIGPIPE ends, and the container goes on.  Raises HostError where output
    cannot be written for another reason.
    """
    keys = detach_keys or b""
    session = _Session(client, tty=tty, in_fd=in_fd, out_fd=out_fd, err_fd=err_fd, keys=keys)
    session.running = running
    raw = tty and stdin and os.isatty(in_fd)
    try:
        session.install_signals(proxy=sig_proxy, raw=raw)
        if raw:
            session.terminal.enter()
        if tty:
            session.resize()
        session.reading = stdin
        client.attach(stdin=stdin, stdout=stdout, stderr=stderr)
        session.loop()
    finally:
        session.close()
    return session.result
