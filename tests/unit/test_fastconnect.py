"""The rules of fast=connect against the policy of the network service, and what is refused."""

from __future__ import annotations

import struct
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.drivers.network.netd import policy
from rootless.engine import fastconnect as engine
from rootless.errors import HostError, UsageError
from rootless.facts import HostFacts
from rootless.plan import fastconnect as plan
from rootless.plan.fastconnect import BOUND, LOCKED, OWN
from rootless.plan.network import NetworkDef, Subnet
from rootless.plan.request import RunRequest

ADDRESSES = [
    *("10.1.2.3", "10.1.3.3", "8.8.8.8", "127.0.0.1", "0.0.0.0", "169.254.169.254", "169.254.1.2"),
    *("172.18.0.9", "172.19.0.9", "224.0.0.1", "255.255.255.255", "100.100.100.200", "192.168.1.1"),
    *("::1", "::", "fe80::1", "2001:db8::1", "fd00::9", "64:ff9b::7f00:1", "64:ff9b::a01:203"),
    *("fd00:ec2::254", "ff02::1", "fd01::5"),
]
EGRESS = ["", "none", "deny 10.1.0.0/16; allow *", "allow tcp 10.1.2.0/24:443; allow udp *:53"]
EGRESS += ["deny tcp *:25", "allow tcp [2001:db8::/32]:80-90; deny *", "deny icmp *", "allow *:443"]


def network(name: str = "n", **options: Any) -> NetworkDef:
    subnets = options.pop("subnets", [Subnet("172.18.0.0/16"), Subnet("fd00::/64")])
    return NetworkDef(name=name, id="0" * 64, subnets=subnets, **options)


def way(rules: list[plan.AddressRule], address: str, port: int) -> int:
    """As helpers/launch_connect_rules.c finds it."""
    packed = ip_address(address).packed
    for rule in rules:
        if len(rule.address) == len(packed) and rule.first <= port <= rule.last:
            bits = f"{int.from_bytes(packed, 'big'):0{8 * len(packed)}b}"
            mine = f"{int.from_bytes(rule.address, 'big'):0{8 * len(packed)}b}"
            if bits[: rule.prefix] == mine[: rule.prefix]:
                return rule.way
    return OWN


@given(
    address=st.sampled_from(ADDRESSES) | st.ip_addresses().map(str),
    port=st.sampled_from([1, 25, 53, 80, 85, 443, 65535]),
    egress=st.sampled_from(EGRESS),
    metadata=st.booleans(),
)
def test_they_say_what_the_service_says(
    address: str, port: int, egress: str, metadata: bool
) -> None:
    own = network(options={"egress": egress} if egress else {})
    other = network("other", subnets=[Subnet("172.19.0.0/16"), Subnet("fd01::/64")])
    found = way(engine.rules([own], [own, other], metadata=metadata), address, port)
    wanted = policy.Policy(egress=policy.parse_egress(egress), metadata=metadata)
    verdict = policy.decide(wanted, "tcp", ip_address(address), port)
    inside = any(
        ip_address(address) in ip_network(subnet.subnet)
        for one in (own, other)
        for subnet in one.subnets
        if ip_address(address).version == subnet.version
    )
    translated = ip_address(address).version == 6 and address.startswith("64:ff9b:")
    if verdict == policy.Verdict(policy.ALLOW, address) and not inside and not translated:
        assert found == (LOCKED if egress else BOUND)
    else:
        assert found == OWN


def test_networks_without_a_way_out() -> None:
    inner = network("inner", internal=True)
    limited = network("limited", options={"egress": "allow *:443"})
    assert engine.rules([], [], metadata=False) == []
    assert engine.rules([inner], [inner], metadata=False) == []
    assert engine.rules([limited, network()], [], metadata=False) == []
    assert way(engine.rules([inner, network()], [], metadata=False), "8.8.8.8", 1) == BOUND
    assert way(engine.rules([inner, limited], [], metadata=False), "8.8.8.8", 443) == LOCKED
    assert way(engine.rules([inner, limited], [], metadata=False), "8.8.8.8", 80) == OWN


def test_address_families_that_the_networks_have() -> None:
    four = network(subnets=[Subnet("172.18.0.0/16")])
    rules = engine.rules([four], [], metadata=False)
    assert way(rules, "8.8.8.8", 80) == BOUND
    assert way(rules, "2001:db8::1", 80) == OWN


def test_the_file() -> None:
    rules = [
        plan.AddressRule(b"\x0a\0\0\0", 8, LOCKED, first=1, last=2),
        plan.AddressRule(bytes(15) + b"\1", 128, OWN),
    ]
    first, second = struct.iter_unpack("<BBBBHH16s", plan.encode_rules(rules))
    assert first == (4, 8, 1, 0, 1, 2, b"\x0a" + bytes(15))
    assert second == (6, 128, 0, 0, 0, 65535, bytes(15) + b"\1")
    with pytest.raises(UsageError, match="the networks have 4097 rules"):
        plan.encode_rules([rules[0]] * 4097)


def test_what_is_loaded_survives_the_cache() -> None:
    made = plan.compile_all("x86_64")
    again = plan.FastConnect.unpack(made.pack())
    assert (again.program, again.table) == (made.program, made.table)
    assert len(made.pack()) % 8 == 0
    entries = list(struct.iter_unpack("<IIII", made.table))
    assert (0xC000003E, 42, 0, 0) in entries
    assert (0x40000003, 362, 0, 0) in entries
    assert (0x40000003, 102, 1, 0) in entries
    with pytest.raises(HostError):
        plan.compile_all("pdp11")


def facts(**values: Any) -> HostFacts:
    return HostFacts(uid=1000, gid=1000, **values)


def test_where_it_cannot_be_had() -> None:
    plan.check(facts(kernel=(5, 9, 0)), one_id=False)
    for missing in (facts(kernel=(5, 8, 0)), facts(seccomp_notify=False)):
        with pytest.raises(HostError, match="cannot use fast=connect"):
            plan.check(missing, one_id=False)
    with pytest.raises(UsageError, match="in a container of one ID"):
        plan.check(facts(), one_id=True)


class Context:
    """As much of a context as is asked for."""

    def __init__(self, *networks: NetworkDef) -> None:
        self.facts = facts()
        self.networks = self
        self._networks = {network.name: network for network in networks}

    def resolve(self, name: str) -> NetworkDef:
        return self._networks[name]


def test_what_is_refused_at_creation(monkeypatch: pytest.MonkeyPatch) -> None:
    limited = network("limited", options={"egress": "allow *:443"})
    ctx: Any = Context(limited, network("free"))
    engine.settle(ctx, RunRequest(network="host"))
    engine.settle(ctx, RunRequest(network="free", network_opts={"fast": "connect"}))
    for name in ("host", "none", "container:x"):
        with pytest.raises(UsageError, match=f"cannot use fast=connect with network {name}"):
            engine.settle(ctx, RunRequest(network=name, network_opts={"fast": "connect"}))
    asked = RunRequest(network="limited", network_opts={"fast": "connect"})
    monkeypatch.setattr(engine, "_can_lock", lambda: True)
    engine.settle(ctx, asked)
    monkeypatch.setattr(engine, "_can_lock", lambda: False)
    with pytest.raises(HostError, match="limited: it has egress rules"):
        engine.settle(ctx, asked)
