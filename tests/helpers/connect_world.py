"""A world for the tests of fast=connect: a namespace that plays the host, and a neighbour, where servers are.

The rules of the tests let the neighbour's addresses go through the host.  In the lane "bound" the launcher has
no rights over the host's namespace, as ordinary users have none; in the lane "locked" it has, as newer kernels
want it for locking a socket to its peer.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Callable

import pytest
from test_launch import NEWNET, NEWPID, NEWUSER, TOP, WRAPPER, Op, Played, clone, play

from rootless.plan import fastconnect
from rootless.plan.fastconnect import BOUND, AddressRule

sys.path.insert(0, f"{TOP}/tests/integration")

from netrig import HOST, HOST6, OUTSIDE, OUTSIDE6, Place, enter, outside

FAST = fastconnect.compile_all(os.uname().machine)
ALL = (1 << 40) - 1
OTHER, LOOPBACK = "10.9.0.3", "127.0.0.1"
PRELUDE = """
import ctypes, errno, fcntl, json, os, select, signal, socket, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
port = int(sys.argv[1])
HERE, OTHER, THERE, SIX = "10.9.0.2", "10.9.0.3", "127.0.0.1", "fd09::2"
told = {}
def name(error):
    return errno.errorcode.get(error, error)
def tcp(family=socket.AF_INET, wait=True):
    one = socket.socket(family, socket.SOCK_STREAM)
    one.setblocking(wait)
    return one
def said(one):
    one.settimeout(20)
    return one.makefile().readline().strip()
def raw(one, host, port, size=16):
    # connect(2) as it is, with an address of SIZE bytes
    address = struct.pack("=HH4s", 2, socket.htons(port), socket.inet_aton(host)).ljust(size, b"\\0")
    done = libc.connect(one.fileno(), address, size)
    return name(ctypes.get_errno()) if done else 0
"""
MARKS = [
    pytest.mark.requires("userns", "ip"),
    pytest.mark.skipif(bool(WRAPPER), reason="without a listener nothing is asked"),
]


class World:
    """The host's namespace, in which we are, and its neighbour."""

    def __init__(self, top: Path, lane: str) -> None:
        enter()
        self.top = top
        self.lane = lane
        self.outside: Place = outside()
        self.outside.run(*f"ip addr add {OTHER}/24 dev out1".split())
        until(lambda: all(map(refuses, (OUTSIDE, OUTSIDE6))), 60)

    def tape(
        self, script: str, port: int, *, rules: list[AddressRule] | None = None, flags: int = NEWPID
    ) -> list[Op]:
        """A container with an empty network of its own; RULES say what goes through the host."""
        path = self.top / "rules"
        if rules is None:
            rules = [here(), AddressRule(six(OUTSIDE6), 128, BOUND)]
        path.write_bytes(fastconnect.encode_rules(rules))
        program = PRELUDE + textwrap.dedent(script) + "\nprint(json.dumps(told))\n"
        argv = [sys.executable, "-I", "-S", "-c", program, str(port), str(self.top)]
        return [
            *(clone() if self.lane == "bound" else []),
            *fastconnect.beside_ops(FAST, str(path)),
            ("clone", (NEWUSER | NEWNET | flags, 1, "0 0 1\n", "0 0 1\n", "", "")),
            ("loopback_up", ()),
            ("set_ids", (0, 0)),
            ("caps", (ALL, ALL, ALL, 0, 0)),
            ("no_new_privs", ()),
            *fastconnect.load_ops(FAST),
            ("chdir", (str(self.top), 0)),
            ("exec", ("", argv, ["PATH=/bin"], 0)),
        ]

    def run(self, script: str, port: int = 0, **options: Any) -> dict[str, Any]:
        """What SCRIPT told."""
        played: Played = play(self.tape(script, port, **options))
        assert played.error is None, played.error
        assert played.code == 0, played.output
        told: dict[str, Any] = json.loads(played.output)
        return told

    @contextmanager
    def server(self, host: str = OUTSIDE, port: int = 0) -> Iterator[Server]:
        """One at an address of the neighbour's, or of the host's own."""
        own = host in (HOST, HOST6, LOOPBACK, "::1")
        one = Server(listening(host, port) if own else self.outside.call(listening, host, port))
        try:
            yield one
        finally:
            one.close()

    @contextmanager
    def silent(self) -> Iterator[int]:
        """A port that answers nothing: of a listener whose backlog is full."""
        with self.outside.call(socket.socket) as listener:
            listener.bind((OUTSIDE, 0))
            listener.listen(0)
            fill = []
            for _ in range(4):
                fill.append(self.outside.call(socket.socket))
                fill[-1].setblocking(False)
                fill[-1].connect_ex(listener.getsockname())
            time.sleep(0.1)
            yield listener.getsockname()[1]
            for one in fill:
                one.close()

    @contextmanager
    def closed(self) -> Iterator[int]:
        """A port of the neighbour's at which nobody listens."""
        with self.outside.call(socket.socket) as one:
            one.bind((OUTSIDE, 0))
            yield one.getsockname()[1]


def refuses(address: str) -> bool:
    """Whether ADDRESS is there: the kernel notices the carrier of a new pair when it has time for that."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as one:
        one.settimeout(0.1)
        return one.connect_ex((address, 1)) == errno.ECONNREFUSED


def here(way: int = BOUND, **ports: int) -> AddressRule:
    return AddressRule(socket.inet_aton(OUTSIDE), 32, way, **ports)


def six(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, address)


def listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=512)


class Server:
    """Says its own name and who is there to each client; counts them."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.port: int = listener.getsockname()[1]
        self.accepted = 0
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, peer = self.listener.accept()
            except OSError:
                return
            with connection:
                self.accepted += 1
                try:
                    connection.sendall(f"{self.listener.getsockname()[0]} {peer[0]}\n".encode())
                except OSError:
                    pass

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()


def in_world(test: Callable[..., None]) -> Callable[..., None]:
    """Run TEST in a process with a world of its own, once per lane."""

    @pytest.mark.parametrize("lane", ["bound", "locked"])
    @wraps(test)
    def forked(tmp_path: Path, lane: str, **arguments: Any) -> None:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                test(World(tmp_path, lane), **arguments)
                status = 0
            except BaseException:
                os.write(writing, traceback.format_exc().encode()[-60000:])
            finally:
                os._exit(status)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            words = pipe.read().decode("utf-8", "replace")
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
            pytest.fail(words or "it was killed", pytrace=False)

    del forked.__wrapped__  # type: ignore[attr-defined]  # pytest would ask for its arguments
    import inspect

    names = [name for name in inspect.signature(test).parameters if name != "world"]
    forked.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)
            for name in ["tmp_path", "lane", *names]
        ]
    )
    return forked


def until(ready: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def connectors() -> list[int]:
    """Living processes of ours that connect for a container."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                head, _, tail = file.read().rpartition(")")
        except OSError:
            continue
        words = tail.split()
        if head.endswith("(connects") and words[0] != "Z" and int(words[1]) == os.getpid():
            found.append(int(name))
    return found
