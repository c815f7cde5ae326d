"""Attaching containers to networks and detaching them, whole or not at all.

Owns the order in which that happens and what is undone when a step fails; the steps are bridges.py's,
publish.py's and dns.py's.  A container is detached when its first process has ended.
"""

from __future__ import annotations

import os
import threading

from rootless.errors import ConflictError, NotFoundError, RootlessError, UsageError
from rootless.linux import proc
from rootless.plan import netmode
from rootless.plan.network import AttachRequest, EndpointWish, NetworkDef

from . import dns_sockets, hostsfile
from .addresses import Addresses
from .bridges import Plug, mac_of
from .members import Endpoint, Member, Members
from .publish import Target
from .records import write
from .rules import put_sysctl
from .watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Callable

    from .bridges import Bridges
    from .dns import Names
    from .loop import Loop
    from .publish import Published
    from .realm import Realm
    from .records import Records

# What Docker sets in a container's own namespace: any port may be bound, anybody may ping.
SYSCTLS = (("ipv4/ip_unprivileged_port_start", "0"), ("ipv4/ping_group_range", "0 65535"))

# Seconds for which a bridge without containers stays: making and removing it is most of the work for a
# container that is alone on its network.
LINGER = 5.0


class Parts:
    """What the endpoints are made with; the service puts it together."""

    __slots__ = (
        "bridges",
        "changed",
        "define",
        "left",
        "log",
        "loop",
        "names",
        "published",
        "realm",
        "records",
    )

    def __init__(
        self,
        *,
        loop: Loop,
        realm: Realm,
        bridges: Bridges,
        published: Published,
        names: Names,
        records: Records,
        define: Callable[[str], NetworkDef],
        left: Callable[[str], object],
        log: Callable[[str], object],
    ) -> None:
        self.loop = loop
        self.realm = realm
        self.bridges = bridges
        self.published = published
        self.names = names
        self.records = records
        self.define = define  # the definition of a network, raises NotFoundError
        self.left = left  # an address is nobody's from now on
        self.log = log
        self.changed: Callable[[], object] = lambda: None  # somebody came or went


class Alone:
    """What is done at once where a container has one endpoint only.

    settings  of its namespace
    inside    called in its namespace, by the realm's thread
    beside    called meanwhile, when it is known what the endpoint is
    """

    __slots__ = ("beside", "inside", "settings")

    def __init__(
        self,
        settings: Sequence[tuple[str, str]],
        inside: Callable[[], object],
        beside: Callable[[], object],
    ) -> None:
        self.settings = settings
        self.inside = inside
        self.beside = beside


