"""The realm's packet filter and routing: what is relayed, what leaves, and that networks do not meet.

One nftables table, replaced as a whole when the service starts and edited by elements of its sets afterwards,
so that one container's coming and going touches no other.  Between bridges nothing is forwarded.  Packets of
connections that netd relays carry ``MARK`` and are received here whatever their destination (``TABLE``).
"""

from __future__ import annotations

import errno
import os

from rootless.linux.netlink import NOARP, UP, Batch, Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless.linux.nftables import Nft

    from .realm import Realm

MARK, TABLE, PRIORITY = 1, 100, 100
UPLINK, UPLINK_PEER = "up0", "up1"
LOOPBACK_INDEX, UPLINK_INDEX, UPLINK_PEER_INDEX = 1, 10, 11
FIRST_INDEX = 1000  # of bridges and endpoints
# What one address may begin; each datagram that begins a flow makes two sockets.
_SENDS = "limit rate over 4000/second burst 4000 packets"
_STARTS = "limit rate over 1000/second burst 1000 packets"
_FORGED = "fib saddr . iif oif missing drop"  # nothing leads back to where it came from
_SYN = "tcp flags & (fin | syn | rst | ack) == syn"
# /proc/sys/net of the realm; an absent one belongs to what the kernel lacks.  Bridged packets must not be seen
# by the routing hooks: the socket that TPROXY gave them would be lost (br_netfilter's default).
SYSCTLS = (
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/forwarding", "1"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/disable_ipv6", "1"),  # ends of containers need none; bridges switch it on
    ("bridge/bridge-nf-call-iptables", "0"),
    ("bridge/bridge-nf-call-ip6tables", "0"),
    ("bridge/bridge-nf-call-arptables", "0"),
    # The kernel drops what it would forward but found a socket for, as it does for a SYN whose ports are those
    # of a relayed connection that has just been closed.  Such a SYN has to get to the gate.
    ("ipv4/tcp_early_demux", "0"),
    ("ipv4/ip_local_port_range", "1024 65535"),
    ("ipv4/ip_unprivileged_port_start", "0"),
)


def table_text(ports: Mapping[str, int]) -> str:
    """The table, with the PORTS on which the relay listens: tcp4, tcp6, udp4, udp6 (absent: not relayed)."""
    return "\n".join(
        [
            "table inet rootless",
            "delete table inet rootless",
            "table inet rootless {",
            " set subnets4 { type ipv4_addr; flags interval; }",
            " set subnets6 { type ipv6_addr; flags interval; }",
            " set outward { type ifname; }",
            f' set uplinks {{ type ifname; elements = {{ "{UPLINK}" }}; }}',
            *_divert(ports),
            *_rate(),
            " chain forward { type filter hook forward priority filter; policy drop;",
            "  iifname @outward oifname @uplinks accept;",
            "  iifname @uplinks accept;",
            " }",
            " chain input { type filter hook input priority filter; policy drop;",
            f"  meta mark {MARK} accept;",
            '  iifname "lo" accept;',
            "  meta l4proto { icmp, icmpv6 } accept;",
            "  meta l4proto sctp accept;",  # of published ports: nothing listens here
            "  meta l4proto tcp reject with tcp reset;",
            "  reject;",
            " }",
            "}",
        ]
    )


def _divert(ports: Mapping[str, int]) -> list[str]:
    """What is received here though it is for elsewhere.

    A SYN that entered at the uplink has been admitted by the gate; all others have to go there first, also
    where an old connection with the same ports is just closing here.  Other segments are a socket's here, or
    nobody's.  For datagrams TPROXY itself looks for the flow's socket before it takes the listener, and unlike
    ``socket`` it takes none that is not connected yet.

    One address may begin so many flows of datagrams only, so that the listener has room for others.

    What begins a flow has to come from a network that its source address is of: by that address the relay finds
    out what the network allows.
    """
    mark = f"meta mark set {MARK} accept;"
    lines = [
        " chain divert { type filter hook prerouting priority mangle; policy accept;",
        f'  iifname "{UPLINK}" {_SYN} jump admitted;',
        *(_forged() if ports else ()),
        f"  {_SYN} accept;",
        "  iifname @outward meta l4proto udp jump datagrams;",
        f"  meta l4proto {{ tcp, udp }} socket transparent 1 {mark}",
        " }",
    ]
    admitted, relayed = [" chain admitted {"], [" chain relayed {"]
    for version, word, here, nobody in (
        ("4", "ip", "127.0.0.1", "0.0.0.0/8, 127.0.0.0/8, 224.0.0.0/4, 255.255.255.255"),
        ("6", "ip6", "[::1]", "::1, fe80::/10, ff00::/8"),
    ):
        tcp, udp = ports.get(f"tcp{version}"), ports.get(f"udp{version}")
        if tcp:
            admitted.append(
                f"  meta nfproto ipv{version} meta l4proto tcp tproxy {word} to {here}:{tcp} {mark}"
            )
        if udp:
            relayed.append(
                f"  {word} daddr != {{ {nobody} }} {word} daddr != @subnets{version}"
                f" meta l4proto udp tproxy {word} to {here}:{udp} {mark}"
            )
    datagrams = [
        " chain datagrams {",
        "  socket transparent 1 jump relayed;",  # a flow that is there
        f"  update @starters4 {{ ip saddr {_STARTS} }} drop;",
        f"  update @starters6 {{ ip6 saddr {_STARTS} }} drop;",
        "  jump relayed;",
        " }",
    ]
    return [*_counted("starters"), *admitted, " }", *relayed, " }", *datagrams, *lines]


