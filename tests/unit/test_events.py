"""Events: one line each, whoever writes; torn ones skipped; renaming and following lose nothing; filters."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rootless.cli import eventfilter, eventformat
from rootless.cli import events as shown
from rootless.engine import events
from rootless.errors import UsageError
from rootless.linux import inotify
from rootless.store import eventlog
from rootless.store.eventlog import EventReader
from rootless.store.events import KEPT, LONGEST, EventLog

TOP = Path(__file__).resolve().parents[2]
ID = "ab" * 32


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(str(tmp_path / "events"))


@pytest.fixture
def reader(log: EventLog) -> Iterator[EventReader]:
    with EventReader(log.directory) as found:
        yield found


def told(reader: EventReader) -> list[str]:
    """Actions of what there is to read."""
    return [event["Action"] for block in reader.read() for event in block]


def one(log: EventLog, action: str, **attributes: str) -> None:
    log.append(("container", action, ID, attributes))


def test_an_event_is_dockers_message(log: EventLog, reader: EventReader) -> None:
    before = time.time_ns()
    one(log, "die", name="web", image="alpine", exitCode="3")
    ((event,),) = reader.read()
    assert list(event) == [
        *("status", "id", "from", "Type", "Action", "Actor", "scope", "time", "timeNano"),
    ]
    assert event["Actor"] == {
        "ID": ID,
        "Attributes": {"exitCode": "3", "image": "alpine", "name": "web"},
    }
    assert list(event["Actor"]["Attributes"]) == ["exitCode", "image", "name"]
    assert (event["status"], event["id"], event["from"]) == ("die", ID, "alpine")
    assert before <= event["timeNano"] <= time.time_ns()
    assert event["time"] == event["timeNano"] // 10**9


def test_only_containers_and_images_have_the_old_fields(log: EventLog, reader: EventReader) -> None:
    log.append(
        ("volume", "create", "v", {"driver": "local"}), ("image", "pull", "x:1", {"name": "x"})
    )
    ((volume, image),) = reader.read()
    assert "status" not in volume and "id" not in volume
    assert (image["status"], image["id"], "from" in image) == ("pull", "x:1", False)


def test_a_torn_line_is_closed_by_the_next_and_skipped(log: EventLog, reader: EventReader) -> None:
    one(log, "create")
    with open(log.path, "ab") as file:
        file.write(b'{"Type":"container","Action":"sta')
    assert told(reader) == ["create"]
    one(log, "die")
    assert told(reader) == ["die"]


@pytest.mark.parametrize(
    "junk",
    [
        *(b"", b"\0\0\0\0", b"[]", b"7", b'{"Type":1}', b"\xff\xfe", b"[" * 5000),
        b'{"Type":"a","Action":"b","Actor":{"ID":"c","Attributes":{"k":1}},"timeNano":1}',
        b'{"Type":"a","Action":"b","Actor":{"ID":"c","Attributes":{}},"timeNano":"1"}',
        b'{"Type":"a","Action":"b","Actor":{"ID":"c","Attributes":[]},"timeNano":1}',
    ],
)
def test_what_is_no_event_is_skipped(log: EventLog, reader: EventReader, junk: bytes) -> None:
    one(log, "create")
    with open(log.path, "ab") as file:
        file.write(junk + b"\n")
    one(log, "start")
    assert told(reader) == ["create", "start"]


def test_a_full_disk_fails_nobody_and_costs_one_line(log: EventLog, reader: EventReader) -> None:
    one(log, "create")
    size = os.path.getsize(log.path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))
    try:
        one(log, "start")  # torn after 20 bytes
        one(log, "pause")  # nothing of it
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert os.path.getsize(log.path) == size + 20
    one(log, "die")
    assert told(reader) == ["create", "die"]


def test_nothing_is_raised_where_nothing_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    EventLog(f"{tmp_path}/file/events").append(("image", "pull", "x", {}))


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from rootless.store.events import EventLog
log = EventLog(sys.argv[2], int(sys.argv[3]))
for number in range(int(sys.argv[5])):
    log.append(("container", f"{sys.argv[4]}.{number}", "ab" * 32, {"pad": "x" * (number * 37 % 6000)}))
"""


def start_writers(log: EventLog, limit: int, each: int) -> list[subprocess.Popen[bytes]]:
    return [
        subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                "-c",
                WRITER,
                str(TOP),
                log.directory,
                str(limit),
                str(writer),
                str(each),
            ]
        )
        for writer in range(6)
    ]


