"""Our few netlink messages, seen by pyroute2: interfaces, addresses, routes and rules are what was meant."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Callable
from typing import Any

import netrig
import pytest

from rootless.drivers.network.netd import dns_sockets
from rootless.linux import nfnetlink
from rootless.linux.netlink import NOARP, UP, Batch, Netlink, NetlinkError

pytestmark = pytest.mark.requires("userns")


def send(fill: Callable[[Batch], object]) -> None:
    batch = Batch()
    fill(batch)
    connection = Netlink()
    connection.send(batch)
    connection.close()


def attributes(message: Any) -> dict[str, Any]:
    return dict(message["attrs"])


def test_what_is_made_is_what_was_meant() -> None:
    netrig.apart(_made)


def _made() -> None:
    from pyroute2 import IPRoute

    peer_fd = netrig.namespace()

    def fill(batch: Batch) -> None:
        batch.bridge("br0", 100, "02:42:0a:00:00:01", 1400)
        batch.address(100, "10.0.0.1", 24)
        batch.address(100, "fd00::1", 64)
        batch.veth(
            "v1",
            101,
            "eth0",
            101,
            peer_fd=peer_fd,
            peer_mac="02:42:0a:00:00:02",
            mtu=1400,
            master=100,
        )
        batch.isolate(101)
        batch.veth("up0", 110, "up1", 111, flags=UP | NOARP)
        batch.set_link(111, flags=UP | NOARP, txqlen=10000)
        batch.route("0.0.0.0/0", index=110)
        batch.route("10.9.0.0/16", gateway="10.0.0.9")
        batch.local_route("0.0.0.0/0", 1, 100)
        batch.rule(4, 1, 100, 90)
        batch.rule(6, 1, 100, 90)

    send(fill)
    with IPRoute() as oracle:
        links = {attributes(link)["IFLA_IFNAME"]: link for link in oracle.get_links()}
        assert {name: link["index"] for name, link in links.items() if name != "lo"} == {
            "br0": 100,
            "v1": 101,
            "up0": 110,
            "up1": 111,
        }
        bridge = attributes(links["br0"])
        assert (bridge["IFLA_ADDRESS"], bridge["IFLA_MTU"]) == ("02:42:0a:00:00:01", 1400)
        assert attributes(links["v1"])["IFLA_MASTER"] == 100
        assert links["up0"]["flags"] & NOARP and links["up0"]["flags"] & UP
        assert attributes(links["up1"])["IFLA_TXQLEN"] == 10000
        found = {
            (attributes(one)["IFA_ADDRESS"], one["prefixlen"]) for one in oracle.get_addr(index=100)
        }
        assert {("10.0.0.1", 24), ("fd00::1", 64)} <= found
        routes = [
            (one["dst_len"], attributes(one)) for one in oracle.get_routes(family=2, table=254)
        ]
        assert any(size == 0 and one["RTA_OIF"] == 110 for size, one in routes)
        assert any(
            (size, one.get("RTA_DST"), one.get("RTA_GATEWAY")) == (16, "10.9.0.0", "10.0.0.9")
            for size, one in routes
        )
        local = list(oracle.get_routes(family=2, table=100))
        assert [(one["type"], one["dst_len"]) for one in local] == [(2, 0)], "RTN_LOCAL"
        for family in (2, 10):
            rules = [attributes(one) for one in oracle.get_rules(family=family)]
            assert any(
                (one.get("FRA_FWMARK"), one.get("FRA_TABLE"), one.get("FRA_PRIORITY"))
                == (1, 100, 90)
                for one in rules
            )
    far = netrig.Place(peer_fd)
    shown = far.run("ip", "-o", "link", "show", "eth0").stdout
    assert "02:42:0a:00:00:02" in shown and "mtu 1400" in shown


def test_our_list_is_the_oracles() -> None:
    netrig.apart(_listed)


def _listed() -> None:
    from pyroute2 import IPRoute

    with IPRoute() as oracle:
        oracle.link("add", ifname="b", kind="bridge", index=50)
        oracle.link("add", ifname="d", kind="veth", peer={"ifname": "e"}, index=51)
        oracle.link("set", index=51, master=50, state="up")
        connection = Netlink()
        ours = {(one.index, one.name, one.master, one.kind) for one in connection.links()}
        connection.close()
        theirs = set()
        for link in oracle.get_links():
            values = attributes(link)
            info = dict(values["IFLA_LINKINFO"]["attrs"]) if "IFLA_LINKINFO" in values else {}
            kind = info.get("IFLA_INFO_KIND", "")
            theirs.add((link["index"], values["IFLA_IFNAME"], values.get("IFLA_MASTER", 0), kind))
        assert ours == theirs


def test_one_refusal_does_not_hide_another() -> None:
    netrig.apart(_refused)


def _refused() -> None:
    def fill(batch: Batch) -> None:
        batch.delete_link(4711)  # gone already is fine
        batch.address(4711, "10.0.0.1", 24)
        batch.bridge("br0", 100, "02:42:0a:00:00:01", 1500)

    with pytest.raises(NetlinkError, match=r"cannot give address 10\.0\.0\.1/24") as caught:
        send(fill)
    assert caught.value.errno in (errno.ENODEV, errno.EINVAL)
    connection = Netlink()
    assert "br0" in {one.name for one in connection.links()}, "what came after it was done"
    connection.close()


def _ruleset() -> str:
    done = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.requires("nft")
def test_rules_for_names_are_what_their_text_says() -> None:
    netrig.apart(_rules)


def _rules() -> None:
    port = dns_sockets.OURS
    text = dns_sockets._rules(port, port)
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
    expected = _ruleset()
    assert f"udp dport set {port}" in expected
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    dns_sockets._QUICK.send()
    assert _ruleset() == expected
    with pytest.raises(NetlinkError, match="cannot make table rootless_names: file exists"):
        dns_sockets._QUICK.send()
    assert _ruleset() == expected
    for _ in range(3):  # the same bytes, as often as one likes
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        dns_sockets._QUICK.send()
    assert _ruleset() == expected


def test_of_a_batch_that_is_refused_nothing_is_made() -> None:
    netrig.apart(_half)


def _half() -> None:
    rules = nfnetlink.Rules(nfnetlink.IPV4, "half")
    rules.chain("here", nfnetlink.OUTPUT, 0)
    rules.rule("elsewhere", nfnetlink.protocol(), nfnetlink.equals(b"\x06"))
    with pytest.raises(NetlinkError) as caught:
        rules.send()
    assert caught.value.errno == errno.ENOENT
    assert "half" not in _ruleset()
