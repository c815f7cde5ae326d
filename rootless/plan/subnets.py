"""Which addresses a network gets: pools, what the host has already, and Docker's rules for what a user chose.

Pure: the host's routes come in as the text of /proc/net/route and ipv6_route.
"""

from __future__ import annotations

import struct

from rootless.errors import ConflictError, UsageError

from . import addresses
from .network import HOST_ADDRESS, Subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from .addresses import Address, Prefix

OVERLAP = "invalid pool request: Pool overlaps with other one on this address space"
EXHAUSTED = (
    "could not find an available, non-overlapping IPv4 address pool among the defaults "
    "to assign to the network"
)
# Never a network's: this host, loopback, multicast and what comes after it.
_RESERVED = ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::1/128", "ff00::/8", "fe80::/10")
_WIDEST_CHOICE = 4096  # networks of one pool that are tried


def _bad(text: str, hint: str = "") -> UsageError:
    return UsageError(text, hint=hint, exit_code=1)


# the host


def _route4(line: str) -> Prefix | None:
    words = line.split()
    try:
        # The kernel prints the address, which is in network order, as a native number.
        number, mask = (
            int.from_bytes(struct.pack("=I", int(words[at], 16)), "big") for at in (1, 7)
        )
    except (IndexError, ValueError, struct.error):
        return None
    return (4, number, bin(mask).count("1"))


def _route6(line: str) -> Prefix | None:
    words = line.split()
    try:
        return (6, int(words[0], 16), int(words[1], 16))
    except (IndexError, ValueError):
        return None


def host_prefixes(route: str, ipv6_route: str, resolv_conf: str = "") -> list[Prefix]:
    """What the host reaches by other routes than the default one, and its name servers."""
    found = [_route4(line) for line in route.splitlines()[1:]]
    found += [_route6(line) for line in ipv6_route.splitlines()]
    for line in resolv_conf.splitlines():
        words = line.split()
        address = addresses.parse(words[1]) if words[:1] == ["nameserver"] and words[1:] else None
        if address is not None:
            found.append((*address, addresses.WIDTH[address[0]]))
    return [prefix for prefix in found if prefix is not None and prefix[2]]


# pools


def parse_pool(text: str) -> tuple[Prefix, int]:
    """(range, prefix length of a network in it) of ``172.20.0.0/14:16`` or ``172.17.0.0/16``."""
    head, slash, tail = text.partition("/")
    bits, colon, size_text = tail.partition(":")
    found = addresses.parse_cidr(f"{head}/{bits}") if slash else None
    size = int(size_text) if size_text.isascii() and size_text.isdigit() else -1
    if found is None or found[0][1] != found[1][1]:
        raise UsageError(
            f"cannot use network.pools: {text!r} is not ADDRESS/BITS or ADDRESS/BITS:BITS"
        )
    prefix = found[1]
    size = size if colon else prefix[2]
    if not prefix[2] <= size <= addresses.WIDTH[prefix[0]] - 2:
        raise UsageError(f"cannot use network.pools: {text!r} holds no networks of that size")
    return prefix, size


def _networks(prefix: Prefix, size: int) -> Iterator[Prefix]:
    version, number, bits = prefix
    step = 1 << (addresses.WIDTH[version] - size)
    for at in range(min(1 << (size - bits), _WIDEST_CHOICE)):
        yield (version, number + at * step, size)


def choose(pools: Iterable[str], taken: Sequence[Prefix], version: int = 4) -> Prefix:
    """The first network of the pools that overlaps nothing of TAKEN; raises ConflictError."""
    for text in pools:
        prefix, size = parse_pool(text)
        if prefix[0] != version:
            continue
        for network in _networks(prefix, size):
            if not any(addresses.overlap(network, other) for other in taken):
                return network
    raise ConflictError(EXHAUSTED, hint="give a --subnet, or widen network.pools")


def unique_local(network_id: str, taken: Sequence[Prefix]) -> Prefix:
    """A /64 of fd00::/8 that follows from the network's ID and overlaps nothing of TAKEN."""
    for shift in range(0, 48, 2):
        digits = (network_id + network_id)[shift : shift + 14]
        network = (6, int(f"fd{digits}", 16) << 64, 64)
        if not any(addresses.overlap(network, other) for other in taken):
            return network
    raise ConflictError("could not find an available, non-overlapping IPv6 address pool")


# what a user chose


