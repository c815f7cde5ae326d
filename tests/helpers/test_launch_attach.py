"""net_attach and net_attached against a network service of the test's own: what is sent, and every answer."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import struct
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from test_launch import LAUNCH, NEWNET, NEWPID, NEWUSER, WRAPPER, Op, Played, clone, play

from rootless.linux import probe
from rootless.plan import tape

pytestmark = pytest.mark.requires("userns")


class Asked:
    """One connection as the service saw it."""

    def __init__(self, connection: socket.socket) -> None:
        self.peer = struct.unpack(
            "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
        self.payload, self.fds = b"", []
        while True:
            data, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(64))
            for _, _, value in ancillary:
                self.fds += [number for (number,) in struct.iter_unpack("i", value)]
            self.payload += data
            if not data:
                break
        self.namespaces = [os.stat(fd).st_ino for fd in self.fds]
        self.writable = [os.access(f"/proc/self/fd/{fd}", os.W_OK) for fd in self.fds]
        for fd in self.fds:
            os.close(fd)


Answer = Callable[[socket.socket], None]


def bind(listener: socket.socket, path: str) -> None:
    """Bind at a path that may be longer than an address."""
    directory = os.open(os.path.dirname(path), os.O_PATH)
    listener.bind(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    os.close(directory)


@contextmanager
def service(path: str, *answers: Answer) -> Iterator[list[Asked]]:
    """A service at PATH that gives one answer per connection, the last to all that follow."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bind(listener, path)
    listener.listen(8)
    seen: list[Asked] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                seen.append(Asked(connection))
                answers[min(len(seen), len(answers)) - 1](connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()
        os.unlink(path)


def say(data: bytes, *fds: int) -> Answer:
    """An answer, with descriptors."""

    def answer(connection: socket.socket) -> None:
        try:
            socket.send_fds(connection, [data], fds) if fds else connection.sendall(data)
        except BrokenPipeError:
            pass

    return answer


def python(script: str) -> Op:
    argv = [sys.executable, "-I", "-S", "-c", textwrap.dedent(script)]
    return ("exec", ("", argv, ["PATH=/bin", "LISTEN_PID=7", "LISTEN_FDS=9", "X=y"], 0))


def attach(
    path: str, payload: bytes = b"{}\n", *, last: Op | None = None, pids: int = NEWPID
) -> Any:
    begin, set_ids, propagation = clone(NEWNET | pids)
    ask: Op = ("net_attach", (path, payload))
    end = last or python("import os; print(os.stat('/proc/self/ns/net').st_ino)")
    hear: Op = ("net_attached", ())
    return play([begin, ("loopback_up", ()), ask, set_ids, propagation, hear, end])


def test_the_service_is_told_who_and_where(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with service(path, say(b"ok\n")) as seen:
        script = (
            "import os; print(os.stat('/proc/self/ns/net').st_ino, *os.listdir('/proc/self/fd'))"
        )
        played: Played = attach(path, b"x" * 65536, last=python(script), pids=0)
    assert played.error is None, played.error
    inode, *fds = played.output.split()
    (asked,) = seen
    assert asked.payload == b"x" * 65536
    assert asked.namespaces == [int(inode)] != [os.stat("/proc/self/ns/net").st_ino]
    assert asked.writable == [False]
    assert asked.peer == (played.pid, os.getuid(), os.getgid())
    assert set(fds) <= {"0", "1", "2", "3"}  # 3 is the directory that is listed


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"no such network\nmore\n", "no such network"),
        (b"a\x1b[2Jb\x7f\tc\n", "a?[2Jb??c"),
        ("näh".encode(), "näh"),
        (b"ok", "ok"),
        (b"okay\n", "okay"),
        (b"ok\n\n", "ok"),
        (b"ok\n\0", "ok"),
        (b"\n", "the network service gave no reason"),
        (b"\0", "the network service gave no reason"),
        (b"ok 1 web\n", "the network service handed over 0 sockets and named others"),
        (b"x" * 100000, "x" * 1023),
    ],
)
def test_other_answers_are_errors(tmp_path: Path, answer: bytes, reason: str) -> None:
    path = str(tmp_path / "socket")
    with service(path, say(answer)):
        played = attach(path)
    assert played.reason == reason
    assert played.code == 125


