"""A network world in a process: a "host" namespace of its own, realm and containers below it, an outside.

``enter()`` moves the calling process (a child made for it) into a user namespace in which it is root with one
ID, and a network namespace that plays the host; all else is made below it, and nothing outlives the process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from typing import Any, Callable

import pytest

from rootless.drivers.network.netd.loop import Loop
from rootless.drivers.network.netd.realm import Realm
from rootless.linux import netns

NEWNS = 0x00020000
HOST, OUTSIDE = "10.9.0.1", "10.9.0.2"
HOST6, OUTSIDE6 = "fd09::1", "fd09::2"


def enter() -> None:
    """Become root of a user namespace, with a mount and a network namespace of our own; lo is up."""
    uid, gid = os.getuid(), os.getgid()
    netns.unshare(netns.NEWUSER | netns.NEWNET | NEWNS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def apart(case: Callable[[], object], seconds: int = 0) -> None:
    """CASE in a child process that has entered, as nobody comes back from there; fails as it failed.

    SECONDS is the time it has; 0 for any.
    """
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(told)
            signal.alarm(seconds)
            enter()
            case()
            status = 0
        except BaseException:
            os.write(tell, traceback.format_exc().encode()[-60000:])
        finally:
            os._exit(status)
    os.close(tell)
    with os.fdopen(told, errors="replace") as file:
        said = file.read()
    _, status = os.waitpid(child, 0)
    if status or said:
        pytest.fail(said or f"ended with wait status {status}", pytrace=False)


def in_loop(loop: Loop, seconds: float, function: Callable[..., Any], *args: Any) -> Any:
    """FUNCTION(*ARGS) in a loop that another thread runs; raises what it raises."""
    done = threading.Event()
    result: list[Any] = []

    def call() -> None:
        try:
            result.append((function(*args), None))
        except BaseException as error:
            result.append((None, error))
        done.set()

    loop.call_soon(call)
    assert done.wait(seconds)
    value, error = result[0]
    if error is not None:
        raise error
    return value


def namespace() -> int:
    """A descriptor of a new network namespace, owned by our user namespace, whose lo is up."""
    made: list[int] = []

    def make() -> None:
        netns.unshare(netns.NEWNET)
        made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


class Place:
    """A namespace in which things can be done: by a thread that lives there."""

    def __init__(self, net_fd: int | None = None) -> None:
        self.net_fd = namespace() if net_fd is None else net_fd
        self.thread = Realm(self.net_fd)

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program there."""
        return self.thread.call(
            lambda: subprocess.run(argv, capture_output=True, text=True, check=check)
        )

    def python(self, script: str, check: bool = True) -> str:
        """What a Python script prints there."""
        return self.run(sys.executable, "-c", script, check=check).stdout

    def spawn(self, *argv: str, **options: Any) -> subprocess.Popen[str]:
        """Start a program there."""
        return self.thread.call(lambda: subprocess.Popen(argv, text=True, **options))

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function there; sockets that it makes stay there."""
        return self.thread.call(function, *args)


def outside() -> Place:
    """A neighbour of the host, on one wire with it, IPv4 and IPv6; the host's default route leads there."""
    place = Place()
    wire = "ip link add out0 type veth peer name out1 netns /proc/self/fd/{0}"
    for line in (
        wire.format(place.net_fd),
        f"ip addr add {HOST}/24 dev out0",
        f"ip -6 addr add {HOST6}/64 dev out0 nodad",
        "ip link set out0 up",
        f"ip route add default via {OUTSIDE}",
        f"ip -6 route add default via {OUTSIDE6}",
    ):
        subprocess.run(line.split(), check=True, pass_fds=[place.net_fd])
    for line in (
        f"ip addr add {OUTSIDE}/24 dev out1",
        f"ip -6 addr add {OUTSIDE6}/64 dev out1 nodad",
        "ip link set out1 up",
    ):
        place.run(*line.split())
    until_wired(
        lambda: (
            subprocess.run(["ip", "addr"], capture_output=True, text=True, check=True).stdout
            + place.run("ip", "addr").stdout
        )
    )
    return place


def until_wired(addresses: Callable[[], str]) -> None:
    """Wait until the wire carries packets: the kernel notices a new pair late, and drops what is sent before.

    ADDRESSES gives what `ip addr` says of both ends.
    """
    deadline = time.monotonic() + 20
    while True:
        said = addresses()
        if said.count(" state UP ") == 2 and "tentative" not in said:
            return
        assert time.monotonic() < deadline, said
        time.sleep(0.02)
