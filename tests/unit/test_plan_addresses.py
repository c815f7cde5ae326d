"""Addresses by hand, against the standard library."""

from __future__ import annotations

import ipaddress
import random

import pytest

from rootless.plan import addresses

GOOD = (
    *("0.0.0.0", "127.0.0.1", "255.255.255.255", "172.17.0.2"),
    *("::", "::1", "1::", "fe80::1", "2001:db8::1:0:0:1", "1:2:3:4:5:6:7:8", "::ffff:1.2.3.4"),
    *("1:2:3:4:5:6:1.2.3.4", "1::8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "ABCD::EF01"),
)
BAD = (
    *(
        "",
        ".",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.256",
        "01.2.3.4",
        "1.2.3.4 ",
        "1..2.3",
        "a.b.c.d",
        "-1.2.3.4",
    ),
    *(
        ":",
        ":::",
        "1::2::3",
        "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9",
        "12345::",
        "g::",
        "::1%lo",
        "1.2.3.4::",
    ),
    *("1:2:3:4:5:6:7:8::", "::1.2.3", "::1.2.3.4:5", ":1", "1:", "1.2.3.²"),
)


@pytest.mark.parametrize("text", GOOD)
def test_good_addresses(text: str) -> None:
    wanted = ipaddress.ip_address(text)
    found = addresses.parse(text)
    assert found == (wanted.version, int(wanted))
    assert ipaddress.ip_address(addresses.show(found)) == wanted


@pytest.mark.parametrize("text", BAD)
def test_bad_addresses(text: str) -> None:
    assert addresses.parse(text) is None


def test_shown_as_the_standard_library_does() -> None:
    draw = random.Random(4)
    for _ in range(500):
        number = 0
        for _ in range(8):
            number = number << 16 | draw.choice((0, 0, 0, 1, 0xABCD))
        assert addresses.show((6, number)) == str(ipaddress.IPv6Address(number))


def test_prefixes() -> None:
    assert addresses.parse_cidr("172.17.3.4/16") == ((4, 0xAC110304), (4, 0xAC110000, 16))
    assert addresses.show_prefix((4, 0xAC110000, 16)) == "172.17.0.0/16"
    for text in ("172.17.0.0", "172.17.0.0/33", "172.17.0.0/", "x/8", "fd00::/129", "1.2.3.4/08"):
        assert addresses.parse_cidr(text) is None
    wide, narrow = (4, 10 << 24, 8), (4, 10 << 24 | 5 << 16, 16)
    assert addresses.overlap(wide, narrow)
    assert addresses.overlap(narrow, wide)
    assert not addresses.overlap(narrow, (4, 10 << 24 | 6 << 16, 16))
    assert not addresses.overlap((4, 0, 0), (6, 0, 0))
    assert addresses.contains(narrow, (4, 10 << 24 | 5 << 16 | 9))
    assert not addresses.contains(narrow, (4, 11 << 24))


def test_mac_addresses() -> None:
    for text in ("02:42:AC:11:00:02", "02-42-ac-11-00-02", "0242.ac11.0002"):
        assert addresses.parse_mac(text) == "02:42:ac:11:00:02"
    for text in (
        "",
        "02:42",
        "02:42:ac:11:00:0g",
        "2:42:ac:11:00:02",
        "02:42:ac:11:00:02:03",
        "0242.ac11",
    ):
        assert addresses.parse_mac(text) == ""
