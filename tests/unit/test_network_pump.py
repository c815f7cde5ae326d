"""Bytes between two sockets: whole, both ways, each direction ending by itself, resets passed through."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from rootless.drivers.network.netd import pipes, pump
from rootless.drivers.network.netd.pump import Pumps, reset_socket
from rootless.linux import splice

PATIENCE = 20.0
FIN_WAIT2 = 5  # include/net/tcp_states.h: the end was sent and is acknowledged


# How bytes are spliced; Python has it since 3.10, and does without before that.
WAYS = [*(["python"] if hasattr(os, "splice") else []), "ctypes", "copied"]


@pytest.fixture(params=WAYS)
def pumps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pumps]:
    """Pumps with os.splice, with splice through ctypes (Python 3.9), and with no page left for pipes."""
    if request.param == "python":
        monkeypatch.setattr(pump, "splice", splice.of_python())
    elif request.param == "ctypes":
        monkeypatch.setattr(pump, "splice", splice.through_ctypes())
    else:
        monkeypatch.setattr(pipes, "LEAST", 1 << 40)
    logged: list[str] = []
    made = Pumps(2, logged.append)
    yield made
    made.close()
    assert not logged


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    for side in (near, far):
        side.settimeout(PATIENCE)
    return near, far


def unix_pair() -> tuple[socket.socket, socket.socket]:
    near, far = socket.socketpair()
    near.settimeout(PATIENCE)
    return near, far


Pair = Callable[[], tuple[socket.socket, socket.socket]]


def joined(pumps: Pumps, pair: Pair = tcp_pair) -> tuple[socket.socket, socket.socket]:
    """Two ends with the pumps in between."""
    left, a = pair()
    right, b = pair()
    pumps.join(a, b)
    return left, right


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.005)


def read_all(side: socket.socket) -> bytes:
    parts = []
    while True:
        part = side.recv(1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)


def send_and_end(side: socket.socket, data: bytes) -> threading.Thread:
    def send() -> None:
        side.sendall(data)
        side.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.parametrize("pair", [tcp_pair, unix_pair])
def test_both_directions_at_once_arrive_whole(pumps: Pumps, pair: Pair) -> None:
    there, back = os.urandom(9_000_001), os.urandom(5_000_003)
    left, right = joined(pumps, pair)
    with left, right:
        got: list[bytes] = []
        reader = threading.Thread(target=lambda: got.append(read_all(right)))
        reader.start()
        threads = [send_and_end(left, there), send_and_end(right, back)]
        answer = read_all(left)
        for thread in [reader, *threads]:
            thread.join()
        assert hashlib.sha256(got[0]).digest() == hashlib.sha256(there).digest()
        assert hashlib.sha256(answer).digest() == hashlib.sha256(back).digest()
    until(lambda: pumps.count == 0)


def test_pieces_of_all_sizes_keep_their_order(pumps: Pumps) -> None:
    """Between copied and spliced turns nothing is lost or overtaken, the reader being slow at times."""
    dice = random.Random(7)
    pieces = [dice.randbytes(dice.choice((1, 100, 5000, 70_000, 400_000))) for _ in range(150)]
    left, right = joined(pumps)
    with left, right:

        def send() -> None:
            for piece in pieces:
                left.sendall(piece)
                if dice.random() < 0.2:
                    time.sleep(0.002)
            left.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        got = []
        slow = random.Random(8)
        while True:
            part = right.recv(slow.choice((1, 3000, 100_000)))
            if not part:
                break
            got.append(part)
            if slow.random() < 0.02:
                time.sleep(0.003)
        thread.join()
        assert b"".join(got) == b"".join(pieces)


def test_one_direction_ends_and_the_other_goes_on(pumps: Pumps) -> None:
    left, right = joined(pumps)
    with left, right:
        left.sendall(b"question")
        left.shutdown(socket.SHUT_WR)
        assert read_all(right) == b"question"
        for number in range(3):  # long after the first end
            right.sendall(b"%d" % number)
            assert left.recv(10) == b"%d" % number
        assert pumps.count == 1
        right.shutdown(socket.SHUT_WR)
        assert read_all(left) == b""
    until(lambda: pumps.count == 0)


def test_a_reset_is_a_reset_on_the_other_side(pumps: Pumps) -> None:
    for sides in (0, 1):
        ends = joined(pumps)
        ends[0].sendall(b"x")
        ends[1].recv(1)
        reset_socket(ends[sides])
        other = ends[1 - sides]
        with other, pytest.raises(ConnectionResetError):
            other.recv(10)
    until(lambda: pumps.count == 0)


def test_what_was_said_before_a_reset_is_heard(pumps: Pumps) -> None:
    left, right = joined(pumps)
    with left:
        left.sendall(b"x" * 100)
        until(lambda: len(right.recv(200, socket.MSG_PEEK)) == 100)
        right.sendall(b"enough")
        right.close()  # with bytes unread: a reset
        assert left.recv(10) == b"enough"
        with pytest.raises(ConnectionResetError):
            while left.recv(10):
                pass


def test_a_sink_that_takes_nothing_stops_its_source_and_no_others(pumps: Pumps) -> None:
    left, right = joined(pumps)
    with left, right:
        left.setblocking(False)
        sent, quiet = 0, 0
        data = os.urandom(1 << 16)
        while quiet < 20:  # until all buffers in between are full
            try:
                sent += left.send(data[sent % len(data) :])
                quiet = 0
            except BlockingIOError:
                quiet += 1
                time.sleep(0.02)
        before = time.process_time()
        other_left, other_right = joined(pumps)
        with other_left, other_right:
            other_left.sendall(b"through")
            assert other_right.recv(10) == b"through"
            time.sleep(0.3)
        assert time.process_time() - before < 0.15, "it spins while a side is blocked"
        left.shutdown(socket.SHUT_WR)
        got = read_all(right)
        assert len(got) == sent
        assert got == (data * (sent // len(data) + 1))[:sent]


def test_two_thousand_flows_of_which_most_are_idle(pumps: Pumps) -> None:
    before = resident()
    ends = []
    for _ in range(2000 if descriptors_allow(8200) else 200):
        left, a = socket.socketpair()
        right, b = socket.socketpair()
        pumps.join(a, b)
        ends.append((left, right))
    until(lambda: pumps.count == len(ends))
    for number, (left, _) in enumerate(ends):
        left.sendall(b"%d" % number)
    for number, (_, right) in enumerate(ends):
        assert right.recv(10) == b"%d" % number
    assert resident() - before < 20 << 20
    for left, right in ends:
        left.close()
        right.close()
    until(lambda: pumps.count == 0)


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def descriptors_allow(wanted: int) -> bool:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted <= hard or hard == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= wanted


def test_a_busy_flow_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, one flow that never ends: another flow's question is answered meanwhile."""
    pumps = Pumps(1)
    left, right = joined(pumps)
    stop = threading.Event()

    def flood() -> None:
        data = b"x" * (1 << 20)
        while not stop.is_set():
            left.sendall(data)
        left.shutdown(socket.SHUT_WR)

    threads = [threading.Thread(target=flood), threading.Thread(target=lambda: read_all(right))]
    for thread in threads:
        thread.start()
    near, far = joined(pumps)
    with left, right, near, far:
        for _ in range(200):
            near.sendall(b"ping")
            assert far.recv(10) == b"ping"
        stop.set()
        for thread in threads:
            thread.join()
    pumps.close()


