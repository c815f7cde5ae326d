"""Addresses of containers: when they are free again, and for whom that is waited for."""

from __future__ import annotations

import threading

import pytest

from rootless.drivers.network.netd.addresses import Addresses
from rootless.drivers.network.netd.members import Endpoint
from rootless.errors import ConflictError, UsageError
from rootless.plan.network import EndpointWish, NetworkDef, Subnet


def network(*subnets: tuple[str, str]) -> NetworkDef:
    return NetworkDef(
        id=f"{len(subnets):064x}",
        name="net",
        subnets=[Subnet(subnet, gateway) for subnet, gateway in subnets],
    )


SMALL = network(("10.0.0.0/30", "10.0.0.1"))
LARGE = network(("10.0.0.0/24", "10.0.0.1"), ("fd00::/64", "fd00::1"))


def taken(addresses: Addresses, found: NetworkDef, container: str, **wish: str) -> Endpoint:
    endpoint = Endpoint(found, EndpointWish("net", **wish), "cd" * 32)
    addresses.take(container, endpoint)
    return endpoint


@pytest.fixture
def addresses() -> Addresses:
    return Addresses(lambda _: None)


def leave(addresses: Addresses, endpoint: Endpoint, seconds: float = 0.2) -> threading.Event:
    """Begin to remove its interface, which takes a while."""
    gone = threading.Event()
    addresses.going(endpoint, gone)
    timer = threading.Timer(seconds, gone.set)
    timer.daemon = True
    timer.start()
    return gone


def test_an_address_whose_interface_is_going_is_not_given(addresses: Addresses) -> None:
    first = taken(addresses, LARGE, "one")
    gone = leave(addresses, first, 20)
    second = taken(addresses, LARGE, "two")
    assert (second.ip, second.ip6) == ("10.0.0.3", "fd00::3")
    assert not gone.is_set()


def test_who_had_it_waits(addresses: Addresses) -> None:
    first = taken(addresses, LARGE, "one")
    gone = leave(addresses, first)
    again = taken(addresses, LARGE, "one")
    assert gone.is_set()
    assert (again.ip, again.ip6) == (first.ip, first.ip6)
    addresses.gone(first)  # told later: it is the new one's
    with pytest.raises(ConflictError, match="address already in use"):
        taken(addresses, LARGE, "two", ip=again.ip)


def test_who_wants_it_waits(addresses: Addresses) -> None:
    first = taken(addresses, LARGE, "one")
    gone = leave(addresses, first)
    assert taken(addresses, LARGE, "two", ip=first.ip).ip == first.ip
    assert gone.is_set()


def test_a_network_that_is_full_but_for_what_is_going(addresses: Addresses) -> None:
    first = taken(addresses, SMALL, "one")
    with pytest.raises(ConflictError, match="no available addresses"):
        taken(addresses, SMALL, "two")
    gone = leave(addresses, first)
    assert taken(addresses, SMALL, "two").ip == "10.0.0.2"
    assert gone.is_set()


def test_of_two_families_none_is_kept_where_one_is_refused(addresses: Addresses) -> None:
    kept = taken(addresses, LARGE, "one", ip6="fd00::9")
    with pytest.raises(ConflictError):
        taken(addresses, LARGE, "two", ip6="fd00::9")
    addresses.give_back(kept)
    assert taken(addresses, LARGE, "three", ip="10.0.0.3").ip == "10.0.0.3"
    with pytest.raises(UsageError, match="no configured subnet"):
        taken(addresses, SMALL, "four", ip6="fd00::7")


def test_what_an_earlier_service_gave_is_taken(addresses: Addresses) -> None:
    endpoint = Endpoint(LARGE, EndpointWish("net"), "cd" * 32)
    endpoint.ip, endpoint.ip6 = "10.0.0.2", "fd00::2"
    addresses.adopt(endpoint)
    found = taken(addresses, LARGE, "other")
    assert (found.ip, found.ip6) == ("10.0.0.3", "fd00::3")
