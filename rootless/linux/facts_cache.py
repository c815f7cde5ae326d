"""HostFacts of this boot: read from the runtime directory, probed again when what they rest on changed."""

from __future__ import annotations

import os
import time

from rootless import jsonc
from rootless.facts import HostFacts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .probe import Play

WATCHED = (
    "/etc/subuid",
    "/etc/subgid",
    "/usr/bin/newuidmap",
    "/usr/bin/newgidmap",
    "/etc/apparmor.d",
    "/sys/module/overlay",
    "/dev/fuse",
    "/dev/net/tun",
    "/usr/bin/fuse-overlayfs",
    "/usr/bin/pasta",
    "/usr/bin/slirp4netns",
    "/usr/sbin/nft",
    "/usr/lib64/libfuse3.so.3",
    "/etc/ld.so.cache",
)
SYSCTLS = (
    "/proc/sys/user/max_user_namespaces",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    "/proc/sys/kernel/unprivileged_userns_clone",
    "/proc/sys/net/ipv4/ping_group_range",
    "/proc/sys/net/ipv4/ip_unprivileged_port_start",
    "/proc/sys/net/ipv4/neigh/default/gc_thresh3",
)
# Seconds for which it is believed that there can be no relay: a limit was reached, a module may be loaded.
DOUBT = 300


def stamp(libexec: str, data_root: str) -> str:
    """What the facts rest on, as text: kernel, user, the launcher, and what an administrator can change."""
    parts = [os.uname().release, str(os.getuid()), str(os.getgid()), data_root]
    for path in (f"{libexec}/launch", *WATCHED):
        try:
            info = os.stat(path)
            # Devices and /sys have no lasting times of change; their modes are what is asked.
            changed = 0 if path.startswith(("/dev/", "/sys/")) else info.st_mtime_ns
            parts.append(f"{changed}-{info.st_size}-{info.st_mode:o}")
        except OSError:
            parts.append("-")
    parts += [_content(path) for path in SYSCTLS]
    return " ".join(parts)


def _content(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return "-"
    try:
        return os.read(fd, 64).decode("ascii", "replace").strip()
    except OSError:
        return "-"
    finally:
        os.close(fd)


def load_facts(
    runtime_root: str, data_root: str, libexec: str, play: Play, *, fresh: bool = False
) -> HostFacts:
    """The facts, from the cache unless FRESH or stale; PLAY runs a tape for the probes."""
    path = f"{runtime_root}/facts.json"
    key = stamp(libexec, data_root)
    if not fresh:
        try:
            with open(path, "rb") as file:
                cached = jsonc.loads(file.read())
                age = time.time() - os.fstat(file.fileno()).st_mtime
            if cached["stamp"] == key:
                found = HostFacts.from_dict(cached["facts"])
                if found.net_relay or found.userns_error or 0 <= age < DOUBT:
                    return found
        except (OSError, ValueError, KeyError, TypeError):
            pass
    from . import probe

    facts = probe.probe(data_root, play)
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "w", encoding="ascii") as file:
            file.write(jsonc.dumps({"stamp": key, "facts": facts.to_dict()}))
        os.rename(temporary, path)
    except OSError:
        pass  # a full runtime directory costs the next command a probe
    return facts
