"""Where containers may go: the table of destinations, the grammar of egress rules, and what it refuses."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.drivers.network.netd.policy import (
    ALL_PORTS,
    ALLOW,
    DROP,
    NO_PORTS,
    PROHIBIT,
    Policies,
    Policy,
    Verdict,
    decide,
    parse_egress,
    parse_host_access,
)
from rootless.errors import UsageError
from rootless.plan.network import HOST_ADDRESS, NetworkDef

OPEN = Policy(host_access=ALL_PORTS, metadata=True)


def said(policy: Policy | None, address: str, port: int = 80, protocol: str = "tcp") -> Verdict:
    return decide(policy, protocol, ip_address(address), port)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.0.0.53", "127.255.255.254", "::1", "0.0.0.0", "0.1.2.3", "::"),
        *("224.0.0.1", "239.255.255.250", "255.255.255.255", "ff02::1", "fe80::1", "febf::1"),
        *(
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "::7f00:1",
        ),
        *("64:ff9b::127.0.0.1", "64:ff9b::169.254.1.2", "64:ff9b::224.0.0.1"),
    ],
)
@pytest.mark.parametrize("protocol", ["tcp", "udp", "icmp"])
def test_the_host_itself_is_never_reached(address: str, protocol: str) -> None:
    assert said(OPEN, address, protocol=protocol).action == PROHIBIT


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "10.1.2.3", "192.168.1.1", "169.254.7.7", "2001:db8::1", "fd00::1"]
)
def test_others_are_reached_as_they_are(address: str) -> None:
    assert said(Policy(), address) == Verdict(ALLOW, address)


def test_who_is_unknown_gets_no_answer() -> None:
    assert said(None, "8.8.8.8").action == DROP


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "fd00:ec2::254", "169.254.170.2", "fd20:ce::254", "64:ff9b::a9fe:a9fe"],
)
def test_metadata_of_clouds_only_if_asked_for(address: str) -> None:
    assert said(Policy(), address).action == PROHIBIT
    assert said(Policy(metadata=True), address) == Verdict(ALLOW, address)


def test_the_host_by_its_address_and_for_its_ports() -> None:
    policy = Policy(host_access=((80, 80), (8000, 8010)))
    for port, action in (
        (80, ALLOW),
        (81, PROHIBIT),
        (8000, ALLOW),
        (8010, ALLOW),
        (8011, PROHIBIT),
    ):
        assert said(policy, HOST_ADDRESS, port).action == action
    assert said(policy, HOST_ADDRESS).address == "127.0.0.1"
    assert said(Policy(), HOST_ADDRESS).action == PROHIBIT
    assert said(policy, HOST_ADDRESS, 0, "icmp").action == ALLOW
    assert said(Policy(), HOST_ADDRESS, 0, "icmp").action == PROHIBIT
    assert said(OPEN, HOST_ADDRESS, 65535).action == ALLOW


def test_nothing_leaves_an_internal_network() -> None:
    assert said(Policy(internal=True, host_access=ALL_PORTS), "8.8.8.8").action == PROHIBIT
    assert said(Policy(internal=True, host_access=ALL_PORTS), HOST_ADDRESS).action == PROHIBIT


@pytest.mark.parametrize(
    ("rules", "flow", "passes"),
    [
        ("", "tcp 1.1.1.1 80", True),
        ("none", "tcp 1.1.1.1 80", False),
        ("none", f"tcp {HOST_ADDRESS} 80", False),
        ("allow tcp 10.0.0.0/8:443; allow udp *:53; deny *", "tcp 10.1.1.1 443", True),
        ("allow tcp 10.0.0.0/8:443; allow udp *:53; deny *", "tcp 10.1.1.1 444", False),
        ("allow tcp 10.0.0.0/8:443; allow udp *:53; deny *", "udp 10.1.1.1 443", False),
        ("allow tcp 10.0.0.0/8:443; allow udp *:53; deny *", "udp 8.8.8.8 53", True),
        ("allow tcp 10.0.0.0/8:443; allow udp *:53; deny *", "icmp 10.1.1.1 0", False),
        ("allow tcp *:443", "tcp 1.1.1.1 443", True),
        ("allow tcp *:443", "tcp 1.1.1.1 80", False),  # the opposite of the last rule
        ("deny 10.0.0.0/8", "tcp 1.1.1.1 80", True),
        ("deny 10.0.0.0/8", "icmp 10.1.1.1 0", False),
        ("deny 10.0.0.0/8", "tcp 64:ff9b::a00:1 80", False),  # a translator's 10.0.0.1
        ("deny 10.0.0.0/8", "tcp 2001:db8::1 80", True),
        ("deny 10.0.0.1,allow 10.0.0.0/8 , deny *", "tcp 10.0.0.1 1", False),
        ("deny 10.0.0.1,allow 10.0.0.0/8 , deny *", "tcp 10.0.0.2 1", True),
        ("allow tcp *:8000-8010", "tcp 1.1.1.1 8010", True),
        ("allow tcp *:8000-8010", "tcp 1.1.1.1 8011", False),
        ("allow 2001:db8::/32", "tcp 2001:db8::5 1", True),
        ("allow 2001:db8::/32", "tcp 2001:db9::5 1", False),
        ("allow tcp [2001:db8::/32]:443", "tcp 2001:db8::5 443", True),
        ("allow tcp [2001:db8::/32]:443", "tcp 2001:db8::5 80", False),
        ("allow icmp *", "icmp 1.1.1.1 0", True),
        ("allow * 1.1.1.1", "udp 1.1.1.1 1", True),
        ("deny *:25;", "icmp 1.1.1.1 0", True),
    ],
)
def test_egress_rules(rules: str, flow: str, passes: bool) -> None:
    protocol, address, port = flow.split()
    policy = Policy(egress=parse_egress(rules), host_access=ALL_PORTS)
    assert (said(policy, address, int(port), protocol).action == ALLOW) == passes


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("permit *", "neither allow nor deny"),
        ("allow", "is not an action"),
        ("allow tcp udp *", "is not an action"),
        ("allow sctp *", "unknown protocol"),
        ("allow tcp *:0", "not a port"),
        ("allow tcp *:65536", "not a port"),
        ("allow tcp *:9-8", "not a port"),
        ("allow tcp *:x", "not a port"),
        ("allow tcp *:", "not a port"),
        ("allow tcp *:٣", "not a port"),
        ("allow icmp *:7", "icmp has no ports"),
        ("allow 10.0.0.1/8", "host bits"),
        ("allow 10.0.0.0/33", "10.0.0.0/33"),
        ("allow example.com", "example.com"),
        ("allow :53", "''"),
        ("allow [2001:db8::1", "[2001:db8::1"),
        ("allow [2001:db8::1]443", "[2001:db8::1]443"),
        ("allow *; deny", "is not an action"),
    ],
)
def test_wrong_rules_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_egress(text)
    assert str(caught.value).startswith(f"invalid egress {text!r}: ")
    assert reason in str(caught.value).partition(": ")[2]


@given(st.text(alphabet="alowdeny tcpudi*:;,.[]/0123456789abcdef-", max_size=40))
def test_any_text_is_rules_or_a_usage_error(text: str) -> None:
    try:
        rules = parse_egress(text)
    except UsageError:
        return
    decide(Policy(egress=rules), "tcp", ip_address("10.0.0.1"), 80)


def test_ports_of_the_host() -> None:
    assert parse_host_access([]) == NO_PORTS
    assert parse_host_access(["all"]) == ALL_PORTS
    assert parse_host_access([5432, "8000-8010"]) == ((5432, 5432), (8000, 8010))
    for word in ("http", "0", "70000", "5-", "-5", ""):
        with pytest.raises(UsageError, match="not a port"):
            parse_host_access([word])


def test_each_source_has_the_policy_of_its_network() -> None:
    told: list[str] = []
    one = NetworkDef(name="one", id="1" * 64, options={"egress": "allow udp *"})
    bad = NetworkDef(name="bad", id="2" * 64, options={"egress": "what"})
    networks = {"10.0.0.1": one, "10.0.0.2": bad}
    policies = Policies(networks.get, ((80, 80),), True, told.append)
    assert policies("10.0.0.9") is None
    first = policies("10.0.0.1")
    assert first is not None
    assert first is policies("10.0.0.1")
    assert said(first, "8.8.8.8", 53, "udp").action == ALLOW
    assert said(first, "8.8.8.8", 53, "tcp").action == PROHIBIT
    assert first.host_access == ((80, 80),)
    assert said(policies("10.0.0.2"), "8.8.8.8").action == PROHIBIT
    policies("10.0.0.2")
    assert len(told) == 1
    networks["10.0.0.1"] = NetworkDef(name="one", id="1" * 64, internal=True)
    changed = policies("10.0.0.1")
    assert changed is not None
    assert changed.internal
