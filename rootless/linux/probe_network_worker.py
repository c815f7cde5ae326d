"""The trial of networking: a bridge, a container's namespace and a relay, all thrown away in the end.

    python3 -I -S probe_network_worker.py OUT NFT

Run by the launcher as root of new user and network namespaces, so that a profile which confines programs by
name sees the right one.  Builds in small what the network service builds for a realm, and sends a real
connection through the relay's way: a SYN read from a packet socket, admitted by an nft set, handed back, and
accepted by a transparent listener.  For each trial OUT gets a line "name<TAB>why it failed, or nothing".
NFT is the program, or "", for where there is no libnftables.
"""

from __future__ import annotations

import _socket
import ctypes
import errno
import fcntl
import os
import select
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

NEWNET = 0x40000000
PATIENCE = (
    5.0  # seconds for a packet to cross one machine: what is lost at first is sent again after one
)
SIOCGIFFLAGS, RUNNING = 0x8913, 0x40
TRANSPARENT = {_socket.AF_INET: (0, 19), _socket.AF_INET6: (41, 75)}  # level, option
INNER = {_socket.AF_INET: "10.0.0.2", _socket.AF_INET6: "fd00::2"}
GATEWAY = {_socket.AF_INET: "10.0.0.1", _socket.AF_INET6: "fd00::1"}
OUTER = {_socket.AF_INET: "192.0.2.1", _socket.AF_INET6: "2001:db8::1"}
WIDTH = {_socket.AF_INET: 24, _socket.AF_INET6: 64}
ETH_P_ALL = 3

_libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """What could not be done here, as the sentence for the user."""


def attempt(what: str, action: Callable[[], object]) -> None:
    """Do ACTION; its refusal becomes "cannot WHAT: reason"."""
    try:
        action()
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "")
        text = os.strerror(error.errno or 0).lower()
        raise Refused(f"cannot {what}: {text} ({name})") from None


def enter(namespace: int) -> None:
    """Move this process into the network namespace."""
    if _libc.setns(namespace, NEWNET) < 0:
        raise OSError(ctypes.get_errno(), "setns")


def new_namespace() -> int:
    """A network namespace made by going there; its descriptor."""
    if _libc.unshare(NEWNET) < 0:
        raise OSError(ctypes.get_errno(), "unshare")
    return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