def _forged() -> list[str]:
    """What the relay drops at the door; other uplinks do without fib, which a kernel may lack."""
    return [
        f"  iifname @outward {_SYN} {_FORGED};",
        f"  iifname @outward meta l4proto {{ udp, icmp }} {_FORGED};",
        f"  iifname @outward icmpv6 type echo-request {_FORGED};",
    ]


def _counted(name: str) -> list[str]:
    """Sets that keep account of what addresses send."""
    return [
        f" set {name}{version} {{ type ipv{version}_addr; size 65535; flags dynamic, timeout; timeout 10s; }}"
        for version in (4, 6)
    ]


def _rate() -> list[str]:
    """What one address may send to the gate; a flood would keep out what others send."""
    return [
        *_counted("senders"),
        " chain rate { type filter hook forward priority filter - 1; policy accept;",
        f'  oifname "{UPLINK}" update @senders4 {{ ip saddr {_SENDS} }} drop;',
        f'  oifname "{UPLINK}" update @senders6 {{ ip6 saddr {_SENDS} }} drop;',
        " }",
    ]


def ingress_text() -> str:
    """What arrives at the peer of the uplink is netd's to read, and nothing the kernel should handle again."""
    return (
        "table netdev rootless\ndelete table netdev rootless\ntable netdev rootless {\n"
        f' chain up {{ type filter hook ingress device "{UPLINK_PEER}" priority 0; policy drop; }}\n}}'
    )


def set_up(realm: Realm, nft: Nft, links: set[str], *, relayed: bool = True) -> None:
    """Make the realm's namespace ready: settings, the uplink's pair, routes, what is not to be handled twice.

    LINKS are the names of the interfaces that are there, of an earlier service.  Unless RELAYED, the way out is
    somebody else's.  Raises OSError, NftError.
    """
    realm.call(_settings)
    batch = Batch()
    batch.set_link(LOOPBACK_INDEX)
    if UPLINK not in links:
        batch.veth(
            UPLINK,
            UPLINK_INDEX,
            UPLINK_PEER,
            UPLINK_PEER_INDEX,
            flags=UP | NOARP,
        )
        batch.set_link(UPLINK_PEER_INDEX, flags=UP | NOARP)
        batch.local_route("0.0.0.0/0", LOOPBACK_INDEX, TABLE)
        batch.rule(4, MARK, TABLE, PRIORITY)
    realm.call(_send, batch)
    if UPLINK not in links and os.path.exists("/proc/sys/net/ipv6"):
        realm.call(put_sysctl, f"ipv6/conf/{UPLINK}/disable_ipv6", "0")
        batch = Batch()
        batch.local_route("::/0", LOOPBACK_INDEX, TABLE)
        batch.rule(6, MARK, TABLE, PRIORITY)
        realm.call(_send, batch)
    if relayed:
        _lead_to_gate(realm, nft)


def _lead_to_gate(realm: Realm, nft: Nft) -> None:
    """Let what leaves the realm come to the relay; raises OSError, NftError."""
    for destination in ("0.0.0.0/0", "::/0"):
        batch = Batch()
        batch.route(destination, index=UPLINK_INDEX)
        try:
            realm.call(_send, batch)
        except OSError as error:
            if error.errno != errno.EEXIST and ":" not in destination:  # a kernel may have no IPv6
                raise
    nft.run(ingress_text())
    realm.call(_send, Batch(), (UPLINK_INDEX, UPLINK_PEER_INDEX))


def _send(batch: Batch, await_running: tuple[int, ...] = ()) -> None:
    connection = Netlink()
    try:
        connection.send(batch)
        for index in await_running:
            connection.await_running(index)
    finally:
        connection.close()


def _settings() -> None:
    for name, value in SYSCTLS:
        put_sysctl(name, value)


def put_sysctl(name: str, value: str) -> bool:
    """Write a setting of the current thread's network namespace; False where the kernel does not take it."""
    try:
        fd = os.open(f"/proc/sys/net/{name}", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, value.encode("ascii"))
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
