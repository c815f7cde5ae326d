"""Finding out what can be done for networks: by a trial in namespaces of its own, and by asking programs.

Belongs to probe.py.  The trial (probe_network_worker.py) is started by the launcher, so that it is confined
as a container's helpers will be.  It takes some 60 milliseconds, most of them waiting, beside the other probes.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading

from . import probe_storage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.facts import HostFacts

    from .probe import Play

NEWUSER, NEWNET = 0x10000000, 0x40000000
WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "probe_network_worker.py")
# Options that are used of each program: one that lacks some is too old.
NEEDED = {
    "pasta": (
        *("--config-net", "--no-map-gw", "--netns-only", "--ns-ifname", "--foreground", "--pid"),
        *("--dns-forward", "--mtu"),
    ),
    "slirp4netns": (
        *("--configure", "--mtu", "--disable-host-loopback", "--netns-type", "--ready-fd"),
        *("--api-socket", "--cidr", "--enable-ipv6", "--enable-sandbox", "--enable-seccomp"),
    ),
}


class Search:
    """The probes of networks, made beside others; finish() has the facts filled in."""

    def __init__(self, facts: HostFacts, play: Play) -> None:
        self._facts = facts
        self._play = play
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="probe_network", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait until all is known; raises what PLAY raises."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._search(self._facts)
        except BaseException as error:
            self._failure = error

    def _search(self, facts: HostFacts) -> None:
        facts.low_port = number_of("net/ipv4/ip_unprivileged_port_start", 1024)
        facts.neighbours = number_of("net/ipv4/neigh/default/gc_thresh3", 0)
        facts.ping_group = ping_works()
        facts.pasta, facts.pasta_version, facts.pasta_lacks = program("pasta")
        facts.slirp4netns, facts.slirp4netns_version, facts.slirp4netns_lacks = program(
            "slirp4netns"
        )
        if facts.userns_error:
            trial = {"bridge": "there are no user namespaces"}
        else:
            trial = try_networks(facts, self._play)
        facts.nft = trial.get("nft", "")
        facts.net_bridge_error = trial.get("bridge", "it was not tried")
        facts.net_bridge = not facts.net_bridge_error
        facts.net_nat = not trial.get("nat", "it was not tried")
        facts.net_relay_error = facts.net_bridge_error or trial.get("relay", "it was not tried")
        facts.net_relay = not facts.net_relay_error
        facts.net_ipv6 = not trial.get("ipv6", "it was not tried")


def try_networks(facts: HostFacts, play: Play) -> dict[str, str]:
    """What the trial found: names of trials, each with the reason why it failed, or ""."""
    try:
        out = tempfile.NamedTemporaryFile(prefix="rootless-probe-", mode="r", encoding="utf-8")
    except OSError as error:
        return {"bridge": f"cannot make a temporary file: {str(error.strerror).lower()}"}
    with out:
        nft = probe_storage.find_program("nft")
        argv = [sys.executable, "-I", "-S", WORKER, out.name, nft]
        number, reason = play(
            [
                *probe_storage.single(NEWUSER | NEWNET, facts.uid, facts.gid),
                ("exec", (argv[0], argv, [], 2)),
            ]
        )
        lines = [line.rstrip("\n").partition("\t") for line in out]
    found = {name: said for name, _, said in lines}
    if number and "bridge" not in found:
        found["bridge"] = reason
    return found


def program(name: str) -> tuple[str, str, tuple[str, ...]]:
    """(path, version, options that are needed and not there) of a program; "" for what is not known."""
    path = probe_storage.find_program(name)
    if not path:
        return "", "", ()
    said = _said(path, "--help")
    lacks = tuple(option for option in NEEDED[name] if option not in said)
    words = _said(path, "--version").split()[:3]
    version = next((word for word in words if word[:1].isdigit()), "")
    return path, version, lacks


def _said(path: str, option: str) -> str:
    """What a program prints; it may well end with an error or print to the wrong place."""
    try:
        done = subprocess.run(
            [path, option],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")


def ping_works() -> bool:
    """Whether echo requests can be sent without privileges (net.ipv4.ping_group_range)."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close()
    except OSError:
        return False
    return True


def number_of(sysctl: str, otherwise: int) -> int:
    """A setting of the kernel that is a number."""
    try:
        with open(f"/proc/sys/{sysctl}", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return otherwise
