"""Where containers may go: one decision for each flow, whatever carries it.  Pure.

In this order, the first that says something wins:

1. what is nobody's or the host's own business is prohibited: loopback, 0.0.0.0/8, multicast, broadcast,
   link-local IPv6, and IPv6 addresses that are IPv4 in disguise;
2. an internal network reaches nothing;
3. the network's egress rules;
4. HOST_ADDRESS is the host's loopback, for the ports that ``network.host_access`` names;
5. metadata services of clouds, whose answers are credentials, are prohibited unless asked for.

The host's other addresses are like everybody else's, as with Docker.

Egress rules (``--opt egress=``) are separated by semicolons or commas, and the first that matches wins:

    allow tcp 10.0.0.0/8:443; allow udp *:53; deny *

    rule         allow|deny [tcp|udp|icmp|*] destination
    destination  *, an address or a network, then perhaps :port or :first-last; IPv6 with ports in brackets

What no rule matches gets the opposite of the last rule.  ``none`` stands for ``deny *``.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from rootless.errors import UsageError
from rootless.plan.network import HOST_ADDRESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Callable, Union

    from rootless.plan.network import NetworkDef

    Address = Union[IPv4Address, IPv6Address]
    Network = Union[IPv4Network, IPv6Network]
    Ports = tuple[tuple[int, int], ...]

EGRESS_OPTION = "egress"
ALLOW, PROHIBIT, DROP = "allow", "prohibit", "drop"
ALL_PORTS: Ports = ((0, 65535),)
NO_PORTS: Ports = ()
LOOPBACK = "127.0.0.1"  # what HOST_ADDRESS stands for

_NEVER = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32"),
        *("::/96", "::ffff:0:0/96", "fe80::/10", "ff00::/8"),
    )
)
_HOST = ip_address(HOST_ADDRESS)
_NAT64 = IPv6Network("64:ff9b::/96")

METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # nearly everybody
        *("fd00:ec2::254", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"),  # AWS; ECS and EKS
        "fd20:ce::254",  # Google
        "168.63.129.16",  # Azure's wire server
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
    )
)


class Rule:
    """One egress rule; network None is everywhere, protocol "" is every one."""

    __slots__ = ("action", "network", "ports", "protocol")

    def __init__(
        self, action: str, protocol: str, network: Network | None, ports: tuple[int, int] | None
    ) -> None:
        self.action = action
        self.protocol = protocol
        self.network = network
        self.ports = ports

    def matches(self, protocol: str, address: Address, port: int) -> bool:
        """Whether it is about this flow; PORT counts only where the protocol has ports."""
        if self.protocol and self.protocol != protocol:
            return False
        if self.ports and (protocol == "icmp" or not self.ports[0] <= port <= self.ports[1]):
            return False
        return self.network is None or (
            self.network.version == address.version and address in self.network
        )


class Policy:
    """What one network allows.

    internal     nothing leaves it
    egress       rules, the first that matches wins
    host_access  ranges of ports of the host's loopback that HOST_ADDRESS leads to
    metadata     metadata services of clouds may be asked
    """

    __slots__ = ("egress", "host_access", "internal", "metadata")

    def __init__(
        self,
        *,
        internal: bool = False,
        egress: tuple[Rule, ...] = (),
        host_access: Ports = NO_PORTS,
        metadata: bool = False,
    ) -> None:
        self.internal = internal
        self.egress = egress
        self.host_access = host_access
        self.metadata = metadata


class Policies:
    """The policy for each source address, made from the network that it is on.

    NETWORK_OF gives that network, None for an address that is no container's.  HOST_ACCESS and METADATA are the
    realm's.
    Rules that were wrong when a network was stored let nothing out; LOG is told once.
    """

    def __init__(
        self,
        network_of: Callable[[str], NetworkDef | None],
        host_access: Ports,
        metadata: bool,
        log: Callable[[str], object],
    ) -> None:
        self._network_of = network_of
        self._host_access = host_access
        self._metadata = metadata
        self._log = log
        self._made: dict[str, tuple[NetworkDef, Policy]] = {}

    def __call__(self, address: str) -> Policy | None:
        """The policy for a source address, None for an address that is no container's."""
        network = self._network_of(address)
        if network is None:
            return None
        known = self._made.get(network.id)
        if known is None or known[0] is not network:
            known = self._made[network.id] = (network, self._make(network))
        return known[1]

    def _make(self, network: NetworkDef) -> Policy:
        try:
            egress = parse_egress(network.options.get(EGRESS_OPTION, ""))
        except UsageError as error:
            self._log(f"network {network.name} lets nothing out: {error}")
            egress = parse_egress("none")
        return Policy(
            internal=network.internal,
            egress=egress,
            host_access=self._host_access,
            metadata=self._metadata,
        )


class Verdict:
    """ALLOW with the address to connect to, PROHIBIT (and say so) or DROP (in silence)."""

    __slots__ = ("action", "address")

    def __init__(self, action: str, address: str = "") -> None:
        self.action = action
        self.address = address

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Verdict) and (self.action, self.address) == (
            other.action,
            other.address,
        )

    def __hash__(self) -> int:
        return hash((self.action, self.address))

    def __repr__(self) -> str:
        return f"Verdict({self.action!r}, {self.address!r})"


