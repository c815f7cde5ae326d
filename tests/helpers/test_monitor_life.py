"""Start, failure, signals, stop, restart policy, state file and removal by the monitor."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from monitor_rig import SOCKET, STATE, Rig, alive, libexec, listen, output, receive, rig, until

from rootless.plan import tape
from rootless.runtime import monitor

__all__ = ["libexec", "rig"]

STATE_KEYS = {
    "status", "pid", "pidStart", "monitorPid", "startedAt", "finishedAt", "exitCode", "error", "oomKilled",
    "cgroup", "restart", "restartCount", "bootId", "manualStop",
}  # fmt: skip
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")


def seconds_of(stamp: str) -> float:
    text = subprocess.run(
        ["date", "-d", stamp, "+%s.%N"], capture_output=True, check=True, text=True
    )
    return float(text.stdout)


def test_state_of_a_life(rig: Rig) -> None:
    before = time.time()
    client = rig.shell("read a; exit 5", stdin=True)
    client.attach(stdin=True, stdout=True, stderr=True)
    listen(client, b"P")
    running = rig.state()  # recorded before the client is told
    assert set(running) == STATE_KEYS
    assert running["status"] == "running"
    assert alive(running["pid"]) and alive(running["monitorPid"])
    assert STAMP.fullmatch(running["startedAt"]) and running["finishedAt"] == ""
    client.stdin(b"\n")
    assert listen(client).exit == 5
    ended = rig.state()  # likewise
    assert set(ended) == STATE_KEYS
    assert (ended["status"], ended["exitCode"], ended["pid"], ended["monitorPid"]) == (
        "exited",
        5,
        0,
        0,
    )
    assert ended["startedAt"] == running["startedAt"]
    assert STAMP.fullmatch(ended["finishedAt"])
    assert (
        before - 1
        <= seconds_of(ended["startedAt"])
        <= seconds_of(ended["finishedAt"])
        <= time.time() + 1
    )


@pytest.mark.parametrize("number", [1, 2, 9, 15, 34])
def test_death_by_signal_is_128_and_the_number(rig: Rig, number: int) -> None:
    heard = output(rig.shell(f"kill -{number} $$"))
    assert (heard.exit, heard.signalled) == (128 + number, True)
    assert rig.state()["exitCode"] == 128 + number


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (["nosuchprogram"], 127, 'exec: "nosuchprogram": executable file not found in $PATH'),
        (["/no/such"], 127, 'exec: "/no/such": stat /no/such: no such file or directory'),
        (["/etc/passwd"], 126, 'exec: "/etc/passwd": permission denied'),
        (["/etc"], 126, 'exec: "/etc": is a directory'),
        (["/etc/passwd/x"], 127, "not a directory"),
    ],
)
def test_a_start_that_fails(rig: Rig, argv: list[str], code: int, text: str) -> None:
    heard = output(rig.spawn(argv, restart="always"))
    assert heard.kinds == "EX"
    assert heard.error is not None
    assert heard.error[0] == code and text in heard.error[1].replace("Not a", "not a")
    assert heard.exit == code
    state = rig.state()
    assert (state["status"], state["exitCode"], state["restartCount"]) == ("created", code, 0)
    assert state["error"] == heard.error[1]
    assert not os.path.exists(rig.path("run"))


def test_a_start_that_fails_after_a_life_is_no_longer_created(rig: Rig) -> None:
    output(rig.shell("exit 3"))
    first = rig.state()
    assert output(rig.spawn(["/no/such"])).exit == 127
    state = rig.state()
    assert (state["status"], state["exitCode"]) == ("exited", 127)
    assert (state["startedAt"], state["finishedAt"]) == (first["startedAt"], first["finishedAt"])


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("mute", "launcher died"),
        ("crash", "launcher died"),
        ("garbage", "launcher died"),
        ("sync", "answered"),
    ],
)
def test_a_launcher_that_misbehaves(rig: Rig, word: str, reason: str) -> None:
    heard = output(rig.fake(word))
    assert heard.error == (128, reason)
    assert rig.state()["error"] == reason


def test_a_long_reason_keeps_the_state_readable(rig: Rig) -> None:
    heard = output(rig.fake("huge-error"))
    assert heard.error is not None and set(heard.error[1]) == {"\1"}
    state = rig.state()
    assert state["status"] == "created" and set(state["error"]) == {"\1"}


def test_missing_tape_launcher_and_socket_directory(rig: Rig) -> None:
    os.mkdir(rig.path("run"))
    for changes, reason in (
        ({"tape": rig.path("none")}, "cannot open the tape: no such file or directory"),
        ({"launch": rig.path("none")}, "cannot execute the launcher: no such file or directory"),
        (
            {"socket": rig.path("none/sock")},
            "cannot listen on the monitor's socket: no such file or directory",
        ),
    ):
        rig.write_tape(["/bin/true"])
        options = rig.options(**changes)
        heard = output(rig.keep(monitor.spawn(str(rig.libexec), options)))
        assert heard.error == (128, reason)


def test_a_hanging_launcher_can_be_killed(rig: Rig) -> None:
    client = rig.fake("hang")
    client.attach(stdin=False, stdout=True, stderr=True)
    other = rig.connect()
    other.kill(9)
    assert other.wait_ack() == 0
    assert listen(client).error == (128, "launcher died")


def test_a_signal_before_the_start_is_kept(rig: Rig) -> None:
    client = rig.shell("exec sleep 1000")
    client.kill(15)  # on its way before the launcher is
    assert client.wait_ack() == 0
    assert output(client).exit == 128 + 15


def test_stop_escalates(rig: Rig) -> None:
    client = rig.shell("trap 'echo term' TERM; echo ready; while :; do sleep 0.05; done")
    client.attach(stdin=False, stdout=True, stderr=True)
    assert receive(client) is not None
    assert receive(client) == (b"1", b"ready\n")
    client.stop(15, 1)
    assert client.wait_ack() == 0
    heard = listen(client)
    assert heard.out.startswith(b"term\n")
    assert heard.exit == 137
    assert rig.state()["manualStop"] is True


def test_stop_without_timeout_waits(rig: Rig) -> None:
    client = rig.shell("trap 'sleep 1; exit 6' TERM; echo ready; while :; do sleep 0.05; done")
    client.attach(stdin=False, stdout=True, stderr=True)
    until(lambda: receive(client) == (b"1", b"ready\n"))
    client.stop(15, -1)
    assert listen(client).exit == 6


def test_term_of_the_monitor_is_a_graceful_stop(rig: Rig) -> None:
    client = rig.shell(
        "trap 'exit 3' USR1; echo ready; while :; do sleep 0.05; done",
        restart="always",
        stop_signal=10,
    )
    client.attach(stdin=False, stdout=True, stderr=True)
    until(lambda: receive(client) == (b"1", b"ready\n"))
    pid = rig.state()["monitorPid"]
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGPIPE):
        os.kill(pid, number)
    assert client.query()["status"] == "running"
    os.kill(pid, signal.SIGTERM)
    assert listen(client).exit == 3
    state = rig.state()
    assert (state["status"], state["manualStop"], state["restartCount"]) == ("exited", False, 0)


def test_kill_of_what_has_ended_is_esrch(rig: Rig) -> None:
    client = rig.shell("exit 1", restart="always")
    rig.await_status("restarting")
    client.kill(10)
    assert client.wait_ack() == errno.ESRCH
    client.stop(15, 10)
    assert client.wait_ack() == 0
    assert listen(client).exit == 1


@pytest.mark.parametrize(
    ("policy", "most", "code", "runs"),
    [
        ("no", 0, 1, 1),
        ("on-failure", 3, 1, 4),
        ("on-failure", 2, 0, 1),
        ("always", 0, 0, 3),
        ("unless-stopped", 0, 7, 3),
    ],
)
def test_restart_policies(rig: Rig, policy: str, most: int, code: int, runs: int) -> None:
    # Each run counts itself; the policies without an end are stopped after the third.
    count = rig.path("count")
    endless = policy in ("always", "unless-stopped")
    stay = f"[ $(wc -c < {count}) -lt {runs} ] || exec sleep 1000;" if endless else ""
    client = rig.shell(
        f"printf x >> {count}; echo run; {stay} exit {code}", restart=policy, restart_max=most
    )
    client.attach(stdin=False, stdout=True, stderr=True)
    if endless:
        until(lambda: os.path.exists(count) and os.stat(count).st_size == runs)
        state = rig.await_status("running")
        assert state["restartCount"] == runs - 1
        rig.connect().stop(9, 0)
        code = 137
    heard = listen(client)
    assert (heard.exit, heard.out) == (code, b"run\n" * runs)
    state = rig.state()
    assert (state["status"], state["restartCount"]) == ("exited", runs - 1)
    assert [entry["log"] for entry in rig.log()] == ["run\n"] * runs


def test_delays_double(rig: Rig) -> None:
    """From the recorded times: 100, 200, 400 ms at least, however slow the machine is."""
    client = rig.shell(
        f"date +%s.%N >> {rig.path('times')}; exit 1", restart="on-failure", restart_max=3
    )
    assert output(client).exit == 1
    times = [float(line) for line in Path(rig.path("times")).read_text().split()]
    gaps = [b - a for a, b in zip(times, times[1:])]
    assert len(gaps) == 3
    assert all(gap >= least for gap, least in zip(gaps, (0.1, 0.2, 0.4)))


def test_stop_between_two_lives_ends_it(rig: Rig) -> None:
    client = rig.shell("exit 4", restart="always")
    client.attach(stdin=False, stdout=True, stderr=True)
    until(lambda: rig.state().get("restartCount", 0) >= 4)
    state = rig.await_status("restarting")
    assert (state["pid"], state["exitCode"]) == (0, 4)
    assert alive(state["monitorPid"])
    other = rig.connect()
    other.stop(15, 10)
    assert other.wait_ack() == 0
    assert listen(client).exit == 4
    assert rig.state()["manualStop"] is True


def test_restart_whose_start_fails_does_not_loop(rig: Rig) -> None:
    program = rig.path("program")
    Path(program).write_text(f"#!/bin/sh\nrm {program}\nexit 1\n")
    os.chmod(program, 0o755)
    heard = output(rig.spawn([program], restart="always"))
    assert heard.error is not None and heard.error[0] == 127
    state = rig.state()
    assert (state["status"], state["exitCode"], state["restartCount"]) == ("exited", 127, 1)


def test_survivors_of_a_container_are_killed(rig: Rig) -> None:
    script = f"(setsid sleep 1000 & echo $! > {rig.path('pid')}); exit 0"
    assert output(rig.shell(script)).exit == 0
    assert not alive(int(Path(rig.path("pid")).read_text()))


def test_lock_is_held_for_life(rig: Rig, tmp_path: Path) -> None:
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    client = rig.shell("read a", stdin=True, lock_fd=lock)
    os.close(lock)
    client.attach(stdin=True, stdout=True, stderr=True)
    listen(client, b"P")
    again = os.open(tmp_path / "lock", os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    client.stdin(b"\n")
    assert listen(client).exit == 0
    fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go before the client is told
    os.close(again)


def auto_remove(rig: Rig, name: str = "web") -> dict[str, Any]:
    """Make container 0123 in a tree like the store's; the options that remove it."""
    for directory in ("containers/0123/upper/deep", "trash", "names", "run"):
        os.makedirs(rig.path(directory))
    Path(rig.path("containers/0123/upper/deep/file")).write_text("data")
    Path(rig.path("containers/0123/name")).write_text(name)
    os.symlink("0123", rig.path(f"names/{name}"))
    ops = [("rmtree", (rig.path("trash/0123"),))]
    Path(rig.path("run/remove")).write_bytes(tape.encode(ops))
    return {
        "state": rig.path("containers/0123/state.json"),
        "log": rig.path("containers/0123/log.json"),
        "remove_tape": rig.path("run/remove"),
        "container_dir": rig.path("containers/0123"),
        "trash_dir": rig.path("trash"),
        "names_dir": rig.path("names"),
    }


