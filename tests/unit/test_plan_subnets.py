"""Which addresses networks get: chosen ones checked in Docker's words, others drawn from the pools."""

from __future__ import annotations

import pytest

from rootless.errors import ConflictError, UsageError
from rootless.plan import addresses, subnets
from rootless.plan.network import Subnet
from rootless.store.networks import POOLS

ROUTE = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
tun0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0
broken
"""
ROUTE6 = """fd001234000000000000000000000000 40 00000000000000000000000000000000 00 \
00000000000000000000000000000000 00000100 00000000 00000000 00000001 eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
fe800000000000000000000000000001 00000400 00000000 00000000 00000003 eth0
x
"""
ID = "0123456789abcdef" * 4


def prefix(text: str) -> addresses.Prefix:
    found = addresses.parse_cidr(text)
    assert found is not None
    return found[1]


def completed(chosen: list[Subnet], **values: object) -> list[Subnet]:
    wanted = {"network_id": ID, "pools": POOLS, "others": [], "host": [], **values}
    return subnets.complete(chosen, **wanted)  # type: ignore[arg-type]


def test_routes_and_name_servers_of_the_host_are_read() -> None:
    found = subnets.host_prefixes(ROUTE, ROUTE6, "nameserver 172.20.0.1\nnameserver\nsearch x\n")
    assert [addresses.show_prefix(one) for one in found] == [
        *("172.17.0.0/16", "10.0.0.0/8", "fd00:1234::/64", "172.20.0.1/32"),
    ]
    assert subnets.host_prefixes("", "") == []


def test_the_first_network_is_docker_s() -> None:
    (found,) = completed([])
    assert (found.subnet, found.gateway, found.static) == ("172.17.0.0/16", "172.17.0.1", False)


def test_the_host_s_routes_are_avoided() -> None:
    host = subnets.host_prefixes(ROUTE, ROUTE6, "nameserver 172.18.0.1")
    assert completed([], host=host)[0].subnet == "172.19.0.0/16"


def test_the_pools_run_through_and_end() -> None:
    taken: list[addresses.Prefix] = []
    for _ in range(15 + 16):
        (found,) = completed([], others=taken)
        taken.append(prefix(found.subnet))
    shown = [addresses.show_prefix(one) for one in taken]
    assert shown[14:17] == ["172.31.0.0/16", "192.168.0.0/20", "192.168.16.0/20"]
    assert len(set(shown)) == 31
    with pytest.raises(ConflictError, match="could not find an available, non-overlapping IPv4"):
        completed([], others=taken)


def test_pools_can_be_configured() -> None:
    found = completed([], pools=["10.9.0.0/16:24"], others=[prefix("10.9.0.0/23")])
    assert found[0].subnet == "10.9.2.0/24"
    for wrong in (
        "10.9.0.0",
        "x/8",
        "10.9.0.1/16",
        "10.9.0.0/16:8",
        "10.9.0.0/16:31",
        "10.0.0.0/8:x",
    ):
        with pytest.raises(UsageError, match=r"cannot use network\.pools"):
            completed([], pools=[wrong])


def test_ipv6_follows_from_the_id() -> None:
    four, six = completed([], ipv6=True)
    assert six.subnet == "fd01:2345:6789:abcd::/64"
    assert six.gateway == "fd01:2345:6789:abcd::1"
    again = completed([], ipv6=True, others=[prefix("fd01:2345::/32")])
    assert not addresses.overlap(prefix(again[1].subnet), prefix("fd01:2345::/32"))
    assert four.version == 4
    assert [one.version for one in completed([], ipv4=False, ipv6=True)] == [6]


def test_a_gateway_is_no_auxiliary_address() -> None:
    chosen = Subnet("10.5.0.0/24", aux={"router": "10.5.0.1", "b": "10.5.0.2"}, static=True)
    assert completed([chosen])[0].gateway == "10.5.0.3"


@pytest.mark.parametrize("text", ["10.5.0.0/16", "10.0.0.0/8", "10.5.6.0/24"])
def test_networks_do_not_overlap(text: str) -> None:
    with pytest.raises(ConflictError) as error:
        completed([Subnet(text, static=True)], others=[prefix("10.5.0.0/16")])
    assert str(error.value).endswith("Pool overlaps with other one on this address space")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("10.5.0.0",), "invalid subnet 10.5.0.0: invalid CIDR block notation"),
        (("10.5.0.0/33",), "invalid subnet 10.5.0.0/33: invalid CIDR block notation"),
        (("10.5.6.7/24",), "invalid subnet 10.5.6.7/24: it should be 10.5.6.0/24"),
        (
            ("10.5.0.0/31",),
            "invalid subnet 10.5.0.0/31: it has no room for a gateway and a container",
        ),
        (("127.5.0.0/16",), "invalid subnet 127.5.0.0/16: 127.0.0.0/8 is not for networks"),
        (("169.254.0.0/16",), "invalid subnet 169.254.0.0/16: 169.254.1.2/32 is not for networks"),
        (
            ("10.5.0.0/24", "10.6.0.1"),
            "invalid gateway 10.6.0.1: parent subnet 10.5.0.0/24 doesn't contain this address",
        ),
        (("10.5.0.0/24", "x"), "invalid gateway x: invalid address"),
        (("10.5.0.0/24", "fd00::1"), "invalid gateway fd00::1: parent subnet is an IPv4 block"),
        (
            ("10.5.0.0/24", "10.5.0.255"),
            "invalid gateway 10.5.0.255: it is the address of the subnet itself, or its broadcast address",
        ),
        (
            ("10.5.0.0/24", "", "10.5.0.1/25"),
            "invalid ip-range 10.5.0.1/25: it should be 10.5.0.0/25",
        ),
        (
            ("10.5.0.0/24", "", "10.0.0.0/8"),
            "invalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.5.0.0/24",
        ),
        (
            ("10.5.0.0/24", "", "10.6.0.0/25"),
            "invalid ip-range 10.6.0.0/25: parent subnet 10.5.0.0/24 doesn't contain ip-range",
        ),
        (("10.5.0.0/24", "", "x"), "invalid ip-range x: invalid CIDR block notation"),
        (
            ("10.5.0.0/24", "", "fd00::/64"),
            "invalid ip-range fd00::/64: parent subnet is an IPv4 block",
        ),
        (
            ("10.5.0.0/24", "", "", {"a": "10.6.0.1"}),
            "invalid auxiliary address a: parent subnet 10.5.0.0/24 doesn't contain this address",
        ),
        (("fd00:5::/64",), "invalid subnet fd00:5::/64: the network has no IPv6 (--ipv6)"),
    ],
)
def test_a_bad_subnet_is_refused(values: tuple[object, ...], message: str) -> None:
    with pytest.raises(UsageError) as error:
        completed([Subnet(*values)])  # type: ignore[arg-type]
    assert str(error.value) == f"invalid network config:\n{message}"
    assert error.value.code == 1


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(UsageError) as error:
        completed([Subnet("10.5.0.0/24", "x", "y")])
    assert str(error.value) == (
        "invalid network config:\n* invalid ip-range y: invalid CIDR block notation\n"
        "* invalid gateway x: invalid address"
    )


def test_flags_are_put_together() -> None:
    found = subnets.consolidate(
        ["10.5.0.0/16", "fd00:5::/64"],
        ["10.5.1.0/24"],
        ["fd00:5::9", "10.5.0.9"],
        {"a": "10.5.0.7", "b": "fd00:5::7"},
    )
    assert [one.to_dict() for one in found] == [
        {
            "aux": {"a": "10.5.0.7"},
            "gateway": "10.5.0.9",
            "ip_range": "10.5.1.0/24",
            "static": True,
            "subnet": "10.5.0.0/16",
        },
        {
            "aux": {"b": "fd00:5::7"},
            "gateway": "fd00:5::9",
            "ip_range": "",
            "static": True,
            "subnet": "fd00:5::/64",
        },
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ([], ["10.5.0.0/24"], [], {}),
            "every ip-range or gateway must have a corresponding subnet",
        ),
        (([], [], ["10.5.0.1"], {}), "every ip-range or gateway must have a corresponding subnet"),
        (
            (["10.5.0.0/16", "10.5.6.0/24"], [], [], {}),
            "multiple overlapping subnet configuration is not supported",
        ),
        ((["10.5.0.0/24"], ["10.6.0.0/25"], [], {}), "no matching subnet for range 10.6.0.0/25"),
        ((["10.5.0.0/24"], [], ["10.6.0.1"], {}), "no matching subnet for gateway 10.6.0.1"),
        (
            (["10.5.0.0/24"], [], [], {"a": "10.6.0.1"}),
            "no matching subnet for aux-address 10.6.0.1",
        ),
        (
            (["10.5.0.0/24", "10.6.0.0/24"], [], ["10.5.0.1", "10.5.0.2"], {}),
            "cannot configure multiple gateways (10.5.0.2, 10.5.0.1) for the same subnet (10.5.0.0/24)",
        ),
        ((["x"], [], ["10.5.0.1"], {}), "invalid subnet: invalid CIDR address: x"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags: tuple[object, ...], message: str) -> None:
    with pytest.raises(UsageError) as error:
        subnets.consolidate(*flags)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_addresses_that_containers_may_ask_for() -> None:
    chosen = Subnet("10.5.0.0/24", "10.5.0.1", static=True)
    subnets.check_wish([chosen], 4, (4, 0x0A050007), "10.5.0.7")
    for number, message in (
        (0x0A060007, "no configured subnet or ip-range contain the IP address X"),
        (0x0A050001, "address already in use"),
        (0x0A0500FF, "address already in use"),
    ):
        with pytest.raises((UsageError, ConflictError), match=message):
            subnets.check_wish([chosen], 4, (4, number), "X")
    with pytest.raises(UsageError, match="networks with user configured subnets"):
        subnets.check_wish([Subnet("10.5.0.0/24", "10.5.0.1")], 4, (4, 0x0A050007), "X")