def test_writers_never_mix_their_lines(log: EventLog, reader: EventReader) -> None:
    for process in start_writers(log, 0, 200):
        assert process.wait(60) == 0
    lines = Path(log.path).read_bytes().split(b"\n")
    assert lines.pop() == b""
    # One that looked at the end of a line which another was still writing has closed it: an empty line.
    assert all(json.loads(line) for line in lines if line)
    assert sorted(told(reader)) == sorted(f"{w}.{n}" for w in range(6) for n in range(200))


def test_renaming_keeps_two_older_files(log: EventLog) -> None:
    small = EventLog(log.directory, 4096)
    for number in range(100):
        one(small, str(number), pad="x" * 300)
    names = sorted(os.listdir(log.directory))
    assert names == ["events.jsonl", *(f"events.jsonl.{n + 1}" for n in range(KEPT)), "lock"]
    assert all(os.path.getsize(f"{log.directory}/{name}") < 4096 + 1000 for name in names)
    with EventReader(log.directory) as reader:
        found = [int(action) for action in told(reader)]
    assert found == list(range(found[0], 100))  # the last ones, in order, none missing


def test_who_is_renaming_keeps_others_from_it_and_nobody_waits(log: EventLog) -> None:
    import fcntl

    small = EventLog(log.directory, 4096)
    one(small, "first", pad="x" * 5000)
    with open(f"{log.directory}/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        one(small, "second")
        assert not os.path.exists(f"{log.path}.1")
    one(small, "third")
    assert os.path.exists(f"{log.path}.1")


def test_a_follower_loses_nothing_while_files_are_renamed(log: EventLog) -> None:
    found: list[str] = []
    expected = sorted(f"{w}.{n}" for w in range(6) for n in range(60))
    with EventReader(log.directory) as reader:
        reader.watch()
        # Each file holds more than is written between two looks of a reader that does not sleep.
        writers = start_writers(log, 256 << 10, 60)
        deadline = time.time_ns() + 30 * 10**9
        while len(found) < len(expected) and reader.wait(deadline):
            found += told(reader)
        for process in writers:
            assert process.wait(60) == 0
        found += told(reader)
    assert os.path.exists(f"{log.path}.1")  # there was something to lose
    assert sorted(found) == expected


def test_a_late_writer_to_a_renamed_file_is_heard(log: EventLog, reader: EventReader) -> None:
    one(log, "create")
    assert told(reader) == ["create"]
    with open(log.path, "ab") as late:
        os.rename(log.path, f"{log.path}.1")
        one(log, "start")
        assert told(reader) == ["start"]
        late.write(Path(f"{log.path}.1").read_bytes().replace(b"create", b"rename"))
    assert told(reader) == ["rename"]


def test_skip_passes_over_what_is_there(log: EventLog, reader: EventReader) -> None:
    one(log, "create")
    reader.skip()
    assert told(reader) == []
    one(log, "start")
    assert told(reader) == ["start"]


def test_skip_since_passes_over_files_that_are_older(log: EventLog, reader: EventReader) -> None:
    one(log, "create")
    os.rename(log.path, f"{log.path}.1")
    os.utime(f"{log.path}.1", ns=(1, 1000))
    one(log, "start")
    reader.skip(2000)
    assert told(reader) == ["start"]


def test_wait_ends_at_its_time_and_with_its_reader(log: EventLog, reader: EventReader) -> None:
    reader.watch()
    assert not reader.wait(time.time_ns() - 1)
    assert not reader.wait(time.time_ns() + 20_000_000)
    ours, theirs = os.pipe()
    os.close(ours)
    assert not reader.wait(0, theirs)
    os.close(theirs)
    one(log, "create")
    assert reader.wait(time.time_ns() + 20 * 10**9)


def test_the_directory_may_go_and_come_back(log: EventLog, reader: EventReader) -> None:
    one(log, "create")
    reader.watch()
    assert told(reader) == ["create"]
    for name in os.listdir(log.directory):
        os.unlink(f"{log.directory}/{name}")
    os.rmdir(log.directory)
    deadline = time.time_ns() + 20 * 10**9
    while not os.path.exists(log.directory):  # made anew to be watched
        assert reader.wait(deadline)
        assert told(reader) == []
    one(log, "start")
    found: list[str] = []
    while not found:
        assert reader.wait(time.time_ns() + 20 * 10**9)
        found = told(reader)
    assert found == ["start"]


def test_events_come_without_inotify_too(
    log: EventLog, reader: EventReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(inotify.Inotify, "__init__", refuse)
    monkeypatch.setattr(eventlog, "LOOK_AGAIN", 0.01)
    reader.watch()
    threading.Timer(0.05, one, (log, "create")).start()
    found: list[str] = []
    while not found:
        assert reader.wait(time.time_ns() + 20 * 10**9)
        found = told(reader)
    assert found == ["create"]


def test_an_event_too_long_goes_without_its_labels(log: EventLog, reader: EventReader) -> None:
    one(log, "create", name="web", image="alpine", huge="x" * LONGEST)
    ((event,),) = reader.read()
    assert event["Actor"]["Attributes"] == {"image": "alpine", "name": "web"}


# filters

EVENTS = {
    "start": {
        "Type": "container",
        "Action": "start",
        "ID": ID,
        "a": {"image": "alpine:3", "name": "web", "l": "1"},
    },
    "sick": {
        "Type": "container",
        "Action": "health_status: unhealthy",
        "ID": "cd" * 32,
        "a": {"name": "db"},
    },
    "exec": {
        "Type": "container",
        "Action": "exec_start: sh",
        "ID": "cd" * 32,
        "a": {"name": "db", "l": "2", "m": ""},
    },
    "tag": {"Type": "image", "Action": "tag", "ID": "sha256:99", "a": {"name": "alpine:3"}},
    "pull": {
        "Type": "image",
        "Action": "pull",
        "ID": "docker.io/library/alpine:3",
        "a": {"name": "alpine"},
    },
    "vol": {"Type": "volume", "Action": "create", "ID": "web", "a": {"driver": "local"}},
    "net": {
        "Type": "network",
        "Action": "connect",
        "ID": "ef" * 32,
        "a": {"name": "front", "container": ID},
    },
}


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ([], "start sick exec tag pull vol net"),
        (["type=container"], "start sick exec"),
        (["type=container", "type=image"], "start sick exec tag pull"),
        (["event=start"], "start"),
        (["event=health_status"], "sick"),
        (["event=health_status: unhealthy"], "sick"),
        (["event=health_status: healthy"], ""),
        (["event=exec_start", "event=tag"], "exec tag"),
        (["action=start"], "start"),
        (["event=sta"], ""),
        (["container=web"], "start"),
        (["container=w"], "start"),
        ([f"container={ID[:12]}"], "start"),
        (["container=web", "container=db"], "start sick exec"),
        (["container=web", "event=die"], ""),
        (["volume=web"], "vol"),
        (["network=front"], "net"),
        (["network=ef"], "net"),
        (["image=alpine"], "start tag pull"),
        (["image=alpine:3"], "start tag"),
        (["image=sha256:99"], "tag"),
        (["label=l"], "start exec"),
        (["label=l=1"], "start"),
        (["label=l", "label=m"], "exec"),
        (["scope=local", "type=volume"], "vol"),
        (["scope=swarm"], ""),
        (["daemon=x"], ""),
    ],
)  # fmt: skip
def test_filters(flags: list[str], names: str) -> None:
    wanted = eventfilter.test(flags)
    found = []
    for name, raw in EVENTS.items():
        event = eventlog.complete(
            {
                "Type": raw["Type"],
                "Action": raw["Action"],
                "Actor": {"ID": raw["ID"], "Attributes": raw["a"]},
                "timeNano": 1,
            }
        )
        if eventfilter.match(event, wanted):
            found.append(name)
    assert found == names.split()


