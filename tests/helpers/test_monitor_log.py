"""The json-file log that the monitor writes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from monitor_rig import LOG, Rig, libexec, listen, output, rig

__all__ = ["libexec", "rig"]

HELPERS = Path(__file__).resolve().parents[2] / "helpers"


def emit(rig: Rig, data: bytes, **changes: Any) -> bytes:
    """Let a program write DATA to stdout; what a client got of it."""
    path = Path(rig.path("data"))
    path.write_bytes(data)
    return bytes(output(rig.spawn(["/bin/cat", str(path)], **changes)).out)


def logged(rig: Rig, name: str = LOG) -> str:
    return "".join(entry["log"] for entry in rig.log(name))


def test_lines_streams_and_times(rig: Rig) -> None:
    before = datetime.now(timezone.utc)
    output(rig.shell("echo one; sleep 0.1; echo two >&2; sleep 0.1; printf three"))
    entries = rig.log()
    assert [(e["log"], e["stream"]) for e in entries] == [
        ("one\n", "stdout"), ("two\n", "stderr"), ("three", "stdout"),
    ]  # fmt: skip
    assert all(set(e) == {"log", "stream", "time"} for e in entries)
    times = [e["time"] for e in entries]
    assert times == sorted(times)
    first = datetime.strptime(times[0][:26] + "Z", "%Y-%m-%dT%H:%M:%S.%fZ").replace(
        tzinfo=timezone.utc
    )
    assert abs((first - before).total_seconds()) < 3600 and len(times[0]) == 30


def test_the_log_says_what_the_client_saw(rig: Rig) -> None:
    noise = random.Random(1)
    lines = ["".join(chr(noise.choice([32, 65, 0xE9, 0x20AC, 0x1F600, 9, 34, 92, 60, 0x2028])) for _ in range(noise.randrange(300))) for _ in range(3000)]  # fmt: skip # noqa: E501
    text = "\n".join(lines) + "\n"
    assert emit(rig, text.encode()) == text.encode()
    assert logged(rig) == text
    assert all(e["log"].count("\n") == 1 and e["log"].endswith("\n") for e in rig.log())


def test_escapes_are_dockers(rig: Rig) -> None:
    emit(rig, b'\x01\t\r"\\<&>\x7f\xe2\x80\xa8\n')
    raw = Path(rig.path(LOG)).read_bytes()
    assert raw.startswith(
        b'{"log":"\\u0001\\u0009\\r\\"\\\\\\u003c\\u0026\\u003e\x7f\\u2028\\n","stream":"stdout","time":"'
    )


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a\xffb", "a\ufffdb"),
        (b"\xc3(", "\ufffd("),
        (b"\xc0\x80", "\ufffd\ufffd"),  # overlong
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),  # surrogate
        (b"\xf4\x90\x80\x80", "\ufffd" * 4),  # beyond Unicode
        (b"\xf0\x9f\x98", "\ufffd" * 3),  # cut short
        ("é€😀".encode(), "é€😀"),
    ],
)
def test_invalid_utf8_becomes_replacement_characters(rig: Rig, data: bytes, text: str) -> None:
    emit(rig, data + b"\n")
    assert [e["log"] for e in rig.log()] == [text + "\n"]


def test_random_bytes_make_a_readable_log(rig: Rig) -> None:
    data = random.Random(7).randbytes(300000)
    assert emit(rig, data) == data
    assert len(rig.log()) >= data.count(b"\n")
    plain = bytes(c for c in data if c < 0x80)
    assert bytes(ord(c) for c in logged(rig) if ord(c) < 0x80) == plain


def test_long_lines_are_split(rig: Rig) -> None:
    line = "".join(chr(97 + i % 26) for i in range(100000))
    emit(rig, (line + "\nnext\n").encode())
    entries = [e["log"] for e in rig.log()]
    assert [len(e) for e in entries] == [16384] * 6 + [100001 - 6 * 16384, 5]
    assert [e.endswith("\n") for e in entries] == [False] * 6 + [True, True]
    assert "".join(entries) == line + "\nnext\n"


def test_no_character_is_split(rig: Rig) -> None:
    for prefix in range(4):
        text = "x" * prefix + "😀" * 9000 + "\n"
        emit(rig, text.encode())
        assert logged(rig) == text
        os.unlink(rig.path(LOG))


@pytest.mark.parametrize("size", [16383, 16384, 16385, 32767, 32768, 32769])
def test_lines_at_the_limits(rig: Rig, size: int) -> None:
    text = "y" * (size - 1) + "\n"
    emit(rig, (text * 3).encode())
    assert logged(rig) == text * 3


def test_a_line_written_byte_by_byte_is_one_entry(rig: Rig) -> None:
    output(
        rig.python(
            "import os,time\nfor c in b'slowly\\n': os.write(1, bytes([c])); time.sleep(0.01)"
        )
    )
    assert [e["log"] for e in rig.log()] == ["slowly\n"]


def test_an_unfinished_line_is_logged_when_the_pipe_is_held_open(rig: Rig) -> None:
    # A foreign process holds stdout, so its end is forced; an exec session (no state) kills no survivors.
    heard = output(rig.shell("sleep 1000 & printf 'pid '; printf $!", state=""))
    os.kill(int(heard.out.split()[1]), signal.SIGKILL)
    assert [entry["log"] for entry in rig.log()] == [heard.out.decode()]


def test_rotation(rig: Rig) -> None:
    text = "".join(f"line {i}\n" for i in range(5000))
    emit(rig, text.encode(), log_max_size=20000, log_max_file=3)
    files = sorted(os.listdir(rig.path("c")))
    assert [f for f in files if f.startswith("log")] == ["log.json", "log.json.1", "log.json.2"]
    for name in (LOG, LOG + ".1", LOG + ".2"):
        assert os.stat(rig.path(name)).st_size <= 20000
    kept = logged(rig, LOG + ".2") + logged(rig, LOG + ".1") + logged(rig)
    assert text.endswith(kept) and kept.startswith("line ")


def test_rotation_to_one_file_starts_over(rig: Rig) -> None:
    text = "".join(f"line {i}\n" for i in range(5000))
    emit(rig, text.encode(), log_max_size=20000, log_max_file=1)
    assert os.stat(rig.path(LOG)).st_size <= 20000
    assert text.endswith(logged(rig))
    assert not os.path.exists(rig.path(LOG + ".1"))


def test_rotation_goes_on_from_an_earlier_start(rig: Rig) -> None:
    for i in range(3):
        emit(rig, f"start {i} {'z' * 5000}\n".encode(), log_max_size=6000, log_max_file=2)
    assert logged(rig).startswith("start 2")
    assert logged(rig, LOG + ".1").startswith("start 1")


def test_a_line_larger_than_the_limit_is_kept(rig: Rig) -> None:
    emit(rig, b"w" * 10000 + b"\nend\n", log_max_size=1000, log_max_file=2)
    assert logged(rig, LOG + ".1") == "w" * 10000 + "\n"
    assert logged(rig) == "end\n"


def test_a_log_that_cannot_be_opened_stops_nothing(rig: Rig) -> None:
    os.mkdir(rig.path(LOG))
    assert emit(rig, b"x" * 200000 + b"\n") == b"x" * 200000 + b"\n"


def test_a_log_that_becomes_possible_tells_what_it_lost(rig: Rig) -> None:
    os.mkdir(rig.path(LOG))
    client = rig.shell("echo a; echo b; read x; echo c", stdin=True)
    client.attach(stdin=True, stdout=True, stderr=True)
    seen = b""
    while seen != b"a\nb\n":
        seen += bytes(listen(client, b"1").out)
    client.query()  # one round later the log has been tried
    os.rmdir(rig.path(LOG))
    client.stdin(b"\n")
    assert listen(client).exit == 0
    entries = rig.log()
    assert [e["stream"] for e in entries] == ["stderr", "stdout"]
    assert entries[0]["log"].startswith("[rootless: 2 log lines were lost")
    assert entries[1]["log"] == "c\n"


FULL = r"""
set -e
mount -t tmpfs -o size=64k none "$1/c"
( while :; do [ -e "$1/stop" ] && break; sleep 0.05; done; rm "$1/c/filler"; touch "$1/freed" ) &
head -c 40000 /dev/zero > "$1/c/filler"
"$2" "$3"
cp "$1/c/log.json" "$1/result"
"""

FULL_DRIVER = r"""
import os, sys, time
sys.path[:0] = {path!r}
from monitor_rig import Rig, listen, until
from pathlib import Path
rig = Rig(Path({directory!r}), Path({libexec!r}))
script = "i=0; while [ $i -lt 500 ]; do echo line $i 0123456789012345678901234567890123456789; i=$((i+1)); done"
client = rig.shell(script + "; read x; echo after", stdin=True)
client.attach(stdin=True, stdout=True, stderr=True)
size = 0
while size < {expected}:
    size += len(listen(client, b"1").out)