_PROHIBITED = Verdict(PROHIBIT)


def decide(policy: Policy | None, protocol: str, address: Address, port: int) -> Verdict:
    """What becomes of a flow of PROTOCOL ("tcp", "udp", "icmp") to ADDRESS; POLICY None drops it."""
    if policy is None:
        return Verdict(DROP)
    if _is_never(address):
        return _PROHIBITED
    if policy.internal or not _egress(policy.egress, protocol, address, port):
        return _PROHIBITED
    if address == _HOST:
        open_ = policy.host_access
        if not (_within(port, open_) or (open_ and protocol == "icmp")):
            return _PROHIBITED
        return Verdict(ALLOW, LOOPBACK)
    if address in METADATA and not policy.metadata:
        return _PROHIBITED
    if address.version == 6 and address in _NAT64:  # a translator would take it there
        behind = IPv4Address(int(address) & 0xFFFFFFFF)
        if behind == _HOST or decide(policy, protocol, behind, port).action != ALLOW:
            return _PROHIBITED
    return Verdict(ALLOW, str(address))


def never() -> tuple[Network, ...]:
    """Addresses that mean something else here, or nothing, whatever the policy."""
    return (*_NEVER, IPv4Network(f"{_HOST}/32"), _NAT64)


def metadata() -> tuple[Network, ...]:
    """Where the metadata services of clouds are."""
    return tuple(ip_network(str(address)) for address in METADATA)


@lru_cache(4096)
def _is_never(address: Address) -> bool:
    return any(address in network for network in _NEVER if network.version == address.version)


def _within(port: int, ranges: Ports) -> bool:
    return any(first <= port <= last for first, last in ranges)


def _egress(rules: tuple[Rule, ...], protocol: str, address: Address, port: int) -> bool:
    for rule in rules:
        if rule.matches(protocol, address, port):
            return rule.action == ALLOW
    return not rules or rules[-1].action != ALLOW


# Reading them.


def parse_egress(text: str) -> tuple[Rule, ...]:
    """The rules of ``--opt egress=TEXT``; "" is none at all.  Raises UsageError."""
    if text.strip() == "none":
        return (Rule("deny", "", None, None),)
    parts = [part.strip() for part in text.replace(";", ",").split(",")]
    return tuple(_rule(part, text) for part in parts if part)


def parse_host_access(words: Iterable[object]) -> Ports:
    """Ports and ranges of ports, or the word "all"; raises UsageError."""
    found: list[tuple[int, int]] = []
    for word in words:
        text = str(word).strip()
        if text == "all":
            return ALL_PORTS
        ports = _ports(text)
        if ports is None:
            raise UsageError(
                f"invalid network.host_access: {text!r} is not a port",
                hint="for example: 5432, 8000-8010, all",
            )
        found.append(ports)
    return tuple(found)


def _rule(part: str, text: str) -> Rule:
    def wrong(reason: str) -> UsageError:
        return UsageError(
            f"invalid egress {text!r}: {reason}",
            hint="for example: allow tcp 10.0.0.0/8:443; allow udp *:53; deny *",
        )

    words = part.split()
    if words[0] not in ("allow", "deny"):
        raise wrong(f"{words[0]!r} is neither allow nor deny")
    if len(words) not in (2, 3):
        raise wrong(f"{part!r} is not an action, perhaps a protocol, and a destination")
    protocol = words[1] if len(words) == 3 else "*"
    if protocol not in ("tcp", "udp", "icmp", "*"):
        raise wrong(f"unknown protocol {protocol!r}")
    where, ports = _split(words[-1])
    pair = None
    if ports is not None:
        pair = _ports(ports)
        if pair is None:
            raise wrong(f"{ports!r} is not a port or a range of ports")
        if protocol == "icmp":
            raise wrong("icmp has no ports")
    network = None
    if where != "*":
        try:
            network = ip_network(where)
        except ValueError as error:
            raise wrong(str(error)) from None
    return Rule(words[0], protocol if protocol != "*" else "", network, pair)


def _split(text: str) -> tuple[str, str | None]:
    """Address and ports of a destination; an address with two colons has ports in brackets only."""
    if text.startswith("["):
        where, bracket, rest = text[1:].partition("]")
        if not bracket or rest[:1] not in ("", ":"):
            return text, None  # no address, which is found out
        return where, rest[1:] if rest else None
    where, colon, ports = text.partition(":")
    if not colon or ":" in ports:
        return text, None
    return where, ports


def _ports(text: str) -> tuple[int, int] | None:
    first, dash, last = text.partition("-")
    last = last if dash else first
    if not all(word.isascii() and word.isdigit() for word in (first, last)):
        return None
    pair = (int(first[:6]), int(last[:6]))
    return pair if 1 <= pair[0] <= pair[1] <= 65535 else None
