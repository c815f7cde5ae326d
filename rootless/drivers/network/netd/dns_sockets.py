"""The name server's sockets in a container's namespace, which leave port 53 to the container.

A name server may be what the container is there for (Pi-hole, CoreDNS, BIND), and one that binds 0.0.0.0:53
would be told that the address is in use if 127.0.0.11:53 were.  So we listen on another port, and nftables in
that namespace rewrites one to the other, without connection tracking: what is sent is rewritten before it
could be tracked, and answers after it, so that a stateful firewall in the container sees one port throughout.

The port is the same in every container, so that a service that takes over after a kill finds rules that fit;
removing rules makes the kernel wait for some milliseconds, while making them takes a fifth of one, and less by
messages of our own, which do in a namespace that is new.  Without nftables it is port 53 itself.
"""

from __future__ import annotations

import errno
import functools
import socket

from rootless.linux import nfnetlink
from rootless.linux.nftables import Nft, NftError
from rootless.plan.resolvconf import RESOLVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from rootless.drivers.network.netd.realm import Realm

    Sockets = tuple[socket.socket, socket.socket]
    Rules = Callable[[Callable[..., object]], Nft]

DNS = 53
OURS = 20053  # not among those that the kernel gives to clients
_TABLE = "ip rootless_names"
_BACKLOG = 64


def listen(
    realm: Realm,
    net_fd: int,
    rules: Rules,
    log: Callable[[str], object],
    *,
    quick: bool = True,
) -> Sockets:
    """Sockets for UDP and TCP in the namespace NET_FD, to which 127.0.0.11:53 leads there.

    RULES(call) opens nftables for the namespace in which CALL calls, where our own messages do not do (QUICK).
    Raises OSError.
    """
    if quick:
        found = realm.within(net_fd, listen_here)
        if found is not None:
            return found
    try:
        nft = rules(functools.partial(realm.within, net_fd))
    except NftError as error:
        return _listen_plainly(realm, net_fd, error, log)
    try:
        udp, tcp = _listen_aside(realm, net_fd)
        try:
            _lead(nft, udp.getsockname()[1], tcp.getsockname()[1])
        except NftError as error:
            udp.close()
            tcp.close()
            return _listen_plainly(realm, net_fd, error, log)
        return udp, tcp
    finally:
        nft.close()


def listen_here() -> Sockets | None:
    """The quick way, in the container's namespace.

    None where a port or the table is there already, or the kernel has no nftables.
    """
    try:
        udp, tcp = _bind(OURS)
    except OSError:
        return None
    try:
        _QUICK.send()
    except OSError:
        udp.close()
        tcp.close()
        return None
    return udp, tcp


def _listen_aside(realm: Realm, net_fd: int) -> Sockets:
    try:
        return realm.within(net_fd, _bind, OURS)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
    return realm.within(net_fd, _bind, 0)


def _listen_plainly(
    realm: Realm, net_fd: int, error: NftError, log: Callable[[str], object]
) -> Sockets:
    sockets = realm.within(net_fd, _bind, DNS)
    log(f"cannot redirect names: {error}; port {DNS} of 127.0.0.11 is taken in the container")
    return sockets


def _bind(port: int) -> Sockets:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        udp.bind((RESOLVER, port))
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((RESOLVER, port))
        tcp.listen(_BACKLOG)
    except OSError:
        udp.close()
        tcp.close()
        raise
    return udp, tcp


def _lead(nft: Nft, udp: int, tcp: int) -> None:
    """Have the namespace lead port 53 to the ports UDP and TCP."""
    if udp == tcp == OURS:
        try:
            nft.run(f"create table {_TABLE}\n{_rules(udp, tcp)}")
            return
        except NftError:  # it is there, from an earlier service
            pass
    nft.run(f"table {_TABLE}\ndelete table {_TABLE}\n{_rules(udp, tcp)}")


def _rules(udp: int, tcp: int) -> str:
    return (
        f"table {_TABLE} {{\n"
        " chain ask { type filter hook output priority -300;\n"  # before connection tracking
        f"  ip daddr {RESOLVER} udp dport {DNS} udp dport set {udp};\n"
        f"  ip daddr {RESOLVER} tcp dport {DNS} tcp dport set {tcp}; }}\n"
        " chain tell { type filter hook output priority 300;\n"  # after it
        f"  ip saddr {RESOLVER} udp sport {udp} udp sport set {DNS};\n"
        f"  ip saddr {RESOLVER} tcp sport {tcp} tcp sport set {DNS}; }}\n"
        "}\n"
    )


def _quick() -> nfnetlink.Rules:
    """What _rules() says, for the port that is ours."""
    resolver = socket.inet_aton(RESOLVER)
    dns, ours = DNS.to_bytes(2, "big"), OURS.to_bytes(2, "big")
    rules = nfnetlink.Rules(nfnetlink.IPV4, _TABLE.partition(" ")[2])
    rules.chain("ask", nfnetlink.OUTPUT, -300)
    rules.chain("tell", nfnetlink.OUTPUT, 300)
    for chain, address, port, old, new in (("ask", 16, 2, dns, ours), ("tell", 12, 0, ours, dns)):
        for protocol, checksum in ((socket.IPPROTO_UDP, 6), (socket.IPPROTO_TCP, 16)):
            rules.rule(
                chain,
                nfnetlink.load(nfnetlink.NETWORK, address, 4),
                nfnetlink.equals(resolver),
                nfnetlink.protocol(),
                nfnetlink.equals(bytes([protocol])),
                nfnetlink.load(nfnetlink.TRANSPORT, port, 2),
                nfnetlink.equals(old),
                nfnetlink.value(new),
                nfnetlink.store(nfnetlink.TRANSPORT, port, 2, checksum),
            )
    return rules


_QUICK = _quick()
