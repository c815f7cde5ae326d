"""The guard of the network service, with services of the tests' own that end in every way."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GUARD = f"{os.environ.get('ROOTLESS_LIBEXEC') or f'{TOP}/rootless/libexec'}/netguard"
# What a service does first: says in its directory that it lives, and how often it has.
BEGIN = """
import os, signal, socket, sys, time
top = sys.argv[1]
with open(f"{top}/lives", "a") as file:
    file.write(f"{os.getpid()} {os.getppid()} {time.monotonic()}\\n")
with open(f"{top}/lives") as file:
    life = len(file.readlines())
listener = socket.socket(fileno=3)
"""
SERVE = """
while True:
    connection, _ = listener.accept()
    word = connection.recv(100)
    if word == b"die":
        os.kill(os.getpid(), 9)
    if word == b"end":
        sys.exit(0)
    connection.sendall(f"{life}".encode())
    connection.close()
"""


class Guarded:
    """A guard and its service below a directory."""

    def __init__(self, top: Path, script: str) -> None:
        self.top = top
        self.socket = f"/proc/self/fd/{os.open(top, os.O_PATH)}/s"
        self.script = BEGIN + textwrap.dedent(script) + SERVE
        self.log = top / "log"

    def start(self, **options: Any) -> subprocess.CompletedProcess[str]:
        """Start it, as the engine does: with these descriptors and no others but a few by mistake."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(self.socket)
            listener.listen(32)
            argv = [GUARD, str(self.log), "--", sys.executable, "-I", "-S", "-c", self.script]
            return spawn([*argv, str(self.top)], listener.fileno(), **options)

    def lives(self) -> list[tuple[int, int, float]]:
        """(pid, parent's pid, when) of each start of the service so far."""
        try:
            lines = (self.top / "lives").read_text().splitlines()
        except FileNotFoundError:
            return []
        words = [line.split() for line in lines]
        return [(int(pid), int(parent), float(when)) for pid, parent, when in words]

    def wait_life(self, number: int) -> tuple[int, int, float]:
        until(lambda: len(self.lives()) >= number)
        return self.lives()[number - 1]

    def ask(self, word: bytes = b"?") -> bytes:
        """What the service answers."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(20)
            client.connect(self.socket)
            client.sendall(word)
            return client.recv(100)


def spawn(argv: list[str], listener: int, **options: Any) -> subprocess.CompletedProcess[str]:
    def place() -> None:
        os.dup2(os.open("/proc/self/ns/user", os.O_RDONLY), 4)
        os.dup2(os.open("/proc/self/ns/net", os.O_RDONLY), 5)
        os.dup2(os.open("/etc/passwd", os.O_RDONLY), 77)
        os.dup2(listener, 3)

    return subprocess.run(
        argv,
        preexec_fn=options.pop("place", place),
        close_fds=False,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        **options,
    )


def until(ready: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Callable[[str], Guarded]]:
    made: list[Guarded] = []

    def make(script: str) -> Guarded:
        made.append(Guarded(tmp_path, script))
        return made[-1]

    yield make
    for one in made:
        os.close(int(one.socket.split("/")[4]))
        for _, parent, _ in one.lives():
            if parent != 1 and not gone(parent):
                os.kill(parent, signal.SIGTERM)
                until(lambda parent=parent: gone(parent))  # type: ignore[misc]


def test_what_the_service_inherits(guarded: Callable[[str], Guarded]) -> None:
    service = guarded(
        """
        import json
        told = {
            "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
            "links": [os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 4, 5)],
            "cwd": os.getcwd(), "sid": os.getsid(0), "ppid": os.getppid(),
            "comm": open(f"/proc/{os.getppid()}/comm").read(),
            "guarded": sorted(int(fd) for fd in os.listdir(f"/proc/{os.getppid()}/fd")),
            "status": [line for line in open("/proc/self/status") if line.startswith(("SigBlk", "SigIgn"))],
            "rss": int(open(f"/proc/{os.getppid()}/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE"),
            "environment": os.environ.get("FOR_IT"),
        }
        open(f"{top}/told.new", "w").write(json.dumps(told))
        os.rename(f"{top}/told.new", f"{top}/told")
        print("to stdout"); print("to stderr", file=sys.stderr, flush=True)
        """
    )
    done = service.start(cwd=service.top, env={**os.environ, "FOR_IT": "yes"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    until((service.top / "told").exists)
    told = json.loads((service.top / "told").read_text())
    net, user = os.stat("/proc/self/ns/net").st_ino, os.stat("/proc/self/ns/user").st_ino
    assert told["links"] == ["/dev/null", "/dev/null", f"user:[{user}]", f"net:[{net}]"]
    assert told["fds"][:-1] == [0, 1, 2, 3, 4, 5]  # the last is the directory that is listed
    assert told["guarded"] == [0, 1, 2, 3, 4, 5]
    assert told["cwd"] == "/"
    assert told["sid"] == told["ppid"] != os.getsid(0)
    assert told["comm"] == "rootless-netgua\n"  # as much as the kernel keeps
    assert told["rss"] < 600_000
    assert told["environment"] == "yes"
    assert told["status"][0].split() == ["SigBlk:", "0000000000000000"]
    assert (
        int(told["status"][1].split()[1], 16) & ~(1 << 12 | 1 << 24) == 0
    )  # Python's own: PIPE, XFSZ
    assert service.ask() == b"1"
    assert service.log.read_text() == "to stderr\n"
    assert service.log.stat().st_mode & 0o777 == 0o600


def test_a_killed_service_is_back_and_who_connects_waits(
    guarded: Callable[[str], Guarded],
) -> None:
    service = guarded("")
    service.start()
    assert service.ask() == b"1"
    pid, _, _ = service.wait_life(1)
    begun = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    until(lambda: gone(pid))  # it could still accept, and then end with the connection
    assert service.ask() == b"2"
    assert time.monotonic() - begun < 10
    assert service.ask(b"die") == b""
    assert service.ask() == b"3"
    lines = service.log.read_text().splitlines()
    assert len(lines) == 2
    for line in lines:
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ netguard: the network service has ended \(signal 9\)",
            line,
        )


def test_it_ends_with_the_service(guarded: Callable[[str], Guarded]) -> None:
    service = guarded("")
    service.start()
    assert service.ask(b"end") == b""
    pid, guard, _ = service.wait_life(1)
    until(lambda: gone(pid) and gone(guard))
    with pytest.raises(ConnectionRefusedError):
        service.ask()
    assert len(service.lives()) == 1
    assert service.log.read_text() == ""


@pytest.mark.parametrize("how", ["", "signal.signal(15, signal.SIG_IGN)"], ids=["polite", "deaf"])
def test_it_ends_the_service(guarded: Callable[[str], Guarded], how: str) -> None:
    service = guarded(how)
    service.start()
    service.ask()
    pid, guard, _ = service.wait_life(1)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGTSTP):
        os.kill(guard, number)
    assert service.ask() == b"1"
    begun = time.monotonic()
    os.kill(guard, signal.SIGTERM)
    until(lambda: gone(guard))
    assert gone(pid)
    assert (time.monotonic() - begun > 1.9) == bool(how)
    assert len(service.lives()) == 1


def test_the_service_ends_with_it(guarded: Callable[[str], Guarded]) -> None:
    service = guarded("")
    service.start()
    service.ask()
    pid, guard, _ = service.wait_life(1)
    os.kill(guard, signal.SIGKILL)
    until(lambda: gone(pid))
    with pytest.raises(ConnectionRefusedError):
        service.ask()


def test_a_service_that_always_fails_is_given_up(guarded: Callable[[str], Guarded]) -> None:
    service = guarded("sys.exit(3)")
    service.start()
    _, guard, _ = service.wait_life(2)
    until(lambda: gone(guard))
    times = [when for _, _, when in service.lives()]
    pauses = [after - before for before, after in zip(times, times[1:])]
    assert len(times) == 8
    assert all(pause >= least for pause, least in zip(pauses, (0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)))
    lines = service.log.read_text().splitlines()
    assert len(lines) == 9
    assert lines[0].endswith("netguard: the network service has ended (status 3)")
    assert lines[-1].endswith(
        "netguard: the network service failed 8 times in a row: it is not started again"
    )
    with pytest.raises(ConnectionRefusedError):
        service.ask()


def test_a_long_life_is_forgiven_what_was_before(guarded: Callable[[str], Guarded]) -> None:
    service = guarded(
        """
        if life == 4: time.sleep(10.1)
        if life != 10: sys.exit(1)
        """
    )
    service.start()
    *_, before = service.wait_life(4)
    *_, after = service.wait_life(5)
    assert after - before < 15
    service.wait_life(10)
    assert service.ask() == b"10"


def test_it_can_be_ended_between_two_starts(guarded: Callable[[str], Guarded]) -> None:
    service = guarded("sys.exit(1)")
    service.start()
    _, guard, _ = service.wait_life(5)
    os.kill(guard, signal.SIGTERM)
    until(lambda: gone(guard))
    assert len(service.lives()) <= 6


def test_a_large_log_is_put_aside(guarded: Callable[[str], Guarded]) -> None:
    service = guarded("print('x' * 300000 if life == 1 else 'small', file=sys.stderr, flush=True)")
    service.log.write_text("from before\n")
    service.start()
    assert service.ask(b"die") == b""
    assert service.ask() == b"2"
    aside = Path(f"{service.log}.1").read_text()
    assert aside.startswith("from before\nxxx") and len(aside) > 300000
    assert re.fullmatch(r".*has ended \(signal 9\)\nsmall\n", service.log.read_text())


def test_a_log_is_no_link(guarded: Callable[[str], Guarded], tmp_path: Path) -> None:
    service = guarded("")
    (tmp_path / "target").write_text("")
    service.log.symlink_to(tmp_path / "target")
    done = service.start()
    assert done.returncode == 125
    assert done.stderr.startswith(f"netguard: cannot open {service.log}: ")
    assert service.lives() == []


def test_a_program_that_has_gone_is_told(guarded: Callable[[str], Guarded], tmp_path: Path) -> None:
    service = guarded("")  # what cleans up after the guard
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $$ $PPID 0 >{tmp_path}/lives\nrm {program}\nexit 1\n")
    program.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        spawn([GUARD, str(service.log), "--", str(program)], listener.fileno())
    words = f"cannot execute {program}: No such file or directory"
    until(lambda: service.log.exists() and words in service.log.read_text())


@pytest.mark.parametrize(
    "argv",
    [[], ["/x"], ["/x", "--"], ["x", "--", "/y"], ["/x", "--", "y"], ["/x", "-", "/y"]],
    ids=" ".join,
)
def test_wrong_arguments(argv: list[str]) -> None:
    done = subprocess.run([GUARD, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert done.stderr == "usage: netguard LOG -- PROGRAM [ARG...] (absolute paths)\n"


@pytest.mark.parametrize("missing", [3, 4, 5, "not listening"])
def test_descriptors_that_are_wrong(tmp_path: Path, missing: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as other:

        def place() -> None:
            for fd in (4, 5):
                os.dup2(0, fd)
            os.dup2(other.fileno() if missing == "not listening" else listener.fileno(), 3)
            if missing in (3, 4, 5):
                os.close(missing)

        argv = [GUARD, f"{tmp_path}/log", "--", "/bin/true"]
        done = spawn(argv, listener.fileno(), place=place, stdin=subprocess.DEVNULL)
    assert done.returncode == 125
    assert done.stderr.startswith(
        "netguard: cannot use descriptors 3 (a listening socket), 4 and 5: "
    )
    assert not (tmp_path / "log").exists()
