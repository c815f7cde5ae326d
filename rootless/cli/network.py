"""rootless network create, ls, inspect, rm, connect and disconnect (prune is in prune.py)."""

from __future__ import annotations

import os
import sys

from rootless.engine import connecting, endpoints, networks
from rootless.engine.context import Context
from rootless.errors import NotFoundError, UsageError
from rootless.plan import netmode, subnets
from rootless.plan.network import EndpointWish

from . import filters, inspect_text, kvfile, many
from . import rows as sheets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rootless.plan.network import NetworkDef

    from .parse import Parsed

NAMES = ("dangling", "driver", "id", "label", "label!", "name", "scope", "type")


def _split(texts: Iterable[str]) -> list[str]:
    """The values of a flag that takes several, with commas between them."""
    return [word for text in texts for word in text.split(",") if word]


def create(args: Parsed, env: Mapping[str, str]) -> int:
    """Create a network and print its ID."""
    for flag, why in args.later():
        raise UsageError(f"cannot create network {args.args[0]} with {flag}: {why}", exit_code=1)
    if args.get("scope") not in (None, "", "local"):
        raise UsageError(f"invalid scope {args.get('scope')!r}: only local is known", exit_code=1)
    if args.get("ipam_driver") not in ("", "default"):
        raise NotFoundError(f'plugin "{args.get("ipam_driver")}" not found')
    if args.get("ipam_opt"):
        raise UsageError("the IPAM driver default has no options", exit_code=1)
    chosen = subnets.consolidate(
        _split(args.get("subnet") or ()),
        _split(args.get("ip_range") or ()),
        _split(args.get("gateway") or ()),
        kvfile.pairs("aux-address", args.get("aux_address") or ()),
    )
    made = networks.create(
        Context.load(env),
        args.args[0],
        driver=args.get("driver") or "bridge",
        chosen=chosen,
        internal=bool(args.get("internal")),
        ipv4=bool(args.get("ipv4")),
        ipv6=bool(args.get("ipv6")),
        attachable=bool(args.get("attachable")),
        labels=kvfile.labels((), args.get("label") or ()),
        options=kvfile.pairs("opt", args.get("opt") or ()),
    )
    for key in made.options:
        if key not in networks.OPTIONS:
            sys.stderr.write(
                f"rootless: warning: --opt {key}: it has no effect on bridge networks\n"
            )
    os.write(1, f"{made.id}\n".encode())
    return 0


def rm(args: Parsed, env: Mapping[str, str]) -> int:
    """Remove networks."""
    ctx = Context.load(env)
    return many.remove(
        args.args, lambda name: networks.remove(ctx, name), force=bool(args.get("force"))
    )


def inspect(args: Parsed, env: Mapping[str, str]) -> int:
    """Print what is known about networks as JSON, or as --format says."""
    ctx = Context.load(env)
    form = str(args.get("format") or "")
    failed = inspect_text.write(args.args, lambda name: networks.inspect(ctx, name), form)
    return 1 if failed else 0


def connect(args: Parsed, env: Mapping[str, str]) -> int:
    """Connect a container to a network."""
    wish = EndpointWish(
        args.args[0],
        aliases=_split(args.get("alias") or ()),
        ip=args.get("ip") or "",
        ip6=args.get("ip6") or "",
        gw_priority=int(args.get("gw_priority") or 0),
        links=[netmode.link(text) for text in args.get("link") or ()],
        link_local_ips=_split(args.get("link_local_ip") or ()),
        driver_opts=kvfile.pairs("driver-opt", args.get("driver_opt") or ()),
    )
    connecting.connect(Context.load(env), args.args[0], args.args[1], wish)
    return 0


def disconnect(args: Parsed, env: Mapping[str, str]) -> int:
    """Disconnect a container from a network."""
    ctx = Context.load(env)
    connecting.disconnect(ctx, args.args[0], args.args[1], force=bool(args.get("force")))
    return 0


# ls


def select(ctx: Context, flags: list[str]) -> list[NetworkDef]:
    """The networks that pass the --filter flags, by name."""
    found = filters.Filters(flags, NAMES)
    for value in found.get("type"):
        if value not in ("custom", "builtin"):
            raise UsageError(f"invalid filter: 'type'='{value}'", exit_code=1)
    dangling = filters.boolean("dangling", found.get("dangling"))
    patterns = {text: filters.pattern(text) for key in ("name", "id") for text in found.get(key)}
    tests: dict[str, filters.Match] = {
        "driver": lambda network, value: network.driver == value,
        "id": lambda network, value: patterns[value](network.id),
        "label": lambda network, value: filters.label(network.labels, value),
        "label!": lambda network, value: not filters.label(network.labels, value),
        "name": lambda network, value: patterns[value](network.name),
        "scope": lambda network, value: value == "local",  # noqa: ARG005
        "type": lambda network, value: (network.name in networks.BUILT_IN) == (value == "builtin"),
    }
    rows = [network for network in ctx.networks.all() if found.match(network, tests)]
    if dangling is not None:
        using = endpoints.on_networks(ctx)
        rows = [
            network
            for network in rows
            if (network.name not in networks.BUILT_IN and network.id not in using) == dangling
        ]
    return rows


HEADERS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "Label": "LABEL",
    "CreatedAt": "CREATED AT",
}


def make_sheet(*, trunc: bool) -> sheets.Sheet:
    """The fields of a network."""

    def created(network: NetworkDef) -> str:
        from . import units

        return units.local_time(int(network.created * units.SECOND))

    def labels(network: NetworkDef) -> str:
        return ",".join(f"{key}={network.labels[key]}" for key in sorted(network.labels))

    def yes(value: bool) -> str:
        return "true" if value else "false"

    return sheets.Sheet(
        {
            "ID": lambda network: network.id[:12] if trunc else network.id,
            "Name": lambda network: network.name,
            "Driver": lambda network: network.driver,
            "Scope": lambda network: "local",  # noqa: ARG005
            "IPv4": lambda network: yes(network.ipv4),
            "IPv6": lambda network: yes(network.ipv6),
            "Internal": lambda network: yes(network.internal),
            "Labels": labels,
            "CreatedAt": created,
        },
        HEADERS,
        ("ID", "Name", "Driver", "Scope"),
        "*formatter.networkContext",
        methods={"Label": lambda network, name: network.labels.get(name, "")},
    )


def ls(args: Parsed, env: Mapping[str, str]) -> int:
    """List networks."""
    rows = select(Context.load(env), args.get("filter") or [])
    form = str(args.get("format") or "")
    sheet = make_sheet(trunc=not args.get("no_trunc"))
    if args.get("quiet") and form in ("", "table", "json"):
        sys.stdout.write("".join(f"{sheet.fields['ID'](network)}\n" for network in rows))
    else:
        sys.stdout.write(sheets.render(sheet, rows, form))
    return 0