def test_a_filter_that_is_none() -> None:
    with pytest.raises(UsageError, match="invalid filter 'nope'"):
        eventfilter.test(["nope=1"])


# output


def event() -> dict[str, Any]:
    return eventlog.complete(
        {
            "Type": "container",
            "Action": "exec_create: sh -c echo\n1",
            "Actor": {"ID": ID, "Attributes": {"name": "web", "image": "a", "k": "v"}},
            "timeNano": 1700000000_000000007,
        }
    )


def test_the_text_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-5:30")
    time.tzset()
    try:
        assert shown.line(event()) == (
            "2023-11-15T03:43:20.000000007+05:30 container exec_create: sh -c echo\\n1 "
            f"{ID} (image=a, k=v, name=web)\n"
        )
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


def test_what_steers_a_terminal_is_escaped() -> None:
    steering = event()
    steering["Actor"]["Attributes"]["k"] = "\x1b]0;title\x07\u202e\udcff"
    line = shown.line(steering)
    assert line.rstrip("\n").isprintable()
    assert r"k=\x1b]0;title\x07\u202e\udcff" in line


def test_old_lines_are_passed_over_unread(log: EventLog, reader: EventReader) -> None:
    one(log, "create")
    now = time.time_ns()
    with open(log.path, "ab") as file:
        file.write(
            b'not JSON "timeNano":5}\n{"timeNano":99999999999999999999999999}\n"timeNano":x}\n'
        )
    one(log, "start")
    found = [event["Action"] for block in reader.read(now) for event in block]
    assert found == ["start"]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("{{.Type}} {{.ID}}", f"container {ID}"),
        ("{{.Actor.Attributes.name}}/{{.Actor.Attributes.none}}", "web/<no value>"),
        ("{{.Time}} {{.TimeNano}} {{.Scope}}", "1700000000 1700000000000000007 local"),
        ("{{.From}} {{.Status}}", "a exec_create: sh -c echo\n1"),
        ("{{json .Actor.Attributes}}", '{"image":"a","k":"v","name":"web"}'),
    ],
)
def test_templates(form: str, text: str) -> None:
    assert eventformat.shower(form)(event()) == text + "\n"


