"""--network and the flags beside it: Docker's grammar, its conflicts, and what kind of network a word means.

Pure.  Knows the words of the built-in modes; whether a network of some name exists is the store's business.
"""

from __future__ import annotations

from rootless.errors import UsageError

from . import addresses
from .network import DEFAULT_NETWORK, EndpointWish
from .network import mode as kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Callable

    from .request import RunRequest

    Setter = Callable[[EndpointWish, str], None]

SYSCTLS = "com.docker.network.endpoint.sysctls"
NONE, HOST, CONTAINER, PASTA, SLIRP, BRIDGE = (
    *("none", "host", "container", "pasta", "slirp4netns"),
    "bridge",
)
PREDEFINED = ("bridge", "host", "none", "default")


def is_own(mode: str) -> bool:
    """Whether a program of the host connects the container alone (pasta, slirp4netns)."""
    return kind(mode) in (PASTA, SLIRP)


def options(mode: str) -> list[str]:
    """The options of ``pasta:a,b`` or ``slirp4netns:a=1,b=2``."""
    _, _, rest = mode.partition(":")
    return [word for word in rest.split(",") if word]


def is_user_defined(mode: str) -> bool:
    """Whether the mode is a network that somebody made, by name or ID."""
    return kind(mode) == BRIDGE and mode not in ("", *PREDEFINED)


def network_name(mode: str) -> str:
    """The network of a mode of kind BRIDGE: its name (or ID, as typed)."""
    return DEFAULT_NETWORK if mode in ("", "default") else mode


# --network


def _add_alias(wish: EndpointWish, value: str) -> None:
    wish.aliases.append(value)


def _add_link_local(wish: EndpointWish, value: str) -> None:
    wish.link_local_ips.append(value)


def _add_driver_opt(wish: EndpointWish, value: str) -> None:
    key, equals, text = value.partition("=")
    if not equals or not key:
        raise UsageError("invalid key value pair format in driver options")
    wish.driver_opts[key.strip()] = text.strip()


def _set_priority(wish: EndpointWish, value: str) -> None:
    digits = value[1:] if value[:1] in ("+", "-") else value
    if not (digits.isascii() and digits.isdigit()):
        raise UsageError("invalid gw-priority: invalid syntax")
    wish.gw_priority = int(value)


def _set(name: str) -> Setter:
    return lambda wish, value: setattr(wish, name, value)


FIELDS: dict[str, Setter] = {
    "name": _set("network"),
    "alias": _add_alias,
    "ip": _set("ip"),
    "ip6": _set("ip6"),
    "mac-address": _set("mac"),
    "link-local-ip": _add_link_local,
    "driver-opt": _add_driver_opt,
    "gw-priority": _set_priority,
}


def parse_network(text: str) -> EndpointWish:
    """One --network: a mode or name, or ``name=…,alias=…,ip=…,ip6=…``; raises UsageError."""
    if "=" not in text or kind(text) in (CONTAINER, PASTA, SLIRP):
        return EndpointWish(text)
    wish = EndpointWish("")
    for field in _split(text):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals or not key:
            raise UsageError(f"invalid field {field}")
        setter = FIELDS.get(key)
        if setter is None:
            raise UsageError(f"invalid field key {key}")
        setter(wish, value.strip())
    if not wish.network:
        raise UsageError("network name/id is not specified")
    return wish


def _split(text: str) -> list[str]:
    """The fields of one line of CSV: a quoted one may hold commas."""
    if '"' not in text:
        return text.split(",")
    fields, current, quoted = [], "", False
    for char in text:
        if char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            fields.append(current)
            current = ""
        else:
            current += char
    if quoted:
        raise UsageError(f"invalid --network {text!r}: a quote is not closed")
    return [*fields, current]


# the flags together


class Asked:
    """The flags beside --network, which concern the first network."""

    __slots__ = ("aliases", "ip", "ip6", "link_local_ips", "links", "mac")

    def __init__(
        self,
        *,
        aliases: Iterable[str] = (),
        links: Iterable[str] = (),
        ip: str = "",
        ip6: str = "",
        mac: str = "",
        link_local_ips: Iterable[str] = (),
    ) -> None:
        self.aliases = list(aliases)
        self.links = list(links)
        self.ip = ip
        self.ip6 = ip6
        self.mac = mac
        self.link_local_ips = list(link_local_ips)


_TWICE = (
    ("aliases", "--network-alias and per-network alias"),
    ("links", "--link and per-network links"),
    ("ip", "--ip and per-network IPv4 address"),
    ("ip6", "--ip6 and per-network IPv6 address"),
    ("mac", "--mac-address and per-network MAC address"),
    ("link_local_ips", "--link-local-ip and per-network link-local IP addresses"),
)


def _merge(wish: EndpointWish, asked: Asked) -> None:
    for name, words in _TWICE:
        value = getattr(asked, name)
        if name == "links":
            value = [link(text) for text in value] if is_user_defined(wish.network) else []
        if not value:
            continue
        if getattr(wish, name):
            raise UsageError(f"conflicting options: cannot specify both {words}")
        setattr(wish, name, value)


