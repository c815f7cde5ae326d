"""Connections made in the host's namespace: what holds their sockets, who watches them, and the process."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from connect_world import HOST, LOOPBACK, MARKS, OTHER, OUTSIDE, World, connectors, in_world, until
from test_launch import Op, play

from rootless.plan import ownership

pytestmark = MARKS


FREED = """
def given():
    one = tcp()
    one.connect((HERE, port))
    said(one)
    one.setblocking(True)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 1, 0))
    return one
def freed():
    one = given()
    assert libc.connect(one.fileno(), bytes(16), 16) == 0  # AF_UNSPEC
    return one
def turned(host, port):
    # asked about, not asked about, and by a call that is none of connect
    told = [raw(freed(), host, port), raw(freed(), host, port, 110)]
    one = freed()
    try:
        one.sendto(b"x", 0x20000000, (host, port))  # MSG_FASTOPEN
        told.append(0)
    except OSError as error:
        told.append(name(error.errno))
    return told
"""


@in_world
def test_a_socket_of_the_host_is_not_turned_to_the_loopback(world: World) -> None:
    with world.server() as one, world.server(LOOPBACK) as loop:
        told = world.run(
            FREED
            + textwrap.dedent(f"""
            told["loopback"] = turned(THERE, {loop.port})
            told["any"] = turned("0.0.0.0", {loop.port})
            told["undone"] = []
            for option, value in (27, 0), (44, 0), (25, b""), (62, 0):
                try:
                    given().setsockopt(socket.SOL_SOCKET, option, value)
                    told["undone"].append(0)
                except OSError as error:
                    told["undone"].append(name(error.errno))
            """),
            one.port,
        )
        assert loop.accepted == 0
    assert 0 not in told["loopback"] + told["any"]
    detached, unlocked, device, index = told["undone"]
    if world.lane == "locked":
        assert (detached, unlocked) == ("EPERM", "EPERM")
    else:
        assert device == index == "EPERM" or (detached, unlocked) == ("EPERM", "EPERM")


@in_world
def test_a_locked_socket_hears_its_peer_alone(world: World) -> None:
    if world.lane != "locked":
        return  # one that is bound can be turned to neighbours
    with world.server() as one, world.server(OTHER) as other, world.server(HOST) as own:
        told = world.run(
            FREED
            + textwrap.dedent(f"""
            told["other"] = turned(OTHER, {other.port}) + turned("{HOST}", {own.port})
            one = freed()
            one.bind(("0.0.0.0", 0))
            one.listen()
            with open("port.new", "w") as file:
                file.write(str(one.getsockname()[1]))
            os.rename("port.new", "port")
            one.settimeout(2)
            try:
                one.accept()
                told["accepted"] = True
            except OSError:
                told["accepted"] = False
            """),
            one.port,
        )
        assert other.accepted == own.accepted == 0
    assert 0 not in told["other"]
    assert told["accepted"] is False


@in_world
def test_an_address_that_changes_while_it_is_read(world: World) -> None:
    """Another process writes the address all the time: only what is allowed is reached."""
    with world.server() as one, world.server(OTHER, one.port) as other:
        told = world.run(
            """
            import mmap
            shared = mmap.mmap(-1, 4096)
            shared[:16] = struct.pack("=HH4s8x", 2, socket.htons(port), socket.inet_aton(HERE))
            address = (ctypes.c_char * 16).from_buffer(shared)
            writer = os.fork()
            while writer == 0:
                shared[7] ^= 1  # HERE and OTHER differ by this bit
            told = {"0": 0, "-1": 0}
            deadline = time.monotonic() + 30
            while sum(told.values()) < 2000 or (min(told.values()) == 0 and time.monotonic() < deadline):
                one = tcp()
                done = libc.connect(one.fileno(), address, 16)
                told[str(done)] += 1
                if done == 0 and one.getpeername()[0] != HERE:
                    told["elsewhere"] = 1
                one.close()
            os.kill(writer, 9)
            """,
            one.port,
        )
        assert other.accepted == 0
    assert "elsewhere" not in told
    assert told["-1"] > 0 and told["0"] > 0


@in_world
def test_a_socket_that_is_watched_before_it_connects(world: World) -> None:
    with world.server() as one:
        told = world.run(
            """
            polls = [select.epoll() for _ in range(3)]
            for extra in (0, 1):
                spare = [os.dup(0) for _ in range(extra * 5)]
                one = tcp(wait=False)
                for poll in polls[:2]:
                    poll.register(one, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
                told["first"] = name(one.connect_ex((HERE, port)))
                deadline, seen = time.monotonic() + 20, 0
                while not seen & select.EPOLLIN and time.monotonic() < deadline:
                    for fd, events in polls[0].poll(1):
                        assert fd == one.fileno(), fd
                        seen |= events
                told[f"seen {extra}"] = seen & ~(select.EPOLLRDHUP | select.EPOLLHUP)
                polls[0].modify(one, select.EPOLLOUT)
                told[f"modified {extra}"] = polls[0].poll(5) == [(one.fileno(), select.EPOLLOUT)]
                polls[1].unregister(one)
                told[f"others {extra}"] = polls[1].poll(0) + polls[2].poll(0)
                told[f"said {extra}"] = said(one)
                one.close()
                told[f"gone {extra}"] = polls[0].poll(0)
            """,
            one.port,
        )
    assert told.pop("first") in (0, "EINPROGRESS")
    for extra in (0, 1):
        assert told[f"seen {extra}"] == 1 | 4
        assert told[f"modified {extra}"] is True
        assert told[f"others {extra}"] == told[f"gone {extra}"] == []
        assert told[f"said {extra}"] == f"{OUTSIDE} {HOST}"


@in_world
def test_threads_that_share_no_descriptors(world: World) -> None:
    with world.server() as one:
        told = world.run(
            """
            def alone():
                told["unshared"] = libc.unshare(0x400)  # CLONE_FILES
                spare = [os.dup(0) for _ in range(5)]
                one = tcp()
                told["is"] = name(one.connect_ex((HERE, port)))
                one.close()
            thread = threading.Thread(target=alone)
            thread.start()
            thread.join()
            """,
            one.port,
        )
    assert told["unshared"] == 0
    # Before Linux 6.9 it is the first thread's descriptor that is looked at, and there is none of that number.
    assert told["is"] in (0, "ENETUNREACH")


@in_world
def test_calls_fail_without_it(world: World) -> None:
    with world.server() as one:
        script = """
        told["first"] = name(tcp().connect_ex((HERE, port)))
        os.close(os.open("ready", os.O_CREAT | os.O_WRONLY))
        while not os.path.exists("go"):
            time.sleep(0.01)
        told["second"] = name(tcp().connect_ex((HERE, port)))
        """
        result: list[Any] = []
        thread = threading.Thread(target=lambda: result.append(world.run(script, one.port)))
        thread.start()
        until((world.top / "ready").exists)
        (pid,) = connectors()
        os.kill(pid, signal.SIGKILL)
        until(lambda: connectors() == [])
        (world.top / "go").touch()
        thread.join()
    assert result == [{"first": 0, "second": "ENOSYS"}]


@in_world
def test_what_the_process_keeps_and_when_it_ends(world: World) -> None:
    script = """
    tcp().connect((HERE, port))
    os.close(os.open("ready", os.O_CREAT | os.O_WRONLY))
    while not os.path.exists("go"):
        time.sleep(0.01)
    """
    with world.server() as one:
        thread = threading.Thread(target=lambda: world.run(script, one.port))
        thread.start()
        until((world.top / "ready").exists)
        (pid,) = connectors()
        status = Path(f"/proc/{pid}/status").read_text()
        for word in ("CapEff", "CapPrm"):
            assert f"{word}:\t{1 << 2 | 1 << 12 | 1 << 19:016x}" in status
        assert "NoNewPrivs:\t1" in status
        (world.top / "go").touch()
        thread.join()
        until(lambda: connectors() == [])


@in_world
def test_two_filters_cannot_both_ask(world: World) -> None:
    ops = world.tape("", 0)
    names = [op[0] for op in ops]
    owners = ownership.compile_all(os.uname().machine, ())
    asks: Op = ("emulate", (owners.notify, owners.fallback))
    ops.insert(names.index("trap_connect"), asks)
    ops.insert(names.index("connect_beside"), ("supervise", (owners.table, "", "/")))
    assert play(ops).reason == (
        "cannot watch connections: another filter is asking somebody already"
    )
    without = [op for op in ops if op[0] != "connect_beside"]
    assert play(without).reason == "cannot watch connections: no child processes"


@pytest.mark.requires("cc")
@in_world
def test_calls_of_32_bits(world: World) -> None:
    """As programs of 32 bits make them: by int 0x80 from one of 64 with its memory below 4 GiB."""
    if os.uname().machine != "x86_64":
        return
    source, binary = world.top / "calls.c", world.top / "calls"
    source.write_text(CALLS)
    subprocess.run(["cc", "-O", "-static", "-no-pie", "-o", binary, source], check=True)
    with world.server() as one:
        ops = world.tape("", one.port)
        ops[-1] = ("exec", ("", [str(binary), OUTSIDE, str(one.port)], [], 0))
        played = play(ops)
        assert played.error is None, played.error
        assert played.output.split() == ["0", "0"]
        until(lambda: one.accepted == 2)


CALLS = r"""
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
static long call32(long number, long a, long b, long c)
{
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
	return (int)result;
}
int main(int argc, char **argv)
{
	char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	struct sockaddr_in *address = (void *)low;
	unsigned int *words = (void *)(low + 64);
	if (argc < 3)
		return 1;
	address->sin_family = AF_INET;
	address->sin_port = htons(atoi(argv[2]));
	inet_aton(argv[1], &address->sin_addr);
	printf("%ld\n", call32(362, socket(AF_INET, SOCK_STREAM, 0), (long)low, 16));
	words[0] = (unsigned int)socket(AF_INET, SOCK_STREAM, 0);
	words[1] = (unsigned int)(long)low;
	words[2] = 16;
	printf("%ld\n", call32(102, 3, (long)words, 0));
	return 0;
}
"""
