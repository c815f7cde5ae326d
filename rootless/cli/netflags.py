"""The network flags of `run` and `create`: read, checked against each other, put into the request.

Loaded only where one of them is given.  The grammar is plan/netmode.py's and plan/ports.py's.
"""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.plan import addresses, netmode, ports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.request import RunRequest

    from .parse import Parsed


def fill(request: RunRequest, args: Parsed) -> None:
    """Put --network and what goes with it, -p, -P and --expose into REQUEST; raises UsageError."""
    asked = netmode.Asked(
        aliases=args.get("network_alias") or (),
        links=args.get("link") or (),
        ip=args.get("ip") or "",
        ip6=args.get("ip6") or "",
        mac=args.get("mac_address") or "",
        link_local_ips=args.get("link_local_ip") or (),
    )
    netmode.fill(request, args.get("network") or (), asked, request.network)
    request.publish = list(args.get("publish") or ())
    request.publish_all = bool(args.get("publish_all"))
    request.expose = list(args.get("expose") or ())
    for text in args.get("network_opt") or ():
        if text != "fast=connect":
            raise UsageError(f"unknown option for --network-opt: {text!r}: fast=connect is known")
        request.network_opts["fast"] = "connect"
    ports.parse_ports(request.publish)
    ports.parse_expose(request.expose)


def fill_dns(request: RunRequest, args: Parsed) -> None:
    """Put --dns, --dns-search and --dns-option into REQUEST; raises UsageError."""
    for text in args.get("dns") or ():
        address = addresses.parse(text.strip())
        if address is None:
            raise UsageError(
                f'invalid argument "{text}" for "--dns" flag: {text} is not an ip address'
            )
        request.dns.append(addresses.show(address))
    request.dns_search = [_domain(text) for text in args.get("dns_search") or ()]
    request.dns_options = list(args.get("dns_option") or ())


def _domain(text: str) -> str:
    """A search domain, or ``.`` for none."""
    name = text.strip()
    labels = name.strip(".").split(".")
    allowed = all(
        label and len(label) <= 63 and label.replace("-", "").replace("_", "").isalnum()
        for label in labels
    )
    if name != "." and (not allowed or not name.isascii() or len(name) > 255):
        raise UsageError(
            f'invalid argument "{text}" for "--dns-search" flag: {text} is not a valid domain'
        )
    return name
