"""The ways to have a network that network.py measures: containers of engines, namespaces with an uplink, wires.

Owns their making and their end; knows nothing of what is measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from bench import IMAGE, Engine  # type: ignore[import-not-found, unused-ignore]

HOST, OUTSIDE = "10.9.0.1", "10.9.0.2"
IPERF, SERVE = 5201, 5202  # ports of the servers, outside and in containers
PUBLISHED = {"rootless": 5301, "podman": 5302, "rootlesskit": 5303, "pasta": 5304, "host": 5305}
SERVER, CLIENT, ALONE = "bench-server", "bench-client", "bench-alone"
BENCH = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = [
    word
    for volume in ("/usr:/usr:ro", "/usr/lib:/lib:ro", "/usr/lib64:/lib64:ro", f"{BENCH}:/bench:ro")
    for word in ("-v", volume)
]


class Place:
    """Where programs run: how a command line there begins, and where this directory is."""

    def __init__(
        self, name: str, argv: Sequence[str], env: dict[str, str] | None = None, bench: str = BENCH
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.env = env
        self.bench = bench

    def run(self, *words: str, check: bool = True) -> str:
        """The output of a program; SystemExit if it fails, unless CHECK is false."""
        done = subprocess.run(
            [*self.argv, *words], env=self.env, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise SystemExit(
                f"{self.name}: {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done.stdout


def entered(name: str, pid: int) -> Place:
    """The network of a process in a user namespace of the caller's."""
    argv = ["nsenter", "-t", str(pid), "-U", "-n", "--preserve-credentials", "--"]
    return Place(name, argv)


