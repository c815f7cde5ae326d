"""HostFacts of this boot: read from the runtime directory, probed again when what they rest on changed."""

from __future__ import annotations

import os

from rootless import jsonc
from rootless.facts import HostFacts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .probe import Play

WATCHED = ("/etc/subuid", "/etc/subgid", "/usr/bin/newuidmap", "/usr/bin/newgidmap")


def stamp(libexec: str, data_root: str) -> str:
    """What the facts rest on, as text: kernel, user, the launcher, the subordinate ID files."""
    parts = [os.uname().release, str(os.getuid()), data_root]
    for path in (f"{libexec}/launch", *WATCHED):
        try:
            info = os.stat(path)
            parts.append(f"{info.st_mtime_ns}-{info.st_size}-{info.st_mode:o}")
        except OSError:
            parts.append("-")
    return " ".join(parts)


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
            if cached["stamp"] == key:
                return HostFacts.from_dict(cached["facts"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
    from . import probe

    facts = probe.probe(data_root, play)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="ascii") as file:
        file.write(jsonc.dumps({"stamp": key, "facts": facts.to_dict()}))
    os.rename(temporary, path)
    return facts