Path({directory!r}, "stop").touch()
until(lambda: os.path.exists({directory!r} + "/freed"))
client.stdin(b"\n")
heard = listen(client)
assert heard.exit == 0, heard.exit
assert heard.out == b"after\n"
"""


def test_a_full_disk_loses_log_lines_and_says_so(rig: Rig, tmp_path: Path) -> None:
    """A tmpfs of 64 KiB in a user namespace: no half line, no blocked container, a count of what is missing."""
    expected = sum(len(f"line {i} {'0123456789' * 4}\n") for i in range(500))
    work = tmp_path / "full"
    work.mkdir()
    (work / "c").mkdir()
    driver = work / "driver.py"
    driver.write_text(
        FULL_DRIVER.format(
            path=[p for p in sys.path if p],
            directory=str(work),
            libexec=str(rig.libexec),
            expected=expected,
        )
    )
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", FULL, "sh", str(work), sys.executable, str(driver)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (work / "result").read_text().splitlines()]
    texts = [entry["log"] for entry in lines]
    assert texts[-1] == "after\n"
    lost = [int(text.split()[1]) for text in texts if text.startswith("[rootless: ")]
    assert sum(lost) > 0
    assert sum(lost) + len(texts) - len(lost) == 501


def test_the_clock_is_right_for_every_kind_of_date(tmp_path: Path) -> None:
    program = tmp_path / "dates"
    sources = [str(Path(__file__).with_name("log_dates.c")), str(HELPERS / "log_text.c")]
    subprocess.run(["cc", "-I", str(HELPERS), "-o", str(program), *sources], check=True)
    noise = random.Random(3)
    seconds = [0, 951782400, 951868800, 4107542400, 1709164800, 1735689599]
    seconds += [noise.randrange(1 << 33) for _ in range(2000)]
    text = "\n".join(map(str, seconds))
    given = subprocess.run([str(program)], input=text, capture_output=True, text=True, check=True)
    dates = [datetime.fromtimestamp(s, timezone.utc) for s in seconds]
    assert given.stdout.split() == [d.strftime("%Y-%m-%dT%H:%M:%S.000000005Z") for d in dates]
