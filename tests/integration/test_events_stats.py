"""What happens is told, in Docker's order and words; what containers use is shown."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from rig import TOP, World, busybox, until

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "busybox")

HEX = re.compile(r"[0-9a-f]{64}")


@pytest.fixture(scope="module")
def rl() -> Iterator[World]:
    world = World()
    try:
        busybox(world)
        yield world
    finally:
        world.close()


@pytest.fixture
def told(rl: World) -> Told:
    return Told(rl)


class Told:
    """What is told from now on."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._since = f"{time.time():.6f}"

    def all(self, *flags: str) -> list[dict[str, Any]]:
        words = ("events", "--since", self._since, "--until", "0s", "--format", "json", *flags)
        return [json.loads(line) for line in self._world.out(*words).splitlines()]

    def actions(self, *flags: str) -> list[str]:
        return [f"{e['Type']} {e['Action']}" for e in self.all(*flags)]

    def attributes(self, action: str) -> dict[str, str]:
        found: dict[str, str] = next(
            e for e in self.all() if f"{e['Type']} {e['Action']}" == action
        )["Actor"]["Attributes"]
        return found


def test_run_in_the_foreground(rl: World, told: Told) -> None:
    rl("run", "--rm", "--name", "fore", "-l", "a=b", "busybox", "sh", "-c", "exit 3", code=3)
    assert told.actions() == [
        *("container create", "container attach", "network connect", "container start"),
        *("container die", "network disconnect", "container destroy"),
    ]
    assert told.attributes("container die") == {
        "a": "b", "execDuration": "0", "exitCode": "3", "image": "busybox", "name": "fore",
    }  # fmt: skip
    assert told.attributes("container destroy")["name"] == "fore"
    assert told.attributes("network connect")["name"] == "host"
    assert len({e["Actor"]["ID"] for e in told.all("-f", "type=container")}) == 1


def test_a_life_in_the_background(rl: World, told: Told) -> None:
    rl(
        "run",
        "-d",
        "--name",
        "back",
        "--network",
        "none",
        "-v",
        "evdata:/d:ro",
        "busybox",
        "sleep",
        "99",
    )
    rl("exec", "back", "sh", "-c", "exit 5", code=5)
    rl("kill", "-s", "WINCH", "back")
    rl("rename", "back", "front")
    rl("restart", "-t", "0", "front")
    rl("stop", "-t", "0", "front")
    rl("rm", "front")
    rl("volume", "rm", "evdata")
    up = ["volume mount", "network connect", "container start"]
    down = ["container die", "volume unmount", "network disconnect"]
    kills = ["container kill", "container kill"]
    assert told.actions() == [
        *("volume create", "container create", *up),
        *(
            "container exec_create: sh -c exit 5",
            "container exec_start: sh -c exit 5",
            "container exec_die",
        ),
        *(
            "container kill",
            "container rename",
            *kills,
            *down,
            "container stop",
            *up,
            "container restart",
        ),
        *(*kills, *down, "container stop", "container destroy", "volume destroy"),
    ]
    session = [e["Actor"]["Attributes"] for e in told.all() if "exec" in e["Action"]]
    assert len({one["execID"] for one in session}) == 1
    assert session[-1]["exitCode"] == "5"
    assert told.attributes("container rename")["oldName"] == "/back"
    assert told.attributes("container kill")["signal"] == "28"
    assert told.attributes("container stop")["name"] == "front"
    assert told.attributes("container destroy")["name"] == "front"
    mount = told.attributes("volume mount")
    assert HEX.fullmatch(mount.pop("container"))
    assert mount == {
        "destination": "/d",
        "driver": "local",
        "propagation": "",
        "read/write": "false",
    }


def test_a_failed_start_tells_of_no_life(rl: World, told: Told) -> None:
    rl("run", "--rm", "--network", "none", "busybox", "/nonexistent", code=127)
    assert told.actions() == ["container create", "container attach", "container destroy"]


def test_anonymous_volumes_go_with_their_container(rl: World, told: Told) -> None:
    rl("run", "--rm", "--network", "none", "-v", "/anon", "busybox", "true")
    until(lambda: "volume destroy" in told.actions())
    found = told.actions("-f", "type=volume")
    assert found == ["volume create", "volume mount", "volume unmount", "volume destroy"]


