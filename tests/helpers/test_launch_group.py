"""Control groups in the launcher: directories for groups, and a hostile bus; the real ones have a lane."""

from __future__ import annotations

import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jeepney import DBusAddress, HeaderFields, Parser, new_error, new_signal
from test_launch import Op, play, shell

from rootless.drivers.cgroup import systemd
from rootless.drivers.cgroup.base import Wanted

UNIT = "rootless-x.scope"
OK = b"DATA\r\nOK 00112233\r\n"
END = shell("echo went on", search=False)
MANAGER = DBusAddress("/org/freedesktop/systemd1", interface="org.freedesktop.systemd1.Manager")


def scope(*addresses: str, at: int | None = None, flags: int = 0, message: bytes = b"") -> Op:
    data = message or systemd.start_message(Wanted("ab" * 32))
    place = data.index(struct.pack("<I", 0x50504944)) if at is None else at
    return ("cgroup_scope", (list(addresses), UNIT, systemd.prologue(), data, place, flags, b""))


class Bus:
    """Listens at a path and gives everyone who has said all the same answer."""

    def __init__(self, path: Path, answer: Callable[[Any], bytes]) -> None:
        self.path = str(path)
        self.answer = answer
        self.calls: list[Any] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(8)
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                self.talk(connection)

    def talk(self, connection: socket.socket) -> None:
        data = b""
        while b"BEGIN\r\n" not in data:
            data += connection.recv(65536)
        parser = Parser()
        parser.add_data(data.partition(b"BEGIN\r\n")[2])
        while True:
            message = parser.get_next_message()
            if message is None:
                parser.add_data(connection.recv(65536))
                continue
            if message.header.fields[HeaderFields.member] == "StartTransientUnit":
                break
        self.calls.append(message)
        try:
            connection.sendall(self.answer(message))
        except OSError:
            pass

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


@pytest.fixture
def bus() -> Iterator[Callable[[Callable[[Any], bytes]], Bus]]:
    made: list[Bus] = []

    # A socket's path is short, and a lane within another lane has long ones.
    with tempfile.TemporaryDirectory(prefix="rl-", dir="/tmp") as top:

        def make(answer: Callable[[Any], bytes]) -> Bus:
            made.append(Bus(Path(top) / f"bus{len(made)}", answer))
            return made[-1]

        yield make
        for one in made:
            one.close()


def refused(name: str, text: str) -> Callable[[Any], bytes]:
    return lambda call: OK + new_error(call, name, "s", (text,)).serialise(9)


def test_both_pids_and_the_greeting_arrive(bus: Any) -> None:
    there = bus(refused("x.y.No", "no"))
    for kind in ("bus", "peer"):
        played = play([scope(f"{kind}:{there.path}"), END])
        assert played.reason == f"cannot have systemd place {UNIT}: no: x.y.No ({there.path})"
    for call in there.calls:
        supervisor, launcher = dict(call.body[2])["PIDs"][1]
        assert supervisor > 1 and launcher > 1 and supervisor != launcher


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"REJECTED EXTERNAL\r\n", "it lets us not in"),
        (b"x" * 70000, "it hangs up"),
        (OK + b"rubbish that is no message", "what it says is no D-Bus message"),
        (OK + b"l" + b"\xff" * 63, "what it says is no D-Bus message"),
        (OK + b"B" + b"\x01" * 63, "what it says is no D-Bus message"),
    ],
)
def test_rubbish_is_refused(bus: Any, answer: bytes, why: str) -> None:
    there = bus(lambda call: answer)
    played = play([scope(f"peer:{there.path}"), END])
    assert why in played.reason
    assert "went on" not in played.output


def test_what_it_says_moves_no_cursor(bus: Any) -> None:
    there = bus(refused("x.y.No", "a\x1b[2Jb\x7f\n" + "c" * 5000))
    played = play([scope(f"peer:{there.path}"), END])
    assert "a?[2Jb??ccc" in played.reason and "\x1b" not in played.reason