def test_a_service_that_is_not_there(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    begun = time.monotonic()
    assert attach(path).reason == (
        f"cannot reach the network service at {path}: no such file or directory"
    )
    assert time.monotonic() - begun > 1.9  # it could have been on its way
    long = str(tmp_path / "nowhere" / ("x" * 120) / "socket")
    assert attach(long).reason.endswith("no such file or directory")
    longer = str(tmp_path / ("x" * 120))
    assert attach(longer).reason.endswith(": file name too long")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
        bind(bound, path)
        assert attach(path).reason.endswith(": connection refused")
    os.unlink(path)


def test_a_service_that_comes_late(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    timer = threading.Timer(0.3, lambda: late.__enter__())
    late = service(path, say(b"ok\n"))
    timer.start()
    try:
        assert attach(path).error is None
    finally:
        timer.join()
        late.__exit__(None, None, None)


def test_a_path_longer_than_an_address(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with service(str(deep / "socket"), say(b"ok\n")) as seen:
        assert attach(str(deep / "socket")).error is None
    assert len(seen) == 1


def test_a_service_that_ends_is_asked_again(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with service(path, say(b""), say(b""), say(b"ok\n")) as seen:
        assert attach(path, b"question").error is None
    assert [asked.payload for asked in seen] == [b"question"] * 3
    assert [len(asked.namespaces) for asked in seen] == [1, 1, 1]
    with service(path, say(b"")) as seen:
        assert attach(path).reason == (
            f"cannot hear the network service at {path}: it ended without an answer"
        )
    assert len(seen) == 3


def test_an_early_refusal_is_heard(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bind(listener, path)
    listener.listen(1)

    def refuse() -> None:
        connection, _ = listener.accept()
        connection.sendall(b"too busy\n")
        connection.close()

    thread = threading.Thread(target=refuse)
    thread.start()
    played = attach(path, b"x" * 65536)
    thread.join()
    listener.close()
    assert played.reason == "too busy"


@pytest.mark.parametrize("size", [0, 65537])
def test_a_payload_of_a_wrong_size(tmp_path: Path, size: int) -> None:
    played = attach(str(tmp_path / "socket"), b"x" * size)
    assert played.reason == f"cannot ask the network service: the question has {size} bytes"


INHERITED = """
    import json, os, socket
    told = {key: value for key, value in os.environ.items() if key.startswith("LISTEN_") or key == "X"}
    told["pid"] = os.getpid()
    told["fds"] = sorted(map(int, os.listdir("/proc/self/fd")))
    told["ports"] = [socket.socket(fileno=fd).getsockname()[1] for fd in range(3, 3 + int(told["LISTEN_FDS"]))]
    print(json.dumps(told))
"""


@pytest.mark.parametrize("count", [1, 2, 9, 200])
@pytest.mark.parametrize("pids", [NEWPID, 0], ids=["own-pids", "host-pids"])
def test_listening_sockets_are_inherited(tmp_path: Path, count: int, pids: int) -> None:
    path = str(tmp_path / "socket")
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    fds = [listener.fileno() for listener in listeners]
    names = ":".join(f"p{number}" for number in range(count))
    with service(path, say(f"ok {count} {names}\n".encode(), *fds)):
        played = attach(path, last=python(INHERITED), pids=pids)
    assert played.error is None, played.error
    told = json.loads(played.output)
    assert told.pop("ports") == [listener.getsockname()[1] for listener in listeners]
    *fds, _ = told.pop("fds")  # the last is the directory that is listed
    assert fds == list(range(3 + count))
    assert told.pop("pid") == int(told.pop("LISTEN_PID"))
    assert told == {"LISTEN_FDS": str(count), "LISTEN_FDNAMES": names, "X": "y"}
    for listener in listeners:
        listener.close()


def test_sockets_reach_the_program_of_an_init(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    init = os.path.join(os.path.dirname(LAUNCH), "init")
    last = ("exec", ("", [init, "--", *python(INHERITED)[1][1]], ["PATH=/bin"], 0))
    with socket.create_server(("127.0.0.1", 0)) as one, service(path, say(b"ok 1\n", one.fileno())):
        played = attach(path, last=last)
    assert played.error is None, played.error
    told = json.loads(played.output)
    assert (told["LISTEN_PID"], told["LISTEN_FDS"]) == (str(told["pid"]), "1")
    assert told["pid"] != 1 and "LISTEN_FDNAMES" not in told


@pytest.mark.parametrize(
    "answer", [b"ok\n", b"ok 2 a:b\n", b"ok 1 a b\n", b"ok 1 a=b\n", b"ok 1 a"]
)
def test_sockets_that_were_not_announced(tmp_path: Path, answer: bytes) -> None:
    path = str(tmp_path / "socket")
    with socket.create_server(("127.0.0.1", 0)) as one, service(path, say(answer, one.fileno())):
        played = attach(path)
    assert played.error is not None and played.code == 125


def test_a_tape_cut_anywhere_asks_nobody(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    asking: list[Op] = [("net_attach", (path, b"payload")), ("net_attached", ())]
    whole = tape.encode([*asking, ("exec", ("", ["x"], [], 0))])
    with service(path, say(b"ok\n")) as seen:
        for size in range(1, len(whole)):
            assert "cannot read the tape" in play([], raw=whole[:size]).reason
        play([], raw=whole)
    assert len(seen) == 1


def subordinate() -> tuple[list[Op], Op]:
    """The operations that make a realm of subordinate IDs, and a container where the caller has none."""
    maps = []
    for name, own in (("subuid", os.getuid()), ("subgid", os.getgid())):
        ((first, _), *_) = probe.subordinate(f"/etc/{name}", getpass.getuser(), os.getuid())
        maps.append(f"0 {own} 1\n1 {first} 9\n")
    tools = [shutil.which(name) or "" for name in ("newuidmap", "newgidmap")]
    realm: list[Op] = [("clone", (NEWUSER, 2, *maps, *tools)), ("set_ids", (0, 0))]
    inner: Op = ("clone", (NEWUSER | NEWNET | NEWPID, 1, "0 1 8\n", "0 1 8\n", "", ""))
    return realm, inner


@pytest.mark.requires("subid")
@pytest.mark.skipif(bool(WRAPPER), reason="under no_new_privs newuidmap has no rights")
def test_a_container_of_subordinate_ids_reaches_the_service(tmp_path: Path) -> None:
    """Before set_ids it is the caller who connects, though the container's map has no place for the caller."""
    path = str(tmp_path / "socket")
    realm, inner = subordinate()
    ask: Op = ("net_attach", (path, b"{}"))
    ids: Op = ("set_ids", (0, 0))
    hear: Op = ("net_attached", ())
    end: Op = ("exec", ("", ["/bin/true"], [], 0))
    os.chmod(tmp_path, 0o700)
    with service(path, say(b"ok\n")) as seen:
        played = play([*realm, inner, ask, ids, hear, end])
        assert played.error is None, played.error
        late = play([*realm, inner, ids, ask, hear, end])
    (asked,) = seen
    assert asked.peer == (played.pid, os.getuid(), os.getgid())
    assert late.reason == f"cannot reach the network service at {path}: permission denied"


@pytest.mark.requires("subid")
@pytest.mark.skipif(bool(WRAPPER), reason="under no_new_privs newuidmap has no rights")
@pytest.mark.parametrize("mode", [0o666, 0o600])
def test_a_service_that_ends_is_asked_again_by_other_ids(tmp_path: Path, mode: int) -> None:
    """After set_ids the directory is closed to us; the socket, which is open to all in it, is still held."""
    path = str(tmp_path / "socket")
    realm, inner = subordinate()
    ask: Op = ("net_attach", (path, b"{}"))
    ids: Op = ("set_ids", (0, 0))
    hear: Op = ("net_attached", ())
    end: Op = ("exec", ("", ["/bin/true"], [], 0))
    os.chmod(tmp_path, 0o700)
    with service(path, say(b""), say(b"ok\n")) as seen:
        os.chmod(path, mode)
        played = play([*realm, inner, ask, ids, hear, end])
    if mode == 0o600:
        assert played.reason == (f"cannot reach the network service at {path}: permission denied")
        return
    assert played.error is None, played.error
    assert [asked.payload for asked in seen] == [b"{}"] * 2
    assert [asked.peer[0] for asked in seen] == [played.pid] * 2
    assert seen[0].namespaces == seen[1].namespaces


def test_what_lies_between_question_and_answer_is_done_meanwhile(tmp_path: Path) -> None:
    """The service answers only when it has seen what the tape does after it asked."""
    path, mark = str(tmp_path / "socket"), tmp_path / "made"

    def answer(connection: socket.socket) -> None:
        end = time.monotonic() + 15
        while not mark.exists() and time.monotonic() < end:
            time.sleep(0.01)
        connection.sendall(b"ok\n" if mark.exists() else b"nothing was made\n")

    begin, set_ids, propagation = clone(NEWNET | NEWPID)
    between: Op = ("mkdir_host", (str(mark), 0o700))
    with service(path, answer):
        ask: Op = ("net_attach", (path, b"{}"))
        hear: Op = ("net_attached", ())
        last: Op = ("exec", ("", ["/bin/true"], [], 0))
        played = play([begin, ask, set_ids, propagation, between, hear, last])
    assert played.error is None, played.error


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (["hear"], "cannot hear the network service: it has not been asked"),
        (["ask", "hear", "hear"], "cannot hear the network service: it has not been asked"),
        (["ask", "ask"], "cannot ask the network service: it has been asked"),
    ],
)
def test_questions_and_answers_come_in_turn(tmp_path: Path, order: list[str], reason: str) -> None:
    path = str(tmp_path / "socket")
    words: dict[str, Op] = {"ask": ("net_attach", (path, b"{}")), "hear": ("net_attached", ())}
    begin, _, _ = clone(NEWNET | NEWPID)
    with service(path, say(b"ok\n")):
        assert play([begin, *(words[word] for word in order)]).reason == reason
