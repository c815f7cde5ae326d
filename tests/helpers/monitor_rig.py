"""What the monitor's tests share: building it, starting it, reading what it says."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from rootless.plan import tape
from rootless.runtime import monitor
from rootless.runtime.monitor import Client, MonitorOptions

CHECKOUT = Path(__file__).resolve().parents[2]
HELPERS = CHECKOUT / "helpers"
HERE = Path(__file__).resolve().parent
PATIENCE = 60.0
ENV = ["PATH=/usr/local/bin:/usr/bin:/bin"]

SOCKET, LOG, STATE = "run/sock", "c/log.json", "c/state.json"


def build(to: Path, compiler: str = "cc") -> Path:
    """Compile monitor and launch, and the fake launcher as `fake`, into TO."""
    to.mkdir(exist_ok=True)
    subprocess.run(
        [
            "make",
            "-s",
            "-C",
            str(HELPERS),
            f"BUILD={to}",
            f"CC={compiler}",
            f"{to}/monitor",
            f"{to}/launch",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    other = os.environ.get("ROOTLESS_TEST_MONITOR")  # one with sanitizers, for instance
    if other:
        shutil.copy(other, to / "monitor")
    fake = ["cc", "-O", "-o", str(to / "fake"), str(HERE / "fake_launch.c")]
    subprocess.run(fake, check=True)
    return to


def until(what: Callable[[], Any]) -> Any:
    """Wait until WHAT gives something true, and give it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def status_kb(pid: int, key: str) -> int:
    """A figure of /proc/PID/status in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    return 0


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


class Rig:
    """One container's directories, and monitors for it."""

    def __init__(self, directory: Path, libexec: Path) -> None:
        self.directory = directory
        self.libexec = libexec
        self.clients: list[Client] = []
        self.monitors: set[int] = set()
        (directory / "c").mkdir(exist_ok=True)

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def write_tape(self, argv: list[str], ops: list[Any] | None = None) -> None:
        before = ops or [("clone", (0, 0, "", "", "", ""))]
        program = [*before, ("pdeathsig", (9,)), ("exec", ("", argv, ENV, 2))]
        (self.directory / "run").mkdir(exist_ok=True)
        Path(self.path("run/tape")).write_bytes(tape.encode(program))

    def options(self, **changes: Any) -> MonitorOptions:
        values: dict[str, Any] = {
            "id": "0123",
            "launch": str(self.libexec / "launch"),
            "tape": self.path("run/tape"),
            "socket": self.path(SOCKET),
            "run_dir": self.path("run"),
            "state": self.path(STATE),
            "boot_id": "boot",
            "log": self.path(LOG),
        }
        values.update(changes)
        return MonitorOptions(**values)

    def spawn(self, argv: list[str], *, lock_fd: int = -1, **changes: Any) -> Client:
        """Start ARGV under a monitor, by the real launcher."""
        self.write_tape(argv)
        return self.keep(monitor.spawn(str(self.libexec), self.options(**changes), lock_fd=lock_fd))

    def shell(self, script: str, **changes: Any) -> Client:
        return self.spawn(["/bin/sh", "-c", script], **changes)

    def python(self, script: str, **changes: Any) -> Client:
        return self.spawn([sys.executable, "-I", "-S", "-c", script], **changes)

    def fake(self, *words: str, **changes: Any) -> Client:
        """Start a monitor whose launcher is the fake one."""
        (self.directory / "run").mkdir(exist_ok=True)
        Path(self.path("run/tape")).write_bytes(b"".join(w.encode() + b"\0" for w in words))
        options = self.options(launch=str(self.libexec / "fake"), **changes)
        return self.keep(monitor.spawn(str(self.libexec), options))

    def keep(self, client: Client) -> Client:
        self.clients.append(client)
        return client

    def connect(self) -> Client:
        """One more client, as soon as the monitor listens."""

        def try_it() -> Client | None:
            try:
                return monitor.connect(self.path(SOCKET))
            except OSError:
                return None

        client: Client = until(try_it)
        return self.keep(client)

    def state(self) -> dict[str, Any]:
        try:
            value: dict[str, Any] = json.loads(Path(self.path(STATE)).read_text())
        except FileNotFoundError:
            return {"status": "", "monitorPid": 0}
        if value["monitorPid"]:
            self.monitors.add(value["monitorPid"])
        return value

    def await_status(self, status: str) -> dict[str, Any]:
        state: dict[str, Any] = until(
            lambda: (lambda s: s if s["status"] == status else None)(self.state())
        )
        return state

    def log(self, name: str = LOG) -> list[dict[str, Any]]:
        lines = Path(self.path(name)).read_bytes().split(b"\n")
        assert lines.pop() == b"", "the log ends within a line"
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        state = self.state()
        for client in self.clients:
            client.close()
        for pid in self.monitors | {state["monitorPid"]}:
            if pid and alive(pid) and b"monitor" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


def receive(client: Client) -> tuple[bytes, bytes] | None:
    """The next message; fails rather than to wait forever."""
    poller = select.poll()
    poller.register(client.fileno(), select.POLLIN)
    assert poller.poll(PATIENCE * 1000), "no message from the monitor"
    return client.recv()


class Heard:
    """Everything a client was told up to the end."""

    def __init__(self) -> None:
        self._streams = {b"1": bytearray(), b"2": bytearray()}
        self.kinds = ""
        self.exit: int | None = None
        self.signalled = False
        self.error: tuple[int, str] | None = None

    @property
    def out(self) -> bytes:
        return bytes(self._streams[b"1"])

    @property
    def err(self) -> bytes:
        return bytes(self._streams[b"2"])

    def take(self, message: tuple[bytes, bytes]) -> None:
        kind, payload = message
        self.kinds += kind.decode() if not self.kinds.endswith(kind.decode()) else ""
        if kind in self._streams:
            self._streams[kind] += payload
        elif kind == b"E":
            self.error = (int.from_bytes(payload[:4], "little"), payload[4:].decode())
        elif kind == b"X":
            self.exit = int.from_bytes(payload[:4], "little")
            self.signalled = bool(payload[4] & 1)


def listen(client: Client, until_kind: bytes = b"X") -> Heard:
    """What CLIENT hears until a message of this kind, or the end of the connection."""
    heard = Heard()
    while True:
        message = receive(client)
        if message is None:
            return heard
        heard.take(message)
        if message[0] == until_kind:
            return heard


def output(client: Client, stdin: bool = False) -> Heard:
    """Attach to everything and listen to the end."""
    client.attach(stdin=stdin, stdout=True, stderr=True)
    return listen(client)


@pytest.fixture(scope="session")
def libexec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with freshly built helper programs."""
    return build(tmp_path_factory.mktemp("libexec") / "build")


@pytest.fixture
def rig(tmp_path: Path, libexec: Path) -> Iterator[Rig]:
    """A container's directories; what still runs at the end is killed."""
    made = Rig(tmp_path, libexec)
    yield made
    made.close()
