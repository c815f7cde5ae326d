"""The everyday commands, end to end: what a user types and what comes of it."""

from __future__ import annotations

import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fcntl import ioctl

import pytest
from rig import World, busybox, until

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "busybox")


@pytest.fixture(scope="module")
def rl() -> Iterator[World]:
    world = World()
    try:
        busybox(world)
        yield world
    finally:
        world.close()


def test_hello_needs_no_registry(rl: World) -> None:
    text = rl.out("run", "--rm", "hello")
    assert "nobody was root" in text
    assert "filter loaded" in text
    assert "overlay" in text


@pytest.mark.parametrize(
    ("command", "code", "phrase"),
    [
        (["sh", "-c", "exit 7"], 7, ""),
        (["nosuchprogram"], 127, "executable file not found in $PATH"),
        (["/nosuch/program"], 127, "no such file or directory"),
        (["/etc/passwd"], 126, "permission denied"),
        (["/etc"], 126, "is a directory"),
        (["sh", "-c", "sleep 0.01 & kill -9 $!; wait $!"], 137, ""),
    ],
)
def test_exit_codes(rl: World, command: list[str], code: int, phrase: str) -> None:
    done = rl("run", "--rm", "--network", "none", "busybox", *command, code=code)
    assert phrase in done.stderr
    assert len(done.stderr.splitlines()) <= 1


def test_own_errors_are_125_and_leave_nothing(rl: World) -> None:
    before = rl.out("ps", "-aq")
    for words in (
        ["--cap-add", "NOPE", "busybox"],
        ["--nosuchflag", "busybox"],
        ["--pull", "never", "nosuchimage"],
        ["-w", "relative", "busybox"],
        ["--rm", "--restart", "always", "busybox"],
        ["--ulimit", "nofile=5:1", "busybox"],
        ["--security-opt", "seccomp=/nosuch/file", "busybox"],
        ["--userns", "nonsense", "busybox"],
        ["--mount", "type=bind,target=/x", "busybox"],
        ["--name", "!", "busybox"],
    ):
        done = rl("run", *words, "true", code=125)
        assert done.stderr.startswith("rootless: ")
    assert rl.out("ps", "-aq") == before


def test_stdin_environment_user_and_directory(rl: World) -> None:
    assert rl.out("run", "--rm", "-i", "busybox", "cat", input="hello\n") == "hello"
    shown = rl.out(
        "run", "--rm", "-e", "A=1", "-e", "TAKEN", "-w", "/made/here", "-u", "app", "busybox",
        "sh", "-c", "id; pwd; echo $A $TAKEN $HOME", env={"TAKEN": "yes"},
    )  # fmt: skip
    assert shown.splitlines() == [
        "uid=1000(app) gid=1000(app) groups=2000(extra)",
        "/made/here",
        "1 yes /home/app",
    ]
    rl("run", "--rm", "-u", "nosuch", "busybox", "true", code=125)