def test_messages_are_kept_apart(pumps: Pumps) -> None:
    """As for SCTP, where a message is a unit."""

    def pair() -> tuple[socket.socket, socket.socket]:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        near.settimeout(PATIENCE)
        return near, far

    left, right = joined(pumps, pair)
    with left, right:
        messages = [os.urandom(size) for size in (1, 1000, 3, 30_000, 7)] * 40
        thread = threading.Thread(target=lambda: [left.send(one) for one in messages])
        thread.start()
        assert [right.recv(1 << 16) for _ in messages] == messages
        thread.join()
        left.close()
        assert right.recv(10) == b""
    until(lambda: pumps.count == 0)


def test_a_connection_that_is_still_being_made(pumps: Pumps) -> None:
    """The client has ended its half before there is an upstream: nothing of it is lost."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client, a = tcp_pair()
        b = socket.socket()
        b.setblocking(False)
        assert b.connect_ex(listener.getsockname()) in (0, errno.EINPROGRESS)
        client.shutdown(socket.SHUT_WR)
        pumps.join(a, b, connecting=True)
        server, _ = listener.accept()
        with client, server:
            assert read_all(server) == b""
            server.sendall(b"late answer")
            server.close()
            assert read_all(client) == b"late answer"


def test_a_connection_that_is_refused_resets_the_client(pumps: Pumps) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    client, a = tcp_pair()
    b = socket.socket()
    b.setblocking(False)
    b.connect_ex(address)
    over = threading.Event()
    pumps.join(a, b, over.set, connecting=True)
    with client, pytest.raises(ConnectionResetError):
        client.recv(1)
    assert over.wait(PATIENCE)


def test_who_made_a_flow_learns_of_its_end(pumps: Pumps) -> None:
    left, a = tcp_pair()
    right, b = tcp_pair()
    over = threading.Event()
    pumps.join(a, b, over.set)
    right.close()
    assert left.recv(1) == b""
    assert not over.is_set()
    left.close()
    assert over.wait(PATIENCE)


def test_a_side_that_vanished_is_heard_to_the_end_and_then_reset(pumps: Pumps) -> None:
    """As a container whose interface was taken away: no end and no reset ever comes from it."""
    left, a = tcp_pair()
    right, b = tcp_pair()
    quiet = pumps.join(a, b)
    right.sendall(b"said")
    assert left.recv(10) == b"said"
    pumps.leave(quiet)
    with left, right, pytest.raises(ConnectionResetError):
        left.recv(10)

    left, a = tcp_pair()
    right, b = tcp_pair()
    left.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    flow = pumps.join(a, b)
    said = (
        96 << 10
    )  # more than its reader, who does not read, has room for, and less than fits on the way
    right.sendall(b"x" * said)
    right.shutdown(socket.SHUT_WR)
    until(
        lambda: right.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == FIN_WAIT2
    )  # all has arrived
    pumps.leave(flow)
    with left, right:
        assert len(read_all(left)) == said
    until(lambda: pumps.count == 0)
    pumps.leave(flow)  # it has ended


def test_closing_resets_what_is_open() -> None:
    pumps = Pumps(2)
    left, right = joined(pumps)
    left.sendall(b"x")
    right.recv(1)
    pumps.close()
    with left, right:
        for side in (left, right):
            with pytest.raises(ConnectionResetError):
                side.recv(1)


def test_idle_flows_hold_no_pipe_and_the_pool_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "PIPES", 3)
    pumps = Pumps(1)
    ends = [joined(pumps) for _ in range(6)]
    data = os.urandom(1 << 20)
    writers = [threading.Thread(target=left.sendall, args=(data * 12,)) for left, _ in ends]
    for writer in writers:
        writer.start()
    time.sleep(0.3)  # all are blocked by readers that do not read; some with bytes in a pipe
    assert len(own_pipes()) <= 3
    readers = [threading.Thread(target=read_exactly, args=(right, data * 12)) for _, right in ends]
    for thread in readers:
        thread.start()
    for thread in [*readers, *writers]:
        thread.join()
    until(lambda: len(own_pipes()) <= pipes.KEPT)
    for side in (side for pair in ends for side in pair):
        side.close()
    pumps.close()
    assert not own_pipes()


def own_pipes() -> set[str]:
    """The pipes with both ends in this process that are as large as the pool makes them."""
    found: dict[str, list[int]] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
            if target.startswith("pipe:") and splice.pipe_size(int(name)) == pipes.WANTED:
                found.setdefault(target, []).append(int(name))
        except OSError:
            continue
    return {target for target, fds in found.items() if len(fds) == 2}


def read_exactly(side: socket.socket, wanted: bytes) -> None:
    got = bytearray()
    while len(got) < len(wanted):
        assert select.select([side], [], [], PATIENCE)[0]
        got += side.recv(1 << 20)
    assert bytes(got) == wanted
