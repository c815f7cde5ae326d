"""The minder, and a process that is entered by a descriptor of its /proc directory."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from test_launch import LAUNCH, NEWUTS, WRAPPER, clone

from rootless.plan import tape

pytestmark = pytest.mark.requires("userns")
MINDED = 4
PROCESS_FD = 7


class Minded:
    """A tape that is being played, and what it has said."""

    def __init__(
        self, argv: list[str], *, before: list[Any] | None = None, process: int = -1
    ) -> None:
        ops = before if before is not None else [("clone", (0, 0, "", "", "", ""))]
        program = [*ops, ("setsid", ()), ("exec", ("", argv, ["PATH=/usr/bin:/bin"], MINDED))]
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(60)
        fd = os.memfd_create("tape")
        os.write(fd, tape.encode(program))
        reading, writing = os.pipe()
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, writing, 1),
            (os.POSIX_SPAWN_DUP2, fd, fd),
            (os.POSIX_SPAWN_DUP2, theirs.fileno(), theirs.fileno()),
        ]
        if process >= 0:
            assert PROCESS_FD not in (fd, theirs.fileno(), writing)
            actions.append((os.POSIX_SPAWN_DUP2, process, PROCESS_FD))
        words = [*WRAPPER, LAUNCH, str(fd), str(theirs.fileno())]
        env = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")}
        self.launcher = os.posix_spawn(words[0], words, env, file_actions=actions)
        for one in (fd, writing):
            os.close(one)
        theirs.close()
        self.output = os.fdopen(reading, "rb")
        kind, self.pid = self.message()
        assert kind == "P"
        os.waitpid(self.launcher, 0)

    def message(self) -> tuple[str, int]:
        """The next message's type, and its number; an error's is that of the operation."""
        data = self.socket.recv(4096)
        return data[:1].decode(), struct.unpack("<I", data[1:5])[0] if data else 0

    def children(self) -> list[int]:
        with open(f"/proc/{self.pid}/task/{self.pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]

    def reap(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        self.socket.close()
        self.output.close()


@pytest.fixture
def made() -> Iterator[list[Minded]]:
    found: list[Minded] = []
    yield found
    for one in found:
        one.close()


def until(what: Any) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137)])
def test_the_end_is_told_and_is_the_minders_own(made: list[Minded], script: str, code: int) -> None:
    minded = Minded(["sh", "-c", script])
    made.append(minded)
    assert minded.message() == ("X", code)
    assert minded.message()[0] == ""  # nobody has the socket any more
    assert minded.reap() == code


def test_what_lets_go_of_its_parent_becomes_the_minders(made: list[Minded]) -> None:
    minded = Minded(["sh", "-c", "setsid sh -c 'setsid sleep 1000 & exit' & wait; exit 5"])
    made.append(minded)
    assert minded.message() == ("X", 5)
    until(minded.children)
    (left,) = minded.children()
    assert os.waitpid(minded.pid, os.WNOHANG) == (0, 0)  # it stays as long as there is anyone
    os.kill(left, signal.SIGKILL)
    assert minded.reap() == 5


def test_it_holds_neither_the_output_nor_the_programs_descriptors(made: list[Minded]) -> None:
    minded = Minded(["sh", "-c", "echo out; exec sleep 1000"])
    made.append(minded)
    until(minded.children)
    (program,) = minded.children()
    assert minded.output.readline() == b"out\n"
    assert len(os.listdir(f"/proc/{minded.pid}/fd")) == 1
    assert sorted(os.listdir(f"/proc/{program}/fd")) == ["0", "1", "2"]
    os.kill(program, signal.SIGKILL)
    assert minded.output.read() == b""
    assert minded.reap() == 137


def test_the_program_ends_with_its_minder(made: list[Minded]) -> None:
    minded = Minded(["sleep", "1000"])
    made.append(minded)
    until(minded.children)
    os.kill(minded.pid, signal.SIGKILL)
    assert minded.reap() == -9
    assert minded.output.read() == b""  # whoever had its other end is gone


def test_a_program_that_is_not_there(made: list[Minded]) -> None:
    minded = Minded(["/no/such/program"])
    made.append(minded)
    assert minded.message()[0] == "E"
    assert minded.message() == ("X", 127)
    assert minded.reap() == 127


def test_a_process_by_its_directory(made: list[Minded]) -> None:
    """The namespaces of a process are entered without a word of its PID."""
    before = [*clone(NEWUTS), ("hostname", ("inside",)), ("exec", ("", ["sleep", "1000"], [], 0))]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fd = os.memfd_create("tape")
    os.write(fd, tape.encode(before))
    words = [*WRAPPER, LAUNCH, str(fd), str(theirs.fileno())]
    launcher = os.posix_spawn(
        words[0],
        words,
        {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, fd, fd),
            (os.POSIX_SPAWN_DUP2, theirs.fileno(), theirs.fileno()),
        ],
    )
    theirs.close()
    os.close(fd)
    pid = struct.unpack("<I", ours.recv(64)[1:5])[0]
    os.waitpid(launcher, 0)
    assert ours.recv(64) == b""  # it has been executed
    directory = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY)
    try:
        enter = [("join_proc", (0, 0, 0x10000000 | NEWUTS)), ("clone", (0, 0, "", "", "", ""))]
        minded = Minded(["uname", "-n"], before=enter, process=directory)
        made.append(minded)
        assert minded.message() == ("X", 0)
        assert minded.output.read() == b"inside\n"
        assert minded.reap() == 0
    finally:
        os.close(directory)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        ours.close()