def test_files_in_and_out_and_images(rl: World, told: Told, tmp_path: Any) -> None:
    rl("create", "--name", "files", "--network", "none", "busybox", "true")
    rl("cp", "files:/etc/passwd", str(tmp_path / "passwd"))
    rl("cp", str(tmp_path / "passwd"), "files:/copied")
    rl("export", "-o", str(tmp_path / "tar"), "files")
    rl("commit", "-m", "words", "files", "evimage:1")
    rl("tag", "evimage:1", "evimage:2")
    rl("rmi", "evimage:1")
    rl("rm", "files")
    rl("rmi", "evimage:2")
    rl("import", str(tmp_path / "tar"), "evimage:3")
    rl("image", "prune", "-f")
    rl("rmi", "evimage:3")
    assert told.actions() == [
        *(
            "container create",
            "container archive-path",
            "container extract-to-dir",
            "container export",
        ),
        *("image tag", "container commit", "image tag", "image untag", "container destroy"),
        *(
            "image untag",
            "image delete",
            "image tag",
            "image import",
            "image prune",
            "image untag",
            "image delete",
        ),
    ]
    commit = told.attributes("container commit")
    assert (commit["comment"], commit["imageRef"]) == ("words", "evimage:1")
    assert commit["imageID"].startswith("sha256:")
    tags = [e["Actor"]["Attributes"]["name"] for e in told.all("-f", "event=tag")]
    assert tags == ["evimage:1", "evimage:2", "evimage:3"]
    assert told.attributes("image untag")["name"] == "evimage:1"
    assert told.all("-f", "event=tag")[0]["Actor"]["ID"] == commit["imageID"]
    assert "reclaimed" in told.attributes("image prune")


def test_loads(rl: World, told: Told, tmp_path: Any) -> None:
    import sys

    layout = str(tmp_path / "layout")
    subprocess.run([sys.executable, f"{TOP}/tests/images/busybox.py", layout], check=True)
    rl("load", "-i", layout)
    assert told.actions() == ["image load"]
    assert told.all()[0]["Actor"]["ID"].startswith("sha256:")


def test_networks_and_prunes(rl: World, told: Told) -> None:
    rl("network", "create", "ournet")
    rl("network", "rm", "ournet")
    rl("container", "prune", "-f")
    rl("volume", "prune", "-f")
    rl("network", "prune", "-f")
    assert told.actions() == [
        *("network create", "network destroy", "container prune", "volume prune", "network prune"),
    ]
    created = told.all()[0]
    assert HEX.fullmatch(created["Actor"]["ID"])
    assert created["Actor"]["Attributes"] == {"name": "ournet", "type": "bridge"}
    assert told.attributes("network prune") == {"reclaimed": "0"}


def test_top_tells(rl: World, told: Told) -> None:
    rl("run", "-d", "--name", "topped", "--network", "none", "busybox", "sleep", "99")
    rl("top", "topped")
    rl("rm", "-f", "topped")
    assert "container top" in told.actions()


def test_detaching(rl: World, told: Told) -> None:
    master, slave = pty.openpty()
    words = ("run", "-it", "--name", "left", "--network", "none", "busybox", "sh")
    process = rl.spawn(*words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    until(lambda: select.select([master], [], [], 0)[0])
    os.write(master, b"\x10\x11")
    assert process.wait(30) == 0
    os.close(master)
    rl("rm", "-f", "left")
    found = told.actions()
    assert found[:4] == [
        "container create",
        "container attach",
        "network connect",
        "container start",
    ]
    assert "container detach" in found


def test_a_follower_is_told_at_once_and_ends_with_its_reader(rl: World) -> None:
    form = "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}"
    words = ("events", "-f", "container=followed", "--format", form)
    with rl.spawn(*words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        # It watches before it reads what is there: an event after the watch is seen.
        until(lambda: "inotify" in " ".join(links(process.pid)))
        time.sleep(0.2)
        rl("run", "--rm", "--name", "followed", "--network", "none", "busybox", "true")
        lines = [process.stdout.readline().decode().strip() for _ in range(5)]
        assert lines == [
            f"container {what} followed" for what in ("create", "attach", "start", "die", "destroy")
        ]
        process.stdout.close()
        assert process.wait(20) == 0


def links(pid: int) -> list[str]:
    found = []
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    except OSError:
        pass
    return found


def test_since_until_and_the_text_line(rl: World) -> None:
    rl("network", "create", "evtext")
    rl("network", "rm", "evtext")
    text = rl.out("events", "--since", "1m", "--until", "0s", "-f", "network=evtext")
    create, destroy = text.splitlines()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d)"
    assert re.fullmatch(
        rf"{stamp} network create [0-9a-f]{{64}} \(name=evtext, type=bridge\)", create
    )
    assert " network destroy " in destroy
    at = create.split()[0]
    assert rl.out("events", "--since", at, "--until", at, "-f", "network=evtext") == create
    assert (
        rl.out(
            "events", "--since", "1m", "--until", at, "-f", "event=destroy", "-f", "network=evtext"
        )
        == ""
    )
    # A time to come ends it, too.
    soon = str(time.time() + 0.5)
    assert (
        rl.out("system", "events", "--since", at, "--until", soon, "-f", "network=evtext") == text
    )


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (["-f", "nope=1"], "invalid filter 'nope'"),
        (["--since", "yesterday"], "failed to parse value as time or duration"),
        (["--format", "{{.Nope}}", "--since", "1h", "--until", "0s"], "Nope"),
    ],
)
def test_what_is_refused(rl: World, words: list[str], phrase: str) -> None:
    rl("volume", "create", "refused")
    rl("volume", "rm", "refused")
    assert phrase in rl("events", *words, code=1).stderr


