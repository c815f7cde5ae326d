"""Networks and endpoints as values: what is stored of a network, and what a container asks of the service.

Pure.  A network is defined once (``NetworkDef``, on disk) and has endpoints, one for each container on it.
What a container wants of all its networks is an ``AttachRequest``; it is made when the container is
planned, travels on the tape and is read by the network service, at each start the same.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

DEFAULT_NETWORK = "bridge"  # made by itself; names are not resolved on it, as in Docker
HOST_ADDRESS = "169.254.1.2"  # the host, as seen from containers: host-gateway


def mode(value: str) -> str:
    """What kind of network a --network value names: none, host, container, pasta, slirp4netns or bridge."""
    for word in ("none", "host"):
        if value == word:
            return word
    for word in ("container", "pasta", "slirp4netns"):
        if value == word or value.startswith(word + ":"):
            return word
    return "bridge"


class Port:
    """One published port.

    host_ip         "" for all addresses, IPv4 and IPv6
    host_port       0 for any that is free
    container_port  1 to 65535
    protocol        "tcp", "udp" or "sctp"
    activate        hand the listening socket to the container (LISTEN_FDS) instead of relaying
    host_end        the first free one of host_port to this is taken; 0 where only host_port will do
    """

    __slots__ = ("activate", "container_port", "host_end", "host_ip", "host_port", "protocol")

    def __init__(
        self,
        host_ip: str,
        host_port: int,
        container_port: int,
        protocol: str = "tcp",
        activate: bool = False,
        host_end: int = 0,
    ) -> None:
        self.host_ip = host_ip
        self.host_port = host_port
        self.container_port = container_port
        self.protocol = protocol
        self.activate = activate
        self.host_end = host_end

    def to_list(self) -> list[Any]:
        """JSON-ready values in the order in which Port(*values) takes them."""
        return [
            self.host_ip,
            self.host_port,
            self.container_port,
            self.protocol,
            self.activate,
            self.host_end,
        ]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Port) and self.to_list() == other.to_list()

    def __hash__(self) -> int:
        return hash(tuple(self.to_list()))

    def __repr__(self) -> str:
        return f"Port{tuple(self.to_list())!r}"


class Subnet:
    """An address range: subnet "172.18.0.0/16", gateway, ip_range ("" or a part of it), names in aux.

    static  the user chose it, so that containers may ask for addresses in it
    """

    __slots__ = ("aux", "gateway", "ip_range", "static", "subnet")

    def __init__(
        self,
        subnet: str,
        gateway: str = "",
        ip_range: str = "",
        aux: Mapping[str, str] | None = None,
        static: bool = False,
    ) -> None:
        self.subnet = subnet
        self.gateway = gateway
        self.ip_range = ip_range
        self.aux = dict(aux or {})
        self.static = static

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; Subnet(**values) reads them back."""
        return {name: getattr(self, name) for name in self.__slots__}

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.subnet else 4


