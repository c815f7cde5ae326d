"""The ladder of uplinks: each rung judges the facts, and a named rung is taken or refused with a reason."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rootless.drivers import network
from rootless.engine import attach
from rootless.errors import HostError, RootlessError, UsageError
from rootless.facts import HostFacts
from rootless.linux import probe_network
from rootless.plan.network import Port

ALL = HostFacts(
    uid=1000, gid=1000, pasta="/usr/bin/pasta", slirp4netns="/usr/bin/slirp4netns",
    slirp4netns_version="1.2.0",
)  # fmt: skip
NO_RELAY = {"net_relay": False, "net_relay_error": "cannot take over connections (tproxy): no"}
NO_BRIDGE = {**NO_RELAY, "net_bridge": False, "net_bridge_error": "cannot make a bridge: no"}

NO_NFT = {**NO_BRIDGE, "nft": "", "net_bridge_error": "nftables is not installed"}
FULL = {**NO_BRIDGE, "nft": "", "net_bridge_error": "cannot make namespaces: no (ENOSPC)"}


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, "relay"),
        (NO_RELAY, "pasta"),
        ({**NO_RELAY, "pasta": ""}, "slirp4netns"),
        ({**NO_RELAY, "pasta_lacks": ("--no-map-gw",)}, "slirp4netns"),
        ({**NO_RELAY, "net_tun": False}, "host"),
        ({**NO_RELAY, "net_nat": False}, "host"),
        ({**NO_RELAY, "pasta": "", "slirp4netns": ""}, "host"),
        (NO_BRIDGE, "host"),
        (NO_NFT, "host"),
        ({"userns_error": "refused"}, "host"),
        # What the others lack is nothing to the relay.
        ({"net_tun": False, "net_nat": False, "pasta": "", "slirp4netns": ""}, "relay"),
    ],
)
def test_the_best_that_works_is_chosen(changes: dict[str, Any], wanted: str) -> None:
    facts = ALL.replace(**changes)
    assert network.choose("auto", facts).name == network.choose("", facts).name == wanted
    for setting in ("auto", "", "relay"):
        ctx: Any = SimpleNamespace(facts=facts, settings={"network.uplink": setting})
        assert attach.relayed(ctx) == (wanted == "relay" and setting != "relay")


@pytest.mark.parametrize(
    ("name", "changes", "reason", "hint"),
    [
        ("relay", NO_RELAY, "tproxy", "modprobe -a af_packet nft_tproxy nft_socket"),
        ("relay", NO_BRIDGE, "cannot make a bridge: no", "modprobe -a bridge"),
        ("relay", FULL, "cannot make namespaces", "sysctl -w user.max_net_namespaces="),
        ("relay", NO_NFT, "nftables is not installed", "package nftables"),
        ("pasta", NO_NFT, "nftables is not installed", "package nftables"),
        ("pasta", {"pasta": ""}, "pasta is not installed", "package passt"),
        ("pasta", {"net_tun": False}, "/dev/net/tun does not open", "chmod 0666 /dev/net/tun"),
        ("pasta", {"net_nat": False}, "masquerade", "nft_masq"),
        (
            "pasta",
            {"pasta_lacks": ("--netns-only", "--no-map-gw")},
            "/usr/bin/pasta is too old: it has no --netns-only, --no-map-gw",
            "newer package passt",
        ),
        (
            "slirp4netns",
            {"slirp4netns_lacks": ("--cidr",)},
            "slirp4netns 1.2.0 is too old: it has no --cidr",
            "newer package slirp4netns",
        ),
        ("slirp4netns", {"slirp4netns": ""}, "slirp4netns is not installed", "slirp4netns"),
        ("slirp4netns", {"userns_error": "refused"}, "there are no user namespaces", ""),
    ],
)
def test_a_named_uplink_that_does_not_work_is_refused(
    name: str, changes: dict[str, Any], reason: str, hint: str
) -> None:
    with pytest.raises(HostError) as caught:
        network.choose(name, ALL.replace(**changes))
    assert str(caught.value).startswith(f"cannot use network uplink {name}: ")
    assert reason in str(caught.value)
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("name", network.REGISTRY)
def test_every_uplink_can_be_named(name: str) -> None:
    one = network.choose(name, ALL)
    assert (one.name, one.bridges) == (name, name != "host")


def test_an_unknown_uplink_is_a_mistake() -> None:
    with pytest.raises(UsageError) as caught:
        network.choose("vpnkit", ALL)
    assert "known are auto, relay, pasta, slirp4netns, host" in str(caught.value)


def test_the_notice_says_why_and_what_helps() -> None:
    said = network.host_notice(ALL.replace(**NO_NFT))
    assert said == (
        "containers share the host's network, as there can be no bridges here: "
        "nftables is not installed; install the package nftables"
    )


# What is asked of the programs.


def script(directory: Path, name: str, text: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is the first of PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_options_that_a_program_lacks_are_found(programs: Path) -> None:
    offers = [one for one in probe_network.NEEDED["pasta"] if one != "--no-map-gw"]
    script(
        programs,
        "pasta",
        f'case $1 in --version) echo "pasta 0.0~git2021"; exit 0;; esac\n'
        f'echo "{" ".join(offers)}" >&2; exit 1',
    )
    found = probe_network.program("pasta")
    assert found == (str(programs / "pasta"), "0.0~git2021", ("--no-map-gw",))


def test_the_version_is_read_where_there_is_one(programs: Path) -> None:
    script(programs, "slirp4netns", 'echo "slirp4netns version 0.4.3"; echo "commit: 99"')
    path, version, lacks = probe_network.program("slirp4netns")
    assert (path, version) == (str(programs / "slirp4netns"), "0.4.3")
    assert lacks == probe_network.NEEDED["slirp4netns"]


def test_a_program_that_cannot_be_executed_is_too_old(programs: Path) -> None:
    path = programs / "slirp4netns"
    path.write_bytes(b"\x7fELF of another machine")
    path.chmod(0o755)
    assert probe_network.program("slirp4netns")[1:] == (
        "",
        probe_network.NEEDED["slirp4netns"],
    )


def test_a_trial_that_did_not_start_gives_the_launchers_reason() -> None:
    found = probe_network.try_networks(ALL, lambda ops: (1, "cannot make namespaces: no"))
    assert found == {"bridge": "cannot make namespaces: no"}


def test_what_play_raises_is_not_lost() -> None:
    def play(ops: object) -> tuple[int, str]:
        raise HostError("cannot execute launch")

    search = probe_network.Search(HostFacts(uid=1, gid=1), play)
    with pytest.raises(HostError):
        search.finish()


# For one container.


def argv_of(name: str, options: list[str], *ports: Port, mac: str = "", **facts: Any) -> list[str]:
    beside = network.driver(name).plan(options, list(ports), mac, "/run/c", ALL.replace(**facts))
    (operation,) = beside.before
    assert operation[:1] == ("net_program",)
    assert beside.after[0] == ("net_ready", ())
    found: list[str] = operation[1][4]
    return found


def test_pasta_forwards_nothing_unless_told() -> None:
    argv = argv_of("pasta", [])
    assert argv[-8:] == ["-t", "none", "-u", "none", "-T", "none", "-U", "none"]
    assert "--no-map-gw" in argv
    argv = argv_of("pasta", ["--map-gw", "-T", "5001"], Port("::1", 8080, 80), Port("", 53, 53, "udp"),
                   low_port=0)  # fmt: skip
    assert "--no-map-gw" not in argv
    assert "--map-gw" not in argv
    text = " ".join(argv)
    assert "-t ::1/8080:80" in text
    assert "-u 53:53" in text
    assert text.endswith("-U none")
    assert text.count("-T ") == 1


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ([], "169.254.1.1"),
        (["--dns-forward", "10.1.1.1"], "10.1.1.1"),
        (["--dns-forward=10.1.1.2"], "10.1.1.2"),
    ],
)
def test_pastas_name_server(options: list[str], wanted: str) -> None:
    beside = network.driver("pasta").plan(options, [], "", "/run/c", ALL)
    assert beside.nameserver == wanted


@pytest.mark.parametrize("word", ["--netns=/x", "-P", "--userns", "1234", "--help"])
def test_options_of_pasta_that_are_ours(word: str) -> None:
    with pytest.raises(UsageError, match="invalid pasta option"):
        argv_of("pasta", [word])


def test_slirps_options_are_podmans() -> None:
    argv = argv_of("slirp4netns", [])
    assert {"--enable-ipv6", "--disable-host-loopback", "--mtu=65520"} < set(argv)
    words = ["allow_host_loopback=true", "enable_ipv6=false", "mtu=1500", "cidr=10.9.0.0/20"]
    words += ["outbound_addr=eth0", "port_handler=rootlesskit"]
    argv = argv_of("slirp4netns", words, mac="02:00:00:00:00:01")
    assert not {"--enable-ipv6", "--disable-host-loopback"} & set(argv)
    assert {"--mtu=1500", "--cidr=10.9.0.0/20", "--outbound-addr=eth0"} < set(argv)
    assert "--macaddress=02:00:00:00:00:01" in argv
    beside = network.driver("slirp4netns").plan(words, [], "", "/run/c", ALL)
    assert beside.nameserver == "10.9.0.3"


@pytest.mark.parametrize(
    "word",
    [
        *("bogus=1", "mtu", "mtu=", "mtu=x", "mtu=99999", "mtu=-5", "cidr=10.0.2.1/24", "cidr=x"),
        *("cidr=10.0.2.0/26", "cidr=fd00::/64", "enable_ipv6=1", "allow_host_loopback=yes"),
        *("port_handler=iptables", "outbound_addr=fd00::1", "outbound_addr6=10.0.0.1"),
        *("outbound_addr=--x", "outbound_addr=averyverylonginterface"),
    ],
)
def test_options_of_slirp_that_make_no_sense(word: str) -> None:
    with pytest.raises(UsageError, match="option"):
        argv_of("slirp4netns", [word])


def test_an_ipv6_outbound_address_needs_ipv6() -> None:
    words = ["outbound_addr6=fd00::1"]
    assert "--outbound-addr6=fd00::1" in argv_of("slirp4netns", words)
    with pytest.raises(UsageError, match="enable_ipv6"):
        argv_of("slirp4netns", [*words, "enable_ipv6=false"])


@pytest.mark.parametrize("name", ["pasta", "slirp4netns"])
@pytest.mark.parametrize(
    ("port", "wanted"),
    [
        (Port("", 8080, 80, "sctp"), "knows tcp and udp only"),
        (Port("", 8080, 80, "tcp", True), "publishes ports by itself"),
        (Port("", 0, 80), "has to be told a host port"),
        (Port("", 80, 80), "cannot expose privileged port 80"),
    ],
)
def test_ports_that_a_program_cannot_publish(name: str, port: Port, wanted: str) -> None:
    with pytest.raises(RootlessError, match=wanted):
        argv_of(name, [], port)


def test_slirp_publishes_on_ipv4_only() -> None:
    with pytest.raises(UsageError, match="IPv4 addresses only"):
        argv_of("slirp4netns", [], Port("::1", 8080, 80))


@pytest.mark.parametrize("name", ["pasta", "slirp4netns"])
def test_a_container_alone_needs_no_bridges(name: str) -> None:
    assert argv_of(name, [], **NO_NFT, net_nat=False)[0] == f"/usr/bin/{name}"
    with pytest.raises(HostError, match=f"cannot use network {name}: {name} is not installed"):
        argv_of(name, [], **{name: ""})
    with pytest.raises(HostError, match="/dev/net/tun does not open"):
        argv_of(name, [], net_tun=False)