def consolidate(
    subnets: Sequence[str],
    ranges: Sequence[str],
    gateways: Sequence[str],
    aux: Mapping[str, str],
) -> list[Subnet]:
    """--subnet, --ip-range, --gateway and --aux-address put together; raises UsageError as Docker's CLI."""
    if len(subnets) < len(ranges) or len(subnets) < len(gateways):
        raise _bad("every ip-range or gateway must have a corresponding subnet")
    found: dict[str, Subnet] = {}
    for text in subnets:
        for other in found:
            if _matches(text, other) or _matches(other, text):
                raise _bad("multiple overlapping subnet configuration is not supported")
        found[text] = Subnet(text, static=True)
    for text in ranges:
        for subnet in _owners(found, text, f"no matching subnet for range {text}"):
            if subnet.ip_range:
                raise _bad(
                    f"cannot configure multiple ranges ({text}, {subnet.ip_range}) "
                    f"on the same subnet ({subnet.subnet})"
                )
            subnet.ip_range = text
    for text in gateways:
        for subnet in _owners(found, text, f"no matching subnet for gateway {text}"):
            if subnet.gateway:
                raise _bad(
                    f"cannot configure multiple gateways ({text}, {subnet.gateway}) "
                    f"for the same subnet ({subnet.subnet})"
                )
            subnet.gateway = text
    for name, text in aux.items():
        for subnet in _owners(found, text, f"no matching subnet for aux-address {text}"):
            subnet.aux[name] = text
    return list(found.values())


def _owners(found: Mapping[str, Subnet], text: str, message: str) -> list[Subnet]:
    owners = [subnet for subnet in found.values() if _matches(subnet.subnet, text)]
    if not owners:
        raise _bad(message)
    return owners


def _matches(subnet: str, data: str) -> bool:
    """Whether the address, or the first address of the prefix, DATA is in SUBNET."""
    outer = addresses.parse_cidr(subnet)
    if outer is None:
        raise _bad(f"invalid subnet: invalid CIDR address: {subnet}")
    if "/" in data:
        inner = addresses.parse_cidr(data)
        if inner is None:
            raise _bad(f"invalid CIDR address: {data}")
        return addresses.contains(outer[1], inner[0])
    address = addresses.parse(data)
    return address is not None and addresses.contains(outer[1], address)


def check(subnets: Sequence[Subnet], *, ipv4: bool = True, ipv6: bool = False) -> None:
    """Refuse what no network can be made of, all of it in one message; raises UsageError."""
    wrong: list[str] = []
    for subnet in subnets:
        wrong += _problems(subnet)
        version = subnet.version
        if not (ipv6 if version == 6 else ipv4):
            flag = "--ipv6" if version == 6 else "--ipv4"
            wrong.append(
                f"invalid subnet {subnet.subnet}: the network has no IPv{version} ({flag})"
            )
    for version in (4, 6):
        if sum(subnet.version == version for subnet in subnets) > 1:
            wrong.append(f"a bridge network has one IPv{version} subnet, not several")
    if wrong:
        lines = wrong if len(wrong) == 1 else [f"* {line}" for line in wrong]
        raise _bad("invalid network config:\n" + "\n".join(lines))


def _problems(subnet: Subnet) -> list[str]:
    text = subnet.subnet
    found = addresses.parse_cidr(text)
    if found is None:
        return [f"invalid subnet {text}: invalid CIDR block notation"]
    address, prefix = found
    wrong = []
    if address != prefix[:2]:
        wrong.append(f"invalid subnet {text}: it should be {addresses.show_prefix(prefix)}")
    if prefix[2] > addresses.WIDTH[prefix[0]] - 2:
        wrong.append(f"invalid subnet {text}: it has no room for a gateway and a container")
    wrong += _reserved(text, prefix)
    wrong += _range_problems(subnet.ip_range, prefix)
    if subnet.gateway:
        why = _outside(subnet.gateway, prefix)
        if why:
            wrong.append(f"invalid gateway {subnet.gateway}: {why}")
    for name, auxiliary in subnet.aux.items():
        why = _outside(auxiliary, prefix)
        if why:
            wrong.append(f"invalid auxiliary address {name}: {why}")
    return wrong


def _reserved(text: str, prefix: Prefix) -> list[str]:
    for reserved in (*_RESERVED, f"{HOST_ADDRESS}/32"):
        other = addresses.parse_cidr(reserved)
        if other is not None and addresses.overlap(prefix, other[1]):
            return [f"invalid subnet {text}: {reserved} is not for networks"]
    return []