def until(what: str, condition: Callable[[], bool]) -> None:
    """Wait for CONDITION, at most ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not ready in ten seconds")
        time.sleep(0.02)


def answers(place: Place, address: str, port: int) -> bool:
    """Whether something accepts there."""
    program = f"import socket; socket.create_connection(({address!r}, {port}), 1)"
    argv = [*place.argv, sys.executable, "-c", program]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def service(engine: Engine) -> int:
    """Process ID of our network service, 0 while it does not answer."""
    paths = [
        os.path.join(root, name)
        for root, _, names in os.walk(engine.env["XDG_RUNTIME_DIR"])
        for name in names
        if name == "sock" and os.path.basename(os.path.dirname(root)) == "net"
    ]
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(paths[0])
            client.sendall(b'{"op":"status"}\n')
            with client.makefile() as answer:
                return int(json.loads(answer.read())["pid"])
    except (OSError, IndexError, ValueError):
        return 0


class Ways:
    """All ways, by name.

    inner      places behind some uplink
    published  ports of the host behind which an iperf3 is
    pairs      a place, and the address of another one on the same network where an iperf3 is
    """

    def __init__(self, engines: dict[str, Engine], where: str, stack: contextlib.ExitStack) -> None:
        self.engines = engines
        self._where = where
        self._stack = stack
        self.host = Place("host", [])
        self.outside = entered("outside", int(os.environ["BENCH_OUTSIDE"]))
        self.inner: dict[str, Place] = {}
        self.published: dict[str, int] = {}
        self.pairs: dict[str, tuple[Place, str]] = {}
        self._start(self.outside, "iperf3", "-s", "-p", str(IPERF))
        work = f"{BENCH}/network_work.py"
        self._start(self.outside, sys.executable, work, "serve", OUTSIDE, str(SERVE))
        for engine in engines.values():
            self._engine(engine)
        self._slirp4netns()
        self._pasta()
        self._rootlesskit()
        self._veth()
        self._start(self.host, "iperf3", "-s", "-p", str(PUBLISHED["host"]))
        self.published["host"] = PUBLISHED["host"]
        for name, port in self.published.items():
            until(f"published port of {name}", lambda: answers(self.outside, HOST, port))  # noqa: B023

    def _start(self, place: Place, *words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*place.argv, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )  # fmt: skip
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)
        return process

    def _engine(self, engine: Engine) -> None:
        name, port = engine.name, str(PUBLISHED[engine.name])
        for one in (SERVER, CLIENT, ALONE, f"{ALONE}-published"):
            engine.run("rm", "-f", one, check=False)
        engine.run("network", "create", "bench", check=False)
        run = ["run", "-d", *PROGRAMS]
        engine.run(*run, "--name", ALONE, IMAGE, "sleep", "99999")
        engine.run(
            *run, "--name", f"{ALONE}-published", "-p", f"{port}:{port}", IMAGE, "iperf3", "-s", "-p", port
        )  # fmt: skip
        run += ["--network", "bench"]
        engine.run(*run, "--name", SERVER, IMAGE, "iperf3", "-s", "-p", str(IPERF))
        engine.run(*run, "--name", CLIENT, IMAGE, "sleep", "99999")
        for one in (SERVER, CLIENT, ALONE, f"{ALONE}-published"):
            self._stack.callback(engine.run, "rm", "-f", one)
            self._stack.callback(engine.run, "kill", one)
        self.inner[name] = Place(name, [*engine.argv, "exec", ALONE], engine.env, "/bench")
        if name == "rootless":
            fast = ["run", "--rm", *PROGRAMS, "--network-opt", "fast=connect", IMAGE]
            self.inner["fast=connect"] = Place("fast", [*engine.argv, *fast], engine.env, "/bench")
        self.published[name] = int(port)
        client = Place(name, [*engine.argv, "exec", CLIENT], engine.env, "/bench")
        where = "{{.NetworkSettings.Networks.bench.IPAddress}}"
        self.pairs[name] = (client, engine.run("inspect", "-f", where, SERVER).stdout.strip())

    def _namespace(self, name: str, before: Place | None = None) -> tuple[Place, int]:
        words = ["unshare", "-n"] if before else ["unshare", "-r", "-n"]
        process = self._start(before or self.host, *words, "sleep", "infinity")
        known = {os.readlink(f"/proc/{pid}/ns/net") for pid in ("self", _pid(before))}
        until(name, lambda: os.readlink(f"/proc/{process.pid}/ns/net") not in known)
        place = entered(name, process.pid)
        place.run("ip", "link", "set", "lo", "up")
        return place, process.pid

    def _slirp4netns(self) -> None:
        place, pid = self._namespace("slirp4netns")
        self._start(
            self.host, "slirp4netns", "-c", "--mtu=65520", "--disable-host-loopback", str(pid), "tap0"
        )  # fmt: skip
        self.inner["slirp4netns"] = place
        until("slirp4netns", lambda: answers(place, OUTSIDE, SERVE))

    def _pasta(self) -> None:
        place, pid = self._namespace("pasta")
        port = str(PUBLISHED["pasta"])
        ports = ["-t", port, "-u", "none", "-T", "none", "-U", "none"]
        # The outside is the gateway here, which would be mapped to the host's loopback device.
        self._start(self.host, "pasta", "-f", "--config-net", "--no-map-gw", *ports, str(pid))
        self.inner["pasta"] = place
        self.published["pasta"] = int(port)
        self._start(place, "iperf3", "-s", "-p", port)
        until("pasta", lambda: answers(place, OUTSIDE, SERVE))

    def _rootlesskit(self) -> None:
        port = str(PUBLISHED["rootlesskit"])
        self._start(
            self.host, "rootlesskit", f"--state-dir={self._where}/rootlesskit", "--net=slirp4netns",
            "--disable-host-loopback", "--port-driver=builtin", "-p", f"0.0.0.0:{port}:{port}/tcp",
            "iperf3", "-s", "-p", port,
        )  # fmt: skip
        self.published["rootlesskit"] = int(port)

    def _veth(self) -> None:
        here, _ = self._namespace("veth")
        there, pid = self._namespace("veth's other end", here)
        here.run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", str(pid))
        for place, device, address in ((here, "v0", "10.7.0.1/24"), (there, "v1", "10.7.0.2/24")):
            place.run("ip", "address", "add", address, "dev", device)
            place.run("ip", "link", "set", device, "up")
        self._start(there, "iperf3", "-s", "-p", str(IPERF))
        self.pairs["veth"] = (here, "10.7.0.2")
        until("veth", lambda: answers(here, "10.7.0.2", IPERF))


def _pid(place: Place | None) -> str:
    """The process whose namespaces PLACE enters."""
    return place.argv[place.argv.index("-t") + 1] if place else "self"
