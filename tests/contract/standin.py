"""Stands in for a user's systemd, as far as containers ask it: real groups are made, real processes are moved.

    standin.py RUNTIME GROUP LOG [MODE]

Serves RUNTIME/systemd/private, and by the name org.freedesktop.systemd1 the bus at RUNTIME/bus if there is one.
Units are groups below GROUP, which is ours.  Every call that comes in is a line of JSON in LOG.  MODE:
``refuse`` answers every call with an error, ``hang`` none, ``drop`` hangs up on the first two calls as a
manager does that is executed again, ``lose`` does what it is asked and never says so,
``fail`` has jobs that fail, ``forget`` never learns that a scope is empty.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import time
from typing import Any

from jeepney import (
    DBusAddress,
    MessageType,
    new_error,
    new_method_call,
    new_method_return,
    new_signal,
)
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection
from jeepney.low_level import HeaderFields, Parser

MANAGER = DBusAddress(
    "/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager"
)


class Refusal(Exception):
    pass


def write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


class Units:
    """Scopes as directories."""

    def __init__(self, top: str) -> None:
        self.top = top
        self.scopes: dict[str, str] = {}
        write_controllers(top)

    def start(self, name: str, properties: dict[str, Any]) -> None:
        if name in self.scopes:
            raise Refusal("org.freedesktop.systemd1.UnitExists", f"Unit {name} was already loaded.")
        path = f"{self.top}/{properties['Slice']}"
        os.makedirs(path, exist_ok=True)
        write_controllers(path)
        self.scopes[name] = f"{path}/{name}"
        os.makedirs(self.scopes[name], exist_ok=True)

    def move(self, name: str, below: str, pids: list[int]) -> None:
        if name not in self.scopes:
            raise Refusal("org.freedesktop.systemd1.NoSuchUnit", f"Unit {name} not loaded.")
        path = self.scopes[name] + below
        os.makedirs(path, exist_ok=True)
        for pid in pids:
            write(f"{path}/cgroup.procs", str(pid))

    def kill(self, name: str) -> None:
        for top, _, _ in os.walk(self.scopes[name]):
            with open(f"{top}/cgroup.procs", encoding="ascii") as file:
                for line in file:
                    os.kill(int(line), 9)

    def collect(self, only: str = "") -> None:
        """Forget the scopes, or the ONLY one, that have nobody in them any more."""
        for name, path in [(only, self.scopes[only])] if only else list(self.scopes.items()):
            try:
                with open(f"{path}/cgroup.events", encoding="ascii") as file:
                    if "populated 1" in file.read():
                        continue
            except OSError:
                pass  # somebody has removed it already
            for top, _, _ in os.walk(path, topdown=False):
                try:
                    os.rmdir(top)
                except OSError:
                    pass  # another's: it stays, as with the real one
            del self.scopes[name]


def write_controllers(path: str) -> None:
    with open(f"{path}/cgroup.controllers", encoding="ascii") as file:
        for name in file.read().split():
            try:
                write(f"{path}/cgroup.subtree_control", f"+{name}")
            except OSError:
                pass


class Peer:
    """One direct connection: the authentication of D-Bus, then messages."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.greeting = b""
        self.parser: Parser | None = None

    def receive(self) -> list[Any] | None:
        data = self.connection.recv(65536)
        if not data:
            return None
        if self.parser is None:
            self.greeting += data
            head, begin, rest = self.greeting.partition(b"BEGIN\r\n")
            if not begin:
                return []
            assert head.startswith(b"\0AUTH EXTERNAL\r\n"), head
            self.connection.sendall(b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n")
            self.parser, data = Parser(), rest
        self.parser.add_data(data)
        found = []
        while (message := self.parser.get_next_message()) is not None:
            found.append(message)
        return found

    def send(self, message: Any, serial: int) -> None:
        self.connection.sendall(message.serialise(serial))


class Bus:
    """The connection to the bus."""

    def __init__(self, path: str) -> None:
        self.real = open_dbus_connection(f"unix:path={path}")
        self.real.send_and_get_reply(message_bus.RequestName("org.freedesktop.systemd1"))
        self.connection = self.real.sock
        self.connection.setblocking(True)

    def receive(self) -> list[Any] | None:
        data = self.connection.recv(65536)
        if not data:
            return None
        self.real.parser.add_data(data)
        found = []
        while (message := self.real.parser.get_next_message()) is not None:
            found.append(message)
        return found

    def send(self, message: Any, serial: int) -> None:
        self.connection.sendall(message.serialise(serial + 1000))


class Manager:
    def __init__(self, runtime: str, group: str, log: str, mode: str) -> None:
        self.units = Units(group)
        self.log = log
        self.mode = mode
        self.serial = 1
        self.calls = 0
        self.selector = selectors.DefaultSelector()
        os.makedirs(f"{runtime}/systemd", exist_ok=True)
        path = f"{runtime}/systemd/private"
        if os.path.exists(path):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(64)
        self.selector.register(listener, selectors.EVENT_READ, None)
        if os.path.exists(f"{runtime}/bus"):
            bus = Bus(f"{runtime}/bus")
            self.selector.register(bus.connection, selectors.EVENT_READ, bus)

    def serve(self) -> None:
        while True:
            for key, _ in self.selector.select(0.02):
                if key.data is None:
                    connection, _ = key.fileobj.accept()  # type: ignore[union-attr]
                    self.selector.register(connection, selectors.EVENT_READ, Peer(connection))
                else:
                    self.take(key.data)
            if self.mode != "forget":
                self.units.collect()

    def take(self, peer: Any) -> None:
        try:
            messages = peer.receive()
            for message in messages or ():
                self.answer(peer, message)
        except OSError:
            messages = None
        if messages is None:
            self.selector.unregister(peer.connection)
            peer.connection.close()

    def answer(self, peer: Any, message: Any) -> None:
        if message.header.message_type != MessageType.method_call:
            return
        member = message.header.fields[HeaderFields.member]
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(json.dumps([member, message.body]) + "\n")
        self.calls += 1
        if self.mode == "hang":
            return
        if self.mode == "drop" and self.calls <= 2:
            raise OSError
        try:
            self.act(peer, message, member)
        except Refusal as error:
            peer.send(new_error(message, error.args[0], "s", (error.args[1],)), self.next())
        except OSError as error:
            peer.send(new_error(message, "System.Error.EIO", "s", (str(error),)), self.next())

    def act(self, peer: Any, message: Any, member: str) -> None:
        if self.mode == "refuse":
            raise Refusal("org.freedesktop.DBus.Error.AccessDenied", "Not today.\x1b[31m")
        if member == "StopUnit":
            name = message.body[0]
            if name in self.units.scopes:
                self.units.collect(name)
            peer.send(
                new_method_return(message, "o", ("/org/freedesktop/systemd1/job/1",)), self.next()
            )
        elif member == "KillUnit":  # nobody waits for an answer
            if message.body[0] in self.units.scopes:
                self.units.kill(message.body[0])
        elif member == "StartTransientUnit":
            name, _, pairs, _ = message.body
            properties = {key: value[1] for key, value in pairs}
            self.units.start(name, properties)
            job = f"/org/freedesktop/systemd1/job/{self.next()}"
            if self.mode != "lose":
                peer.send(new_method_return(message, "o", (job,)), self.next())
            time.sleep(0.01)  # the job runs after the answer
            if self.mode == "fail":
                self.units.collect()
                peer.send(
                    new_signal(MANAGER, "JobRemoved", "uoss", (1, job, name, "failed")), self.next()
                )
                return
            self.units.move(name, "", properties["PIDs"])
            signal = new_signal(MANAGER, "JobRemoved", "uoss", (1, job, name, "done"))
            if self.mode != "lose":
                peer.send(signal, self.next())
        elif member == "AttachProcessesToUnit":
            name, below, pids = message.body
            self.units.move(name, below, pids)
            peer.send(new_method_return(message), self.next())
        else:
            raise Refusal("org.freedesktop.DBus.Error.UnknownMethod", member)

    def next(self) -> int:
        self.serial += 1
        return self.serial


if __name__ == "__main__":
    assert new_method_call
    Manager(*sys.argv[1:4], mode=sys.argv[4] if len(sys.argv) > 4 else "").serve()
