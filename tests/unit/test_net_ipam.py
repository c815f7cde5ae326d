"""Addresses of a network: next fit, what is never given, and what is refused."""

from __future__ import annotations

import pytest

from rootless.drivers.network.netd.ipam import Pool
from rootless.errors import ConflictError
from rootless.plan.network import Subnet


def pool(subnet: str = "10.0.0.0/29", gateway: str = "10.0.0.1", **more: object) -> Pool:
    return Pool(Subnet(subnet, gateway, **more))  # type: ignore[arg-type]


def test_neither_gateway_nor_ends_are_given() -> None:
    found = pool()
    assert [found.take() for _ in range(5)] == [f"10.0.0.{n}" for n in (2, 3, 4, 5, 6)]
    with pytest.raises(ConflictError, match="no available addresses"):
        found.take()
    found.release("10.0.0.4")
    assert found.take() == "10.0.0.4"


def test_what_was_given_back_is_used_last() -> None:
    found = pool()
    first = found.take()
    found.release(first)
    assert [found.take() for _ in range(5)][-1] == first


def test_a_range_of_the_subnet() -> None:
    found = pool("10.0.0.0/24", ip_range="10.0.0.128/30")
    assert [found.take() for _ in range(4)] == [f"10.0.0.{n}" for n in (128, 129, 130, 131)]
    with pytest.raises(ConflictError):
        found.take()
    assert found.take("10.0.0.9") == "10.0.0.9", (
        "asked for, an address outside of the range is given"
    )


def test_wanted_addresses() -> None:
    found = pool("10.0.0.0/24", aux={"printer": "10.0.0.5"})
    assert found.take("10.0.0.7") == "10.0.0.7"
    for taken in ("10.0.0.7", "10.0.0.1"):
        with pytest.raises(ConflictError, match="address already in use"):
            found.take(taken)
    for outside in ("10.0.1.7", "10.0.0.0", "10.0.0.255", "fd00::1", "word"):
        with pytest.raises(
            ConflictError, match=f"no configured subnet contains IP address {outside}"
        ):
            found.take(outside)
    assert "10.0.0.5" not in [found.take() for _ in range(20)]


def test_the_last_address_of_a_container_is_liked() -> None:
    found = pool()
    assert found.take(liked="10.0.0.4") == "10.0.0.4"
    assert found.take(liked="10.0.0.4") == "10.0.0.2", "where somebody else has it, the next"
    assert found.take(liked="192.168.0.1") == "10.0.0.3"


def test_ipv6() -> None:
    found = pool("fd00::/64", "fd00::1")
    assert [found.take() for _ in range(2)] == ["fd00::2", "fd00::3"]
    assert found.prefix == 64


def test_a_large_subnet_costs_nothing_when_full_ranges_are_not_walked() -> None:
    found = pool("fd00::/64", "fd00::1")
    given = {found.take() for _ in range(3000)}
    assert len(given) == 3000