def _range_problems(text: str, parent: Prefix) -> list[str]:
    if not text:
        return []
    found = addresses.parse_cidr(text)
    if found is None:
        return [f"invalid ip-range {text}: invalid CIDR block notation"]
    address, prefix = found
    if prefix[0] != parent[0]:
        return [f"invalid ip-range {text}: parent subnet is an IPv{parent[0]} block"]
    shown = addresses.show_prefix(parent)
    wrong = []
    if prefix[2] < parent[2]:
        wrong.append(
            f"invalid ip-range {text}: CIDR block is bigger than its parent subnet {shown}"
        )
    if address != prefix[:2]:
        wrong.append(f"invalid ip-range {text}: it should be {addresses.show_prefix(prefix)}")
    if not addresses.overlap(prefix, parent):
        wrong.append(f"invalid ip-range {text}: parent subnet {shown} doesn't contain ip-range")
    return wrong


def _outside(text: str, parent: Prefix) -> str:
    """Why an address cannot be one of the subnet's, or ""."""
    address = addresses.parse(text)
    if address is None:
        return "invalid address"
    if address[0] != parent[0]:
        return f"parent subnet is an IPv{parent[0]} block"
    if not addresses.contains(parent, address):
        return f"parent subnet {addresses.show_prefix(parent)} doesn't contain this address"
    if address[1] in _ends(parent):
        return "it is the address of the subnet itself, or its broadcast address"
    return ""


def _ends(prefix: Prefix) -> tuple[int, ...]:
    """Addresses of a subnet that nobody may have."""
    version, number, bits = prefix
    if version == 6:
        return (number,)
    return (number, number | (1 << (32 - bits)) - 1)


# all together


def prefix_of(subnet: Subnet) -> Prefix:
    """The prefix of a subnet that has been checked."""
    found = addresses.parse_cidr(subnet.subnet)
    if found is None:
        raise _bad(f"invalid subnet {subnet.subnet}: invalid CIDR block notation")
    return found[1]


def complete(
    subnets: Sequence[Subnet],
    *,
    network_id: str,
    pools: Iterable[str],
    others: Sequence[Prefix],
    host: Sequence[Prefix],
    ipv4: bool = True,
    ipv6: bool = False,
) -> list[Subnet]:
    """The subnets of a new network, each with its gateway: what the user chose, and what is missing of it.

    OTHERS are the prefixes of the networks there are, which nothing may overlap; HOST those that our own
    choice avoids as well.  Raises UsageError, ConflictError.
    """
    check(subnets, ipv4=ipv4, ipv6=ipv6)
    found = list(subnets)
    for subnet in found:
        if any(addresses.overlap(prefix_of(subnet), other) for other in others):
            raise ConflictError(OVERLAP)
    taken = [*others, *host, *(prefix_of(subnet) for subnet in found)]
    have = {subnet.version for subnet in found}
    if ipv4 and 4 not in have:
        found.insert(0, Subnet(addresses.show_prefix(choose(pools, taken))))
    if ipv6 and 6 not in have:
        found.append(Subnet(addresses.show_prefix(unique_local(network_id, taken))))
    for subnet in found:
        if not subnet.gateway:
            subnet.gateway = _first_free(subnet)
    return found


def _first_free(subnet: Subnet) -> str:
    version, number, _ = prefix_of(subnet)
    used = {addresses.parse(text) for text in subnet.aux.values()}
    at = 1
    while (version, number + at) in used:
        at += 1
    return addresses.show((version, number + at))


def check_wish(subnets: Sequence[Subnet], version: int, address: Address, shown: str) -> None:
    """Refuse an address that a container may not ask for in a network; raises UsageError as Docker."""
    static = [subnet for subnet in subnets if subnet.version == version and subnet.static]
    if not static:
        raise _bad(
            "invalid endpoint settings: user specified IP address is supported only when connecting to "
            "networks with user configured subnets"
        )
    for subnet in static:
        prefix = prefix_of(subnet)
        if not addresses.contains(prefix, address):
            continue
        if address[1] in _ends(prefix) or address == addresses.parse(subnet.gateway):
            raise ConflictError("address already in use")
        return
    raise _bad(
        f"invalid endpoint settings: no configured subnet or ip-range contain the IP address {shown}"
    )
