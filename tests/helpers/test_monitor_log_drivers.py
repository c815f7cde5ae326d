"""What is particular to a log driver: formats, reconnecting, compressing, a setup that is broken."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from log_rig import Side, configured, fields, plan, settle
from monitor_rig import (
    CHECKOUT,
    HELPERS,
    LOG,
    Rig,
    alive,
    libexec,
    listen,
    output,
    rig,
    status_kb,
    until,
)

from rootless.drivers.log.base import Plan
from rootless.engine import logs

__all__ = ["libexec", "rig"]


# json-file


def test_attributes_are_in_every_entry(rig: Rig) -> None:
    made = plan(
        "json-file",
        {"labels": "tier,no", "env-regex": "^LC_", "env": "A", "tag": "{{.Name}}/{{.ID}}"},
        labels={"tier": '<"front">\u2028\n', "other": "x"},
        env={"LC_ALL": "C", "A": "1", "B": "2"},
    )
    output(rig.shell("echo one; echo two >&2", **configured(rig, made)))
    wanted = {"tier": '<"front">\u2028\n', "LC_ALL": "C", "A": "1", "tag": "web/012301230123"}
    entries = sorted(rig.log(), key=lambda entry: str(entry["stream"]))
    assert [entry["attrs"] for entry in entries] == [wanted, wanted]
    assert [list(entry) for entry in entries] == [["log", "stream", "attrs", "time"]] * 2
    raw = Path(rig.path(LOG)).read_bytes()
    assert b"<" not in raw and b"\xe2\x80\xa8" not in raw


def test_a_torn_line_does_not_swallow_the_next(rig: Rig) -> None:
    Path(rig.path(LOG)).write_bytes(b'{"log":"a\\n","stream":"stdout","time":"x"}\n{"log":"torn')
    output(rig.shell("echo next"))
    found = [entry["log"] for block in logs.read(rig.path(LOG)) for entry in block]
    assert found == ["a\n", "next\n"]


def test_a_killed_monitor_leaves_readable_files(rig: Rig) -> None:
    client = rig.shell(
        "i=0; while :; do i=$((i+1)); echo line $i; done", log_max_size=100_000, log_max_file=3
    )
    client.attach(stdin=False, stdout=False, stderr=False)
    until(lambda: os.path.exists(rig.path(LOG + ".2")))
    os.kill(rig.await_status("running")["monitorPid"], signal.SIGKILL)
    assert client.recv() is not None  # P
    assert client.recv() is None
    found = [entry["log"] for block in logs.read(rig.path(LOG)) for entry in block]
    numbers = [int(text.split()[1]) for text in found]
    assert len(numbers) > 100
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def packed(rig: Rig, size: str, files: str) -> dict[str, Any]:
    made = plan("json-file", {"max-size": size, "max-file": files, "compress": "true"})
    return configured(rig, made)


def test_rotated_files_are_compressed_by_a_child(rig: Rig) -> None:
    client = rig.shell(
        "seq 10000; read x; seq 10001 20000; read x", stdin=True, **packed(rig, "200k", "6")
    )
    client.attach(stdin=True, stdout=False, stderr=False)
    names = lambda: sorted(name for name in os.listdir(rig.path("c")) if name.startswith("log"))  # noqa: E731
    until(lambda: names() == ["log.json", "log.json.1.gz", "log.json.2.gz", "log.json.3.gz"])
    with gzip.open(rig.path(LOG + ".1.gz")) as file:  # as any other gzip
        assert all(json.loads(line)["stream"] == "stdout" for line in file)
    found = [entry["log"] for block in logs.read(rig.path(LOG)) for entry in block]
    assert found == [f"{n}\n" for n in range(1, 10001)]
    client.stdin(b"\n")
    until(lambda: os.path.exists(rig.path(LOG + ".5.gz")) and ".tmp" not in str(names()))
    client.stdin(b"\n")
    assert listen(client).exit == 0
    found = [entry["log"] for block in logs.read(rig.path(LOG)) for entry in block]
    assert found[-1] == "20000\n"
    assert found == [f"{n}\n" for n in range(20001 - len(found), 20001)]
    for count in (0, 1, 7, 3000, 9000, len(found) + 5):
        last = [entry["log"] for block in logs.read(rig.path(LOG), tail=count) for entry in block]
        assert last == (found[-count:] if count else [])


def test_a_compressor_that_is_slow_or_killed_stops_nothing(rig: Rig) -> None:
    slow = Path(rig.path("slow"))
    slow.write_text("#!/bin/sh\nexec sleep 1000\n")
    slow.chmod(0o755)
    made = plan("json-file", {"max-size": "50k", "max-file": "4", "compress": "true"})
    made.words["packer"] = str(slow)
    client = rig.shell("seq 100000; read x; seq 1000", stdin=True, **configured(rig, made))
    client.attach(stdin=True, stdout=False, stderr=False)
    until(lambda: os.path.exists(rig.path(LOG + ".3")))
    monitor = rig.await_status("running")["monitorPid"]

    def packer() -> int:
        for pid in Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split():
            if b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
        return 0

    os.kill(until(packer), signal.SIGKILL)
    client.stdin(b"\n")
    assert (
        listen(client).exit == 0
    )  # and the next compressor, if there is one, goes with the monitor
    until(lambda: not alive(monitor))
    found = [entry["log"] for block in logs.read(rig.path(LOG)) for entry in block]
    assert found[-1] == "1000\n"
    assert not [name for name in os.listdir(rig.path("c")) if name.endswith(".gz")]


def test_following_misses_nothing_while_files_rotate_and_are_compressed(rig: Rig) -> None:
    client = rig.shell(
        "read x; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done",
        stdin=True, **packed(rig, "60k", "50"),
    )  # fmt: skip
    client.attach(stdin=True, stdout=False, stderr=False)
    until(lambda: os.path.exists(rig.path(LOG)))
    follower = subprocess.Popen(
        [
            sys.executable, "-c",
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "import os\n"
            "from rootless.engine import logs\n"
            "for block in logs.follow(sys.argv[2], lambda: not os.path.exists(sys.argv[3])):\n"
            "    print(''.join(entry['log'] for entry in block), end='', flush=True)",
            str(CHECKOUT), rig.path(LOG), rig.path("ended"),
        ],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    client.stdin(b"\n")
    assert listen(client).exit == 0
    Path(rig.path("ended")).touch()
    shown, _ = follower.communicate(timeout=60)
    assert shown.split() == [str(n) for n in range(1, 20001)]


def test_much_output_does_not_grow_the_monitor(rig: Rig) -> None:
    """Half a gigabyte, as fast as it goes: files rotate, memory stays."""
    client = rig.python(
        "import os\nline = b'x' * 99 + b'\\n'\nfor i in range(8192): os.write(1, line * 655)",
        log_max_size=20_000_000, log_max_file=2,
    )  # fmt: skip
    client.attach(stdin=False, stdout=False, stderr=False)
    pid = rig.await_status("running")["monitorPid"]
    seen = 0
    while rig.state()["status"] == "running":
        seen = max(seen, status_kb(pid, "VmHWM"))
        if listen_now(client):
            break
    assert 0 < seen < 1300


def listen_now(client: Any) -> bool:
    import select

    if not select.select([client], [], [], 0.05)[0]:
        return False
    message = client.recv()
    return message is None or message[0] == b"X"


# journald


def test_the_journal_gets_dockers_fields(rig: Rig) -> None:
    side = Side()
    made = plan(
        "journald",
        {"labels": "com.example.tier", "env": "MULTI", "tag": "{{.ImageName}}"},
        labels={"com.example.tier": "front"},
        env={"MULTI": "a\nb"},
    )
    line = "x" * 40000
    script = f"head -c 40000 /dev/zero | tr '\\0' x; echo; echo short {line[:3]}"
    output(rig.shell(script, **configured(rig, side.words(made))))
    settle(lambda: len(side.received))
    side.close()
    entries = [fields(data) for data in side.received]
    assert [len(entry["MESSAGE"]) for entry in entries] == [16384, 16384, 40000 - 32768, 9]
    for entry in entries:
        assert entry["CONTAINER_ID"] == b"012301230123"
        assert entry["CONTAINER_ID_FULL"] == b"0123" * 16
        assert entry["CONTAINER_NAME"] == b"web"
        assert entry["CONTAINER_TAG"] == entry["SYSLOG_IDENTIFIER"] == b"busybox"
        assert entry["IMAGE_NAME"] == b"busybox"
        assert entry["COM_EXAMPLE_TIER"] == b"front"
        assert entry["MULTI"] == b"a\nb"
        assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", entry["SYSLOG_TIMESTAMP"])
    parts = entries[:3]
    assert [entry["CONTAINER_PARTIAL_ORDINAL"] for entry in parts] == [b"1", b"2", b"3"]
    assert [entry["CONTAINER_PARTIAL_LAST"] for entry in parts] == [b"false", b"false", b"true"]
    assert [entry.get("CONTAINER_PARTIAL_MESSAGE") for entry in parts] == [b"true", b"true", None]
    assert len({entry["CONTAINER_PARTIAL_ID"] for entry in parts}) == 1
    assert "CONTAINER_PARTIAL_ID" not in entries[3]


def test_an_entry_too_big_for_a_datagram_goes_as_a_file(rig: Rig) -> None:
    side = Side()
    made = plan("journald", {"labels": "big"}, labels={"big": "y" * 500_000})
    output(rig.shell("echo one; echo two", **configured(rig, side.words(made))))
    settle(lambda: len(side.received))
    side.close()
    entries = [fields(data) for data in side.received]
    assert [entry["MESSAGE"] for entry in entries] == [b"one", b"two"]
    assert all(entry["BIG"] == b"y" * 500_000 for entry in entries)
    assert side.files == 2


# syslog

STAMP = r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
ISO = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ("", rf"<134>{STAMP} app\[\d+\]: hello\n"),
        ("rfc3164", rf"<134>{STAMP} node app\[\d+\]: hello\n"),
        ("rfc5424", rf"<134>1 {ISO}\+05:30 node app \d+ app - hello\n"),
        ("rfc5424micro", rf"<134>1 {ISO}\.\d{{6}}\+05:30 node app \d+ app - hello\n"),
    ],
)
@pytest.mark.parametrize("network", ["unix", "unixgram", "tcp", "udp"])
def test_syslog_messages(network: str, form: str, wanted: str, rig: Rig) -> None:
    side = Side(network)
    options = {"syslog-format": form, "syslog-facility": "local0", "tag": "app"}
    made = side.words(plan("syslog", options, zone=19800))
    output(rig.shell("echo hello; sleep 0.1; printf bye >&2", **configured(rig, made)))
    until(lambda: len(side.received) == 2)
    side.close()
    assert re.fullmatch(wanted, side.received[0].decode()), side.received[0]
    assert side.received[1].startswith(b"<131>") and side.received[1].endswith(b"bye\n")


def test_a_lost_connection_is_made_again(rig: Rig) -> None:
    side = Side("tcp")
    made = side.words(plan("syslog", {"tag": "app"}))
    client = rig.shell("while read x; do echo got $x; done", stdin=True, **configured(rig, made))
    client.attach(stdin=True, stdout=True, stderr=False)
    client.stdin(b"1\n")
    until(lambda: len(side.received) == 1)
    side.disconnect()
    until(lambda: side.connection is None)
    client.stdin(b"2\n")
    until(lambda: len(side.received) == 2)
    client.eof()
    client.kill(signal.SIGKILL)
    listen(client)
    side.close()
    assert [data.rpartition(b": ")[2] for data in side.received] == [b"got 1\n", b"got 2\n"]


# what a monitor is told


@pytest.mark.parametrize(
    "config",
    [b"\x05\0\0\0", b"\xff\xff\xff\xff", b"\x08\0\0\0unknown\0", b"\x07\0\0\0type=x\0", b""],
)
def test_a_broken_setup_is_no_log_and_no_obstacle(config: bytes, rig: Rig) -> None:
    path = Path(rig.path("setup"))
    path.write_bytes(config)
    assert output(rig.shell("echo out", log="", log_config=str(path))).out == b"out\n"


def test_passthrough_gives_the_callers_own_streams(rig: Rig, tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]\n"
        "from pathlib import Path\n"
        "from monitor_rig import Rig, listen, monitor\n"
        "rig = Rig(Path(sys.argv[3]), Path(sys.argv[4]))\n"
        "rig.write_tape(['/bin/sh', '-c', 'cat; echo err >&2'])\n"
        "client = monitor.spawn(sys.argv[4], rig.options(log=''), stdio=True)\n"
        "client.wait()\n"
        "print(listen(client).exit, flush=True)\n"
    )
    words = [str(CHECKOUT), str(Path(__file__).parent), str(tmp_path), str(rig.libexec)]
    with open(tmp_path / "errors", "wb") as errors:
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            input=b"typed\n", stdout=subprocess.PIPE, stderr=errors, check=False, timeout=60,
        )  # fmt: skip
    assert done.stdout == b"typed\n0\n"
    assert (tmp_path / "errors").read_bytes() == b"err\n"


def test_what_is_encoded_is_what_the_monitor_reads() -> None:
    made = Plan()
    made.words.update({"tag": "x", "type": 2, "attrs": b"a\0b"})
    assert made.encode() == b"\x06\0\0\0tag=x\0\x07\0\0\0type=2\0\x0a\0\0\0attrs=a\0b\0"


_WATCHED = (
    "arrive or keep_the_entries or split or escapes or syslog_messages or fields or datagram "
    "or connection or broken or torn"
)


@pytest.mark.requires("cc")
def test_the_log_under_sanitizers(tmp_path: Path) -> None:
    """These tests, some of json-file and of the contract once more, with a monitor that watches itself."""
    monitor = tmp_path / "monitor"
    sources = [*HELPERS.glob("monitor*.c"), *HELPERS.glob("log*.c")]
    flags = ["-std=gnu11", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(["cc", *flags, "-o", str(monitor), *map(str, sources)], check=True)
    here = Path(__file__).parent
    files = [here / "test_monitor_log.py", here / "test_monitor_log_drivers.py"]
    files += [here.parent / "contract" / "test_log_drivers.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, files),
         "-k", _WATCHED, f"--basetemp={tmp_path}/inner"],
        env={**os.environ, "ROOTLESS_TEST_MONITOR": str(monitor), "ASAN_OPTIONS": "detect_leaks=0"},
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