def nothing_left(rig: Rig) -> bool:
    left = [os.listdir(rig.path(d)) for d in ("containers", "trash", "names")]
    return left == [[], [], []] and not os.path.exists(rig.path("run"))


def test_auto_remove(rig: Rig) -> None:
    heard = output(rig.shell("echo x; exit 2", **auto_remove(rig)))
    assert (heard.out, heard.exit) == (b"x\n", 2)
    assert nothing_left(rig)  # all gone by the time the client is told


def test_auto_remove_after_a_failed_start(rig: Rig) -> None:
    assert output(rig.spawn(["/no/such"], **auto_remove(rig))).exit == 127
    assert nothing_left(rig)


def test_auto_remove_when_the_client_is_killed(rig: Rig) -> None:
    client = rig.shell("read a", stdin=True, stdin_once=True, **auto_remove(rig))
    client.attach(stdin=True, stdout=True, stderr=True)
    listen(client, b"P")
    client.close()
    until(lambda: nothing_left(rig))


def test_auto_remove_leaves_a_name_that_is_another_containers(rig: Rig) -> None:
    options = auto_remove(rig)
    os.unlink(rig.path("names/web"))
    os.symlink("4567", rig.path("names/web"))
    assert output(rig.shell("exit 0", **options)).exit == 0
    assert os.readlink(rig.path("names/web")) == "4567"


