"""What /etc/resolv.conf and /etc/hosts of a container on a network say, by Docker's rules.

Pure: takes the host's file as text and gives text.  The container's resolver is the network service's, on
127.0.0.11, so that the servers of the host are left out; the service asks them.  What a user wrote into
these files stays: :func:`merge` for hosts, :func:`unless_edited` for resolv.conf.
"""

from __future__ import annotations

from rootless.plan.network import HOST_ADDRESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RESOLVER = "127.0.0.11"
HOST_GATEWAY = "host-gateway"

LOCALHOST4 = "127.0.0.1\tlocalhost\n"
LOCALHOST = LOCALHOST4 + (
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::\tip6-localnet\n"
    "ff00::\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)


class ResolvConf:
    """A resolv.conf that was read: the last search list counts, options add up, as for the C library.

    servers  addresses as written, whether or not they are some
    search   domains, of ``search`` or ``domain``
    options  words
    other    lines that are none of these, such as ``sortlist``
    """

    __slots__ = ("options", "other", "search", "servers")

    def __init__(self) -> None:
        self.servers: list[str] = []
        self.search: list[str] = []
        self.options: list[str] = []
        self.other: list[str] = []


def parse(text: str) -> ResolvConf:
    """Read TEXT; what makes no sense is left out."""
    found = ResolvConf()
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        if words[0] not in ("nameserver", "search", "domain", "options"):
            found.other.append(line)
        elif len(words) == 1:
            continue
        elif words[0] == "nameserver":
            found.servers.append(words[1])
        elif words[0] == "options":
            found.options += words[1:]
        else:
            found.search = words[1:]
    return found


def has_ndots(host: ResolvConf, options: Sequence[str]) -> bool:
    """Whether --dns-option, or without any the HOST's file, sets ndots.

    Docker then does not ask other servers about an unknown name without a dot, but lets the client
    go through its search list.
    """
    words = options or host.options
    return any(word.partition(":")[0] == "ndots" for word in words)


def resolv_conf(host: str, search: Sequence[str] = (), options: Sequence[str] = ()) -> str:
    """The file of a container, from the HOST's, --dns-search and --dns-option.

    The search list ``.`` alone is none.
    """
    conf = parse(host)
    domains = [domain for domain in search if domain != "."] if search else conf.search
    words = [word for word in options or conf.options if _is_sound(word)]
    if not any(word.startswith("ndots:") for word in words):
        words.append("ndots:0")
    lines = ["nameserver " + RESOLVER]
    if domains:
        lines.append("search " + " ".join(domains))
    lines += ["options " + " ".join(words), *conf.other]
    return "".join(line + "\n" for line in lines)


def _is_sound(option: str) -> bool:
    """Whether an option may stay: Docker replaces an ndots that is no number."""
    name, _, value = option.partition(":")
    return name != "ndots" or (value.isascii() and value.isdigit())


def hosts(
    hostname: str,
    domainname: str = "",
    *,
    addresses: Iterable[str] = (),
    links: Iterable[tuple[str, str]] = (),
    extra: Iterable[str] = (),
    ipv6: bool = True,
) -> str:
    """/etc/hosts: localhost, --add-host, --link, then the container itself.

    addresses  its own on all networks, in the networks' order
    links      (address, names) for each --link, see :func:`link_names`
    extra      "name:address" of --add-host; the address may be ``host-gateway``
    ipv6       False leaves out all IPv6 addresses, for a container that has none
    """
    entries = [_extra(entry) for entry in extra]
    entries += links
    names = own_names(hostname, domainname)
    entries += [(address, names) for address in addresses]
    kept = [f"{address}\t{names}\n" for address, names in entries if ipv6 or ":" not in address]
    return (LOCALHOST if ipv6 else LOCALHOST4) + "".join(kept)


def own_names(hostname: str, domainname: str = "") -> str:
    """What a container is called in its own hosts file: the whole name, then its first label."""
    whole = f"{hostname}.{domainname}" if domainname else hostname
    first, dot, _ = whole.partition(".")
    return f"{whole} {first}" if dot else whole


def link_names(alias: str, name: str, hostname: str) -> str:
    """What a container that was linked as ALIAS is called: alias, host name, name."""
    return " ".join([alias, hostname, *([name] if name != alias else [])])


def _extra(entry: str) -> tuple[str, str]:
    name, _, address = entry.partition(":")
    address = address.strip("[]")
    return (HOST_ADDRESS if address == HOST_GATEWAY else address), name


def merge(previous: str | None, written: Sequence[str], new: Sequence[str]) -> str:
    """The file after a restart: NEW lines in the place of those WRITTEN before, a user's edits kept.

    previous  the file as it is now, with what a user did to it, None if it is not there
    written   the lines that were written into it before

    A line of ours that the user took out stays out as long as it would be the same; one that changed
    is replaced where it was.  What is new goes below the last line of ours, else to the top.
    """
    if previous is None:
        return "".join(line + "\n" for line in new)
    ours = list(written)
    wanted = list(new)
    result: list[str] = []
    place = 0  # behind the last line of ours
    for line in previous.splitlines():
        if line in ours:
            ours.remove(line)
            if line in wanted:
                wanted.remove(line)
                result.append(line)
            place = len(result)
            continue
        result.append(line)
        if line in wanted:  # written by one that was killed before it could note so
            wanted.remove(line)
            place = len(result)
    for line in ours:  # taken out by the user
        if line in wanted:
            wanted.remove(line)
    result[place:place] = wanted
    return "".join(line + "\n" for line in result)


def unless_edited(previous: str | None, written: str | None, new: str) -> str:
    """NEW, or PREVIOUS if somebody changed it since it was WRITTEN: Docker's rule for resolv.conf."""
    if previous is None or written is None or previous == written:
        return new
    return previous
