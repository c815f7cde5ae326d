"""Attaching a terminal or plain descriptors; the test plays the monitor."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import UsageError
from rootless.runtime import attach, monitor

CHILD = Path(__file__).with_name("attach_child.py")
PATIENCE = 60.0
STREAMS = {"stdin": True, "stdout": True, "stderr": True}


class Attached:
    """A process that attaches, and the monitor's end of its connection."""

    def __init__(
        self,
        *,
        stdin: Any = subprocess.DEVNULL,
        stdout: Any = subprocess.PIPE,
        path: str = "",
        **options: Any,
    ) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE)
        self.result_fd, result = os.pipe()
        values = {**STREAMS, "tty": False, **options}
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                str(CHILD),
                str(theirs.fileno()),
                str(result),
                json.dumps(values),
                path,
            ],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            pass_fds=(theirs.fileno(), result),
        )
        theirs.close()
        os.close(result)

    def message(self) -> bytes:
        return self.socket.recv(70000)

    def until(self, kind: bytes) -> list[bytes]:
        """The messages up to one of this type."""
        messages = [self.message()]
        while messages[-1][:1] != kind:
            assert messages[-1], "the client is gone"
            messages.append(self.message())
        return messages

    def send(self, data: bytes) -> None:
        self.socket.send(data)

    def end(self, code: int, flags: int = 0) -> None:
        self.send(b"X" + struct.pack("<IB", code, flags))

    def result(self) -> dict[str, Any]:
        """What attach() gave, once the process has ended."""
        with os.fdopen(self.result_fd, "rb") as file:
            text = file.read()
        self.result_fd = -1
        self.process.wait(PATIENCE)
        value: dict[str, Any] = json.loads(text) if text else {}
        return value

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.socket.close()
        if self.result_fd >= 0:
            os.close(self.result_fd)
        for stream in (self.process.stdout, self.process.stderr, self.process.stdin):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass


class Terminal:
    """A pty; the process under test has the slave."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(30, 100)
        self.before = termios.tcgetattr(self.slave)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("<HHHH", rows, columns, 0, 0))

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def is_restored(self) -> bool:
        now = termios.tcgetattr(self.slave)
        return now[:4] == self.before[:4]

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            assert select.select([self.master], [], [], PATIENCE)[0]
            data += os.read(self.master, size - len(data))
        return data

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def opened() -> Iterator[list[Any]]:
    things: list[Any] = []
    yield things
    for thing in reversed(things):
        thing.close()


def run(opened: list[Any], **options: Any) -> Attached:
    attached = Attached(**options)
    opened.append(attached)
    return attached


def on_terminal(opened: list[Any], **options: Any) -> tuple[Terminal, Attached]:
    """Attached with -it, and in raw mode already."""
    terminal = Terminal()
    opened.append(terminal)
    attached = run(opened, stdin=terminal.slave, stdout=terminal.slave, tty=True, **options)
    attached.until(b"A")
    assert terminal.is_raw()
    return terminal, attached


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"), ("ctrl-a", b"\x01"), ("a,b,ctrl-]", b"ab\x1d"), ("ctrl-@", b"\0"),
        ("ctrl-[", b"\x1b"), ("ctrl-_", b"\x1f"), ("", b""), ("~,.", b"~."), ("ctrl-?", b"\x7f"),
    ],
)  # fmt: skip
def test_detach_keys(text: str, keys: bytes) -> None:
    assert attach.parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-pq", "ab", "ctrl-1", "é", "a,,b", "ctrl-é", ","])
def test_bad_detach_keys(text: str) -> None:
    with pytest.raises(UsageError, match="invalid detach keys"):
        attach.parse_detach_keys(text)


@pytest.mark.parametrize(
    ("typed", "passed", "detached"),
    [
        ([b"abc"], b"abc", False),
        ([b"ab\x10\x11cd"], b"ab", True),
        ([b"\x10", b"\x11"], b"", True),
        ([b"\x10", b"x"], b"\x10x", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"\x10", b"\x10", b"x"], b"\x10\x10x", False),
        ([b"\x11\x10"], b"\x11", False),
    ],
)
def test_key_matcher(typed: list[bytes], passed: bytes, detached: bool) -> None:
    matcher = attach.KeyMatcher(b"\x10\x11")
    found = [matcher.feed(data) for data in typed]
    assert b"".join(data for data, _ in found) == passed
    assert found[-1][1] is detached


def test_key_matcher_with_a_repeating_sequence() -> None:
    matcher = attach.KeyMatcher(b"aab")
    assert matcher.feed(b"aaab") == (b"a", True)
    assert matcher.feed(b"xaa") == (b"x", False)
    assert matcher.rest() == b"aa"


def test_output_goes_where_it_belongs(opened: list[Any]) -> None:
    attached = run(opened)
    attached.until(b"A")
    attached.send(b"P\1\0\0\0")
    attached.send(b"1out\xff\0")
    attached.send(b"2err")
    attached.end(3)
    assert attached.result() == {
        "exit_code": 3,
        "detached": False,
        "error": None,
        "signalled": False,
    }
    assert attached.process.stdout is not None and attached.process.stderr is not None
    assert (attached.process.stdout.read(), attached.process.stderr.read()) == (
        b"out\xff\0",
        b"err",
    )


def test_asks_only_for_what_is_wanted(opened: list[Any]) -> None:
    attached = run(opened, stdin=subprocess.PIPE, stderr=False)
    assert attached.message() == b"A\3"
    attached.end(130, 1)
    assert attached.result()["signalled"] is True


def test_failed_start(opened: list[Any]) -> None:
    attached = run(opened)
    attached.until(b"A")
    attached.send(b"E" + struct.pack("<I", 127) + "exec: né".encode())
    attached.end(127)
    assert attached.result() == {
        "exit_code": 127,
        "detached": False,
        "error": [127, "exec: né"],
        "signalled": False,
    }


def test_lost_monitor(opened: list[Any]) -> None:
    attached = run(opened)
    attached.until(b"A")
    attached.socket.close()
    assert attached.result()["exit_code"] is None


def test_the_end_is_heard_though_something_of_ours_was_not_read(opened: list[Any]) -> None:
    attached = run(opened, stdin=subprocess.PIPE)
    attached.until(b"A")
    assert attached.process.stdin is not None
    attached.process.stdin.write(b"never read")
    attached.process.stdin.flush()
    assert select.select([attached.socket], [], [], PATIENCE)[0]
    os.kill(attached.process.pid, signal.SIGSTOP)  # so that both happen before it looks
    attached.send(b"1last words")
    attached.end(5)
    attached.socket.close()
    os.kill(attached.process.pid, signal.SIGCONT)
    assert attached.result()["exit_code"] == 5
    assert attached.process.stdout is not None
    assert attached.process.stdout.read() == b"last words"


@pytest.mark.parametrize("kind", ["file", "pipe", "null", "terminal"])
def test_every_kind_of_stdin(opened: list[Any], tmp_path: Path, kind: str) -> None:
    data = os.urandom(200000)
    source: Any = subprocess.DEVNULL
    expected = b""
    if kind == "file":
        (tmp_path / "in").write_bytes(data)
        source, expected = open(tmp_path / "in", "rb"), data
    elif kind == "pipe":
        source, expected = subprocess.PIPE, data[:60000]
    elif kind == "terminal":  # without -t: canonical mode, ctrl-d is the end
        terminal = Terminal()
        opened.append(terminal)
        terminal.type(b"line\n\x04")
        source, expected = terminal.slave, b"line\n"
    attached = run(opened, stdin=source)
    if kind == "pipe":
        assert attached.process.stdin is not None
        attached.process.stdin.write(expected)
        attached.process.stdin.close()
    if kind == "file":
        source.close()
    messages = attached.until(b"Z")
    assert b"".join(m[1:] for m in messages if m[:1] == b"I") == expected
    assert max((len(m) for m in messages), default=0) <= 1 + monitor.CHUNK
    attached.end(0)
    assert attached.result()["exit_code"] == 0


def test_output_flows_while_stdin_is_stuck(opened: list[Any]) -> None:
    attached = run(opened, stdin=subprocess.PIPE)
    attached.until(b"A")
    assert attached.process.stdin is not None and attached.process.stdout is not None
    os.set_blocking(attached.process.stdin.fileno(), False)
    full = 0
    while full < 20:  # the monitor takes nothing, until nothing fits any more
        try:
            os.write(attached.process.stdin.fileno(), b"i" * 65536)
        except BlockingIOError:
            full += 1
            time.sleep(0.01)
    for i in range(50):
        attached.send(b"1" + b"%04d" % i)
        assert attached.process.stdout.read(4) == b"%04d" % i
    attached.end(0)
    assert attached.result()["exit_code"] == 0


def test_stdin_flows_while_output_is_stuck(opened: list[Any]) -> None:
    attached = run(opened, stdin=subprocess.PIPE)
    attached.until(b"A")
    assert attached.process.stdin is not None
    attached.socket.setblocking(False)
    full = 0
    while full < 20:  # nobody reads its stdout
        try:
            attached.send(b"1" + b"o" * 32768)
        except BlockingIOError:
            full += 1
            time.sleep(0.01)
    attached.socket.settimeout(PATIENCE)
    for i in range(20):
        os.write(attached.process.stdin.fileno(), b"%04d" % i)
        assert attached.message() == b"I" + b"%04d" % i


def test_a_signal_is_forwarded_while_output_is_stuck(opened: list[Any]) -> None:
    attached = run(opened, sig_proxy=True)
    attached.until(b"Z")
    attached.socket.setblocking(False)
    full = 0
    while full < 20:
        try:
            attached.send(b"1" + b"o" * 32768)
        except BlockingIOError:
            full += 1
            time.sleep(0.01)
    attached.socket.settimeout(PATIENCE)
    attached.process.send_signal(signal.SIGTERM)
    assert attached.message() == b"K\x0f\0"


def test_closed_reader_of_our_output(opened: list[Any]) -> None:
    attached = run(opened)
    attached.until(b"Z")
    assert attached.process.stdout is not None
    attached.process.stdout.close()
    attached.send(b"1more")
    assert attached.message() == b"D"
    result = attached.result()
    assert (result["exit_code"], result["signalled"], result["detached"]) == (141, True, False)


def test_full_disk_below_our_output(opened: list[Any]) -> None:
    with open("/dev/full", "wb") as full:
        attached = run(opened, stdout=full)
    attached.until(b"Z")
    attached.send(b"1more")
    assert attached.message() == b"D"
    result = attached.result()
    assert result["raised"] == "HostError"
    assert "ENOSPC (no space left on device)" in result["text"]


def test_output_to_a_file(opened: list[Any], tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as file:
        attached = run(opened, stdout=file)
    for i in range(100):
        attached.send(b"1" + bytes([i]) * 32768)
    attached.end(0)
    assert attached.result()["exit_code"] == 0
    assert (tmp_path / "out").read_bytes() == b"".join(bytes([i]) * 32768 for i in range(100))


@pytest.mark.parametrize("number", [1, 2, 3, 10, 12, 14, 15, 18, 20, 28, 40])
def test_signals_are_forwarded(opened: list[Any], number: int) -> None:
    attached = run(opened, sig_proxy=True)
    attached.until(b"Z")
    attached.process.send_signal(number)
    assert attached.message() == bytes((75, number, 0))
    attached.end(0)
    assert attached.result()["exit_code"] == 0


def test_signals_go_by_a_connection_of_their_own(opened: list[Any], tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen()
    listener.settimeout(PATIENCE)
    opened.append(listener)
    attached = run(opened, sig_proxy=True, path=path)
    attached.until(b"Z")
    for number in (10, 12):
        attached.process.send_signal(number)
        if number == 10:
            control, _ = listener.accept()
            control.settimeout(PATIENCE)
            opened.append(control)
        assert control.recv(10) == bytes((75, number, 0))
    attached.end(1)
    assert attached.result()["exit_code"] == 1


@pytest.mark.parametrize("number", [signal.SIGCHLD, signal.SIGURG, signal.SIGPIPE])
def test_signals_that_are_not_forwarded(opened: list[Any], number: int) -> None:
    attached = run(opened, sig_proxy=True)
    attached.until(b"Z")
    attached.process.send_signal(number)
    attached.process.send_signal(signal.SIGUSR1)
    assert attached.message() == bytes((75, signal.SIGUSR1, 0))


def test_without_proxy_a_signal_ends_us(opened: list[Any]) -> None:
    attached = run(opened, sig_proxy=False)
    attached.until(b"Z")
    attached.process.send_signal(signal.SIGTERM)
    assert attached.process.wait(PATIENCE) == -signal.SIGTERM
    assert attached.message() == b""


def test_terminal_is_raw_and_restored(opened: list[Any]) -> None:
    terminal, attached = on_terminal(opened)
    terminal.type(b"a\x03\x1a\x04\r")  # ctrl-c, ctrl-z and ctrl-d are the container's
    typed = b""
    while len(typed) < 5:
        typed += attached.until(b"I")[-1][1:]
    assert typed == b"a\x03\x1a\x04\r"
    attached.send(b"1x\r\ny\n")
    assert terminal.read(5) == b"x\r\ny\n"  # no second carriage return
    attached.end(0)
    assert attached.result()["exit_code"] == 0
    assert terminal.is_restored()


def test_terminal_size_is_told_at_first_and_when_it_changes(opened: list[Any]) -> None:
    terminal = Terminal()
    opened.append(terminal)
    attached = run(opened, stdin=terminal.slave, stdout=terminal.slave, tty=True)
    first = attached.until(b"A")
    assert struct.pack("<cHH", b"R", 30, 100) in first
    terminal.resize(50, 132)
    attached.process.send_signal(signal.SIGWINCH)
    assert attached.until(b"R")[-1] == struct.pack("<cHH", b"R", 50, 132)


@pytest.mark.parametrize("pieces", [[b"\x10\x11"], [b"\x10", b"\x11"]])
def test_detach(opened: list[Any], pieces: list[bytes]) -> None:
    terminal, attached = on_terminal(opened, detach_keys="ctrl-p,ctrl-q")
    terminal.type(b"hi")
    assert attached.until(b"I")[-1] == b"Ihi"
    for piece in pieces:
        terminal.type(piece)
        time.sleep(0.1)
    assert attached.until(b"D")[-1] == b"D"
    result = attached.result()
    assert (result["detached"], result["exit_code"]) == (True, None)
    assert terminal.is_restored()


def test_a_beginning_of_the_detach_keys_is_passed_on_late(opened: list[Any]) -> None:
    terminal, attached = on_terminal(opened, detach_keys="ctrl-p,ctrl-q")
    terminal.type(b"\x10")
    time.sleep(0.2)
    terminal.type(b"z")
    assert attached.until(b"I")[-1] == b"I\x10z"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_terminal_is_restored_when_a_signal_ends_us(opened: list[Any], number: int) -> None:
    terminal, attached = on_terminal(opened)
    attached.process.send_signal(number)
    assert attached.process.wait(PATIENCE) == -number
    assert terminal.is_restored()


def test_terminal_is_restored_when_the_monitor_is_lost(opened: list[Any]) -> None:
    terminal, attached = on_terminal(opened)
    attached.socket.close()
    assert attached.result()["exit_code"] is None
    assert terminal.is_restored()


def test_terminal_is_restored_after_an_exception(opened: list[Any]) -> None:
    terminal = Terminal()
    opened.append(terminal)
    with open("/dev/full", "wb") as full:
        attached = run(opened, stdin=terminal.slave, stdout=full, tty=True)
    attached.until(b"A")
    attached.send(b"1text")
    assert attached.result()["raised"] == "HostError"
    assert terminal.is_restored()


def test_terminal_is_raw_again_after_a_stop(opened: list[Any]) -> None:
    terminal, attached = on_terminal(opened)
    os.kill(attached.process.pid, signal.SIGSTOP)
    termios.tcsetattr(terminal.slave, termios.TCSANOW, terminal.before)  # what a shell does
    os.kill(attached.process.pid, signal.SIGCONT)
    attached.until(b"R")  # it tells the size, too
    assert terminal.is_raw()
    attached.end(0)
    attached.result()
    assert terminal.is_restored()


def test_a_terminal_that_hangs_up_is_no_end_of_the_containers_stdin(opened: list[Any]) -> None:
    master, slave = pty.openpty()
    attached = run(opened, stdin=slave, tty=True)
    os.close(slave)
    attached.until(b"A")
    os.close(master)
    attached.send(b"1still there")
    attached.end(4)
    assert attached.result()["exit_code"] == 4
    rest = [message for message in iter(attached.message, b"") if message[:1] == b"Z"]
    assert rest == []


def test_without_stdin_the_terminal_is_left_alone(opened: list[Any]) -> None:
    terminal = Terminal()
    opened.append(terminal)
    client, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    opened.extend((client, server))
    server.send(b"X" + struct.pack("<IB", 0, 0))
    result = attach.attach(
        monitor.Client(client),
        stdin=False,
        stdout=True,
        stderr=False,
        tty=True,
        in_fd=terminal.slave,
        out_fd=terminal.slave,
        err_fd=terminal.slave,
    )
    assert result.exit_code == 0
    assert terminal.is_restored()


def test_handlers_are_put_back(opened: list[Any]) -> None:
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    client, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    opened.extend((client, server))
    server.send(b"X" + struct.pack("<IB", 0, 0))
    attach.attach(
        monitor.Client(client),
        stdin=False,
        stdout=True,
        stderr=True,
        tty=False,
        sig_proxy=True,
    )
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before