def fill(request: RunRequest, networks: Iterable[str], asked: Asked, default: str) -> None:
    """Put what --network (NETWORKS) and the flags beside it (ASKED) say into REQUEST; raises UsageError.

    DEFAULT is the mode where there is no --network.
    """
    wishes = [parse_network(text) for text in networks] or [EndpointWish(default)]
    _merge(wishes[0], asked)
    names = [wish.network for wish in wishes]
    for at, wish in enumerate(wishes):
        if wish.network in names[:at]:
            raise UsageError(f'network "{wish.network}" is specified multiple times')
        check_wish(wish)
    if len(wishes) > 1:
        kinds = {is_user_defined(name) for name in names}
        if len(kinds) > 1 or kinds == {False}:
            raise UsageError(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
            )
    request.network = names[0]
    if kind(names[0]) in (PASTA, SLIRP):
        request.mac = wishes[0].mac
    elif kind(names[0]) == BRIDGE and (len(wishes) > 1 or not _is_plain(wishes[0])):
        request.endpoints = [wish.to_dict() for wish in wishes]
    if asked.links and not is_user_defined(names[0]):
        request.links = [link(text) for text in asked.links]


def _is_plain(wish: EndpointWish) -> bool:
    return wish.to_dict() == EndpointWish(wish.network).to_dict()


def link(text: str) -> str:
    """``name:alias`` of a --link; the alias is the name where it is left out."""
    name, colon, alias = text.partition(":")
    if not name or ":" in alias or (colon and not alias):
        raise UsageError(f"bad format for links: {text}")
    name = name.removeprefix("/") if colon else name
    return f"{name}:{alias.rpartition('/')[2] or name}"


def check_wish(wish: EndpointWish) -> None:
    """What Docker's command line and its daemon refuse about one endpoint without looking at its network."""
    if not wish.network.strip():
        raise UsageError("no name set for network")
    if not is_user_defined(wish.network):
        if wish.aliases:
            raise UsageError("network-scoped aliases are only supported for user-defined networks")
        if wish.ip or wish.ip6:
            raise _invalid("user specified IP address is supported on user defined networks only")
    if wish.mac and kind(wish.network) in (CONTAINER, HOST):
        raise UsageError("conflicting options: mac-address and the network mode")
    check_addresses(wish)


def check_addresses(wish: EndpointWish) -> None:
    """Refuse addresses that are none, and make those that are look the same; raises UsageError."""
    for version, name in ((4, "ip"), (6, "ip6")):
        text = getattr(wish, name)
        address = addresses.parse(text) if text else None
        if text and (address is None or address[0] != version or not address[1]):
            raise _invalid(f"invalid IPv{version} address: {text}")
        if address is not None:
            setattr(wish, name, addresses.show(address))
    for text in wish.link_local_ips:
        address = addresses.parse(text)
        if address is None or not address[1]:
            raise _invalid(f"invalid link-local IP address: {text}")
    endpoint_sysctls(wish, "eth0")
    if wish.mac:
        mac = addresses.parse_mac(wish.mac)
        if not mac:
            raise UsageError(f"{wish.mac} is not a valid mac address")
        if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
            raise UsageError(f"{wish.mac} is not a valid mac address: no interface can have it")
        wish.mac = mac


def endpoint_sysctls(wish: EndpointWish, interface: str) -> list[tuple[str, str]]:
    """(path below /proc/sys/net, value) of what the endpoint's driver options set for its INTERFACE.

    Raises UsageError for anything but ``net.ipv4.conf.IFNAME.log_martians=1`` and the like.
    """
    found = []
    for text in wish.driver_opts.get(SYSCTLS, "").split(","):
        if not text:
            continue
        name, equals, value = text.partition("=")
        words = name.split(".")
        good = len(words) == 5 and words[0] == "net" and words[3] == "IFNAME" and all(words)
        if not (good and equals and name.replace(".", "").replace("_", "").isalnum()):
            raise _invalid(f"unrecognised network interface sysctl '{text}'")
        found.append((f"{words[1]}/{words[2]}/{interface}/{words[4]}", value))
    return found


def _invalid(text: str) -> UsageError:
    return UsageError(f"invalid endpoint settings: {text}")


def check_conflicts(request: RunRequest) -> None:
    """Refuse what does not go with the network mode, in Docker's words; raises UsageError."""
    mode = kind(request.network)
    if mode == CONTAINER:
        if not request.network.partition(":")[2]:
            raise UsageError("invalid network mode: invalid container format container:<name|id>")
        for wrong, words in (
            (request.hostname, "conflicting options: hostname and the network mode"),
            (request.links, LINKS.format("container type network")),
            (request.dns, "conflicting options: dns and the network mode"),
            (
                request.add_hosts,
                "conflicting options: custom host-to-IP mapping and the network mode",
            ),
            (request.publish or request.publish_all, _CONTAINER.format("port publishing")),
            (request.expose, _CONTAINER.format("port exposing")),
        ):
            if wrong:
                raise UsageError(words)
    if mode == HOST and request.links:
        raise UsageError(LINKS.format("host type networking"))


LINKS = "conflicting options: {} can't be used with links. This would result in undefined behavior"
_CONTAINER = "conflicting options: {} and the container type network mode"
