"""The pasta program (package passt): the uplink of the realm, or of one container (``--network pasta``).

It translates between a TAP interface and sockets of the host.  The realm's address is one that nobody else has,
so that the host's own stays reachable; the host's loopback is not.
"""

from __future__ import annotations

from rootless.errors import UsageError

from .base import (
    GATEWAY,
    GATEWAY6,
    GUEST,
    GUEST6,
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
    from rootless.facts import HostFacts
    from rootless.plan.network import Port
    from rootless.plan.tape import Op

NO_PORTS = ("-t", "none", "-u", "none", "-T", "none", "-U", "none")
NAMESERVER = "169.254.1.1"
# Options that say what is forwarded: into the container and out of it.  Without any it is nothing.
FORWARD = (
    ("-t", "--tcp-ports"),
    ("-u", "--udp-ports"),
    ("-T", "--tcp-ns"),
    ("-U", "--udp-ns"),
)
# What only we can know, and what would make it another program.
OURS = (
    *("-f", "--foreground", "-P", "--pid", "--netns", "--userns", "--netns-only", "--runas"),
    *("-F", "--fd", "-h", "--help", "--version"),
)


class PastaUplink(UplinkDriver):
    """One pasta for the realm's network namespace."""

    name = "pasta"
    program = True
    bare_resets = True  # seen of the version of March 2023

    def probe(self, facts: HostFacts) -> Probe:
        """Usable where it is installed and knows the options, and bridges, TAP and masquerading work."""
        return judge_program(facts, "pasta", "passt")

    def plan(
        self, options: list[str], ports: list[Port], mac: str, directory: str, facts: HostFacts
    ) -> Beside:
        """OPTIONS are pasta's own, and ``--map-gw``, without which the gateway is not the host."""
        require_program(facts, "pasta", "passt")
        check_ports(facts, "pasta", ports)
        check_options(options)
        argv = [facts.pasta, "--config-net", "--foreground", "--netns", "./netns", "--netns-only"]
        argv += ["--pid", "/dev/stdout"]  # which it writes when all is set up
        argv += [word for word in options if word != "--map-gw"]
        if "--map-gw" not in options:
            argv.append("--no-map-gw")
        nameserver = value_of(options, "--dns-forward")
        if not nameserver:
            nameserver = NAMESERVER
            argv += ["--dns-forward", nameserver]
        if mac:
            argv += ["--ns-mac-addr", mac]
        for port in ports:
            where = f"{port.host_ip}/" if port.host_ip else ""
            option = "-t" if port.protocol == "tcp" else "-u"
            argv += [option, f"{where}{port.host_port}:{port.container_port}"]
        for short, long in FORWARD:
            if short not in argv and not any(word.startswith((long, short)) for word in options):
                argv += [short, "none"]
        start: Op = ("net_program", (directory, "netns", "pasta.log", 1, argv))
        return Beside([start], [("net_ready", ())], nameserver)

    def command(self, facts: HostFacts, namespace: str) -> Command:
        """Its interface is configured by us, as netd knows what the realm's routes are."""
        argv = [facts.pasta, "--foreground", "--netns", namespace, "--netns-only"]
        argv += ["--ns-ifname", TAP, "--mtu", str(self.mtu), "--no-map-gw"]
        argv += ["--address", GUEST, "--netmask", "24", "--gateway", GATEWAY]
        argv += ["--address", GUEST6, "--gateway", GATEWAY6]
        return Command([*argv, "--no-dhcp", "--no-dhcpv6", "--no-ra", *NO_PORTS])


def check_options(options: list[str]) -> None:
    """Raise UsageError for options of pasta that are ours to give."""
    for number, word in enumerate(options):
        if word.partition("=")[0] in OURS:
            raise UsageError(f"invalid pasta option {word}: it is not for containers")
        if number == 0 and not word.startswith("-"):
            raise UsageError(f"invalid pasta option {word}: options begin with a dash")


def value_of(options: list[str], name: str) -> str:
    """The value of a long option, in the next word or after an equals sign; "" where it is not given."""
    for word, following in zip(options, [*options[1:], ""]):
        if word == name:
            return following
        if word.startswith(name + "="):
            return word[len(name) + 1 :]
    return ""
