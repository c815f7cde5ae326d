"""Programs that connect a network namespace: started beside a container, told of it, waited for, ended."""

from __future__ import annotations

import ast
import errno
import json
import os
import signal
import socket
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from test_launch import (
    LAUNCH,
    NEWNET,
    NEWNS,
    NEWPID,
    NEWUSER,
    Op,
    Played,
    children,
    clone,
    play,
    shell,
)
from test_launch_attach import bind

from rootless.plan import tape

pytestmark = pytest.mark.requires("userns")

# Joins the namespace by its name, makes an interface there, notes what it has, and is there until it is killed.
CONNECTS = """\
    import os, sys, time
    fds = [(int(fd), os.readlink(f"/proc/self/fd/{fd}")) for fd in os.listdir("/proc/self/fd")[:-1]]
    open("seen", "w").write(repr((os.getcwd(), fds, dict(os.environ))))
    open("outside", "w").write(str(os.stat("/proc/self/ns/net").st_ino))
    fd = os.open(sys.argv[1], os.O_RDONLY)
    open("inside", "w").write(str(os.fstat(fd).st_ino))
    print("connected", file=sys.stderr)
    os.write(int(sys.argv[2]), b"1")
    os.close(int(sys.argv[2]))
    time.sleep(60)
"""


def program(directory: Path, script: str, ready: int = 3) -> Op:
    """The operation that starts SCRIPT, which has the namespace's name and READY as arguments."""
    path = directory / "program"
    path.write_text(f"#!/usr/bin/python3 -IS\n{textwrap.dedent(script)}")
    path.chmod(0o755)
    argv = [str(path), "netns", str(ready)]
    return ("net_program", (str(directory), "netns", "log", ready, argv))


def connected(started: Op, *more: Op, last: str = "readlink /proc/self/ns/net") -> Played:
    """A container with a network namespace of its own, and with what STARTED starts."""
    flags = NEWUSER | NEWNS | NEWNET | NEWPID
    begin: Op = ("clone", (flags, 1, "0 0 1\n", "0 0 1\n", "", ""))
    ready: list[Op] = [("loopback_up", ()), ("net_ready", ())]
    return play([*outer(), started, begin, *ready, *more, ("set_ids", (0, 0)), shell(last)])


def outer() -> list[Op]:
    """The realm, as far as the program goes: it may name namespaces."""
    return clone()


def ended(played: Played) -> int:
    """The exit status of the program, killed if it still is there."""
    try:
        os.kill(played.network, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(played.network, 0)[1])
    except ProcessLookupError:
        return os.waitstatus_to_exitcode(os.waitpid(played.network, 0)[1])


@pytest.mark.parametrize("ready", [1, 3])
def test_a_program_gets_the_namespace_by_name(tmp_path: Path, ready: int) -> None:
    played = connected(program(tmp_path, CONNECTS, ready))
    assert played.code == 0, played.error
    assert ended(played) == -signal.SIGKILL
    inside = played.output.strip().partition("[")[2].rstrip("]")
    assert (tmp_path / "inside").read_text() == inside
    assert (tmp_path / "outside").read_text() == str(os.stat("/proc/self/ns/net").st_ino)
    assert (tmp_path / "log").read_text() == "connected\n"
    directory, fds, environment = ast.literal_eval((tmp_path / "seen").read_text())
    assert directory == str(tmp_path)
    own = {0: "/dev/null", 1: f"{tmp_path}/log", 2: f"{tmp_path}/log"}
    others = {fd: to for fd, to in fds if own.get(fd) != to and to != f"{tmp_path}/program"}
    assert list(others) == [ready]
    assert others[ready].startswith("pipe:")
    assert sorted(environment) == ["LC_ALL", "PATH"]


def test_its_mount_is_nobody_elses(tmp_path: Path) -> None:
    played = connected(program(tmp_path, CONNECTS), last="grep -c netns /proc/self/mountinfo")
    assert played.output.strip() == "0"
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    ended(played)


def test_it_dies_with_its_supervisor(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        played = connected(program(tmp_path, CONNECTS))
        os.write(writing, str(played.network).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        pid = int(pipe.read())
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}/cwd") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "netns" not in _command(pid)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("print('first'); print('no such uplink'); raise SystemExit(1)", "no such uplink"),
        ("raise SystemExit(0)", "it did not say why"),
        ("import os; os.kill(os.getpid(), 9)", "it did not say why"),
        ("print('x' * 5000 + ' the end')", "the end"),
    ],
)
def test_a_program_that_ends_early_is_quoted(tmp_path: Path, script: str, wanted: str) -> None:
    played = connected(program(tmp_path, script))
    ended(played)
    assert played.code == 125
    assert played.reason.startswith(f"{tmp_path}/program failed: ")
    assert played.reason.endswith(wanted)


