"""Log drivers as a user meets them: run, inspect, logs; settings; what is refused and in which words."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import World, busybox, until

sys.path.append(str(Path(__file__).resolve().parents[1] / "helpers"))

pytestmark = pytest.mark.requires("ordinary-user", "userns", "overlay", "busybox")


@pytest.fixture(scope="module")
def rl() -> Iterator[World]:
    world = World()
    try:
        busybox(world)
        yield world
    finally:
        world.close()


def log_config(rl: World, name: str) -> tuple[str, dict[str, str], str]:
    """(driver, options, LogPath) that inspect shows."""
    shown = json.loads(rl.out("inspect", name))[0]
    config = shown["HostConfig"]["LogConfig"]
    return config["Type"], config["Config"], shown["LogPath"]


def test_json_file_with_everything(rl: World) -> None:
    rl(
        "run", "--name", "full", "--label", "tier=front", "-e", "MODE=test",
        "--log-opt", "labels=tier", "--log-opt", "env=MODE", "--log-opt", "tag={{.Name}}",
        "--log-opt", "max-size=10k", "--log-opt", "max-file=9", "--log-opt", "compress=true",
        "busybox", "sh", "-c", "seq 300; sleep 1; seq 301 400",
    )  # fmt: skip
    driver, options, path = log_config(rl, "full")
    assert driver == "json-file" and options["max-size"] == "10k" and path.endswith("-json.log")
    assert rl.out("logs", "full").split() == [str(n) for n in range(1, 401)]
    assert rl.out("logs", "--tail", "250", "full").split() == [str(n) for n in range(151, 401)]
    shown = rl.out("logs", "--details", "--tail", "1", "full")
    assert shown == "MODE=test,tag=full,tier=front 400"
    assert os.path.exists(f"{path}.1") or os.path.exists(f"{path}.1.gz")
    stamp = rl.out("logs", "-t", "--tail", "1", "full").split()[0]
    assert rl.out("logs", "--since", stamp, "full").endswith("400")
    rl("rm", "full")


def test_local_keeps_its_files_to_itself(rl: World) -> None:
    rl("run", "--name", "loc", "--log-driver", "local", "busybox", "echo", "kept")
    assert log_config(rl, "loc") == ("local", {}, "")
    assert rl.out("logs", "loc") == "kept"
    rl("rm", "loc")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--log-driver", "gelf"], "logger: no log driver named 'gelf' is registered"),
        (["--log-opt", "max-sizes=1"], "unknown log opt 'max-sizes' for json-file log driver"),
        (["--log-opt", "max-size=1x"], "invalid size: '1x'"),
        (["--log-opt", "max-size=-5m"], "invalid size: '-5m'"),
        (["--log-opt", "max-file=0"], "max-file cannot be less than 1"),
        (["--log-opt", "max-file=two"], 'strconv.Atoi: parsing "two": invalid syntax'),
        (["--log-opt", "compress=true"], "compress cannot be true when max-file is less than 2"),
        (["--log-opt", "compress=ja"], 'strconv.ParseBool: parsing "ja": invalid syntax'),
        (["--log-opt", "mode=eager"], "logger: logging mode not supported: eager"),
        (["--log-opt", "max-buffer-size=1m"], "only supported with 'mode=non-blocking'"),
        (["--log-driver", "syslog", "--log-opt", "syslog-address=http://x"], "unsupported scheme"),
        (["--log-driver", "syslog", "--log-opt", "syslog-address=tcp+tls://x:1"], "no TLS"),
        (["--log-driver", "syslog", "--log-opt", "syslog-address=tcp://x:99999"], "invalid port"),
        (
            ["--log-driver", "syslog", "--log-opt", "syslog-facility=mine"],
            "invalid syslog facility",
        ),
        (["--log-driver", "syslog", "--log-opt", "syslog-format=rfc1"], "syslog format"),
        (["-t", "--log-driver", "passthrough"], "conflicting options: --tty"),
    ],
)
def test_what_is_refused_makes_no_container(rl: World, flags: list[str], words: str) -> None:
    done = rl("create", "--name", "refused", *flags, "busybox", "true", code=125)
    assert words in done.stderr
    assert "refused" not in rl.names()


def test_a_server_that_is_not_there_is_told_at_the_start(rl: World, tmp_path: Path) -> None:
    free = socket.socket()
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
    done = rl(
        "run", "--rm", "--log-driver", "syslog", "--log-opt", f"syslog-address=tcp://{address}",
        "busybox", "true", code=125,
    )  # fmt: skip
    free.close()
    assert f"dial tcp {address}: connect: connection refused" in done.stderr
    missing = tmp_path / "none"
    done = rl(
        "run", "--rm", "--log-driver", "syslog", "--log-opt", f"syslog-address=unix://{missing}",
        "busybox", "true", code=125,
    )  # fmt: skip
    assert f"dial unix {missing}: connect: no such file or directory" in done.stderr
    assert rl.names() == []


def test_syslog_and_what_logs_says(rl: World) -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.settimeout(20)
    address = f"udp://127.0.0.1:{server.getsockname()[1]}"
    rl(
        "run", "--name", "sys", "--log-driver", "syslog", "--log-opt", f"syslog-address={address}",
        "--log-opt", "tag={{.ImageName}}/{{.Name}}", "--log-opt", "syslog-format=rfc5424",
        "busybox", "echo", "hello",
    )  # fmt: skip
    message = server.recv(4096)
    server.close()
    assert message.startswith(b"<30>1 ") and message.endswith(b" - hello\n")
    assert b" busybox/sys " in message
    done = rl("logs", "sys", code=1)
    assert "configured logging driver does not support reading" in done.stderr
    assert log_config(rl, "sys")[2] == ""
    rl("rm", "sys")


def test_none_and_passthrough(rl: World) -> None:
    rl("run", "--name", "quiet", "--log-driver", "none", "busybox", "echo", "x")
    assert "does not support reading" in rl("logs", "quiet", code=1).stderr
    done = rl(
        "run", "-i", "--name", "through", "--log-driver", "passthrough", "busybox", "sh", "-c",
        "cat; echo err >&2; exit 3", input="in\n", code=3,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("in\n", "err\n")
    assert "does not support reading" in rl("logs", "through", code=1).stderr
    rl("rm", "quiet", "through")


def test_passthrough_writes_to_the_callers_own_file(rl: World, tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as out:
        child = rl.spawn(
            "run", "--rm", "--log-driver", "passthrough", "busybox",
            "sh", "-c", "readlink /proc/self/fd/1; echo done",
            stdin=subprocess.DEVNULL, stdout=out,
        )  # fmt: skip
        assert child.wait(timeout=60) == 0
    assert (tmp_path / "out").read_text().endswith("done\n")
    assert "pipe:" not in (tmp_path / "out").read_text()
    null = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    words = (
        "run",
        "-d",
        "--name",
        "apart",
        "--log-driver",
        "passthrough",
        "busybox",
        "sleep",
        "100",
    )
    assert rl.spawn(*words, **null).wait(timeout=60) == 0
    assert "passthrough" in rl("attach", "apart", code=1).stderr
    rl("rm", "-f", "apart")


def test_settings_are_for_the_default_driver(rl: World) -> None:
    file = Path(rl.home, ".config/rootless/rootless.toml")
    file.parent.mkdir(parents=True)
    file.write_text('[run]\nlog_max_size = "1m"\nlog_opts = ["tag={{.ID}}", "compress=false"]\n')
    rl("create", "--name", "def", "--log-opt", "max-size=2m", "busybox")
    rl("create", "--name", "oth", "--log-driver", "none", "busybox")
    assert log_config(rl, "def")[1] == {
        "max-size": "2m", "tag": "{{.ID}}", "compress": "false",
    }  # fmt: skip
    assert log_config(rl, "oth")[1] == {}
    file.write_text('[run]\nlog_driver = "local"\n')
    rl("create", "--name", "loc2", "busybox")
    assert log_config(rl, "loc2")[0] == "local"
    file.unlink()
    rl("rm", "def", "oth", "loc2")


def test_a_container_ends_while_its_syslog_server_hangs(rl: World) -> None:
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(5)  # and nobody reads
    address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    rl(
        "run", "-d", "--name", "hung", "--log-driver", "syslog",
        "--log-opt", f"syslog-address={address}", "busybox", "yes",
    )  # fmt: skip
    assert rl.out("ps", "--format", "{{.Names}}") == "hung"
    rl("stop", "-t", "0", "hung")
    assert rl.out("wait", "hung") == "137"
    rl("rm", "hung")
    server.close()


JOURNAL = r"""
set -e
mount -t tmpfs none /run
mkdir -p /run/systemd/journal /run/log/journal
mount -t tmpfs none /etc/systemd
cd /etc/systemd
printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nReadKMsg=no\nAudit=no\n' > journald.conf
/usr/lib/systemd/systemd-journald > /dev/null 2>&1 < /dev/null &
journal=$!
trap 'kill $journal; wait $journal || true' EXIT
i=0
while [ ! -S /run/systemd/journal/socket ] && [ $i -lt 200 ]; do sleep 0.1; i=$((i + 1)); done
"$2" "$3"
"""

JOURNAL_DRIVER = r"""
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from log_rig import configured, plan
from monitor_rig import Rig, output
from rootless.drivers import log as drivers
from rootless.engine import logjournal
rig = Rig(Path({directory!r}), Path({libexec!r}))
made = plan("journald", {{"labels": "tier"}}, labels={{"tier": "front"}})
drivers.driver("journald").up(made)
script = "echo one; sleep 0.2; echo two >&2; head -c 20000 /dev/zero | tr '\\0' x"
output(rig.shell(script, **configured(rig, made)))
identity = "0123" * 16
def entries(**options):
    return [entry for block in logjournal.read(identity, alive=lambda: False, **options) for entry in block]
