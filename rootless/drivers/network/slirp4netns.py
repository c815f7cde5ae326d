"""The slirp4netns program: a TCP/IP stack in user space behind a TAP interface, for the realm or one container.

Slower than the others, and steady.  Its windows hold 64 KiB, so that a flow's speed falls with distance.
"""

from __future__ import annotations

import ipaddress

from rootless import jsonc
from rootless.errors import UsageError

from .base import (
    SUBNET,
    TAP,
    Beside,
    Command,
    Probe,
    UplinkDriver,
    check_ports,
    judge_program,
    require_program,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.facts import HostFacts
    from rootless.plan.network import Port
    from rootless.plan.tape import Op

API = "slirp.sock"
READY_FD = 3
NAME = "slirp4netns"
FLAGS = {"true": True, "false": False}


class Options:
    """What ``slirp4netns:OPTIONS`` says, with podman's words and defaults."""

    __slots__ = ("cidr", "host_loopback", "ipv6", "mtu", "outbound", "outbound6")

    def __init__(self, words: Sequence[str]) -> None:
        """Raises UsageError."""
        self.cidr = ipaddress.IPv4Network("10.0.2.0/24")
        self.host_loopback = False
        self.ipv6 = True
        self.mtu = 65520
        self.outbound = self.outbound6 = ""
        for word in words:
            key, equals, value = word.partition("=")
            if not equals or not value:
                raise UsageError(f"invalid {NAME} option {word!r}: it has to be KEY=VALUE")
            self._take(key, value)
        if self.outbound6 and not self.ipv6:
            raise UsageError(f"invalid {NAME} option outbound_addr6: enable_ipv6 has to be true")

    def _take(self, key: str, value: str) -> None:
        if key == "mtu":
            self.mtu = int(value) if value.isascii() and value.isdigit() else 0
            if not 576 <= self.mtu <= 65521:
                raise _wrong(key, value, "it has to be a number from 576 to 65521")
        elif key == "cidr":
            try:
                self.cidr = ipaddress.IPv4Network(value)
            except ValueError as error:
                raise _wrong(key, value, str(error).lower()) from None
            if not 1 <= self.cidr.prefixlen <= 25:  # its own addresses have fixed places in it
                raise _wrong(key, value, "it has to be of 1 to 25 bits")
        elif key in ("allow_host_loopback", "enable_ipv6"):
            if value not in FLAGS:
                raise _wrong(key, value, "it has to be true or false")
            setattr(self, {"enable_ipv6": "ipv6"}.get(key, "host_loopback"), FLAGS[value])
        elif key == "port_handler":
            if value not in (NAME, "rootlesskit"):  # it makes no difference here
                raise _wrong(key, value, f"it has to be {NAME} or rootlesskit")
        elif key in ("outbound_addr", "outbound_addr6"):
            six = key.endswith("6")
            _check_outbound(key, value, 6 if six else 4)
            setattr(self, "outbound6" if six else "outbound", value)
        else:
            raise UsageError(f"unknown option for {NAME}: {key!r}")

    def host(self, number: int) -> str:
        """Address NUMBER of the network: 2 is the gateway, 3 answers names, 100 is the container."""
        return str(self.cidr.network_address + number)


def _wrong(key: str, value: str, why: str) -> UsageError:
    return UsageError(f"invalid {NAME} option {key}={value}: {why}")


def _check_outbound(key: str, value: str, version: int) -> None:
    """An address of that version, or the name of an interface."""
    try:
        good = ipaddress.ip_address(value).version == version
    except ValueError:
        good = len(value) < 16 and "/" not in value and ":" not in value and value[:1] != "-"
    if not good:
        raise _wrong(key, value, f"it has to be an IPv{version} address or an interface")


class Slirp4netnsUplink(UplinkDriver):
    """One slirp4netns for the realm's network namespace."""

    name = "slirp4netns"
    program = True

    def probe(self, facts: HostFacts) -> Probe:
        """Usable where it is installed and knows the options, and bridges, TAP and masquerading work."""
        return judge_program(facts, "slirp4netns", "slirp4netns")

    def plan(
        self, options: list[str], ports: list[Port], mac: str, directory: str, facts: HostFacts
    ) -> Beside:
        """Its ports are published one by one when it runs, on IPv4 addresses only."""
        require_program(facts, NAME, NAME)
        check_ports(facts, NAME, ports)
        chosen = Options(options)
        argv = [facts.slirp4netns, "--configure", f"--mtu={chosen.mtu}", f"--cidr={chosen.cidr}"]
        argv += ["--enable-sandbox", "--enable-seccomp", f"--ready-fd={READY_FD}"]
        for word, wanted in (
            ("--enable-ipv6", chosen.ipv6),
            ("--disable-host-loopback", not chosen.host_loopback),
            (f"--outbound-addr={chosen.outbound}", chosen.outbound),
            (f"--outbound-addr6={chosen.outbound6}", chosen.outbound6),
            (f"--macaddress={mac}", mac),
            (f"--api-socket={API}", ports),
        ):
            if wanted:
                argv.append(word)
        argv += ["--netns-type=path", "netns", TAP]
        start: Op = ("net_program", (directory, "netns", f"{NAME}.log", READY_FD, argv))
        after: list[Op] = [("net_ready", ())]
        after += [_publish(port, f"{directory}/{API}", chosen.host(100)) for port in ports]
        return Beside([start], after, chosen.host(3))

    def command(self, facts: HostFacts, namespace: str) -> Command:
        """Its interface is configured by us, as netd knows what the realm's routes are."""
        argv = [facts.slirp4netns, f"--mtu={self.mtu}", f"--cidr={SUBNET}", "--enable-ipv6"]
        argv += ["--disable-host-loopback", "--enable-sandbox", "--enable-seccomp"]
        return Command([*argv, "--netns-type=path", namespace, TAP])


def _publish(port: Port, api: str, guest: str) -> Op:
    """The operation that has one port published; raises UsageError for one on an IPv6 address."""
    if ":" in port.host_ip:
        raise UsageError(f"cannot publish on {port.host_ip}: {NAME} listens on IPv4 addresses only")
    address = port.host_ip or "0.0.0.0"
    asked = {
        "proto": port.protocol,
        "host_addr": address,
        "host_port": port.host_port,
        "guest_addr": guest,
        "guest_port": port.container_port,
    }
    text = jsonc.dumps({"execute": "add_hostfwd", "arguments": asked})
    behind = f"{guest}:{port.container_port}/{port.protocol}"
    what = f"failed to bind host port for {address}:{port.host_port}:{behind}"
    return ("net_request", (api, text, what))