def test_a_container_from_create_to_rm(rl: World) -> None:
    script = 'trap "echo bye; exit 3" TERM; echo up; while :; do sleep 0.05; done'
    identity = rl.out("create", "--name", "life", "busybox", "sh", "-c", script)
    assert len(identity) == 64
    assert "Created" in rl.out("ps", "-a", "--format", "{{.Names}} {{.Status}}")
    rl("start", "life")
    until(lambda: "up" in rl.out("logs", "life"))
    assert "life" in rl.out("ps", "--format", "{{.Names}}").split()
    assert rl.out("exec", "-u", "app", "life", "id", "-un") == "app"
    rl("exec", "life", "sh", "-c", "exit 9", code=9)
    assert "sleep" in rl.out("top", "life")
    rl("rm", "life", code=1)
    rl("stop", "life")
    assert rl.out("logs", "--tail", "1", "life") == "bye"
    assert rl.out("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "life") == "exited 3"
    assert rl.out("wait", identity[:12]) == "3"
    rl("exec", "life", "true", code=1)
    rl("rename", "life", "second")
    rl("restart", "second")
    rl("kill", "second")
    assert rl.out("inspect", "-f", "{{.State.ExitCode}}", "second") == "137"
    rl("rm", "second")
    assert "second" not in rl.names()


def test_names_are_claimed_once(rl: World) -> None:
    rl("create", "--name", "taken", "busybox", "true")
    with ThreadPoolExecutor(8) as pool:
        codes = list(
            pool.map(
                lambda _: rl(
                    "create", "--name", "raced", "busybox", "true", check=False
                ).returncode,
                range(8),
            )
        )
    assert codes.count(0) == 1
    done = rl("run", "--name", "taken", "busybox", "true", code=125)
    assert "already in use" in done.stderr
    rl("rm", "taken", "raced")


def test_many_at_once(rl: World) -> None:
    def one(number: int) -> str:
        return rl.out("run", "--rm", "--network", "none", "busybox", "echo", str(number))

    with ThreadPoolExecutor(40) as pool:
        assert list(pool.map(one, range(40))) == [str(number) for number in range(40)]


def test_isolation(rl: World) -> None:
    script = (
        "cat /proc/self/uid_map; ls /proc/self/fd | wc -l; grep CapEff /proc/self/status; "
        "unshare -U true 2>&1; mount -t tmpfs x /tmp 2>&1; head -c1 /proc/kcore | wc -c; "
        "echo x > /proc/sys/kernel/hostname; ls /dev"
    )
    done = rl("run", "--rm", "--network", "none", "busybox", "sh", "-c", script, check=False)
    text = done.stdout
    extents = [line.split() for line in text.splitlines()[:2]]
    assert extents[0] == ["0", "0", "1"]  # the caller's extent is a line of its own
    assert extents[1][:2] == ["1", "1"]
    assert "00000000a80425fb" in text  # Docker's fourteen
    assert text.count("Operation not permitted") + text.count("permission denied") >= 2
    assert "Read-only" in done.stderr
    assert "kmsg" not in text
    counted = text.splitlines()[2].strip()
    assert counted in ("4", "3")  # stdio, and the directory itself


def test_siblings_do_not_see_each_other(rl: World) -> None:
    rl("run", "-d", "--name", "victim", "--network", "none", "busybox", "sleep", "300")
    pid = rl.out("inspect", "-f", "{{.State.Pid}}", "victim")
    script = "ps | grep -c 'sleep 30[0]'; true"
    assert rl.out("run", "--rm", "--network", "none", "busybox", "sh", "-c", script) == "0"
    done = rl("run", "--rm", "--network", "none", "busybox", "kill", "-9", pid, code=1)
    assert "No such process" in done.stderr
    assert rl.out("inspect", "-f", "{{.State.Running}}", "victim") == "true"
    rl("rm", "-f", "victim")


def test_mounts(rl: World) -> None:
    shared = f"{rl.top}/shared"
    os.makedirs(shared)
    rl("run", "--rm", "-v", f"{shared}:/s", "busybox", "touch", "/s/made")
    assert os.stat(f"{shared}/made").st_uid == os.getuid()
    done = rl("run", "--rm", "-v", f"{shared}:/s:ro", "busybox", "touch", "/s/no", code=1)
    assert "Read-only" in done.stderr
    rl("run", "--rm", "--read-only", "busybox", "touch", "/no", code=1)
    size = rl.out("run", "--rm", "--tmpfs", "/t:size=2m", "busybox", "df", "-k", "/t")
    assert "2048" in size
    rl("run", "--rm", "--mount", "type=bind,src=/nosuch/dir,dst=/x", "busybox", "true", code=125)


def test_userns_modes(rl: World) -> None:
    uid = os.getuid()
    assert rl.out("run", "--rm", "--userns", "keep-id", "busybox", "id", "-u") == str(uid)
    kept = rl.out(
        "run", "--rm", "--userns", "keep-id", "busybox", "stat", "-c", "%u", "/bin/busybox"
    )
    assert kept == "0"
    rl("run", "-d", "--name", "auto1", "--userns", "auto", "busybox", "sleep", "300")
    first = rl.out("exec", "auto1", "cat", "/proc/self/uid_map").split()
    second = rl.out(
        "run", "--rm", "--userns", "auto", "busybox", "cat", "/proc/self/uid_map"
    ).split()
    assert first[1] != second[1]
    rl("rm", "-f", "auto1")


def test_restart_policy_counts(rl: World) -> None:
    rl("run", "--name", "again", "--restart", "on-failure:2", "busybox", "false", code=1)
    assert rl.out("inspect", "-f", "{{.RestartCount}}", "again") == "2"
    rl("rm", "again")


def test_signals_reach_the_container(rl: World) -> None:
    script = 'trap "exit 42" TERM; echo up; while :; do sleep 0.05; done'
    process = rl.spawn("run", "--rm", "busybox", "sh", "-c", script, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 42


class Terminal:
    """A pty with a rootless command on it."""

    def __init__(self, rl: World, *words: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir("/")
            os.execve(rl.argv[0], [*rl.argv, *words], rl.env)
        self.text = ""

    def expect(self, text: str, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.text:
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no {text!r} in {self.text!r}"
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                data = b""
            assert data, f"no {text!r} in {self.text!r}"
            self.text += data.decode("utf-8", "replace")
        self.text = self.text.partition(text)[2]

    def send(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end(self) -> int:
        while True:
            try:
                if not os.read(self.fd, 65536):
                    break
            except OSError:
                break
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_a_shell_on_a_terminal_detached_and_taken_up_again(rl: World) -> None:
    shell = Terminal(rl, "run", "-it", "--rm", "--name", "shell", "busybox", "sh")
    shell.expect("/ # ")
    shell.resize(21, 77)
    shell.send("sleep 0.3; stty size; tty\r")
    shell.expect("21 77")
    shell.expect("/dev/pts/0")
    shell.expect("/ # ")
    shell.send("\x10\x11")
    assert shell.end() == 0
    assert rl.out("inspect", "-f", "{{.State.Running}}", "shell") == "true"
    again = Terminal(rl, "attach", "shell")
    again.send("echo a$((40 + 2))z\r")
    again.expect("a42z")
    again.send("exit 6\r")
    assert again.end() == 6
    until(lambda: "shell" not in rl.names())


def test_a_terminal_is_refused_where_there_is_none(rl: World) -> None:
    done = rl("run", "--rm", "-it", "busybox", "true", code=1)
    assert "the input device is not a TTY" in done.stderr


def test_explain_runs_nothing(rl: World) -> None:
    before = rl.out("ps", "-aq")
    text = rl.out("run", "--explain", "--read-only", "busybox", "true")
    assert '"ociVersion"' in text
    assert "pivot" in text
    assert rl.out("ps", "-aq") == before


@pytest.mark.parametrize("victim", ["cli", "monitor", "init"])
def test_kill_9_leaves_the_truth(rl: World, victim: str) -> None:
    for number in range(12):
        process = rl.spawn(
            "run", "--name", "hit", "busybox", "sh", "-c", "sleep 0.1; exit 4",
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        time.sleep(number * 0.012)
        if victim == "cli":
            process.kill()
        else:
            _kill(rl, victim)
        _, said = process.communicate(timeout=60)
        assert b"Traceback" not in said
        until(lambda: "Up" not in rl.out("ps", "-a", "--format", "{{.Status}}"))
        rl("rm", "-f", "hit")
        rl("create", "--name", "hit", "busybox", "true")
        rl("rm", "hit")
    assert rl.names() == []
    until(lambda: not [line for _, line in rl.processes() if "/monitor " in line])


def _kill(rl: World, victim: str) -> None:
    monitors = [pid for pid, line in rl.processes() if "/monitor " in line]
    for pid in monitors:
        try:
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                children = [int(word) for word in file.read().split()]
        except OSError:
            continue
        for one in [pid] if victim == "monitor" else children:
            try:
                os.kill(one, signal.SIGKILL)
            except OSError:
                pass
