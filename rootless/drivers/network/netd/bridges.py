"""Bridges of the realm: one per network, made with its first endpoint and removed a while after its last.

A bridge that nobody uses goes at once where another network wants its name or its subnets.  Interfaces can be
removed by a thread beside: the kernel waits for tens of milliseconds until nobody looks at one any more.

Owns interface indexes, names and addresses in the realm's namespace and in the containers'; who is attached
to what is endpoints.py's business.
"""

from __future__ import annotations

import ipaddress
import queue
import threading
import time

from rootless.linux import netns
from rootless.linux.netlink import Batch, Link, Netlink

from .rules import FIRST_INDEX, put_sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Callable

    from rootless.linux.nftables import Nft
    from rootless.plan.network import NetworkDef

    from .realm import Call, Realm

MTU_OPTIONS = ("mtu", "com.docker.network.driver.mtu")
NAME_OPTION = "com.docker.network.bridge.name"
ICC_OPTION = "com.docker.network.bridge.enable_icc"
DEFAULT_MTU = 1500
# The whole machine has room for 1024 neighbours (net.ipv4.neigh.default.gc_thresh3), fewer than what forty
# containers have that know one another.  One that is not used makes room after these times and 5 s, not 50 s.
NEIGHBOUR = (("base_reachable_time_ms", "2000"), ("delay_first_probe_time", "1"))


def mtu_of(network: NetworkDef) -> int:
    """The size of packets on a network, in bytes."""
    for option in MTU_OPTIONS:
        if network.options.get(option, "").isdigit():
            return int(network.options[option])
    return DEFAULT_MTU


def mac_of(address: str) -> str:
    """The hardware address that goes with an IPv4 address, so that both are new or old together."""
    number = int(ipaddress.ip_address(address)) & 0xFFFFFFFF
    return "02:42:" + ":".join(f"{byte:02x}" for byte in number.to_bytes(4, "big"))