# Route netlink: a request and its answer.


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded."""
    return struct.pack("=HH", len(data) + 4, kind) + data + bytes(-len(data) % 4)


class Netlink:
    """A route netlink socket of the namespace that it was made in."""

    def __init__(self) -> None:
        self.socket = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, _socket.NETLINK_ROUTE)

    def request(self, kind: int, body: bytes, flags: int = 0x600) -> None:
        """Send one request (create, exclusively, unless FLAGS differ) and raise what is answered."""
        self.socket.send(struct.pack("=IHHII", len(body) + 16, kind, flags | 5, 1, 0) + body)
        (number,) = struct.unpack_from("=i", self.socket.recv(65536), 16)
        if number:
            raise OSError(-number, "netlink")

    def link(self, name: str, kind: str, data: bytes = b"") -> None:
        """Make an interface."""
        info = attribute(1, kind.encode()) + (attribute(2, data) if data else b"")
        body = bytes(16) + attribute(3, name.encode() + b"\0") + attribute(18, info)
        self.request(16, body)

    def veth(self, name: str, peer: str, namespace: int = -1) -> None:
        """Make a pair; the peer in another namespace if one is given."""
        inner = bytes(16) + attribute(3, peer.encode() + b"\0")
        if namespace >= 0:
            inner += attribute(28, struct.pack("=I", namespace))
        self.link(name, "veth", attribute(1, inner))

    def up(self, name: str, master: str = "", noarp: bool = False) -> None:
        """Set an interface up, as a port of MASTER if that is given."""
        flags = 0x81 if noarp else 0x1
        body = struct.pack("=BxHiII", 0, 0, _socket.if_nametoindex(name), flags, flags)
        if master:
            body += attribute(10, struct.pack("=I", _socket.if_nametoindex(master)))
        self.request(16, body, 0)

    def address(self, family: int, name: str, address: str) -> None:
        """Give an interface an address, usable at once (IFA_F_NODAD)."""
        raw = _socket.inet_pton(family, address)
        index = _socket.if_nametoindex(name)
        body = struct.pack("=BBBBI", family, WIDTH[family], 0x02, 0, index)
        self.request(20, body + attribute(1, raw) + attribute(2, raw))

    def default_route(self, family: int, name: str, gateway: str = "") -> None:
        """The default route through an interface."""
        body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 254, 3, 0 if gateway else 253, 1, 0)
        if gateway:
            body += attribute(5, _socket.inet_pton(family, gateway))
        self.request(24, body + attribute(4, struct.pack("=I", _socket.if_nametoindex(name))))

    def marked_is_local(self, family: int) -> None:
        """Packets marked 1 are for this host: a rule, and a table with the one route it needs."""
        body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 100, 3, 254, 2, 0)
        local = attribute(4, struct.pack("=I", _socket.if_nametoindex("lo")))
        self.request(24, body + local)
        body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 100, 0, 0, 1, 0)
        self.request(32, body + attribute(10, struct.pack("=I", 1)))


# nftables, by the library or by the program.


class Nft:
    """Runs commands of nft; ``door`` is "libnftables", the program's path or ""."""

    def __init__(self, program: str) -> None:
        self.door = program
        try:
            self._library = ctypes.CDLL("libnftables.so.1")
        except OSError:
            return
        self.door = "libnftables"
        self._library.nft_ctx_new.restype = ctypes.c_void_p
        self._library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        self._context = ctypes.c_void_p(self._library.nft_ctx_new(0))
        self._library.nft_ctx_buffer_error(self._context)

    def run(self, what: str, *lines: str) -> None:
        """Have LINES done, all of them or none; raises Refused."""
        text = "\n".join([*lines, ""])
        if not self.door:
            raise Refused("nftables is not installed")
        if self.door == "libnftables":
            if self._library.nft_run_cmd_from_buffer(self._context, text.encode()):
                said = self._library.nft_ctx_get_error_buffer(self._context)
                raise Refused(f"cannot {what}: {first_line(said)}")
            return
        source, report = os.memfd_create("rules"), os.memfd_create("report")
        os.pwrite(source, text.encode(), 0)
        actions = [(os.POSIX_SPAWN_DUP2, source, 0), (os.POSIX_SPAWN_DUP2, report, 2)]
        pid = os.posix_spawn(self.door, [self.door, "-f", "-"], {}, file_actions=actions)
        if os.waitpid(pid, 0)[1]:
            raise Refused(f"cannot {what}: {first_line(os.pread(report, 4096, 0))}")
        os.close(source)
        os.close(report)


def first_line(said: bytes | None) -> str:
    """The first line of what nft says, without its place in the text and in lower case."""
    line = (said or b"nft refuses").decode("utf-8", "replace").splitlines()[0]
    reason = line.rpartition("Error: ")[2] or line
    return reason[:1].lower() + reason[1:]


# The trials.


