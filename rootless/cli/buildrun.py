"""Flags of `build` that are about every RUN: limits, hosts, what may be allowed."""

from __future__ import annotations

from rootless.engine import buildallow
from rootless.errors import UsageError

from . import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .parse import Parsed

_LIMITS = (
    *("memory", "memory_swap", "cpu_period", "cpu_quota", "cpu_shares"),
    *("cpuset_cpus", "cpuset_mems", "cgroup_parent"),
)


def settings(args: Parsed) -> dict[str, Any]:
    """Fields of the RunRequest of each RUN; only what was asked for.  Raises UsageError."""
    found: dict[str, Any] = {}
    if any(args.given(key) for key in _LIMITS):
        from . import limitflags

        found["limits"] = limitflags.limits(args)
    if args.get("shm_size"):
        found["shm_size"] = values.size("--shm-size", args.get("shm_size"))
    if args.get("ulimit"):
        found["ulimits"] = [values.ulimit(text) for text in args.get("ulimit")]
    if args.get("add_host"):
        found["add_hosts"] = [values.extra_host(text) for text in args.get("add_host")]
    if args.get("security_opt"):
        from . import request

        found["security_opt"] = [request.security_option(text) for text in args.get("security_opt")]
    return found


def allowed(args: Parsed) -> frozenset[str]:
    """What --allow lets a Dockerfile have."""
    found = frozenset(word for text in args.get("allow") or () for word in text.split(","))
    for word in found:
        if word not in buildallow.KNOWN and not word.startswith(f"{buildallow.DEVICE}="):
            known = ", ".join(buildallow.KNOWN)
            raise UsageError(f"invalid --allow {word!r}: it is one of {known} or device=PATH")
    return found
