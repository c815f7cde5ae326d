"""D-Bus messages as an independent implementation reads them."""

from __future__ import annotations

import struct

import pytest
from jeepney import DBusAddress, HeaderFields, MessageFlag, MessageType, Parser, new_method_call

from rootless.drivers.cgroup import systemd
from rootless.drivers.cgroup.base import Wanted
from rootless.facts import HostFacts
from rootless.linux import dbus

ADDRESS = DBusAddress("/a/b", "org.example", "org.example.Iface")


def parsed(data: bytes) -> list[object]:
    parser = Parser()
    parser.add_data(data)
    found = []
    while (message := parser.get_next_message()) is not None:
        found.append(message)
    return found


@pytest.mark.parametrize(
    ("signature", "values"),
    [
        ("", ()),
        ("s", ("",)),
        ("s", ("ein Wort mit Umlaut: ä",)),
        ("yubnqixtd", (7, 1, True, -3, 9, -70000, -1, 1 << 63, 1.5)),
        ("as", (["a", "bc", ""],)),
        ("at", ([],)),
        ("ssa(sv)a(sa(sv))", ("n", "fail", [("PIDs", ("au", [1, 2])), ("D", ("s", "x"))], [])),
        ("a(yv)og", ([(1, ("o", "/x")), (2, ("at", [1 << 40]))], "/y", "a(sv)")),
        ("vv", (("as", ["x"]), ("b", False))),
    ],
)
def test_a_call_is_what_jeepney_makes_of_it(signature: str, values: tuple[object, ...]) -> None:
    ours = dbus.call(9, "org.example", "/a/b", "org.example.Iface", "Do", signature, values)
    (message,) = parsed(ours)
    assert message.body == tuple(values)  # type: ignore[attr-defined]
    assert message.header.serial == 9  # type: ignore[attr-defined]
    assert message.header.message_type == MessageType.method_call  # type: ignore[attr-defined]
    theirs = new_method_call(ADDRESS, "Do", signature or None, values)
    assert message.header.fields == theirs.header.fields  # type: ignore[attr-defined]


def test_a_call_that_wants_no_answer_says_so() -> None:
    (message,) = parsed(dbus.call(1, "o.e", "/", "o.e", "M", reply=False))
    assert message.header.flags == MessageFlag.no_reply_expected  # type: ignore[attr-defined]


def test_what_is_no_message_is_not_made() -> None:
    with pytest.raises(ValueError, match="NUL"):
        dbus.call(1, "o.e", "/", "o.e", "M", "s", ("a\0b",))
    with pytest.raises(ValueError, match="too large"):
        dbus.call(1, "o.e", "/", "o.e", "M", "s", ("x" * dbus.MAX_SIZE,))


def test_addresses_are_paths_of_sockets() -> None:
    text = (
        "unix:path=/run/user/1000/bus,guid=77;tcp:host=x;unix:abstract=/tmp/x;unix:path=/a%20b%zz"
    )
    assert dbus.addresses(text) == ["/run/user/1000/bus", "/a b%zz"]
    assert dbus.addresses("") == [] and dbus.addresses("rubbish;;") == []


FACTS = HostFacts(uid=1000, gid=1000, cgroup_buses=("bus:/run/user/1000/bus", "peer:/p"))


def test_the_pids_go_where_the_tape_says() -> None:
    plan = systemd.SystemdDriver().plan(Wanted("ab" * 32, name="web"), FACTS)
    name, values = plan.before[0]
    addresses, unit, prologue, message, at, flags, stop = values
    assert name == "cgroup_scope"
    assert addresses == ["bus:/run/user/1000/bus", "peer:/p"]
    assert isinstance(message, bytes) and isinstance(at, int) and isinstance(prologue, bytes)
    assert message.count(struct.pack("<I", 0x50504944)) == 2
    filled = message[:at] + struct.pack("<II", 12, 34) + message[at + 8 :]
    (call,) = parsed(filled)
    assert dict(call.body[2])["PIDs"] == ("au", [12, 34])  # type: ignore[attr-defined]
    assert call.body[0] == unit == f"rootless-{'ab' * 32}.scope"  # type: ignore[attr-defined]
    members = [one.header.fields[HeaderFields.member] for one in parsed(prologue)]  # type: ignore[attr-defined]
    assert members == ["Hello", "AddMatch"]
    assert flags == 0
    assert isinstance(stop, bytes)
    call, kill = parsed(stop)
    assert kill.body == (unit, "all", 9)  # type: ignore[attr-defined]
    assert call.header.fields[HeaderFields.member] == "StopUnit"  # type: ignore[attr-defined]
    assert call.body == (unit, "replace")  # type: ignore[attr-defined]


@pytest.mark.parametrize("seconds", [-1, 0, 10, 10**12])
def test_a_stop_has_its_time(seconds: int) -> None:
    message = systemd.start_message(Wanted("ab" * 32, stop_timeout=seconds))
    (call,) = parsed(message)
    limit = dict(call.body[2])["TimeoutStopUSec"][1]  # type: ignore[attr-defined]
    assert limit == (seconds + 10 if 0 <= seconds < 86400 else 86400) * 1_000_000
