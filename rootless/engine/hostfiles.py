"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a container, as files of its directory.

Owns their content for the networks that need no driver: ``host`` shows the host's own names, ``none``
only the container itself.  Written at each start; bound into the root by the plan.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless.plan.request import RunRequest

LOCALHOST = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::\tip6-localnet\n"
    "ff00::\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)


def write(directory: str, request: RunRequest, hostname: str) -> None:
    """Write the three files into the container's DIRECTORY."""
    on_host = request.network in ("", "host", "default", "bridge")
    _put(f"{directory}/hostname", hostname + "\n")
    _put(f"{directory}/hosts", hosts(_read("/etc/hosts") if on_host else "", request, hostname))
    _put(f"{directory}/resolv.conf", resolv_conf(_read("/etc/resolv.conf"), request))


def hosts(base: str, request: RunRequest, hostname: str) -> str:
    """The hosts file: the host's (or the localhost block), the container's name, then --add-host."""
    text = base or LOCALHOST
    if not text.endswith("\n"):
        text += "\n"
    names = [hostname + ("." + request.domainname if request.domainname else "")]
    if request.domainname:
        names.append(hostname)
    if not _names_host(text, hostname):
        text += "127.0.0.1\t" + " ".join(names) + "\n"
    for entry in request.add_hosts:
        name, _, address = entry.partition(":")
        if address == "host-gateway":
            address = "127.0.0.1"
        text += f"{address.strip('[]')}\t{name}\n"
    return text


def resolv_conf(base: str, request: RunRequest) -> str:
    """The host's resolver configuration, with what --dns, --dns-search and --dns-option replace."""
    if not (request.dns or request.dns_search or request.dns_options):
        return base
    kept = []
    for line in base.splitlines():
        word = line.split(None, 1)[0] if line.strip() else ""
        if (
            (word == "nameserver" and request.dns)
            or (word in ("search", "domain") and request.dns_search)
            or (word == "options" and request.dns_options)
        ):
            continue
        kept.append(line)
    kept += [f"nameserver {server}" for server in request.dns]
    if request.dns_search and request.dns_search != ["."]:
        kept.append("search " + " ".join(request.dns_search))
    if request.dns_options:
        kept.append("options " + " ".join(request.dns_options))
    return "\n".join(kept) + "\n"


def _names_host(text: str, hostname: str) -> bool:
    lines: Iterable[str] = text.splitlines()
    return any(hostname in line.split("#", 1)[0].split()[1:] for line in lines)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _put(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
