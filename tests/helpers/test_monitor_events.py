"""What a monitor tells of its container: order, attributes, a file that changes, disks that refuse."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from monitor_rig import HELPERS, Rig, build, libexec, listen, receive, rig, until

from rootless.runtime.monitor import Client

__all__ = ["libexec", "rig"]

EVENTS = "events/events.jsonl"
UP = '{"Type":"network","Action":"connect","Actor":{"ID":"n","Attributes":{}},"scope":"local"'
LINES = f"""A"label":"x","exitCode":"spoofed","image":"img","name":"web"
U{UP}
D{UP.replace("connect", "disconnect")}
"""


def options(rig: Rig, **more: Any) -> dict[str, Any]:
    os.makedirs(rig.path("run"), exist_ok=True)
    if not os.path.exists(rig.path("run/events")):
        Path(rig.path("run/events")).write_text(LINES)
    return {"events": rig.path(EVENTS), "event_lines": rig.path("run/events"), **more}


def told(rig: Rig) -> list[dict[str, Any]]:
    try:
        lines = Path(rig.path(EVENTS)).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    assert lines.pop() == b"", "the file ends within a line"
    return [json.loads(line) for line in lines]


def actions(rig: Rig) -> list[str]:
    return [event["Action"] for event in told(rig)]


def attributes(rig: Rig, action: str) -> dict[str, str]:
    found: dict[str, str] = next(e for e in told(rig) if e["Action"] == action)["Actor"][
        "Attributes"
    ]
    return found


def running(client: Client) -> Client:
    client.attach(stdin=False, stdout=True, stderr=True)
    listen(client, b"P")
    return client


def test_a_life(rig: Rig) -> None:
    client = rig.shell("exit 3", **options(rig))
    client.attach(stdin=False, stdout=True, stderr=True)
    assert listen(client).exit == 3
    assert actions(rig) == ["connect", "start", "die", "disconnect"]
    start = told(rig)[1]
    assert start["Type"] == "container" and start["Actor"]["ID"] == "0123"
    assert start["scope"] == "local" and start["time"] == start["timeNano"] // 10**9
    assert start["Actor"]["Attributes"] == {
        "label": "x",
        "exitCode": "spoofed",
        "image": "img",
        "name": "web",
    }
    # What happened stands over a label of that name.
    assert attributes(rig, "die") == {
        "label": "x", "execDuration": "0", "exitCode": "3", "image": "img", "name": "web",
    }  # fmt: skip


def test_started_is_told_before_the_client_and_died_after_it_is_so(rig: Rig) -> None:
    client = running(rig.shell("read a", stdin=True, **options(rig)))
    assert actions(rig) == ["connect", "start"]
    assert rig.state()["status"] == "running"
    client.kill(9)
    assert listen(client).exit == 137
    assert rig.state()["status"] == "exited"
    assert actions(rig)[2:] == ["kill", "die", "disconnect"]
    assert attributes(rig, "kill")["signal"] == "9"


def test_a_stop(rig: Rig) -> None:
    client = running(
        rig.shell("trap '' TERM; echo up; while :; do sleep 0.05; done", **options(rig))
    )
    assert output(client)
    client.stop(signal.SIGTERM, 0)
    assert listen(client).exit == 137
    assert actions(rig)[2:] == ["kill", "kill", "die", "disconnect", "stop"]
    assert [e["Actor"]["Attributes"].get("signal") for e in told(rig)[2:4]] == ["15", "9"]


def output(client: Client) -> bytes:
    while True:
        kind, data = receive(client)
        if kind == b"1":
            return data


def test_restarts_by_policy(rig: Rig) -> None:
    client = rig.shell("exit 1", restart="on-failure", restart_max=1, **options(rig))
    client.wait()
    assert listen(client).exit == 1
    life = ["connect", "start", "die", "disconnect"]
    assert actions(rig) == [*life, *life]


def test_a_start_that_fails_tells_of_no_life(rig: Rig) -> None:
    client = rig.spawn(["/nonexistent"], **options(rig))
    client.wait()
    listen(client)
    assert actions(rig) == []


def test_removal(rig: Rig) -> None:
    container = Path(rig.path("containers/0123"))
    container.mkdir(parents=True)
    (container / "name").write_text("web")
    for name in ("trash", "names"):
        os.mkdir(rig.path(name))
    where = {
        "trash_dir": rig.path("trash"),
        "names_dir": rig.path("names"),
        "container_dir": str(container),
    }
    told_to = options(rig, remove_tape=rig.path("run/remove"), **where)
    Path(rig.path("run/remove")).write_bytes(b"")
    client = rig.shell("exit 0", **told_to)
    client.wait()
    assert listen(client).exit == 0
    assert actions(rig) == ["connect", "start", "die", "disconnect", "destroy"]
    assert attributes(rig, "destroy")["name"] == "web"


def test_a_session(rig: Rig) -> None:
    client = rig.shell("exit 4", exec_id='e1"', state="", **options(rig))
    client.attach(stdin=False, stdout=True, stderr=True)
    assert listen(client).exit == 4
    assert actions(rig) == ["exec_die"]
    found = attributes(rig, "exec_die")
    assert (found["execID"], found["exitCode"], found["name"]) == ('e1"', "4", "web")
    assert "execDuration" not in found


def test_sizes_of_a_terminal(rig: Rig) -> None:
    client = rig.fake("tty", "/bin/sh", "-c", "read a", tty=True, stdin=True, **options(rig))
    client.resize(30, 90)
    client.attach(stdin=True, stdout=True, stderr=False)
    listen(client, b"P")
    assert actions(rig) == ["connect", "start", "resize"]
    assert attributes(rig, "resize")["height"] == "30"
    client.resize(40, 100)
    until(lambda: actions(rig).count("resize") == 2)
    last = told(rig)[-1]["Actor"]["Attributes"]
    assert (last["height"], last["width"]) == ("40", "100")


def test_a_new_name_is_told_at_the_end_and_a_wiped_file_keeps_the_old(rig: Rig) -> None:
    client = running(rig.shell("read a", stdin=True, **options(rig)))
    other = rig.path("run/events.new")
    Path(other).write_text(LINES.replace("web", "db"))
    os.rename(other, rig.path("run/events"))
    client.kill(signal.SIGWINCH)
    until(lambda: "kill" in actions(rig))
    assert attributes(rig, "kill")["name"] == "db"
    os.unlink(rig.path("run/events"))
    client.kill(9)
    assert listen(client).exit == 137
    assert attributes(rig, "die")["name"] == "db"


@pytest.mark.parametrize("lines", ["", "A", "A\n", 'A"name":"torn', "\n\n", "X\n", "U\nD\n"])
def test_an_odd_file_of_lines(rig: Rig, lines: str) -> None:
    os.makedirs(rig.path("run"), exist_ok=True)
    Path(rig.path("run/events")).write_text(lines)
    client = rig.shell("exit 0", **options(rig))
    client.wait()
    assert listen(client).exit == 0
    if "U" not in lines:  # an event of nothing is a line of its own kind, which readers skip
        assert actions(rig) == ["start", "die"]
        assert set(attributes(rig, "die")) == {"execDuration", "exitCode"}


def test_a_torn_line_is_closed(rig: Rig) -> None:
    os.mkdir(rig.path("events"))
    Path(rig.path(EVENTS)).write_bytes(b'{"Type":"torn')
    client = rig.shell("exit 0", **options(rig))
    client.wait()
    listen(client)
    lines = Path(rig.path(EVENTS)).read_bytes().split(b"\n")
    assert lines[0] == b'{"Type":"torn'
    assert [json.loads(line)["Action"] for line in lines[1:-1]] == [
        "connect",
        "start",
        "die",
        "disconnect",
    ]


def test_renaming_at_the_limit(rig: Rig) -> None:
    for number in range(3):
        os.makedirs(rig.path("events"), exist_ok=True)
        with open(rig.path(EVENTS), "ab") as file:
            file.write(b'{"n":%d,"pad":"%s"}\n' % (number, b"x" * 5000))
        client = rig.shell("exit 0", **options(rig, events_max_size=4096))
        client.wait()
        listen(client)
        until(lambda: not os.path.exists(rig.path("run")))
        client.close()
    names = sorted(os.listdir(rig.path("events")))
    assert names == ["events.jsonl", "events.jsonl.1", "events.jsonl.2", "lock"]
    assert b'"n":2' in Path(rig.path("events/events.jsonl.1")).read_bytes()
    assert b'"n":1' in Path(rig.path("events/events.jsonl.2")).read_bytes()
    assert actions(rig) == ["connect", "start", "die", "disconnect"]


def test_a_disk_that_fills_up_costs_the_lines_it_had_no_room_for(rig: Rig) -> None:
    os.mkdir(rig.path("events"))
    Path(rig.path(EVENTS)).write_bytes(
        b"{}\n" * 30000
    )  # larger than all else that a monitor writes
    client = running(rig.shell("read a; exit 6", stdin=True, **options(rig)))
    size = os.path.getsize(rig.path(EVENTS))
    pid = rig.state()["monitorPid"]
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 20, limits[1]))
    client.kill(signal.SIGWINCH)  # torn
    assert client.wait_ack() == 0
    client.kill(signal.SIGURG)  # nothing of it
    assert client.wait_ack() == 0
    assert os.path.getsize(rig.path(EVENTS)) == size + 20
    resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    client.kill(signal.SIGKILL)
    client.wait()
    assert listen(client).exit == 137
    lines = Path(rig.path(EVENTS)).read_bytes()[size:].split(b"\n")
    assert len(lines[0]) == 20
    found = [json.loads(line) for line in lines[1:-1]]
    assert [one["Action"] for one in found] == ["kill", "die", "disconnect"]
    assert found[0]["Actor"]["Attributes"]["signal"] == "9"


def test_events_that_cannot_be_written_hold_nothing_up(rig: Rig) -> None:
    Path(rig.path("events")).write_text("a file, where a directory should be")
    client = rig.shell("exit 6", **options(rig))
    client.wait()
    assert listen(client).exit == 6


def test_a_pipe_in_the_files_place_holds_nothing_up(rig: Rig) -> None:
    os.mkdir(rig.path("events"))
    os.mkfifo(rig.path(EVENTS))
    client = rig.shell("exit 6", **options(rig))
    client.wait()
    assert listen(client).exit == 6


def test_under_sanitizers(rig: Rig, tmp_path: Path) -> None:
    other = build(tmp_path / "sane")
    flags = ["-std=gnu11", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sources = sorted(str(one) for kind in ("monitor*.c", "log*.c") for one in HELPERS.glob(kind))
    subprocess.run(["cc", *flags, "-o", str(other / "monitor"), *sources], check=True)
    rig.libexec = other
    # The file of lines is larger than what is read of it.
    Path(rig.path("run")).mkdir(exist_ok=True)
    Path(rig.path("run/events")).write_text(LINES + "U" + "x" * (200 << 10) + "\n")
    client = running(rig.shell("read a", stdin=True, **options(rig, events_max_size=4096)))
    client.stop(signal.SIGTERM, 5)
    assert listen(client).exit == 143
    assert actions(rig) == ["connect", "start", "kill", "die", "disconnect", "stop"]