class NetworkDef:
    """A network as it is stored.

    name, id           the ID is 64 hex digits
    created            seconds since the epoch
    driver             "bridge"
    internal           nothing leaves it
    ipv6               it has IPv6 addresses
    labels, options    as given; options with meaning: mtu, isolate, egress, com.docker.network.*
    subnets            of both address families, each with its gateway
    attachable, ipv4   as asked (--attachable, --ipv4=false); nothing follows from the first
    """

    __slots__ = (
        "attachable",
        "created",
        "driver",
        "id",
        "internal",
        "ipv4",
        "ipv6",
        "labels",
        "name",
        "options",
        "subnets",
    )

    def __init__(
        self,
        *,
        name: str,
        id: str,  # noqa: A002
        created: float = 0.0,
        driver: str = "bridge",
        internal: bool = False,
        ipv6: bool = False,
        ipv4: bool = True,
        attachable: bool = False,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        subnets: list[Subnet] | None = None,
    ) -> None:
        self.name = name
        self.id = id
        self.created = created
        self.driver = driver
        self.internal = internal
        self.ipv6 = ipv6
        self.ipv4 = ipv4
        self.attachable = attachable
        self.labels = dict(labels or {})
        self.options = dict(options or {})
        self.subnets = list(subnets or ())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; :meth:`from_dict` reads them back."""
        values = {name: getattr(self, name) for name in self.__slots__}
        values["subnets"] = [subnet.to_dict() for subnet in self.subnets]
        return values

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NetworkDef:
        """A network from :meth:`to_dict` output; raises TypeError where a key is missing or unknown."""
        values = dict(data)
        values["subnets"] = [Subnet(**subnet) for subnet in values["subnets"]]
        return cls(**values)

    def of_version(self, version: int) -> Subnet | None:
        """The first subnet of IPv4 (4) or IPv6 (6), if it has one."""
        return next((subnet for subnet in self.subnets if subnet.version == version), None)


class EndpointWish:
    """What a container wants on one network: names and addresses, each "" if any will do.

    network         name, or ID as typed; the engine makes it a name
    gw_priority     among a container's networks the highest has the default route; equal ones by name
    links           "name:alias" of --link
    link_local_ips  further addresses of its interface
    driver_opts     com.docker.network.endpoint.sysctls and the like
    """

    __slots__ = (
        "aliases",
        "driver_opts",
        "gw_priority",
        "ip",
        "ip6",
        "link_local_ips",
        "links",
        "mac",
        "network",
    )

    def __init__(
        self,
        network: str,
        *,
        aliases: list[str] | None = None,
        ip: str = "",
        ip6: str = "",
        mac: str = "",
        gw_priority: int = 0,
        links: list[str] | None = None,
        link_local_ips: list[str] | None = None,
        driver_opts: Mapping[str, str] | None = None,
    ) -> None:
        self.network = network
        self.aliases = list(aliases or ())
        self.ip = ip
        self.ip6 = ip6
        self.mac = mac
        self.gw_priority = gw_priority
        self.links = list(links or ())
        self.link_local_ips = list(link_local_ips or ())
        self.driver_opts = dict(driver_opts or {})

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; EndpointWish(**values) reads them back."""
        return {name: getattr(self, name) for name in self.__slots__}


class AttachRequest:
    """What the network service is asked for when a container starts.

    id, name, hostname, domainname   of the container
    directory                        of the container on disk, whose lock is held while it lives
    networks, ports                  its endpoints and what is published
    dns, dns_search, dns_options     --dns and so on; empty: as the host has it
    hosts                            "name:address" of --add-host
    """

    __slots__ = (
        "directory",
        "dns",
        "dns_options",
        "dns_search",
        "domainname",
        "hostname",
        "hosts",
        "id",
        "name",
        "networks",
        "ports",
    )

    def __init__(
        self,
        *,
        id: str,  # noqa: A002
        name: str = "",
        hostname: str = "",
        domainname: str = "",
        directory: str = "",
        networks: list[EndpointWish] | None = None,
        ports: list[Port] | None = None,
        dns: list[str] | None = None,
        dns_search: list[str] | None = None,
        dns_options: list[str] | None = None,
        hosts: list[str] | None = None,
    ) -> None:
        self.id = id
        self.name = name
        self.hostname = hostname
        self.domainname = domainname
        self.directory = directory
        self.networks = list(networks or ())
        self.ports = list(ports or ())
        self.dns = list(dns or ())
        self.dns_search = list(dns_search or ())
        self.dns_options = list(dns_options or ())
        self.hosts = list(hosts or ())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; :meth:`from_dict` reads them back."""
        values = {name: getattr(self, name) for name in self.__slots__}
        values["networks"] = [wish.to_dict() for wish in self.networks]
        values["ports"] = [port.to_list() for port in self.ports]
        return values

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AttachRequest:
        """A request from :meth:`to_dict` output; raises TypeError where a key is missing or unknown."""
        values = dict(data)
        values["networks"] = [EndpointWish(**wish) for wish in values["networks"]]
        values["ports"] = [Port(*port) for port in values["ports"]]
        return cls(**values)
