"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a container, as files of its directory, and a word to apt.

Owns their content for containers on no network: ``host`` shows the host's own names, ``none`` only its
own.  For others the hosts file is the network service's, which knows the addresses.  Written at each
start; bound into the root by the plan.
"""

from __future__ import annotations

import os

from rootless.plan import netmode, network, ownership
from rootless.plan.resolvconf import LOCALHOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless.plan.request import RunRequest


def write(directory: str, request: RunRequest, hostname: str, nameserver: str = "") -> None:
    """Write the files into the container's DIRECTORY; NAMESERVER is that of a network of its own."""
    kind = network.mode(request.network)
    _put(f"{directory}/hostname", hostname + "\n")
    if kind == netmode.BRIDGE:
        _resolver(directory, request)
        _mountable(directory)
    else:
        base = _read("/etc/hosts") if kind == netmode.HOST else ""
        _put(f"{directory}/hosts", hosts(base, request, hostname))
        _put(
            f"{directory}/resolv.conf", resolv_conf(_read("/etc/resolv.conf"), request, nameserver)
        )
    _put(f"{directory}/apt.conf", ownership.APT_TEXT)


def _resolver(directory: str, request: RunRequest) -> None:
    """resolv.conf of a container that has a name server of its own, unless somebody edited it."""
    from rootless.plan import resolvconf

    path, ours = f"{directory}/resolv.conf", f"{directory}/resolv.conf.ours"
    text = resolvconf.resolv_conf(
        _read("/etc/resolv.conf"), request.dns_search, request.dns_options
    )
    kept = resolvconf.unless_edited(_read(path) or None, _read(ours) or None, text)
    if kept == text:
        _put(path, text)
        _put(ours, text)


def _mountable(directory: str) -> None:
    """Let the hosts file be there: it is bound into the root while the network service still writes it."""
    path = f"{directory}/hosts"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return
    os.fchmod(fd, 0o644)
    os.close(fd)
    try:  # what was written before is not what somebody took out now
        os.unlink(f"{directory}/hosts.ours")
    except FileNotFoundError:
        pass


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


def resolv_conf(base: str, request: RunRequest, nameserver: str = "") -> str:
    """The host's resolver configuration, with what --dns, --dns-search and --dns-option replace.

    A NAMESERVER that passes questions on takes the place of the host's.
    """
    servers = request.dns or ([nameserver] if nameserver else [])
    if not (servers or request.dns_search or request.dns_options):
        return base
    kept = []
    for line in base.splitlines():
        word = line.split(None, 1)[0] if line.strip() else ""
        if (
            (word == "nameserver" and servers)
            or (word in ("search", "domain") and request.dns_search)
            or (word == "options" and request.dns_options)
        ):
            continue
        kept.append(line)
    kept += [f"nameserver {server}" for server in servers]
    if request.dns_search and request.dns_search != ["."]:
        kept.append("search " + " ".join(request.dns_search))
    if request.dns_options:
        kept.append("options " + " ".join(request.dns_options))
    return "\n".join(kept) + "\n"


def _names_host(text: str, hostname: str) -> bool:
    lines: Iterable[str] = text.splitlines()
    return any(hostname in line.split("#", 1)[0].split()[1:] for line in lines)


def _read(path: str) -> str:
    """What is there, as far as it is of a sensible size: a container may have written it."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


def _put(path: str, text: str) -> None:
    """Write a file that every user of the container may read, whatever the caller's umask is."""
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        try:
            os.fchmod(file.fileno(), 0o644)
        except PermissionError:  # the container gave it away
            pass
        file.write(text)