def test_hook_runs_at_the_end(rig: Rig) -> None:
    seen = rig.path("seen")
    script = f'cat {rig.path(STATE)} > {seen}; echo "$@" >> {seen}'
    client = rig.shell(
        "exit 0",
        on_exit="/bin/sh",
        on_exit_args=["-c", f"PATH=/usr/bin:/bin; {script}", "sh", "a b", "c"],
    )
    assert output(client).exit == 0
    text = Path(seen).read_text()
    assert '"status":"exited"' in text and text.endswith("a b c\n")


def test_leftovers_in_the_run_directory_go(rig: Rig) -> None:
    os.makedirs(rig.path("run/exec-1"))
    for i in range(300):
        Path(rig.path(f"run/exec-1/file{i}")).write_text("x")
    assert output(rig.shell("exit 0")).exit == 0
    assert not os.path.exists(rig.path("run"))


def test_kill_of_the_monitor_leaves_a_whole_state(rig: Rig) -> None:
    """KILL at fifty different moments: the state file is the old or the new one, never a part of one."""
    for i in range(50):
        client = rig.shell("sleep 0.03", restart="always", durable=bool(i % 2))
        client.attach(stdin=False, stdout=False, stderr=False)
        listen(client, b"P")
        pid = rig.keep(client).query()["monitorPid"]
        time.sleep(0.007 * i)
        os.kill(pid, signal.SIGKILL)
        assert listen(client).exit is None
        state = json.loads(Path(rig.path(STATE)).read_text())
        assert set(state) == STATE_KEYS
        assert state["status"] in ("running", "restarting")
        client.close()


def test_a_stale_socket_is_replaced(rig: Rig) -> None:
    client = rig.shell("exec sleep 1000")
    client.attach(stdin=False, stdout=False, stderr=False)
    listen(client, b"P")
    os.kill(rig.state()["monitorPid"], signal.SIGKILL)
    assert receive(client) is None
    assert os.path.exists(rig.path(SOCKET))
    again = rig.shell("read a; exit 8", stdin=True)
    other = rig.connect()
    other.attach(stdin=True, stdout=True, stderr=True)
    other.stdin(b"\n")
    assert output(again).exit == 8


@pytest.mark.parametrize(
    "bad",
    [
        "--tty",
        "--tty=x",
        "--tty=",
        "--nope=1",
        "tty=1",
        "--restart=never",
        "--tty=99999999999999999999",
    ],
)
def test_a_wrong_argument_is_named(libexec: Path, bad: str) -> None:
    done = subprocess.run(
        [str(libexec / "monitor"), bad], capture_output=True, text=True, check=False
    )
    assert done.returncode == 125
    assert done.stderr == f"monitor: wrong argument: {bad}\n"
