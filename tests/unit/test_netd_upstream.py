"""Which servers are asked first."""

from __future__ import annotations

import pytest

from rootless.drivers.network.netd import nameservers, upstream
from rootless.drivers.network.netd.upstream import Health

SERVERS = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]


def test_the_order_is_the_hosts() -> None:
    assert Health().ordered(SERVERS) == SERVERS


def test_one_lost_answer_changes_nothing_but_three_do(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    health = Health()
    health.missed(SERVERS[0])
    health.missed(SERVERS[0])
    assert health.ordered(SERVERS) == SERVERS
    health.missed(SERVERS[0])
    assert health.ordered(SERVERS) == [*SERVERS[1:], SERVERS[0]]
    now += upstream._AVOIDED + 1  # it gets another chance
    assert health.ordered(SERVERS) == SERVERS
    health.missed(SERVERS[0])
    assert health.ordered(SERVERS) == [*SERVERS[1:], SERVERS[0]]
    health.heard(SERVERS[0])
    assert health.ordered(SERVERS) == SERVERS


def test_if_all_are_silent_the_order_stays() -> None:
    health = Health()
    for server in SERVERS * 3:
        health.missed(server)
    assert health.ordered(SERVERS) == SERVERS


def test_what_is_an_address() -> None:
    given = ["dns.example", "10.0.0.1", "::1", "1.2.3", "fe80::1%eth0", "127.0.0.11", "\0"]
    assert nameservers.usable(given) == ["10.0.0.1", "::1", "fe80::1%eth0"]
    assert nameservers.usable(given[-2:]) == ["127.0.0.11"]
    assert nameservers.usable(given[-2:], "127.0.0.11") == []


def test_addresses_for_connect() -> None:
    assert upstream.address_of("10.0.0.1", 53) == ("10.0.0.1", 53)
    assert upstream.address_of("fd00::1", 53) == ("fd00::1", 53, 0, 0)
    assert upstream.address_of("fe80::1%lo", 53) == ("fe80::1", 53, 0, 1)
    assert upstream.address_of("fe80::1%7", 53) == ("fe80::1", 53, 0, 7)
    with pytest.raises(OSError):
        upstream.address_of("fe80::1%none9", 53)