def test_a_program_that_cannot_be_executed(tmp_path: Path) -> None:
    missing: Op = ("net_program", (str(tmp_path), "netns", "log", 3, ["/nonexistent/pasta"]))
    played = connected(missing)
    ended(played)
    assert played.code == 125
    assert played.reason == "cannot start /nonexistent/pasta: no such file or directory"


@pytest.mark.parametrize(
    "arguments",
    [
        ("/nonexistent", "netns", "log", 3, ["/bin/true"]),
        ("/proc", "netns", "log", 3, ["/bin/true"]),
    ],
)
def test_a_directory_that_is_no_good(arguments: tuple[Any, ...]) -> None:
    played = connected(("net_program", arguments))
    ended(played)
    assert played.reason.startswith("cannot start /bin/true: ")


@pytest.mark.parametrize(
    ("ops", "wanted"),
    [
        ([("net_program", ("/", "n", "l", 2, ["x"]))], "its arguments make no sense"),
        ([("net_program", ("/", "n", "l", 3, []))], "its arguments make no sense"),
        ([("net_ready", ())], "there is no network program to wait for"),
        ([("net_program", ("/", "n", "l", 3, ["x"]))] * 2, "a second network program"),
        (
            [("net_request", ("/nonexistent/socket", "{}", "cannot ask"))],
            "cannot ask: no such file",
        ),
        (
            [("net_path", (0, "/nonexistent/path"))],
            "cannot name the network namespace /nonexistent",
        ),
    ],
)
def test_operations_that_make_no_sense(ops: list[Op], wanted: str) -> None:
    played = play([*outer(), *ops])
    if played.network:
        os.waitpid(played.network, 0)
    assert wanted in played.reason


def test_a_container_that_fails_before_takes_the_program_along(tmp_path: Path) -> None:
    played = play([*outer(), program(tmp_path, CONNECTS), ("hostname", ("x" * 200,))])
    assert played.error
    assert os.waitstatus_to_exitcode(os.waitpid(played.network, 0)[1]) == 0
    assert not (tmp_path / "seen").exists()


def test_the_container_has_nothing_of_it(tmp_path: Path) -> None:
    played = connected(program(tmp_path, CONNECTS), last="echo /proc/self/fd/*")
    ended(played)
    numbers = sorted(int(word.rpartition("/")[2]) for word in played.output.split())
    assert numbers[:3] == [0, 1, 2]
    assert len(numbers) == 3 or numbers[3:] == [3]  # the directory that is being listed


# Requests, as slirp4netns has them.


def answering(path: str, answer: bytes) -> tuple[threading.Thread, list[bytes]]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bind(listener, path)
    listener.listen(1)
    seen: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, listener:
            data = b""
            while chunk := connection.recv(4096):
                data += chunk
            seen.append(data)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread, seen


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b'{"return": {"id": 42}}', ""),
        (
            b'{"error": {"desc": "bad request: add_hostfwd: slirp_add_hostfwd failed"}}',
            "add_hostfwd",
        ),
        (b"", "no answer"),
        (b"x" * 9000, "xxx"),
    ],
)
def test_a_request_and_its_answer(tmp_path: Path, answer: bytes, reason: str) -> None:
    directory = tmp_path / ("long" * 30)
    directory.mkdir()
    path = str(directory / "socket")
    thread, seen = answering(path, answer)
    text = json.dumps({"execute": "add_hostfwd"})
    played = play([*outer(), ("net_request", (path, text, "cannot bind 0.0.0.0:80"))])
    thread.join()
    assert seen == [text.encode()]
    if not reason:
        assert played.error is None
        return
    assert played.reason.startswith("cannot bind 0.0.0.0:80: ")
    assert reason in played.reason
    assert played.error is not None
    assert played.error[2] == errno.EADDRINUSE


# Given to a program that stays in the foreground of its own starter.


def test_a_namespace_that_is_inherited_gets_a_name(tmp_path: Path) -> None:
    path = str(tmp_path / "netns")
    script = f"stat -c %i {path}; stat -Lc %i /proc/self/fd/0"
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
    reading, writing = os.pipe()
    tape_fd = os.memfd_create("tape")
    ops = [*outer(), ("net_path", (0, path)), ("exec", ("/bin/sh", ["sh", "-c", script], [], 2))]
    os.write(tape_fd, tape.encode(ops))
    before = children()
    pid = os.posix_spawn(
        LAUNCH,
        [LAUNCH, str(tape_fd), "-1"],
        {},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, namespace, 0),
            (os.POSIX_SPAWN_DUP2, writing, 1),
            (os.POSIX_SPAWN_DUP2, tape_fd, tape_fd),
        ],
    )
    for fd in (namespace, writing, tape_fd):
        os.close(fd)
    with os.fdopen(reading) as pipe:
        first, second = pipe.read().split()
    os.waitpid(pid, 0)
    for child in children() - before:  # the launcher's goes on beside it
        os.waitpid(child, 0)
    assert first == second == str(os.stat("/proc/self/ns/net").st_ino)
    assert os.stat(path).st_ino != int(first)
