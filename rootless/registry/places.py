"""Where a repository is really fetched from: mirrors, other locations, registries without TLS.

Read from registries.toml of the user, the system and the package, in this order; the entry with the longest
prefix wins, and of equal prefixes the one read first.
"""

from __future__ import annotations

import os

from rootless.config import toml
from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from rootless.oci.reference import Reference

SYSTEM_FILE = "/etc/rootless/registries.toml"
_KEYS = {"prefix": str, "location": str, "insecure": bool, "mirrors": list}


class Place:
    """One place to ask: registry host, path of the repository there, and who may be without TLS."""

    __slots__ = ("domain", "insecure", "path")

    def __init__(self, domain: str, path: str, insecure: frozenset[str]) -> None:
        self.domain = domain
        self.path = path
        self.insecure = insecure

    def __repr__(self) -> str:
        return f"Place({self.domain}/{self.path})"


def files(env: Mapping[str, str], conf: str) -> list[str]:
    """The registries.toml files, most important first; CONF is the package's directory."""
    base = env.get("XDG_CONFIG_HOME") or f"{env.get('HOME') or '/nonexistent'}/.config"
    return [f"{base}/rootless/registries.toml", SYSTEM_FILE, f"{conf}/registries.toml"]


def load(paths: Sequence[str]) -> list[dict[str, Any]]:
    """The [[registry]] entries of all files that are there; raises UsageError naming file and key."""
    entries: list[dict[str, Any]] = []
    for path in paths:
        if os.path.exists(path):
            entries += _read(path)
    return entries


def _read(path: str) -> list[dict[str, Any]]:
    content = toml.flat(path)
    for key in content:
        if key != "registry":
            raise UsageError(f"cannot use {path}: unknown key {key!r}")
    entries = content.get("registry", [])
    if not isinstance(entries, list):
        raise UsageError(f"cannot use {path}: write [[registry]], with two brackets")
    for entry in entries:
        for key, value in entry.items():
            wanted = _KEYS.get(key)
            if wanted is None:
                raise UsageError(f"cannot use {path}: unknown key {key!r} in [[registry]]")
            texts = value if wanted is list else []
            if type(value) is not wanted or not all(isinstance(text, str) for text in texts):
                raise UsageError(f"cannot use {path}: {key} has the wrong type: {value!r}")
        if not entry.get("prefix", entry.get("location")):
            raise UsageError(f"cannot use {path}: a [[registry]] has neither prefix nor location")
    return entries


def places(
    reference: Reference,
    entries: Sequence[Mapping[str, Any]],
    insecure: Sequence[str] = (),
    mirrors: Sequence[str] = (),
) -> list[Place]:
    """Where to ask for REFERENCE, in this order: its mirrors, then its registry.

    INSECURE lists hosts that need no TLS; MIRRORS are asked for what is Docker Hub's.
    """
    name = reference.repository
    best = _best(name, entries)
    targets = [f"{mirror}/{reference.path}" for mirror in mirrors if name.startswith("docker.io/")]
    if best is None:
        targets.append(name)
    else:
        prefix = best.get("prefix") or best["location"]
        rest = name[len(prefix) :]
        targets += [mirror.rstrip("/") + rest for mirror in best.get("mirrors", [])]
        targets.append((best.get("location") or prefix).rstrip("/") + rest)
    plain = frozenset(insecure) | {
        host.partition("/")[0]
        for entry in entries
        if entry.get("insecure")
        for host in (entry.get("location") or entry["prefix"],)
    }
    found = []
    for target in targets:
        domain, _, path = target.partition("/")
        found.append(Place(domain, path, plain))
    return found


def _best(name: str, entries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    best: Mapping[str, Any] | None = None
    length = -1
    for entry in entries:
        prefix = (entry.get("prefix") or entry["location"]).rstrip("/")
        if (name == prefix or name.startswith(prefix + "/")) and len(prefix) > length:
            best, length = entry, len(prefix)
    return best
