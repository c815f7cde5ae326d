"""The monitor's streams and clients, with the real launcher and real programs."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path

import pytest
from monitor_rig import (
    SOCKET,
    Heard,
    Rig,
    alive,
    libexec,
    listen,
    output,
    receive,
    rig,
    status_kb,
    until,
)

from rootless.runtime import monitor

__all__ = ["libexec", "rig"]

MIB = 1 << 20
FAUCET = "import os,sys\nfor i in range(%d): os.write(1, bytes([i %% 251]) * 65536)"


def feed(client: monitor.Client, data: bytes) -> None:
    """Send DATA and the end of stdin, waiting for room."""
    at = 0
    while at < len(data):
        if client.stdin(data[at : at + monitor.CHUNK]):
            at += monitor.CHUNK
        else:
            time.sleep(0.0005)
    until(client.eof)


def test_streams_and_exit_code(rig: Rig) -> None:
    heard = output(rig.shell("echo out; echo err >&2; exit 7"))
    assert (heard.out, heard.err, heard.exit) == (b"out\n", b"err\n", 7)
    assert heard.kinds[0] == "P" and heard.kinds[-1] == "X"
    assert not heard.signalled


def test_binary_and_big_output_arrives_whole(rig: Rig) -> None:
    client = rig.python(FAUCET % 1600, log="")
    client.attach(stdin=False, stdout=True, stderr=True)
    digest, size = hashlib.sha256(), 0
    while True:
        message = receive(client)
        assert message is not None
        if message[0] == b"1":
            digest.update(message[1])
            size += len(message[1])
        elif message[0] == b"X":
            break
    expected = hashlib.sha256()
    for i in range(1600):
        expected.update(bytes([i % 251]) * 65536)
    assert size == 100 * MIB
    assert digest.digest() == expected.digest()


def test_stdin_round_trip_with_eof(rig: Rig) -> None:
    data = os.urandom(MIB) * 50
    client = rig.spawn(["/bin/cat"], stdin=True, stdin_once=True, log="")
    client.attach(stdin=True, stdout=True, stderr=True)
    feeder = threading.Thread(target=feed, args=(client, data))
    feeder.start()
    heard = listen(client)
    feeder.join()
    assert heard.exit == 0
    assert hashlib.sha256(heard.out).digest() == hashlib.sha256(data).digest()


def test_slow_reader_holds_the_container_back_in_bounded_memory(rig: Rig) -> None:
    progress = rig.path("progress")
    script = (
        "import os,sys\n"
        "for i in range(640):\n"
        "    os.write(1, b'x' * 65536)\n"
        f"    open({progress!r}, 'w').write(str(i))\n"
    )
    client = rig.python(script)
    client.attach(stdin=False, stdout=True, stderr=True)
    until(lambda: os.path.exists(progress))
    pid = rig.await_status("running")["monitorPid"]
    seen = -1
    while True:  # until it stops making progress
        time.sleep(0.3)
        now = int(Path(progress).read_text() or 0)
        if now == seen:
            break
        seen = now
    assert seen < 600, "the container was not held back"
    assert status_kb(pid, "VmRSS") < 1024
    heard = listen(client)
    assert len(heard.out) == 640 * 65536
    assert heard.exit == 0


def test_memory_stays_under_a_mebibyte(rig: Rig) -> None:
    script = "head -c 3000000 /dev/urandom; head -c 3000000 /dev/zero | tr '\\0' '\\1' >&2; cat"
    client = rig.shell(script, stdin=True)
    client.attach(stdin=True, stdout=True, stderr=True)
    heard = Heard()
    while len(heard.out) + len(heard.err) < 6000000:
        message = receive(client)
        assert message is not None
        heard.take(message)
    for _ in range(20):
        assert client.stdin(b"y" * monitor.CHUNK)
        goal = len(heard.out) + monitor.CHUNK
        while len(heard.out) < goal:
            message = receive(client)
            assert message is not None
            heard.take(message)
    pid = rig.await_status("running")["monitorPid"]
    assert status_kb(pid, "VmRSS") < 1024


def test_early_output_waits_for_the_first_client(rig: Rig) -> None:
    client = rig.shell("echo first; sleep 0.2; echo second")
    rig.await_status("running")
    time.sleep(0.3)  # the program has written everything by now
    assert output(client).out == b"first\nsecond\n"


def test_without_stdin_the_program_reads_end_of_file(rig: Rig) -> None:
    assert output(rig.shell("wc -c")).out.strip() == b"0"


def test_stdin_stays_open_without_a_client(rig: Rig) -> None:
    first = rig.shell("read a; echo got $a; read b; echo got $b", stdin=True)
    first.attach(stdin=False, stdout=False, stderr=False)
    listen(first, b"P")
    first.close()
    second = rig.connect()
    second.attach(stdin=True, stdout=True, stderr=False)
    assert second.stdin(b"one\n")
    message = receive(second)
    assert message == (b"1", b"got one\n")
    second.close()  # without stdin-once this is no end of file
    third = rig.connect()
    third.attach(stdin=True, stdout=True, stderr=False)
    third.eof()  # nor is this
    assert third.stdin(b"two\n")
    assert listen(third).out == b"got two\n"


def test_stdin_once_ends_with_its_client(rig: Rig) -> None:
    client = rig.shell(
        "cat > $0; echo done".replace("$0", rig.path("copy")), stdin=True, stdin_once=True
    )
    watcher = rig.connect()
    watcher.attach(stdin=False, stdout=True, stderr=True)
    client.attach(stdin=True, stdout=False, stderr=False)
    assert client.stdin(b"all of it")
    client.close()
    assert listen(watcher).out == b"done\n"
    assert Path(rig.path("copy")).read_bytes() == b"all of it"


def test_stdin_of_a_detached_client_stays_open(rig: Rig) -> None:
    client = rig.shell("read a; echo got $a", stdin=True, stdin_once=True)
    client.attach(stdin=True, stdout=True, stderr=True)
    listen(client, b"P")
    client.detach()
    client.close()
    other = rig.connect()
    other.attach(stdin=True, stdout=True, stderr=True)
    assert other.stdin(b"it\n")
    assert listen(other).out == b"got it\n"


def test_a_program_that_closes_stdin_blocks_nobody(rig: Rig) -> None:
    client = rig.shell("exec <&-; sleep 0.3; echo alive", stdin=True, stdin_once=True)
    client.attach(stdin=True, stdout=True, stderr=True)
    feed(client, b"z" * MIB)
    assert listen(client).out == b"alive\n"


def test_a_signal_passes_stdin_that_is_stuck(rig: Rig) -> None:
    client = rig.shell("exec sleep 1000", stdin=True)
    client.attach(stdin=True, stdout=True, stderr=True)
    listen(client, b"P")
    while client.stdin(b"q" * monitor.CHUNK):
        pass
    other = rig.connect()
    other.kill(15)
    assert other.wait_ack() == 0
    assert listen(client).exit == 128 + 15


def test_many_clients_hear_the_same(rig: Rig) -> None:
    first = rig.python("import sys,os\nsys.stdin.readline()\n" + FAUCET % 64, stdin=True)
    first.attach(stdin=True, stdout=False, stderr=False)
    listen(first, b"P")
    others = [rig.connect() for _ in range(100)]
    for client in others:
        client.attach(stdin=False, stdout=True, stderr=True)
        client.query()  # answered, so attached
    heard: list[Heard] = []
    threads = [threading.Thread(target=lambda c=c: heard.append(listen(c))) for c in others]
    for thread in threads:
        thread.start()
    assert first.stdin(b"go\n")
    for thread in threads:
        thread.join()
    assert {(len(h.out), hashlib.sha256(h.out).digest()) for h in heard} == {
        (64 * 65536, hashlib.sha256(b"".join(bytes([i % 251]) * 65536 for i in range(64))).digest())
    }
    assert [h.exit for h in heard] == [0] * 100


def test_more_clients_than_there_is_room_for_wait(rig: Rig) -> None:
    first = rig.shell("read a", stdin=True)
    first.attach(stdin=True, stdout=False, stderr=False)
    listen(first, b"P")
    idle = [rig.connect() for _ in range(255)]  # with the first all places are taken
    for client in idle:
        client.query()
    late = rig.connect()
    late.wait()
    for client in idle[:10]:
        client.close()
    assert late.query()["status"] == "running"
    assert first.stdin(b"x\n")
    assert listen(late).exit == 0


def test_a_client_that_dies_holds_nobody_up(rig: Rig) -> None:
    client = rig.python(FAUCET % 320)
    watcher = rig.connect()
    watcher.attach(stdin=False, stdout=True, stderr=True)
    watcher.query()
    client.attach(stdin=False, stdout=True, stderr=True)
    receive(client)
    receive(client)
    client.close()  # in the middle of the stream, with messages unread
    heard = listen(watcher)
    assert (len(heard.out), heard.exit) == (320 * 65536, 0)


def test_without_any_client_it_runs_to_the_end(rig: Rig) -> None:
    rig.python(FAUCET % 320).close()
    assert rig.await_status("exited")["exitCode"] == 0


@pytest.mark.parametrize(
    "bad",
    [b"?", b"A", b"A\7\7", b"K\1", b"T\1", b"R\1\2\3", b"x" * 40000, b"I" + b"y" * 40000, b"Qx"],
)
def test_a_malformed_message_costs_only_its_sender(rig: Rig, bad: bytes) -> None:
    client = rig.shell("read a; echo $a", stdin=True)
    client.attach(stdin=True, stdout=True, stderr=True)
    listen(client, b"P")
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    raw.connect(rig.path(SOCKET))
    raw.send(b"A\1")
    raw.send(bad)
    raw.settimeout(60)
    try:
        assert raw.recv(100) == b""
    except ConnectionResetError:
        pass
    raw.close()
    assert client.stdin(b"fine\n")
    assert listen(client).out == b"fine\n"


def test_query_gives_the_state(rig: Rig) -> None:
    client = rig.shell("read a", stdin=True)
    client.attach(stdin=True, stdout=True, stderr=True)
    listen(client, b"P")
    asked = rig.connect().query()
    assert asked == rig.state()
    assert asked["status"] == "running"
    stat = Path(f"/proc/{asked['pid']}/stat").read_text().rpartition(")")[2].split()
    assert asked["pidStart"] == int(stat[19])
    assert asked["bootId"] == "boot"
    assert Path(f"/proc/{asked['monitorPid']}/comm").read_text() == "monitor\n"
    client.stdin(b"\n")


def test_the_monitor_keeps_no_descriptor_it_was_not_given(rig: Rig, tmp_path: Path) -> None:
    marker = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(marker, True)
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    try:
        client = rig.shell("echo ready; read a", stdin=True, lock_fd=lock)
    finally:
        os.close(marker)
    client.attach(stdin=True, stdout=True, stderr=True)
    listen(client, b"1")
    state = rig.await_status("running")
    links = [
        os.readlink(f"/proc/{state['monitorPid']}/fd/{n}")
        for n in os.listdir(f"/proc/{state['monitorPid']}/fd")
    ]
    assert str(tmp_path) not in links
    assert str(tmp_path / "lock") in links
    own = sorted(map(int, os.listdir(f"/proc/{state['pid']}/fd")))
    assert [n for n in own if n < 10] == [0, 1, 2]
    assert str(tmp_path / "lock") not in [os.readlink(f"/proc/{state['pid']}/fd/{n}") for n in own]
    os.close(lock)
    client.stdin(b"\n")


def _children() -> set[str]:
    """Process IDs of whatever is ours to reap, which other tests may have left."""
    found = set()
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/children", encoding="ascii") as file:
            found |= set(file.read().split())
    return found


def test_the_starter_is_left_behind(rig: Rig) -> None:
    before = _children()
    client = rig.shell("read a", stdin=True)
    client.attach(stdin=True, stdout=True, stderr=True)
    listen(client, b"P")
    pid = rig.await_status("running")["monitorPid"]
    assert os.getsid(pid) == pid != os.getsid(0)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert status_kb(pid, "PPid") != os.getpid()
    assert _children() <= before  # nothing of it is ours to reap


def test_long_socket_paths(tmp_path: Path, libexec: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    rig = Rig(deep, libexec)
    client = rig.shell("read a; echo $a", stdin=True)
    other = rig.connect()
    other.attach(stdin=True, stdout=True, stderr=True)
    assert other.query()["status"] in ("created", "running")
    client.attach(stdin=False, stdout=True, stderr=True)
    other.stdin(b"deep\n")
    assert listen(client).out == b"deep\n"
    rig.close()


def test_a_foreign_holder_of_the_pipe_does_not_delay_the_end_forever(rig: Rig) -> None:
    # An exec session has no state, so what its program leaves behind is not killed.
    heard = output(rig.shell("sleep 1000 & echo $!", state=""))
    assert heard.exit == 0
    os.kill(int(heard.out), signal.SIGKILL)


def test_a_stuck_client_does_not_keep_the_end_from_being_recorded(rig: Rig) -> None:
    client = rig.python("import os\nos.write(1, b'x' * 600000)\nos.kill(os.getpid(), 9)", log="")
    client.attach(stdin=False, stdout=True, stderr=True)  # and takes nothing
    pid = rig.await_status("running")["pid"]
    time.sleep(0.2)
    os.kill(pid, signal.SIGKILL)
    assert rig.await_status("exited")["exitCode"] == 137
    assert not os.path.exists(rig.path(SOCKET))
    heard = listen(client)
    assert heard.exit == 137
    assert len(heard.out) > 200000  # what was in the pipe and the socket is not lost


def test_terminal(rig: Rig) -> None:
    wait = 'until [ "$(stty size)" = "40 99" ]; do sleep 0.02; done'
    program = f"{wait}; stty size; read a; stty size; echo [$a]; tty >/dev/null && echo yes; exit 4"
    client = rig.fake("tty", "/bin/sh", "-c", program, tty=True, stdin=True)
    client.resize(40, 99)
    client.attach(stdin=True, stdout=True, stderr=True)
    heard = Heard()
    while b"40 99" not in heard.out:
        message = receive(client)
        assert message is not None
        heard.take(message)
    client.resize(24, 80)
    client.stdin(b"hey\r")
    rest = listen(client)
    assert b"24 80\r\n[hey]\r\nyes\r\n" in rest.out
    assert (rest.exit, rest.err) == (4, b"")


def test_terminal_output_is_complete_after_the_end(rig: Rig) -> None:
    script = "import sys\nfor i in range(20000): sys.stdout.write('%d\\n' % i)"
    client = rig.fake("tty", sys.executable, "-c", script, tty=True)
    heard = output(client)
    assert heard.out == b"".join(b"%d\r\n" % i for i in range(20000))
    assert heard.exit == 0


def test_wait_only_clients_hear_the_end(rig: Rig) -> None:
    client = rig.shell("read a; exit 9", stdin=True)
    client.attach(stdin=True, stdout=False, stderr=False)
    waiting = rig.connect()
    waiting.wait()
    waiting.query()
    client.stdin(b"\n")
    assert monitor.wait_exit(waiting) == 9
    assert waiting.recv() is None


def test_a_message_may_be_empty_and_stop_takes_any_number(rig: Rig) -> None:
    client = rig.shell("exec sleep 1000", stdin=True)
    client.attach(stdin=True, stdout=False, stderr=False)
    listen(client, b"P")
    assert client.stdin(b"")
    other = rig.connect()
    other.kill(200)
    assert other.wait_ack() != 0
    other.stop(9, 1 << 40)
    assert other.wait_ack() == 0
    assert struct.calcsize("<cBi") == 6
    assert listen(client).exit == 137


def test_killing_the_monitor_kills_the_container(rig: Rig) -> None:
    client = rig.shell("exec sleep 1000")
    client.attach(stdin=False, stdout=True, stderr=True)
    listen(client, b"P")
    state = rig.await_status("running")
    os.kill(state["monitorPid"], signal.SIGKILL)
    until(lambda: not alive(state["pid"]))
    assert rig.state()["status"] == "running"  # the old record, whole
    assert receive(client) is None