def test_a_job_that_fails_says_how(bus: Any) -> None:
    signal = new_signal(MANAGER, "JobRemoved", "uoss", (1, "/job/1", UNIT, "dependency"))
    other = new_signal(MANAGER, "JobRemoved", "uoss", (1, "/job/1", "other.scope", "failed"))
    there = bus(lambda call: OK + other.serialise(1) + signal.serialise(2))
    assert "its job ended as: dependency" in play([scope(f"peer:{there.path}"), END]).reason


def test_the_next_address_is_tried(bus: Any, tmp_path: Path) -> None:
    there = bus(refused("x.y.No", "no"))
    played = play([scope(f"bus:{tmp_path}/none", f"peer:{there.path}"), END])
    assert played.reason.endswith(f"no: x.y.No ({there.path})")


def test_nobody_there_is_told_and_may_be_no_error(tmp_path: Path) -> None:
    path = f"{tmp_path}/none"
    assert "no such file" in play([scope(f"peer:{path}"), END]).reason
    assert "connection refused" not in play([scope(), END]).reason
    played = play(
        [
            scope(f"peer:{path}", flags=1),
            ("cgroup_make", ("", "container", "supervisor", [], -1, 0)),
            ("cgroup_set", ("a.b", "1", 0)),
            ("cgroup_enter", ("", 0, 0)),
            END,
        ]
    )
    assert played.error is None and played.output == "went on\n"


@pytest.mark.parametrize("at", [-4, 2, 1 << 40, 560])
def test_a_malformed_request_is_refused(at: int) -> None:
    assert "malformed" in play([scope("peer:/x", at=at), END]).reason
    assert "malformed" in play([scope("peer:/x", at=0, message=b"short"), END]).reason
    assert "malformed" in play([scope("peer:/x", at=0, message=bytes(9000)), END]).reason


# Groups.


def make(base: Path | str, name: str, flags: int = 0) -> Op:
    return ("cgroup_make", (str(base), name, "inner", ["memory"], -1, flags))


def test_a_group_is_made_anew_with_what_is_above(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "old").mkdir(parents=True)
    played = play([make(tmp_path, "a/b"), make(tmp_path, "x/y/z"), END])
    assert played.error is None
    assert (tmp_path / "a" / "b").is_dir() and not (tmp_path / "a" / "b" / "old").exists()
    assert (tmp_path / "x" / "y" / "z").is_dir()


def test_what_cannot_be_made_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for base, name in ((tmp_path / "none", "a"), (tmp_path, "file/a"), (tmp_path, "file")):
        assert str(tmp_path) in play([make(base, name), END]).reason
    assert "name too long" in play([make(tmp_path, "n" * 300 + "/a"), END]).reason
    assert "name too long" in play([make(tmp_path, "n" * 2000), END]).reason
    assert "name too long" in play([make("/" + "n" * 2000, "a"), END]).reason


def test_settings_are_files_of_the_group(tmp_path: Path) -> None:
    for file, why in (
        ("memory.max", "the controller memory is not delegated"),
        ("../x", "it is no file of a control group"),
        ("", "it is no file of a control group"),
    ):
        assert why in play([make(tmp_path, "a"), ("cgroup_set", (file, "1", 0)), END]).reason
    played = play([make(tmp_path, "a"), ("cgroup_set", ("memory.max", "1", 1)), END])
    assert played.output == "went on\n"


def test_entering_is_a_line_in_its_file(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("")
    played = play([("cgroup_enter", (str(tmp_path), 0, 0)), END])
    assert played.output == "went on\n" and (tmp_path / "cgroup.procs").read_text() == "0"
    missing = ("cgroup_enter", (f"{tmp_path}/none", 1, 0))
    assert "cannot enter control group" in play([missing, END]).reason
    assert play([("cgroup_enter", (f"{tmp_path}/none", 1, 1)), END]).output == "went on\n"


def test_groups_are_removed_with_those_below(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "kept" / "b").mkdir(parents=True)
    (tmp_path / "kept" / "cgroup.events").write_text("populated 1\n")
    paths = [str(tmp_path / name) for name in ("a", "kept", "none")]
    assert play([("cgroup_remove", (paths,)), END]).output == "went on\n"
    assert not (tmp_path / "a").exists() and (tmp_path / "kept" / "b").is_dir()