class Trial:
    """Builds the small realm step by step."""

    def __init__(self, nft: Nft) -> None:
        self.nft = nft
        self.realm = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.links = Netlink()
        self.container = -1

    def bridge(self) -> None:
        """A bridge with a container on it, forwarding, and nft in between."""
        links = self.links
        attempt("set the loopback interface up", lambda: links.up("lo"))
        attempt("make a bridge", lambda: links.link("br0", "bridge"))
        attempt("make a network namespace in it", self._namespace)
        attempt("make a veth pair", lambda: links.veth("v0", "eth0", self.container))
        attempt("set the bridge up", lambda: links.up("br0"))
        attempt("connect a container to it", lambda: links.up("v0", "br0"))
        attempt("give a bridge an address", lambda: self._addresses(_socket.AF_INET))
        attempt("forward packets", lambda: set_sysctl("ipv4/ip_forward", "1"))
        self.nft.run(
            "make an nftables table",
            "table inet trial {",
            "set nets { type ifname; }",
            "chain forward { type filter hook forward priority 0; policy accept;",
            "iifname @nets ct state established accept; }",
            "}",
        )

    def nat(self) -> None:
        """Masquerading, which slirp4netns needs."""
        self.nft.run(
            "masquerade",
            "table ip trial-nat {",
            "chain out { type nat hook postrouting priority 100;",
            'ip saddr 10.0.0.0/24 oifname "tap0" masquerade; }',
            "}",
        )

    def relay(self) -> None:
        """The way out as the relay has it, with one connection over IPv4."""
        links = self.links
        attempt("make a veth pair", lambda: links.veth("up0", "up1"))
        attempt("set a veth pair up", lambda: links.up("up0", noarp=True))
        attempt("set a veth pair up", lambda: links.up("up1"))
        attempt("write rp_filter", no_reverse_paths)
        for version in ("ip", "ip6"):
            try:
                set_sysctl(f"bridge/bridge-nf-call-{version}tables", "0")
            except FileNotFoundError:  # no br_netfilter: as wanted
                pass
            except OSError as error:
                raise Refused(f"cannot switch off br_netfilter: {error.strerror}") from None
        self.nft.run(
            "drop at the ingress of an interface",
            "table netdev trial {",
            "chain up1 { type filter hook ingress device up1 priority 0; policy drop; }",
            "}",
        )
        self.nft.run(
            "ask the routes where a source belongs (fib)",
            "table inet trial-source {",
            "chain in { type filter hook prerouting priority -150;",
            'iifname "nobody" fib saddr . iif oif missing drop; }',
            "}",
        )
        self.connection(_socket.AF_INET)

    def ipv6(self) -> None:
        """The same over IPv6."""
        attempt("give a bridge an IPv6 address", lambda: self._addresses(_socket.AF_INET6))
        attempt("forward IPv6", lambda: set_sysctl("ipv6/conf/all/forwarding", "1"))
        self.connection(_socket.AF_INET6)

    def connection(self, family: int) -> None:
        """Connect from the container to an address that nobody has, and be the one who answers."""
        words = ("ip6", "ipv6_addr") if family == _socket.AF_INET6 else ("ip", "ipv4_addr")
        attempt("route into a veth pair", lambda: self.links.default_route(family, "up0"))
        attempt("route by marks", lambda: self.links.marked_is_local(family))
        listener = self._listener(family)
        packets = _socket.socket(_socket.AF_PACKET, _socket.SOCK_RAW, _socket.htons(ETH_P_ALL))
        packets.bind(("up1", ETH_P_ALL))
        ip, kind = words
        self.nft.run(
            "take over connections (tproxy)",
            "table inet trial {",
            f"set {ip}-ready {{ type {kind} . inet_service . {kind} . inet_service; flags timeout; }}",
            f"chain {ip}-in {{ type filter hook prerouting priority -150; policy accept;",
            f"meta nfproto ipv{ip[2:] or 4} meta l4proto tcp socket transparent 1 meta mark set 1 accept",
            f"{ip} saddr . tcp sport . {ip} daddr . tcp dport @{ip}-ready "
            f"tproxy {ip} to :{listener.getsockname()[1]} meta mark set 1 accept; }}",
            "}",
        )
        for name in ("br0", "v0", "up0", "up1"):
            await_carrier(name)
        client = self._client(family)
        client.setblocking(False)
        code = client.connect_ex((OUTER[family], 80))
        if code not in (0, errno.EINPROGRESS):
            raise Refused(f"cannot connect from a container: {os.strerror(code).lower()}")
        frame, sport = syn_of(packets, family)
        tuple_ = f"{INNER[family]} . {sport} . {OUTER[family]} . 80"
        self.nft.run(
            "admit a connection",
            f"add element inet trial {ip}-ready {{ {tuple_} timeout 10s }}",
        )
        packets.send(frame)
        self._accepted(listener, client, family)

    def _accepted(self, listener: _socket.socket, client: _socket.socket, family: int) -> None:
        ready(listener, "a connection that was admitted did not arrive")
        fd, peer = listener._accept()  # type: ignore[attr-defined]  # what socket.accept() calls
        server = _socket.socket(fileno=fd)
        if peer[0] != INNER[family] or server.getsockname()[:2] != (OUTER[family], 80):
            raise Refused("a connection that was taken over has other addresses")
        server.send(b"answer")
        ready(client, "a connection that was taken over carries nothing")
        if client.recv(16) != b"answer":
            raise Refused("a connection that was taken over carries something else")

    def _namespace(self) -> None:
        self.container = new_namespace()
        enter(self.realm)

    def _addresses(self, family: int) -> None:
        self.links.address(family, "br0", GATEWAY[family])
        enter(self.container)
        inside = Netlink()
        inside.up("eth0")
        inside.address(family, "eth0", INNER[family])
        inside.default_route(family, "eth0", GATEWAY[family])
        enter(self.realm)

    def _listener(self, family: int) -> _socket.socket:
        made = _socket.socket(family, _socket.SOCK_STREAM)
        attempt("make a transparent socket", lambda: made.setsockopt(*TRANSPARENT[family], 1))
        made.bind(("0.0.0.0" if family == _socket.AF_INET else "::", 0))
        made.listen(1)
        return made

    def _client(self, family: int) -> _socket.socket:
        enter(self.container)
        try:
            return _socket.socket(family, _socket.SOCK_STREAM)
        finally:
            enter(self.realm)


