"""What an uplink is: how packets of the realm's bridges reach the outside.

A driver judges the facts (probe) and, where it is a program of the host, says how that is started (command,
for the whole realm; plan, for one container of its own).  All of that is pure.  netd/ does the rest: it
runs the relay, or starts the program and watches it.  Every driver passes tests/contract/.
"""

from __future__ import annotations

from rootless.errors import HostError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts
    from rootless.plan.network import Port
    from rootless.plan.tape import Op

TAP = "tap0"  # the interface of an uplink program in the realm
# Between the realm and the program, where nobody else is; slirp4netns fixes all but the first three bytes.
SUBNET, GUEST, GATEWAY = "169.254.2.0/24", "169.254.2.100", "169.254.2.2"
SUBNET6, GUEST6, GATEWAY6 = "fd00::/64", "fd00::100", "fd00::2"


class Probe:
    """Whether a driver can work here; REASON says why (not), HINT what an administrator could do."""

    __slots__ = ("hint", "reason", "usable")

    def __init__(self, usable: bool, reason: str = "", hint: str = "") -> None:
        self.usable = usable
        self.reason = reason
        self.hint = hint


class Command:
    """A program that connects a network namespace.

    argv      of a program of the host, which stays in the foreground
    """

    __slots__ = ("argv",)

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv


class Beside:
    """A program that connects one container's namespace, started and ended with the container.

    before       operations of the realm's root, before the container's namespaces are made
    after        operations in the container's network namespace, before the process changes its IDs
    nameserver   for resolv.conf: who passes questions on to the host's name servers
    """

    __slots__ = ("after", "before", "nameserver")

    def __init__(self, before: list[Op], after: list[Op], nameserver: str) -> None:
        self.before = before
        self.after = after
        self.nameserver = nameserver


class UplinkDriver:
    """Base of all uplinks; ``name`` is as in network.uplink and in ``info``."""

    name = ""
    bridges = True  # whether containers are on bridges; else they share the host's network
    program = False  # whether command() is to be run for the realm
    bare_resets = (
        False  # whether it may answer a SYN by a reset without ACK, which no kernel believes
    )
    mtu = 65520  # of its interface: fewer and larger packets for a program that handles each by itself

    def probe(self, facts: HostFacts) -> Probe:
        """Whether the uplink can work on this machine, as the facts have it."""
        raise NotImplementedError

    def plan(
        self, options: list[str], ports: list[Port], mac: str, directory: str, facts: HostFacts
    ) -> Beside:
        """The program for one container, as ``--network NAME:OPTIONS`` asks for it; DIRECTORY is for its files.

        Raises UsageError for options that make no sense, HostError where the program cannot be used.
        """
        raise NotImplementedError

    def command(self, facts: HostFacts, namespace: str) -> Command:
        """What connects the network namespace at the path NAMESPACE by an interface called TAP."""
        raise NotImplementedError


def judge_bridges(facts: HostFacts) -> Probe:
    """Whether there can be bridges in a namespace of ours at all, whatever the uplink."""
    if facts.userns_error:
        return Probe(False, "there are no user namespaces")
    if facts.net_bridge:
        return Probe(True)
    reason = facts.net_bridge_error
    hint = "an administrator can run: modprobe -a bridge veth nf_tables"
    if "ENOSPC" in reason:
        hint = "an administrator can run: sysctl -w user.max_net_namespaces=15000"
    elif not facts.nft:
        hint = "install the package nftables"
    return Probe(False, reason, hint)


def judge_program(facts: HostFacts, name: str, package: str, *, alone: bool = False) -> Probe:
    """Whether the uplink program NAME can be used: ALONE, for one container's namespace, or for the realm."""
    path, version, lacks = (
        getattr(facts, name),
        getattr(facts, f"{name}_version"),
        getattr(facts, f"{name}_lacks"),
    )
    bridges = Probe(not facts.userns_error, "there are no user namespaces")
    if not alone:
        bridges = judge_bridges(facts)
    if not bridges.usable:
        return bridges
    if not path:
        return Probe(False, f"{name} is not installed", f"install the package {package}")
    if lacks:
        called = f"{name} {version}" if version else path
        return Probe(
            False,
            f"{called} is too old: it has no {', '.join(lacks)}",
            f"install a newer package {package}",
        )
    if not facts.net_tun:
        return Probe(
            False,
            "/dev/net/tun does not open",
            "an administrator can run: modprobe tun && chmod 0666 /dev/net/tun",
        )
    if not alone and not facts.net_nat:
        return Probe(
            False,
            "nftables cannot masquerade here",
            "an administrator can run: modprobe -a nft_chain_nat nft_masq",
        )
    return Probe(True)


def require_program(facts: HostFacts, name: str, package: str) -> None:
    """Raise HostError unless NAME can connect a container's namespace."""
    probe = judge_program(facts, name, package, alone=True)
    if not probe.usable:
        raise HostError(f"cannot use network {name}: {probe.reason}", hint=probe.hint)


def check_ports(facts: HostFacts, name: str, ports: list[Port]) -> None:
    """Raise UsageError for ports that an uplink program cannot publish, HostError for those of root."""
    for port in ports:
        called = f"{port.container_port}/{port.protocol}"
        if port.protocol not in ("tcp", "udp"):
            raise UsageError(f"cannot publish port {called}: {name} knows tcp and udp only")
        if port.activate:
            raise UsageError(f"cannot hand in port {called}: {name} publishes ports by itself")
        if not port.host_port or port.host_end:
            raise UsageError(f"cannot publish port {called}: {name} has to be told a host port")
        if port.host_port < facts.low_port:
            number = port.host_port
            raise HostError(
                f"cannot expose privileged port {number}: ordinary users get ports from {facts.low_port} on",
                hint=f"an administrator can allow it: sysctl -w net.ipv4.ip_unprivileged_port_start={number}",
            )
