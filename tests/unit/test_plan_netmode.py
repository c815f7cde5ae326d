"""--network and its companions, and what the network service is asked for in the end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rootless.cli import commands, parse, request
from rootless.config import defaults
from rootless.config.settings import Settings
from rootless.errors import UsageError
from rootless.plan import attach, netmode
from rootless.plan.image import ImageConfig
from rootless.plan.network import AttachRequest, EndpointWish, Port
from rootless.plan.request import RunRequest

SETTINGS = Settings(dict(defaults.DEFAULTS), {})


def asked(*flags: str) -> RunRequest:
    """The request of `rootless create FLAGS image`, as it comes back from its record."""
    command = commands.find("create")
    assert command is not None
    built = request.build(parse.parse(command, [*flags, "image"]), {}, SETTINGS)
    netmode.check_conflicts(built)
    return RunRequest.from_dict(json.loads(json.dumps(built.to_dict())))


def attached(made: RunRequest, **image: Any) -> dict[str, Any]:
    config = ImageConfig.from_dict({"config": image})
    found = attach.attach_request(
        made, config, container_id="ab" * 32, name="web", hostname="h", directory="/c"
    )
    assert found is not None
    again = AttachRequest.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.to_dict() == found.to_dict()
    return found.to_dict()


def wish(network: str, **values: Any) -> dict[str, Any]:
    return EndpointWish(network, **values).to_dict()


@pytest.mark.parametrize(
    ("flags", "mode", "wishes"),
    [
        ([], "default", [wish("bridge")]),
        (["--network", "bridge"], "bridge", [wish("bridge")]),
        (["--net=default"], "default", [wish("bridge")]),
        (["--network", "none"], "none", []),
        (["--network", "host"], "host", []),
        (["--network", "container:db"], "container:db", []),
        (["--network", "pasta"], "pasta", []),
        (["--network", "pasta:--mtu,1500"], "pasta:--mtu,1500", []),
        (
            ["--network", "slirp4netns:mtu=1500,cidr=10.0.2.0/24"],
            "slirp4netns:mtu=1500,cidr=10.0.2.0/24",
            [],
        ),
        (["--network", "back"], "back", [wish("back")]),
        (
            [
                "--network",
                "back",
                "--network-alias",
                "db",
                "--net-alias",
                "sql",
                "--ip",
                "10.0.0.5",
            ],
            "back",
            [wish("back", aliases=["db", "sql"], ip="10.0.0.5")],
        ),
        (
            ["--network", "back", "--ip6", "FD00::5", "--mac-address", "02-42-AC-11-00-02"],
            "back",
            [wish("back", ip6="fd00::5", mac="02:42:ac:11:00:02")],
        ),
        (
            ["--network", "name=back,alias=db,alias=sql,ip=10.0.0.5,gw-priority=-2"],
            "back",
            [wish("back", aliases=["db", "sql"], ip="10.0.0.5", gw_priority=-2)],
        ),
        (
            [
                "--network",
                "name=back",
                "--network",
                "name=front,alias=w",
                "--link-local-ip",
                "169.254.9.9",
            ],
            "back",
            [wish("back", link_local_ips=["169.254.9.9"]), wish("front", aliases=["w"])],
        ),
        (
            ["--network", 'name=back,"driver-opt=com.example.x=a=1,b=2"'],
            "back",
            [wish("back", driver_opts={"com.example.x": "a=1,b=2"})],
        ),
        (["--network", "back", "--link", "db:sql"], "back", [wish("back", links=["db:sql"])]),
        (
            ["--mac-address", "02:42:ac:11:00:02"],
            "default",
            [wish("bridge", mac="02:42:ac:11:00:02")],
        ),
    ],
)
def test_networks_are_read(flags: list[str], mode: str, wishes: list[dict[str, Any]]) -> None:
    made = asked(*flags)
    assert made.network == mode
    assert [one.to_dict() for one in attach.wishes(made)] == wishes
    if wishes:
        assert attached(made)["networks"] == wishes


INVALID = "invalid endpoint settings: "
BOTH = "conflicting options: cannot specify both "


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--network", "alias=x"], "network name/id is not specified"),
        (["--network", "name=a,x"], "invalid field x"),
        (["--network", "name=a,colour=red"], "invalid field key colour"),
        (["--network", "name=a,gw-priority=x"], "invalid gw-priority: invalid syntax"),
        (["--network", "name=a,driver-opt=x"], "invalid key value pair format in driver options"),
        (
            ["--network", 'name=a,"alias=x'],
            "invalid --network 'name=a,\"alias=x': a quote is not closed",
        ),
        (["--network", "a", "--network", "a"], 'network "a" is specified multiple times'),
        (
            ["--network", "a", "--network", "bridge"],
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        ),
        (
            ["--network", "host", "--network", "none"],
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        ),
        (
            ["--network-alias", "x"],
            "network-scoped aliases are only supported for user-defined networks",
        ),
        (
            ["--network", "host", "--network-alias", "x"],
            "network-scoped aliases are only supported for user-defined networks",
        ),
        (
            ["--ip", "1.2.3.4"],
            INVALID + "user specified IP address is supported on user defined networks only",
        ),
        (["--network", "a", "--ip", "1.2.3"], INVALID + "invalid IPv4 address: 1.2.3"),
        (["--network", "a", "--ip", "0.0.0.0"], INVALID + "invalid IPv4 address: 0.0.0.0"),
        (["--network", "a", "--ip", "::1"], INVALID + "invalid IPv4 address: ::1"),
        (["--network", "a", "--ip6", "1.2.3.4"], INVALID + "invalid IPv6 address: 1.2.3.4"),
        (["--network", "a", "--link-local-ip", "x"], INVALID + "invalid link-local IP address: x"),
        (["--mac-address", "x"], "x is not a valid mac address"),
        (
            ["--mac-address", "01:00:5e:00:00:01"],
            "01:00:5e:00:00:01 is not a valid mac address: no interface can have it",
        ),
        (
            ["--network", "name=a,alias=x", "--network-alias", "y"],
            BOTH + "--network-alias and per-network alias",
        ),
        (
            ["--network", "name=a,ip=10.0.0.1", "--ip", "10.0.0.2"],
            BOTH + "--ip and per-network IPv4 address",
        ),
        (["--link", "a:b:c"], "bad format for links: a:b:c"),
        (["--link", ":b", "--network", "a"], "bad format for links: :b"),
        (["-p", "x"], "invalid containerPort: x"),
        (["--expose", "x:1"], "invalid port format for --expose: x:1"),
        (["--dns", "x"], 'invalid argument "x" for "--dns" flag: x is not an ip address'),
        (
            ["--dns-search", "a..b"],
            'invalid argument "a..b" for "--dns-search" flag: a..b is not a valid domain',
        ),
        (
            ["--add-host", "x"],
            'invalid argument "x" for "--add-host" flag: bad format for add-host: "x"',
        ),
        (
            ["--add-host", "a=b"],
            'invalid argument "a=b" for "--add-host" flag: invalid IP address in add-host: "b"',
        ),
        (
            ["--network", "container:"],
            "invalid network mode: invalid container format container:<name|id>",
        ),
        (
            ["--network", "container:x", "-p", "80"],
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            ["--network", "container:x", "-P"],
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            ["--network", "container:x", "--expose", "80"],
            "conflicting options: port exposing and the container type network mode",
        ),
        (
            ["--network", "container:x", "-h", "y"],
            "conflicting options: hostname and the network mode",
        ),
        (
            ["--network", "container:x", "--dns", "1.1.1.1"],
            "conflicting options: dns and the network mode",
        ),
        (
            ["--network", "container:x", "--add-host", "a:1.1.1.1"],
            "conflicting options: custom host-to-IP mapping and the network mode",
        ),
        (
            ["--network", "container:x", "--mac-address", "02:42:ac:11:00:02"],
            "conflicting options: mac-address and the network mode",
        ),
        (
            ["--network", "host", "--mac-address", "02:42:ac:11:00:02"],
            "conflicting options: mac-address and the network mode",
        ),
        (
            ["--network", "host", "--link", "x"],
            "conflicting options: host type networking can't be used with links. "
            "This would result in undefined behavior",
        ),
        (
            ["--network", "container:x", "--link", "x"],
            "conflicting options: container type network can't be used with links. "
            "This would result in undefined behavior",
        ),
    ],
)
def test_what_docker_refuses_is_refused_in_its_words(flags: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        asked(*flags)
    assert str(error.value) == message
    assert error.value.code == 125


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a:1.2.3.4", "a:1.2.3.4"),
        ("a=1.2.3.4", "a:1.2.3.4"),
        ("a:::1", "a:::1"),
        ("a=::1", "a:::1"),
        ("a:[::1]", "a:::1"),
        ("a:host-gateway", "a:host-gateway"),
    ],
)
def test_add_host_takes_both_separators(text: str, wanted: str) -> None:
    assert asked("--add-host", text).add_hosts == [wanted]


def test_a_link_on_the_default_network_is_kept() -> None:
    assert attached(asked("--link", "db"))["networks"] == [wish("bridge", links=["db:db"])]


def test_dns_flags_are_kept() -> None:
    made = asked("--dns", "1.1.1.1", "--dns=::1", "--dns-search", "a.test", "--dns-opt", "ndots:2")
    assert (made.dns, made.dns_search, made.dns_options) == (
        ["1.1.1.1", "::1"],
        ["a.test"],
        ["ndots:2"],
    )
    assert asked("--dns-search", ".").dns_search == ["."]


def test_the_service_is_asked_for_all_of_it() -> None:
    made = asked(
        *("--network", "back", "-p", "8080:80", "-P", "--expose", "9000", "--dns", "1.1.1.1"),
        *("--add-host", "a=host-gateway", "--domainname", "d.test"),
    )
    found = attached(made, ExposedPorts={"80/tcp": {}, "53/udp": {}})
    assert found["ports"] == [
        Port("", 8080, 80).to_list(),
        Port("", 0, 53, "udp").to_list(),
        Port("", 0, 9000).to_list(),
    ]
    assert (found["id"], found["name"], found["hostname"], found["directory"]) == (
        *("ab" * 32, "web", "h", "/c"),
    )
    assert (found["domainname"], found["dns"], found["hosts"]) == (
        *("d.test", ["1.1.1.1"], ["a:host-gateway"]),
    )


def test_a_container_without_a_network_asks_for_nothing() -> None:
    for mode in ("none", "host", "container:x", "pasta", "slirp4netns:mtu=1500"):
        assert attach.wishes(asked("--network", mode)) == []
        image = ImageConfig.from_dict({})
        assert (
            attach.attach_request(
                asked("--network", mode),
                image,
                container_id="x",
                name="",
                hostname="",
                directory="",
            )
            is None
        )


def test_a_mac_address_of_pasta_is_kept() -> None:
    made = asked("--network", "pasta", "--mac-address", "02:42:AC:11:00:02")
    assert (made.mac, made.endpoints) == ("02:42:ac:11:00:02", [])


def test_old_records_are_read() -> None:
    old = {
        key: value
        for key, value in RunRequest(network="host").to_dict().items()
        if key not in ("endpoints", "publish_all", "links", "mac")
    }
    assert RunRequest.from_dict(old).endpoints == []


def test_sysctls_of_an_interface() -> None:
    good = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.neigh.IFNAME.delay_first_probe_time=3"
    asked = EndpointWish("a", driver_opts={netmode.SYSCTLS: good})
    assert netmode.endpoint_sysctls(asked, "eth7") == [
        ("ipv4/conf/eth7/log_martians", "1"),
        ("ipv6/neigh/eth7/delay_first_probe_time", "3"),
    ]
    for bad in (
        *("kernel.x=1", "net.ipv4.conf.eth0.x=1", "net.ipv4.conf.IFNAME.x", "net.ipv4.IFNAME.x=1"),
        *("net.ipv4.conf.IFNAME./../x=1", "net...IFNAME.=1", "net.ipv4.conf.IFNAME.x.y=1"),
    ):
        with pytest.raises(UsageError, match="unrecognised network interface sysctl"):
            netmode.endpoint_sysctls(EndpointWish("a", driver_opts={netmode.SYSCTLS: bad}), "eth0")