def no_reverse_paths() -> None:
    """Let packets in wherever they come from: those handed back come from where they were sent to."""
    for name in ("all", "default", "up0", "up1", "br0", "v0"):
        set_sysctl(f"ipv4/conf/{name}/rp_filter", "0")


def set_sysctl(name: str, value: str) -> None:
    """Write a setting of this network namespace."""
    fd = os.open(f"/proc/sys/net/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def await_carrier(name: str) -> None:
    """Wait until an interface takes packets, which the kernel sees to in the background."""
    deadline = time.monotonic() + PATIENCE
    one = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    request = struct.pack("16sH14x", name.encode(), 0)
    while not struct.unpack_from("H", fcntl.ioctl(one, SIOCGIFFLAGS, request), 16)[0] & RUNNING:
        if time.monotonic() > deadline:
            raise Refused(f"interface {name} does not come up")
        time.sleep(0.002)
    one.close()


def ready(one: _socket.socket, otherwise: str) -> None:
    """Wait until there is something to read."""
    if not select.select([one], [], [], PATIENCE)[0]:
        raise Refused(otherwise)


def syn_of(packets: _socket.socket, family: int) -> tuple[bytes, int]:
    """The frame of the container's SYN, its checksum made whole, and the port that it comes from."""
    start = 14 + (20 if family == _socket.AF_INET else 40)
    inner = _socket.inet_pton(family, INNER[family])
    outer = _socket.inet_pton(family, OUTER[family])
    while True:
        ready(packets, "a packet that leaves a veth pair is not seen by a packet socket")
        frame = bytearray(packets.recv(65536))
        if frame[start - 2 * len(inner) : start] != inner + outer:
            continue  # neighbour discovery and the like
        segment = frame[start:]
        segment[16:18] = b"\0\0"
        pseudo = inner + outer + struct.pack("!II", len(segment), 6)
        segment[16:18] = checksum(pseudo + segment)
        return bytes(frame[:start] + segment), int.from_bytes(segment[:2], "big")


def checksum(data: bytes) -> bytes:
    """The Internet checksum of DATA, which is of even length (a SYN is)."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def main(argv: list[str]) -> int:
    """Try one after the other; what rests on a failed one is not tried."""
    nft = Nft(argv[1])
    with open(argv[0], "w", encoding="utf-8") as out:
        out.write(f"nft\t{nft.door}\n")
        trial = Trial(nft)
        for name in ("bridge", "nat", "relay", "ipv6"):
            try:
                getattr(trial, name)()
            except (Refused, OSError) as error:
                out.write(f"{name}\t{error}\n")
                if name != "nat":
                    break
            else:
                out.write(f"{name}\t\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