class Plug:
    """One interface in a container: what it is called there, its addresses and default routes.

    SETTINGS are of the whole namespace, below /proc/sys/net; one that the kernel lacks is passed over.
    """

    __slots__ = ("addresses", "gateways", "mac", "name", "settings")

    def __init__(
        self,
        name: str,
        mac: str,
        addresses: list[tuple[str, int]],
        gateways: list[str],
        settings: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.name = name
        self.mac = mac
        self.addresses = addresses
        self.gateways = gateways
        self.settings = settings


class Plugging:
    """An interface, INDEX, that the realm's thread is making."""

    __slots__ = ("_bridges", "_call", "index")

    def __init__(self, bridges: Bridges, index: int, call: Call) -> None:
        self._bridges = bridges
        self._call = call
        self.index = index

    def finish(self) -> Any:
        """Wait for it; what was found inside.  Raises OSError, and then nothing is left."""
        try:
            return self._call.wait()
        except BaseException:
            self._bridges.remove_link(self.index)
            raise


class Bridges:
    """The realm's bridges and the containers' interfaces on them."""

    def __init__(self, realm: Realm, nft: Nft) -> None:
        self._realm = realm
        self._nft = nft
        self._netlink = realm.call(Netlink)
        self._next = FIRST_INDEX
        self._made: dict[str, int] = {}  # network ID -> index
        self._names: dict[str, str] = {}  # network ID -> name of the interface
        self._released: dict[str, tuple[NetworkDef, float]] = {}  # network ID -> since when
        self._doomed: queue.SimpleQueue[tuple[int, Callable[[], object]] | None] = (
            queue.SimpleQueue()
        )
        self._remover: threading.Thread | None = None

    def close(self) -> None:
        """Close the connection to the kernel; interfaces stay, but for those that are being removed."""
        if self._remover is not None:
            self._doomed.put(None)
            self._remover.join()
        self._netlink.close()

    def links(self) -> list[Link]:
        """The interfaces in the realm; indexes that are in use are not used again."""
        found = self._netlink.links()
        self._next = max([self._next, *(link.index + 1 for link in found)])
        return found

    def adopt(self, network: NetworkDef, link: Link) -> None:
        """Take over the bridge that an earlier service made for NETWORK."""
        self._made[network.id] = link.index
        self._names[network.id] = link.name
        self._enter(network, link.name)

    def owns(self, index: int) -> bool:
        """Whether an interface is one of the bridges that are kept."""
        return index in self._made.values()

    def name_of(self, network: NetworkDef) -> str:
        """The name of a network's bridge, at most 15 characters."""
        return network.options.get(NAME_OPTION, "")[:15] or f"br-{network.id[:12]}"

    def ensure(self, network: NetworkDef) -> int:
        """The index of NETWORK's bridge, which is made if it is not there; raises OSError."""
        if network.id in self._made:
            self._released.pop(network.id, None)
            return self._made[network.id]
        self._make_way(network)
        index, name = self._index(), self.name_of(network)
        batch = Batch()
        batch.bridge(name, index, self._bridge_mac(network), mtu_of(network))
        self._netlink.send(batch)
        try:
            self._address(network, index, name)
            self._enter(network, name)
        except BaseException:
            self.remove_link(index)
            raise
        self._made[network.id] = index
        self._names[network.id] = name
        return index

    def _address(self, network: NetworkDef, index: int, name: str) -> None:
        if network.of_version(6) is not None:  # rules.py switches it off for new interfaces
            self._realm.call(put_sysctl, f"ipv6/conf/{name}/disable_ipv6", "0")
        batch = Batch()
        for subnet in network.subnets:
            if subnet.gateway:
                prefix = ipaddress.ip_network(subnet.subnet).prefixlen
                batch.address(index, subnet.gateway, prefix)
        self._netlink.send(batch)

    def _bridge_mac(self, network: NetworkDef) -> str:
        subnet = network.of_version(4)
        if subnet is not None and subnet.gateway:
            return mac_of(subnet.gateway)
        return "02:42:" + ":".join(network.id[n : n + 2] for n in (0, 2, 4, 6))

    def _enter(self, network: NetworkDef, name: str) -> None:
        lines = [
            f"add element inet rootless subnets{subnet.version} {{ {subnet.subnet} }}"
            for subnet in network.subnets
        ]
        if not network.internal:
            lines.append(f'add element inet rootless outward {{ "{name}" }}')
        self._nft.run("\n".join(lines) + "\n")

    def release(self, network: NetworkDef) -> None:
        """Nobody uses a network's bridge any more: the next sweep may take it."""
        if network.id in self._made:
            self._released[network.id] = network, time.monotonic()

    def sweep(self, seconds: float = 0.0) -> None:
        """Remove the bridges that nobody has used for so long."""
        latest = time.monotonic() - seconds
        for network, since in list(self._released.values()):
            if since <= latest:
                self.drop(network)

    def _make_way(self, network: NetworkDef) -> None:
        """Remove bridges that nobody uses and that could not be there beside NETWORK's."""
        name = self.name_of(network)
        for other, _ in list(self._released.values()):
            if self._names.get(other.id) == name or _overlap(network, other):
                self.drop(other)

    def drop(self, network: NetworkDef) -> None:
        """Remove a network's bridge, if there is one."""
        self._released.pop(network.id, None)
        index = self._made.pop(network.id, 0)
        name = self._names.pop(network.id, "")
        if not index:
            return
        lines = [
            f"delete element inet rootless subnets{subnet.version} {{ {subnet.subnet} }}"
            for subnet in network.subnets
        ]
        if not network.internal:
            lines.append(f'delete element inet rootless outward {{ "{name}" }}')
        self._nft.run("\n".join(lines) + "\n")
        self.remove_link(index)

    def plug(self, network: NetworkDef, net_fd: int, plug: Plug) -> int:
        """Connect the namespace NET_FD to a network; the index of our end.

        It need not send yet, see settle().  Raises OSError, and then nothing is left of it.
        """
        plugging = self.begin(network, net_fd, plug)
        plugging.finish()
        return plugging.index

    def begin(
        self,
        network: NetworkDef,
        net_fd: int,
        plug: Plug,
        inside: Callable[[], object] | None = None,
    ) -> Plugging:
        """Likewise, while the caller does something else.

        With INSIDE, which is called in the namespace, the interface sends when all is done.
        """
        master = self.ensure(network)
        index = self._index()
        batch = Batch()
        batch.veth(
            f"v{index:x}",
            index,
            plug.name,
            index,
            peer_fd=net_fd,
            peer_mac=plug.mac,
            mtu=mtu_of(network),
            master=master,
        )
        if network.options.get(ICC_OPTION) == "false":
            batch.isolate(index)
        fds = self._realm.net_fd, net_fd
        indexes = index, master
        call = self._realm.begin(_plug, self._netlink, batch, fds, indexes, plug, inside)
        return Plugging(self, index, call)

    def settle(self, networks: Iterable[NetworkDef], net_fd: int, indexes: Iterable[int]) -> None:
        """Wait until what was plugged into NET_FD, and its NETWORKS' bridges, really send.

        The kernel works on that by itself, so what else there is to do is better done before.
        """
        indexes = list(indexes)
        self._realm.within(net_fd, _await_running, indexes)
        for index in [*indexes, *(self._made[network.id] for network in networks)]:
            self._netlink.await_running(index)

    def default_route(self, net_fd: int, gateways: list[str]) -> None:
        """Make GATEWAYS (one per family) the container's default routes, whatever they were."""
        self._realm.within(net_fd, _reroute, gateways)

    def remove_link(self, index: int) -> None:
        """Remove one of the realm's interfaces, and with it its peer; one that is gone is fine."""
        batch = Batch()
        batch.delete_link(index)
        self._netlink.send(batch)

    def remove_link_beside(self, index: int, done: Callable[[], object]) -> None:
        """Remove one of the realm's interfaces without waiting; then DONE() is called, in another thread."""
        if self._remover is None:
            self._remover = threading.Thread(target=self._remove, name="remover", daemon=True)
            self._remover.start()
        self._doomed.put((index, done))

    def _remove(self) -> None:
        connection = self._realm.call(Netlink)
        while True:
            job = self._doomed.get()
            if job is None:
                connection.close()
                return
            index, done = job
            batch = Batch()
            batch.delete_link(index)
            try:
                connection.send(batch)
            except OSError:  # what is left of it goes with the namespace
                pass
            done()

    def _index(self) -> int:
        self._next += 1
        return self._next - 1


def _overlap(one: NetworkDef, other: NetworkDef) -> bool:
    subnets = [
        [ipaddress.ip_network(subnet.subnet) for subnet in network.subnets]
        for network in (one, other)
    ]
    return any(a.version == b.version and a.overlaps(b) for a in subnets[0] for b in subnets[1])


def _plug(
    netlink: Netlink,
    batch: Batch,
    fds: tuple[int, int],
    indexes: tuple[int, int],
    plug: Plug,
    inside: Callable[[], object] | None,
) -> object:
    """Carry out BATCH in the realm, then set up in the container's namespace what it made there.

    FDS are the realm's namespace and the container's, INDEXES those of the interface and its bridge.
    """
    netlink.send(batch)
    found: object = None
    netns.setns(fds[1], netns.NEWNET)
    try:
        connection = Netlink()
        try:
            _configure(connection, indexes[0], plug)
            if inside is not None:
                found = inside()
                connection.await_running(indexes[0])
        finally:
            connection.close()
    finally:
        netns.setns(fds[0], netns.NEWNET)
    if inside is not None:
        for index in indexes:
            netlink.await_running(index)
    return found


def _configure(connection: Netlink, index: int, plug: Plug) -> None:
    """In the container's namespace: settings, addresses, up, default routes."""
    for name, value in plug.settings:
        put_sysctl(name, value)
    versions = {6 if ":" in address else 4 for address, _ in plug.addresses}
    put_sysctl(f"ipv6/conf/{plug.name}/accept_dad", "0")
    put_sysctl(f"ipv6/conf/{plug.name}/accept_ra", "0")
    put_sysctl(f"ipv6/conf/{plug.name}/disable_ipv6", "0" if 6 in versions else "1")
    for version in versions:
        for setting, value in NEIGHBOUR:
            put_sysctl(f"ipv{version}/neigh/{plug.name}/{setting}", value)
    batch = Batch()
    batch.set_link(index)
    for address, prefix in plug.addresses:
        batch.address(index, address, prefix)
    for gateway in plug.gateways:
        batch.route("::/0" if ":" in gateway else "0.0.0.0/0", gateway=gateway)
    connection.send(batch)


def _await_running(indexes: list[int]) -> None:
    connection = Netlink()
    try:
        for index in indexes:
            connection.await_running(index)
    finally:
        connection.close()


def _reroute(gateways: list[str]) -> None:
    batch = Batch()
    for version in (4, 6):
        batch.delete_default(version)
    connection = Netlink()
    try:
        connection.send(batch)
        batch = Batch()
        for gateway in gateways:
            batch.route("::/0" if ":" in gateway else "0.0.0.0/0", gateway=gateway)
        connection.send(batch)
    finally:
        connection.close()