class Endpoints:
    """The containers on the realm's networks."""

    def __init__(self, parts: Parts, members: Members) -> None:
        self.members = members
        self._parts = parts
        self._addresses = Addresses(parts.log)
        # Containers that ended -> directory; a monitor may start them again.
        self.waiting: dict[str, str] = {}

    # Coming

    def attach(self, request: AttachRequest, pid: int, net_fd: int) -> Member:
        """Connect a container's namespace to all that it asked for; takes NET_FD over.

        Raises RootlessError or OSError, and then nothing of it is left.
        """
        try:
            member = self._admit(request, pid, net_fd)
        except BaseException:
            os.close(net_fd)
            raise
        try:
            if len(request.networks) == 1:
                self._attach_one(member)
            else:
                self._parts.realm.within(net_fd, _settings)
                self._finish(member, [self._join(member, wish)[0] for wish in request.networks])
        except BaseException:
            self._remove(member)
            raise
        self._watch(member)
        return member

    def _attach_one(self, member: Member) -> None:
        """To one network, as is usual: the realm's thread does what the kernel is needed for, we the rest."""
        parts, request = self._parts, member.request

        def told() -> None:
            if request.ports:
                member.ports = self._publish(member)
            self._note(member)

        (wish,) = request.networks
        sockets = self._join(member, wish, Alone(SYSCTLS, dns_sockets.listen_here, told))[1]
        parts.names.attach(request.id, member.net_fd, request.dns, request.dns_options, sockets)

    def _admit(self, request: AttachRequest, pid: int, net_fd: int) -> Member:
        old = self.members.by_id.get(request.id)
        if old is not None:
            if old.pid == pid and proc.starttime(pid) == old.start:
                # It had no answer, as the service was killed that had written its record.
                self._remove(old, beside=False)
            elif proc.starttime(old.pid) == old.start:
                raise ConflictError(
                    f"cannot attach container {request.id[:12]}: it is attached already"
                )
            else:
                self.detach(request.id)
        start = proc.starttime(pid)
        if start is None:
            raise ConflictError(f"cannot attach container {request.id[:12]}: its process ended")
        member = Member(request, pid, start, net_fd)
        self.members.by_id[request.id] = member
        return member

    def _join(
        self,
        member: Member,
        wish: EndpointWish,
        alone: Alone | None = None,
    ) -> tuple[Endpoint, Any]:
        """One endpoint: addresses, then the interface, then names; and what was found inside if it is ALONE.

        Then it has the container's default routes, and sends; else that is _finish()'s.
        """
        network = self._parts.define(wish.network)
        if network.name in member.endpoints:
            raise ConflictError(
                f"endpoint with name {member.request.name} already exists in network {network.name}"
            )
        endpoint = Endpoint(network, wish, os.urandom(32).hex())
        endpoint.interface = self._free_interface(member)
        self._addresses.take(member.request.id, endpoint)
        try:
            endpoint.mac = wish.mac or _mac(endpoint)
            member.endpoints[network.name] = endpoint
            addresses = [
                (address, prefix)
                for address, prefix in (
                    (endpoint.ip, endpoint.prefix),
                    (endpoint.ip6, endpoint.prefix6),
                )
                if address
            ]
            addresses += [
                (address, 64 if ":" in address else 16) for address in wish.link_local_ips
            ]
            gateways = member.gateways() if alone else []
            settings = alone.settings if alone else ()
            plug = Plug(endpoint.interface, endpoint.mac, addresses, gateways, settings)
            plugging = self._parts.bridges.begin(
                network, member.net_fd, plug, alone.inside if alone else None
            )
            endpoint.index = plugging.index
            try:
                if alone:
                    alone.beside()
            finally:
                found = plugging.finish()
            self._tune(member, endpoint)
        except BaseException:
            if endpoint.index:
                self._parts.bridges.remove_link(endpoint.index)
            member.endpoints.pop(network.name, None)
            self._addresses.give_back(endpoint)
            self._drop_if_empty(network)
            raise
        self.members.enter(member, endpoint)
        return endpoint, found

    def _tune(self, member: Member, endpoint: Endpoint) -> None:
        """Set what the endpoint's driver options say about its interface; raises UsageError."""
        for name, value in netmode.endpoint_sysctls(endpoint.wish, endpoint.interface):
            if not self._parts.realm.within(member.net_fd, put_sysctl, name, value):
                raise UsageError(f"cannot set sysctl net.{name.replace('/', '.')} to {value!r}")

    def _finish(self, member: Member, fresh: list[Endpoint]) -> None:
        """Routes, published ports, names; then the record, so that what was told can be found again.

        FRESH interfaces send before it returns.
        """
        parts, request = self._parts, member.request
        parts.bridges.default_route(member.net_fd, member.gateways())
        if request.ports and not member.ports:
            member.ports = self._publish(member)
        parts.names.attach(request.id, member.net_fd, request.dns, request.dns_options)
        self._note(member)
        parts.bridges.settle(
            [one.network for one in fresh], member.net_fd, [one.index for one in fresh]
        )

    def _publish(
        self, member: Member, before: list[dict[str, Any]] | None = None
    ) -> list[dict[str, Any]]:
        request = member.request
        main = member.main()

        def target() -> Target:
            return target_of(self.members, request.id)

        try:
            published = self._parts.published
            told = published.open(request.id, request.ports, target, before or ())
            if before is not None:
                return told + [one for one in before if one.get("activate")]
            handed, member.handed = published.hand_over(request.ports, target)
            return told + handed
        except RootlessError as error:
            name = request.name or request.id[:12]
            raise ConflictError(
                f"driver failed programming external connectivity on endpoint {name} "
                f"({main.id if main else ''}): {error.message}",
                hint=error.hint,
            ) from None

    def _note(self, member: Member) -> None:
        """Tell inspect and the container's own files what it has; remember it for the next service."""
        self._parts.records.put(member)
        directory = member.request.directory
        if directory:
            hostsfile.write(member, self.members)
            write(
                f"{directory}/network.json",
                {
                    "networks": {
                        name: one.to_dict(member.names(one))
                        for name, one in member.endpoints.items()
                    },
                    "ports": member.ports,
                    "boot": proc.boot_id(),
                    "pid": member.pid,
                    "start": member.start,
                },
            )
        self._parts.changed()

    def _watch(self, member: Member) -> None:
        container = member.request.id
        member.watch = Watch(
            self._parts.loop, member.pid, member.start, lambda: self.detach(container, member)
        )

    @staticmethod
    def _free_interface(member: Member) -> str:
        taken = {one.interface for one in member.endpoints.values()}
        return next(name for name in map("eth{}".format, range(4096)) if name not in taken)

    # Changes while it runs

    def connect(self, container: str, wish: EndpointWish) -> None:
        """Connect a running container to one more network; raises RootlessError, OSError."""
        member = self._member(container)
        endpoint, _ = self._join(member, wish)
        try:
            self._finish(member, [endpoint])
        except BaseException:
            self._leave(member, endpoint)
            raise
        if not any(one.network == wish.network for one in member.request.networks):
            member.request.networks.append(wish)
            self._parts.records.put(member)

    def disconnect(self, container: str, network: str) -> None:
        """Take a running container from a network; raises NotFoundError if it is not on it."""
        member = self._member(container)
        endpoint = member.endpoints.get(network)
        if endpoint is None:
            raise NotFoundError(
                f"container {container} is not connected to network {network}", exit_code=1
            )
        self._leave(member, endpoint)
        member.request.networks = [one for one in member.request.networks if one.network != network]
        self._parts.bridges.default_route(member.net_fd, member.gateways())
        self._note(member)

    def _member(self, container: str) -> Member:
        member = self.members.by_id.get(container)
        if member is None:
            raise NotFoundError(f"container {container} has no network that could be changed")
        return member

    # Going

    def detach(self, container: str, which: Member | None = None) -> None:
        """Forget a container whose process ended; one that is not known (or is another than WHICH) is fine."""
        member = self.members.by_id.get(container)
        if member is not None and which in (None, member):
            self._remove(member)
            if member.request.directory:
                self.waiting[container] = member.request.directory
            self._parts.changed()

    def _remove(self, member: Member, *, beside: bool = True) -> None:
        container = member.request.id
        parts = self._parts
        parts.published.close(container)
        parts.names.detach(container)
        for endpoint in list(member.endpoints.values()):
            try:
                self._leave(member, endpoint, beside=beside)
            except (OSError, RootlessError) as error:
                parts.log(f"cannot detach {container[:12]} from {endpoint.network.name}: {error}")
        self.members.by_id.pop(container, None)
        parts.records.drop(container)
        if member.request.directory:
            try:
                os.unlink(f"{member.request.directory}/network.json")
            except OSError:
                pass
        member.close()

    def _leave(self, member: Member, endpoint: Endpoint, *, beside: bool = False) -> None:
        """Undo an endpoint; its interface goes before this returns, unless that is done BESIDE."""
        self.members.leave(member, endpoint)
        for address in filter(None, (endpoint.ip, endpoint.ip6)):
            self._parts.left(address)
        member.endpoints.pop(endpoint.network.name, None)
        try:
            if beside:
                self._unplug(endpoint)
            else:
                self._parts.bridges.remove_link(endpoint.index)
        finally:
            if not beside:
                self._addresses.give_back(endpoint)
            self._drop_if_empty(endpoint.network)

    def _unplug(self, endpoint: Endpoint) -> None:
        gone, loop, addresses = threading.Event(), self._parts.loop, self._addresses

        def tell() -> None:
            gone.set()
            loop.call_soon(addresses.gone, endpoint)

        addresses.going(endpoint, gone)
        self._parts.bridges.remove_link_beside(endpoint.index, tell)

    def _drop_if_empty(self, network: NetworkDef) -> None:
        """Let a network's bridge go after a while in which nobody comes to it."""
        bridges = self._parts.bridges
        if not self.members.on_network(network.id):
            bridges.release(network)
            self._parts.loop.call_later(LINGER, bridges.sweep, LINGER)

    # After the service was killed

    def recover(self, record: dict[str, Any], links: set[int]) -> bool:
        """Take over a container that an earlier service attached; False if it is gone."""
        pid, start = record["pid"], record["start"]
        try:
            net_fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        member = Member(AttachRequest.from_dict(record["request"]), pid, start, net_fd)
        if proc.starttime(pid) != start:
            member.close()
            return False
        self.members.by_id[member.request.id] = member
        for saved in record["endpoints"]:
            if saved["index"] in links:
                self._recover_endpoint(member, saved)
        member.ports = []
        if member.request.ports:
            try:
                member.ports = self._publish(member, record.get("ports") or [])
            except (RootlessError, OSError) as error:
                self._parts.log(f"cannot publish ports of {member.request.id[:12]} again: {error}")
        request = member.request
        self._parts.names.attach(request.id, net_fd, request.dns, request.dns_options)
        self._note(member)
        self._watch(member)
        return True

    def _recover_endpoint(self, member: Member, saved: dict[str, Any]) -> None:
        network = NetworkDef.from_dict(saved["network"])
        endpoint = Endpoint(network, EndpointWish(**saved["wish"]), saved["id"])
        for key in ("index", "interface", "mac", "ip", "ip6", "prefix", "prefix6"):
            setattr(endpoint, key, saved[key])
        self._addresses.adopt(endpoint)
        member.endpoints[network.name] = endpoint
        self.members.enter(member, endpoint)


def target_of(members: Members, container: str) -> Target:
    """Where a published port leads now: the addresses of the endpoint that has the default route."""
    member = members.by_id.get(container)
    order = member.ranked() if member else []
    found = {4: ("", ""), 6: ("", "")}
    for version in found:
        for one in order:
            subnet = one.network.of_version(version)
            if one.address(version) and subnet is not None:
                found[version] = (one.address(version), subnet.gateway)
                break
    near = tuple(subnet.subnet for one in order for subnet in one.network.subnets)
    routes = member.gateways() if member else []
    return Target(
        ip=found[4][0],
        ip6=found[6][0],
        gateway=found[4][1],
        gateway6=found[6][1],
        near=near,
        routed=any(":" not in gateway for gateway in routes),
        routed6=any(":" in gateway for gateway in routes),
    )


def _mac(endpoint: Endpoint) -> str:
    if endpoint.ip:
        return mac_of(endpoint.ip)
    return "02:42:" + ":".join(endpoint.id[n : n + 2] for n in (0, 2, 4, 6))


def _settings() -> None:
    for name, value in SYSCTLS:
        put_sysctl(name, value)
