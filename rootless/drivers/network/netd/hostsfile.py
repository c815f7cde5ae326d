"""/etc/hosts of the containers on networks, in their directories; addresses are known only here.

Written before the container's root is assembled, and again, in place since it is mounted, when the container is
connected elsewhere.  What a user did to the file stays: the lines that we wrote are remembered beside it.
"""

from __future__ import annotations

import os

from rootless.plan import resolvconf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .members import Member, Members

FILE, OURS = "hosts", "hosts.ours"
MOST = 1 << 20  # characters that are read of a file


def write(member: Member, members: Members) -> None:
    """Bring a container's file up to date; raises OSError."""
    directory = member.request.directory
    lines = text(member, members).splitlines()
    previous = _read(f"{directory}/{FILE}")
    written = _read(f"{directory}/{OURS}")
    merged = resolvconf.merge(previous, (written or "").splitlines(), lines)
    if merged != previous:
        _put(f"{directory}/{FILE}", merged)
    _put(f"{directory}/{OURS}", "".join(f"{line}\n" for line in lines))


def text(member: Member, members: Members) -> str:
    """What the file says if nobody touched it."""
    request = member.request
    addresses = [
        one.address(version)
        for one in member.endpoints.values()
        for version in (4, 6)
        if one.address(version)
    ]
    return resolvconf.hosts(
        request.hostname,
        request.domainname,
        addresses=addresses,
        links=_links(member, members),
        extra=request.hosts,
    )


def _links(member: Member, members: Members) -> list[tuple[str, str]]:
    """(address, names) of the containers that --link names, where they are on the same network."""
    found = []
    for own in member.endpoints.values():
        for link in own.wish.links:
            name, _, alias = link.partition(":")
            for other, endpoint in members.on_network(own.network.id):
                if name in (other.request.name, other.request.id, other.request.id[:12]):
                    names = resolvconf.link_names(
                        alias or name, other.request.name, other.request.hostname
                    )
                    found += [(one, names) for one in (endpoint.ip, endpoint.ip6) if one]
    return found


def _read(path: str) -> str | None:
    """What is there, as far as it is of a sensible size: the container can write to it."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(MOST)
    except OSError:
        return None


def _put(path: str, content: str) -> None:
    """In place: a mounted file must stay the file that it is."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(content)
        file.truncate()
