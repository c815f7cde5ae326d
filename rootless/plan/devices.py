"""Devices in a container.

Nobody without root can make device nodes, so the host's are bound; what they allow is what the host
already allows this user, and the permission letters of --device are advice.  /dev/console is the
container's own terminal (the launcher's console operation binds it), /dev/ptmx that of its own devpts.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.facts import HostFacts

    from .request import Placement, RunRequest

# What every container has, if the host does (facts.devices).
DEFAULT = ("null", "zero", "full", "random", "urandom", "tty")
SYMLINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
)
KCORE = ("/proc/kcore", "/dev/core")
_OPTIONS = ("nosuid", "noexec", "rprivate")


def _bind(host: str, inside: str) -> dict[str, Any]:
    return {
        "destination": inside,
        "type": "bind",
        "source": host,
        "options": ["rbind", *_OPTIONS],
    }


def requested(request: RunRequest, place: Placement, facts: HostFacts) -> list[dict[str, Any]]:
    """Mounts for --device, and for --privileged every node of the host that this user can open."""
    mounts = [_bind(host, inside) for host, inside, _ in request.devices]
    if request.privileged:
        have = {mount["destination"] for mount in mounts}
        have.update(f"/dev/{name}" for name in facts.devices)
        have.update(("/dev/console", "/dev/ptmx"))
        mounts += [_bind(path, path) for path in place.host_devices if path not in have]
    return mounts