import time
for _ in range(200):
    if len(entries()) == 4:
        break
    time.sleep(0.1)
logjournal.check(identity, "web")
found = entries()
assert [(e["log"][:4], len(e["log"]), e["stream"]) for e in found] == [
    ("one\n", 4, "stdout"), ("two\n", 4, "stderr"), ("xxxx", 16384, "stdout"), ("xxxx", 3617, "stdout")], found
assert found[0]["attrs"] == {{"TIER": "front"}}, found[0]
assert found[0]["time"] < found[1]["time"]
assert [e["log"] for e in entries(tail=3)][0] == "two\n"
assert [e["log"][:3] for e in entries(follow=True)] == ["one", "two", "xxx", "xxx"]
print("read back")
"""


@pytest.mark.requires("journalctl", "userns")
def test_a_real_journal_takes_and_gives_back(rl: World, tmp_path: Path) -> None:
    """systemd-journald in a user namespace, our monitor writing to it, our reader asking journalctl."""
    from monitor_rig import build

    driver = tmp_path / "driver.py"
    driver.write_text(
        JOURNAL_DRIVER.format(
            path=[p for p in sys.path if p],
            directory=str(tmp_path),
            libexec=str(build(tmp_path / "build")),
        )
    )
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", JOURNAL, "sh", str(tmp_path), sys.executable, str(driver)],
        capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.stdout == "read back\n", done.stderr


def test_logs_say_why_a_journal_cannot_be_read(rl: World, tmp_path: Path) -> None:
    rl("create", "--name", "jrn", "--log-driver", "journald", "busybox", "true")
    done = rl("start", "jrn", check=False)
    if not os.path.exists("/run/systemd/journal/socket"):
        assert "journald is not enabled on this host" in done.stderr
    fake = tmp_path / "journalctl"
    fake.write_text(
        "#!/bin/sh\necho 'No journal files were opened due to insufficient permissions.' >&2\n"
    )
    fake.chmod(0o755)
    path = f"{tmp_path}:{rl.env['PATH']}"
    shown = rl("logs", "jrn", code=1, env={"PATH": path}).stderr
    assert "the journal does not show its entries: No journal files were opened" in shown
    assert "systemd-journal" in shown
    shown = rl("logs", "jrn", code=1, env={"PATH": "/nowhere"}).stderr
    assert "cannot execute journalctl" in shown
    rl("rm", "jrn")


def test_attached_and_logged_output_is_the_same(rl: World) -> None:
    done = rl("run", "--name", "both", "--log-opt", "mode=non-blocking", "busybox", "seq", "5000")
    until(lambda: rl("logs", "both").stdout == done.stdout)
    rl("rm", "both")
