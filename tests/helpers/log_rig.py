"""The other side of a log: who takes what the monitor sends, and what a plan tells the monitor."""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from monitor_rig import LOG, Rig, until

from rootless.drivers import log as drivers
from rootless.drivers.log import sockets
from rootless.drivers.log.base import LogInfo, Plan

INFO = {"id": "0123" * 16, "name": "web", "image": "busybox", "host": "node", "command": "sh -c x"}
SYSLOG = re.compile(rb"<(\d+)>\w{3} [ \d]\d \d\d:\d\d:\d\d (\S+)\[(\d+)\]: (.*)\n\Z", re.DOTALL)


class Entry:
    """What arrived of a line: stream, bytes without newline, whether more of the line follows, fields."""

    def __init__(self, stream: str, data: bytes, more: bool, fields: dict[str, Any]) -> None:
        self.stream = stream
        self.data = data
        self.more = more
        self.fields = fields


def plan(driver: str, options: dict[str, str], **info: Any) -> Plan:
    """The checked plan of a container that is called web."""
    found = drivers.driver(driver)
    found.check(options)
    return found.plan(options, LogInfo(**{**INFO, **info}))


def configured(rig: Rig, made: Plan) -> dict[str, Any]:
    """The monitor's options for a plan."""
    os.makedirs(rig.path("run"), exist_ok=True)
    config = Path(rig.path("run/log"))
    config.write_bytes(made.encode())
    return {"log_config": str(config), "log": made.path and rig.path(LOG)}


class Side:
    """A socket that takes datagrams, or connections and what comes over them."""

    def __init__(
        self, network: str = "unixgram", *, start: bool = True, directory: str = ""
    ) -> None:
        self.network = network
        family = socket.AF_UNIX if network.startswith("unix") else socket.AF_INET
        self.socket = socket.socket(family, sockets.TYPES[network])
        # The directory of a test may be too deep for the path of a socket.
        self.directory = directory or tempfile.mkdtemp(prefix="rl-", dir="/tmp")
        os.makedirs(self.directory, exist_ok=True)
        self.where = f"{self.directory}/taker" if family == socket.AF_UNIX else ("127.0.0.1", 0)
        self.socket.bind(self.where)
        if isinstance(self.where, str):
            self.address = self.where
        else:
            self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.received: list[bytes] = []
        self.files = 0  # entries that came as descriptors
        self.closed = False
        self.connection: socket.socket | None = None
        self.thread = threading.Thread(target=self._take, daemon=True)
        if self.socket.type & socket.SOCK_STREAM:
            self.socket.listen(5)
        if start:
            self.thread.start()

    def words(self, made: Plan) -> Plan:
        """MADE, leading here."""
        made.words["address"] = sockets.find(self.network, self.address)
        made.words["type"] = sockets.TYPES[self.network]
        return made

    def _take(self) -> None:
        self.socket.settimeout(0.05)
        stream = bytearray()
        while not self.closed:
            try:
                if not self.socket.type & socket.SOCK_STREAM:
                    self._datagram()
                    continue
                if self.connection is None:
                    self.connection, _ = self.socket.accept()
                    self.connection.settimeout(0.05)
                data = self.connection.recv(65536)
            except (socket.timeout, TimeoutError):
                continue
            except OSError:
                return
            if not data:
                self.connection.close()
                self.connection = None
                continue
            stream += data
            *whole, rest = stream.split(b"\n")
            self.received += [line + b"\n" for line in whole]
            stream = bytearray(rest)

    def _datagram(self) -> None:
        data, fds, _, _ = socket.recv_fds(self.socket, 1 << 20, 1)
        for fd in fds:
            assert os.pread(fd, 1, 0)
            data += os.pread(fd, os.fstat(fd).st_size, 0)
            self.files += 1
            os.close(fd)
        if data:
            self.received.append(data)

    def disconnect(self) -> None:
        """End the connection there is."""
        connection = until(lambda: self.connection)
        connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Take nothing any more."""
        self.closed = True
        if self.thread.is_alive():
            self.thread.join()
        if self.connection is not None:
            self.connection.close()
        self.socket.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def fields(data: bytes) -> dict[str, bytes]:
    """A datagram of the journal's native protocol."""
    found: dict[str, bytes] = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack("<Q", rest[:8])
            value, end, rest = rest[8 : 8 + size], rest[8 + size : 9 + size], rest[9 + size :]
            assert end == b"\n"
        assert name.decode() not in found
        found[name.decode()] = value
        data = rest
    return found


def journal_entry(data: bytes) -> Entry:
    found = fields(data)
    stream = {b"3": "stderr", b"6": "stdout"}[found["PRIORITY"]]
    more = found.get("CONTAINER_PARTIAL_MESSAGE") == b"true"
    return Entry(stream, found["MESSAGE"], more, found)


def syslog_entry(data: bytes) -> Entry:
    match = SYSLOG.match(data)
    assert match, data[:100]
    priority = int(match[1])
    assert priority >> 3 == 3
    return Entry({3: "stderr", 6: "stdout"}[priority & 7], match[4], False, {"tag": match[2]})


def file_entries(rig: Rig) -> list[Entry]:
    """What a json-file log holds."""
    return [
        Entry(
            one["stream"],
            one["log"].removesuffix("\n").encode(),
            not one["log"].endswith("\n"),
            one,
        )
        for one in rig.log()
    ]


def settle(count: Any, seconds: float = 0.3) -> int:
    """COUNT() once it has not changed for a while."""
    last, since = count(), time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(0.02)
        now = count()
        if now != last:
            last, since = now, time.monotonic()
    return int(last)