def test_json_is_the_message() -> None:
    assert json.loads(eventformat.shower("{{json .}}")(event())) == event()


# what the engine says


def test_attributes_are_labels_image_and_name() -> None:
    record = {
        "image": "alpine:3",
        "image_config": {"labels": {"a": "1", "name": "from the image"}},
        "request": {"labels": {"a": "2", "b": "3"}},
    }
    assert events.attributes("web", record) == {
        "a": "2",
        "b": "3",
        "image": "alpine:3",
        "name": "web",
    }


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        ({"network": "none"}, ["none"]),
        ({"network": "host"}, ["host"]),
        ({"network": "container:x"}, []),
        ({"network": "pasta"}, []),
        ({"network": ""}, ["bridge"]),
        ({"network": "front"}, ["front"]),
        ({"network": "front", "endpoints": [{"network": "front"}, {"network": "back"}]}, ["front", "back"]),
        ({"network": "front", "unplugged": True}, []),
    ],
)  # fmt: skip
def test_networks_of_a_container(request_: dict[str, Any], names: list[str]) -> None:
    assert events.network_names(request_) == names


def test_what_a_monitor_is_told(tmp_path: Path) -> None:
    network = SimpleNamespace(name="front", id="ef" * 32, driver="bridge")
    ctx: Any = SimpleNamespace(networks=SimpleNamespace(get=lambda name: network))
    mount = {
        "type": "volume",
        "source": "v",
        "destination": "/d",
        "readonly": True,
        "flags": ["volume-driver=x"],
    }
    record = {
        "id": ID,
        "image": "a",
        "request": {"network": "front", "mounts": [mount, {"type": "bind"}]},
    }
    events.write_lines(ctx, "web\n", record, str(tmp_path))
    lines = (tmp_path / "events").read_text().splitlines()
    assert [line[0] for line in lines] == ["A", "U", "D", "U", "D"]
    assert json.loads(f"{{{lines[0][1:]}}}") == {"image": "a", "name": "web\n"}
    up, down = (json.loads(line[1:] + "}") for line in lines[1:3])
    assert (up["Action"], down["Action"]) == ("mount", "unmount")
    assert up["Actor"]["Attributes"] == {
        "container": ID, "destination": "/d", "driver": "x", "propagation": "", "read/write": "false",
    }  # fmt: skip
    assert json.loads(lines[3][1:] + "}")["Actor"]["Attributes"]["container"] == ID


def test_labels_too_long_for_a_monitor_are_left_out(tmp_path: Path) -> None:
    record = {
        "id": ID,
        "image": "a",
        "request": {"network": "container:x", "labels": {"l": "x" * 200_000}},
    }
    ctx: Any = SimpleNamespace()
    events.write_lines(ctx, "web", record, str(tmp_path))
    assert (tmp_path / "events").read_text() == 'A"image":"a","name":"web"\n'


def test_a_container_that_has_ended_is_told_nothing_anew(tmp_path: Path) -> None:
    ctx: Any = SimpleNamespace()
    record = {"id": ID, "request": {"network": "container:x"}}
    events.write_lines(ctx, "web", record, str(tmp_path), anew=False)
    assert not (tmp_path / "events").exists()