def test_a_monitor_killed_tells_nothing_that_is_not_so(rl: World, told: Told) -> None:
    rl("run", "-d", "--name", "lost", "--network", "none", "busybox", "sleep", "99")
    state = json.loads(rl.out("inspect", "lost"))[0]["State"]
    (monitor,) = [
        pid for pid, line in rl.processes() if "libexec/monitor" in line and "lost" not in line
    ][:1]
    os.kill(monitor, signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{state['Pid']}"))
    until(lambda: rl.out("ps", "-aqf", "name=lost", "-f", "status=exited"))
    assert "container die" not in told.actions()
    rl("rm", "lost")
    assert told.actions()[-1] == "container destroy"


# stats


def test_stats_once(rl: World) -> None:
    rl(
        "run",
        "-d",
        "--name",
        "busy",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "while :; do :; done",
    )
    rl("create", "--name", "never", "--network", "none", "busybox", "true")
    try:
        text = rl.out("stats", "--no-stream")
        header, line = text.splitlines()
        assert " ".join(header.split()) == (
            "CONTAINER ID NAME CPU % MEM USAGE / LIMIT MEM % NET I/O BLOCK I/O PIDS"
        )
        assert line.split()[1] == "busy"
        rows = [
            json.loads(one)
            for one in rl.out("stats", "--no-stream", "-a", "--format", "json").splitlines()
        ]
        assert [row["Name"] for row in rows] == ["never", "busy"]
        assert rows[0]["MemUsage"] == "0B / 0B" and rows[0]["PIDs"] == "0"
        assert float(rows[1]["CPUPerc"].rstrip("%")) > 0
        assert re.fullmatch(r"[\d.]+[KM]iB / [\d.]+[GMT]iB", rows[1]["MemUsage"])
        assert (rows[1]["NetIO"], rows[1]["PIDs"]) == ("0B / 0B", "1")
        form = "{{.Container}} {{.Name}} {{len .ID}}"
        long = rl.out("stats", "--no-stream", "--no-trunc", "--format", form, "busy", "never")
        assert long.splitlines() == ["busy busy 64", "never never 64"]
    finally:
        rl("rm", "-f", "busy", "never")


def test_stats_of_nobody(rl: World) -> None:
    assert (
        "no such container: nobody" in rl("stats", "--no-stream", "nobody", code=1).stderr.lower()
    )
    assert len(rl.out("stats", "--no-stream").splitlines()) == 1


def test_stats_again_and_again_until_all_are_gone(rl: World) -> None:
    rl("run", "-d", "--name", "gone", "--network", "none", "busybox", "sleep", "99")
    words = ("stats", "--format", "{{.Name}} {{.PIDs}}", "gone")
    with rl.spawn(*words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"gone 1\n"
        rl("rm", "-f", "gone")
        assert process.stdout.read().splitlines()[-1] == b"gone --"
        assert process.wait(20) == 0


def test_the_live_table_follows_what_starts_and_leaves_the_terminal_as_it_was(rl: World) -> None:
    master, slave = pty.openpty()
    process = rl.spawn("stats", stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    seen = b""

    def shows(what: bytes) -> bool:
        nonlocal seen
        while select.select([master], [], [], 0)[0]:
            try:
                seen += os.read(master, 65536)
            except OSError:
                break
        return what in seen

    try:
        until(lambda: shows(b"CONTAINER ID"), 30)
        rl("run", "-d", "--name", "appears", "--network", "none", "busybox", "sleep", "99")
        until(lambda: shows(b"appears"), 30)
        process.send_signal(signal.SIGINT)
        process.wait(20)
        until(lambda: shows(b"\x1b[?25h"), 10)
    finally:
        process.kill()
        process.wait()
        os.close(master)
        rl("rm", "-f", "appears", check=False)


# top


def test_top_of_what_does_not_run(rl: World) -> None:
    rl(
        "run",
        "-d",
        "--name",
        "again",
        "--restart",
        "always",
        "--network",
        "none",
        "busybox",
        "false",
    )
    try:
        until(lambda: rl.out("ps", "-aqf", "name=again", "-f", "status=restarting"))
        # Its delay doubles: in a while it is nearly always waiting.
        until(lambda: "is restarting: wait until" in rl("top", "again", check=False).stderr, 30)
        rl("stop", "again")
        assert "is not running" in rl("top", "again", code=1).stderr
    finally:
        rl("rm", "-f", "again")


def test_top_by_ps(rl: World) -> None:
    rl("run", "-d", "--name", "seen", "--network", "none", "busybox", "sleep", "98765")
    try:
        header, line = rl.out("top", "seen", "-o", "pid,args").splitlines()
        assert header.split() == ["PID", "COMMAND"] and line.split()[1:] == ["sleep", "98765"]
        assert "is not allowed" in rl("top", "seen", "-o", "ppid=PID", code=1).stderr
        assert rl.out("top", "seen").splitlines()[0].split() == [
            "UID",
            "PID",
            "PPID",
            "C",
            "STIME",
            "TTY",
            "TIME",
            "CMD",
        ]
    finally:
        rl("rm", "-f", "seen")
