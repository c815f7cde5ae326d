"""The monitor and the control group that its launcher tells it of; a plain directory stands in for one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from monitor_rig import Rig, libexec, listen, receive, rig, until

from rootless.runtime.monitor import Client

__all__ = ["libexec", "rig"]

WAIT = "read a; exit 7"


def group(rig: Rig, name: str = "group", **files: str) -> Path:
    """A directory that looks like a control group in which nobody is."""
    made = rig.directory / name
    made.mkdir(parents=True, exist_ok=True)
    found = {"cgroup_events": "populated 0\nfrozen 0\n", "memory_events": EVENTS.format(0), **files}
    for file, text in found.items():
        (made / file.replace("_", ".")).write_text(text)
    return made


EVENTS = "low 0\nhigh 0\nmax 9\noom 1\noom_kill {}\noom_group_kill 0\n"


def started(rig: Rig, path: str, script: str = WAIT) -> Client:
    client = rig.fake("group", path, "/bin/sh", "-c", script, stdin=True)
    client.attach(stdin=True, stdout=True, stderr=True)
    listen(client, b"P")
    return client


def end(client: Client) -> tuple[int, int]:
    """Exit code and flags, once the container has read its line."""
    client.stdin(b"\n")
    while True:
        message = receive(client)
        assert message is not None
        if message[0] == b"X":
            return int.from_bytes(message[1][:4], "little"), message[1][4]


def test_the_group_is_recorded_while_it_runs(rig: Rig) -> None:
    path = group(rig)
    client = started(rig, str(path))
    assert rig.state()["cgroup"] == str(path)
    assert end(client) == (7, 0)
    assert rig.state()["cgroup"] == "" and rig.state()["oomKilled"] is False


def test_that_memory_ran_out_is_recorded_and_told(rig: Rig) -> None:
    path = group(rig)
    client = started(rig, str(path))
    (path / "memory.events").write_text(EVENTS.format(2))
    assert end(client) == (7, 2)
    assert rig.state()["oomKilled"] is True


def test_what_was_counted_before_is_not_ours(rig: Rig) -> None:
    path = group(rig, memory_events=EVENTS.format(5))
    client = started(rig, str(path))
    assert end(client) == (7, 0)
    assert rig.state()["oomKilled"] is False


@pytest.mark.parametrize("text", ["", "oom_kill", "oom_kill x\n", "\n\n", "x" * 5000])
def test_a_file_that_says_nothing_is_none(rig: Rig, text: str) -> None:
    path = group(rig)
    client = started(rig, str(path))
    (path / "memory.events").write_text(text)
    assert end(client) == (7, 0)


@pytest.mark.parametrize("path", ["relative", "/" + "x" * 1099, "/" + "y" * 3000])
def test_a_path_that_cannot_be_is_not_taken(rig: Rig, path: str) -> None:
    client = started(rig, path)
    assert rig.state()["cgroup"] == ""
    assert end(client) == (7, 0)


@pytest.mark.parametrize("name", ['a"b\\c', "tab\tnew\nline", "ä" * 100, "\x01" * 200])
def test_any_name_is_recorded_whole(rig: Rig, name: str) -> None:
    path = group(rig, name)
    client = started(rig, str(path))
    assert rig.state()["cgroup"] == str(path)
    assert end(client) == (7, 0)


def test_a_group_that_is_not_there_is_no_obstacle(rig: Rig) -> None:
    client = started(rig, str(rig.directory / "nowhere"))
    assert end(client) == (7, 0)


@pytest.mark.parametrize("manual", [False, True])
def test_a_signal_that_is_to_end_it_thaws(rig: Rig, manual: bool) -> None:
    path = group(rig, cgroup_freeze="1\n")
    client = started(rig, str(path), "trap 'echo got' USR1; while read a; do :; done; exit 7")
    other = rig.connect()
    assert other.kill(signal.SIGUSR1, manual_stop=manual)
    assert other.wait_ack() == 0
    assert (path / "cgroup.freeze").read_text()[0] == ("0" if manual else "1")
    client.eof()
    listen(client)


def test_a_stop_thaws(rig: Rig) -> None:
    path = group(rig, cgroup_freeze="1\n")
    client = started(rig, str(path), "sleep 1000")
    rig.connect().stop(signal.SIGTERM, 0)
    listen(client)
    assert (path / "cgroup.freeze").read_text()[0] == "0"


def test_what_is_left_in_it_is_killed_and_groups_below_removed(rig: Rig) -> None:
    path = group(rig, cgroup_events="populated 1\n", cgroup_kill="")
    (path / "sub" / "leaf").mkdir(parents=True)
    client = started(rig, str(path))
    client.stdin(b"\n")
    until(lambda: (path / "cgroup.kill").read_text() == "1")
    (path / "cgroup.events").write_text("populated 0\n")
    listen(client)
    assert not os.path.exists(path / "sub")


def test_before_linux_5_14_each_is_killed(rig: Rig) -> None:
    victim = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
    path = group(rig, cgroup_events="populated 1\n", cgroup_procs=f"{victim}\n")
    client = started(rig, str(path))
    client.stdin(b"\n")
    assert os.WTERMSIG(os.waitpid(victim, 0)[1]) == signal.SIGKILL
    (path / "cgroup.procs").write_text("")
    (path / "cgroup.events").write_text("populated 0\n")
    listen(client)
