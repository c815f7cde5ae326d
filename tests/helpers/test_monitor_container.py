"""Monitor and launcher together on a whole container: namespaces, a root, a pty from inside."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from monitor_rig import Heard, Rig, alive, libexec, listen, output, receive, rig, until

from rootless.runtime import monitor

__all__ = ["libexec", "rig"]

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000
MS_REC, MS_SLAVE = 0x4000, 0x80000


def ops(rig: Rig, *, tty: bool) -> list[Any]:
    """A container whose root is the host's, as one ID, with a proc and a devpts of its own."""
    os.makedirs(rig.path("root"), exist_ok=True)
    flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID
    single = f"0 {os.getuid()} 1", f"0 {os.getgid()} 1"
    tape: list[Any] = [
        ("clone", (flags, 3, *single, "", "")),
        ("set_ids", (0, 0)),
        ("propagation", ("/", MS_REC | MS_SLAVE)),
        ("root_bind", ("/", rig.path("root"))),
        ("mount", ("proc", "proc", "/proc", 0, "", 2)),
        ("mount", ("devpts", "devpts", "/dev/pts", 0, "newinstance,ptmxmode=0666,mode=0620", 0)),
        ("pivot", ()),
    ]
    return [*tape, ("console", (33, 77, 0))] if tty else tape


@pytest.fixture(autouse=True)
def namespaces(rig: Rig) -> None:
    """Only where a user may make namespaces at all."""
    rig.write_tape(["/bin/true"], ops(rig, tty=False))
    heard = output(rig.keep(monitor.spawn(str(rig.libexec), rig.options())))
    assert heard.exit == 0, heard.error


def start(rig: Rig, script: str, **options: Any) -> monitor.Client:
    rig.write_tape(["/bin/sh", "-c", script], ops(rig, tty=bool(options.get("tty"))))
    return rig.keep(monitor.spawn(str(rig.libexec), rig.options(**options)))


def test_it_is_the_first_process_of_its_namespace(rig: Rig) -> None:
    heard = output(start(rig, "echo $$ $(id -u)"))
    assert (heard.out, heard.exit) == (b"1 0\n", 0)


def test_terminal_from_inside(rig: Rig) -> None:
    script = "tty; stty size; read a; stty size; exit 6"
    client = start(rig, script, tty=True, stdin=True, stdin_once=True)
    client.attach(stdin=True, stdout=True, stderr=True)
    heard = Heard()
    while b"33 77" not in heard.out:
        message = receive(client)
        assert message is not None
        heard.take(message)
    assert heard.out.startswith(b"/dev/pts/0\r\n")
    client.resize(11, 22)
    client.stdin(b"\n")
    rest = listen(client)
    assert b"11 22\r\n" in rest.out
    assert rest.exit == 6


def test_interrupt_from_the_terminal(rig: Rig) -> None:
    client = start(rig, "trap 'echo caught; exit 8' INT; echo ready; read a", tty=True, stdin=True)
    client.attach(stdin=True, stdout=True, stderr=True)
    heard = Heard()
    while b"ready" not in heard.out:
        message = receive(client)
        assert message is not None
        heard.take(message)
    client.stdin(b"\x03")
    rest = listen(client)
    assert b"caught" in rest.out
    assert rest.exit == 8


def test_nothing_of_a_container_outlives_its_monitor(rig: Rig) -> None:
    marker = "1234567.25"
    client = start(rig, f"setsid sleep {marker} & sleep {marker}")
    client.attach(stdin=False, stdout=False, stderr=False)
    listen(client, b"P")
    state = rig.await_status("running")

    def members() -> list[int]:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        return [pid for pid in pids if marker in cmdline(pid)]

    until(lambda: len(members()) == 3)  # the shell names it, too
    os.kill(state["monitorPid"], signal.SIGKILL)
    until(lambda: not members())
    until(lambda: not alive(state["pid"]))


def cmdline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def test_stop_of_an_init_that_ignores_it(rig: Rig) -> None:
    client = start(rig, "sleep 1000; :")  # PID 1 without a handler takes no TERM
    client.attach(stdin=False, stdout=True, stderr=True)
    listen(client, b"P")
    client.stop(15, 1)
    assert listen(client).exit == 137


def test_restart_plays_the_same_tape(rig: Rig) -> None:
    heard = output(start(rig, "echo $$; exit 1", restart="on-failure", restart_max=2))
    assert (heard.out, heard.exit) == (b"1\n" * 3, 1)
    assert rig.state()["restartCount"] == 2
