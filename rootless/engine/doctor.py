"""Doctor: every rung of every ladder, probed now, and what an administrator could do for a better one.

The report is plain data; the front prints it as text or JSON.  The probes are those that choose the rung
when a container starts, so that doctor never says what is not so.
"""

from __future__ import annotations

import os
import re

from rootless.drivers import idmap, snapshot
from rootless.linux import probe

from . import facts as facts_loader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.facts import HostFacts

    from .context import Context


def rung(name: str, usable: bool, why: str, admin: str = "") -> dict[str, Any]:
    """One rung: whether it works here, why (not), and the line an administrator could add."""
    return {"name": name, "usable": usable, "why": why, "admin": admin}


def report(ctx: Context) -> dict[str, Any]:
    """What was probed just now; ``usable`` says whether a container can run at all."""
    facts = facts_loader.load(ctx.paths, fresh=True)
    ladders = [_ids(ctx, facts), _storage(ctx, facts), _network(facts), _cgroups(facts)]
    usable = not facts.userns_error and all(ladder["chosen"] for ladder in ladders)
    return {
        "usable": usable,
        "user": facts.user,
        "uid": facts.uid,
        "kernel": ".".join(map(str, facts.kernel)),
        "architecture": facts.arch,
        "data": ctx.paths.data_root,
        "runtime": ctx.paths.runtime_root,
        "userns": facts.userns_error or "ok",
        "ladders": ladders,
        "features": _features(ctx, facts),
        "advice": _advice(ctx, facts, ladders),
    }


def _ladder(name: str, rungs: list[dict[str, Any]], wanted: str = "auto") -> dict[str, Any]:
    """The best rung that works, or the one that the configuration names if it does."""
    able = [one["name"] for one in rungs if one["usable"]]
    if wanted not in ("", "auto"):
        able = [one for one in able if one == wanted]
    return {"name": name, "chosen": able[0] if able else "", "wanted": wanted, "rungs": rungs}


def _ids(ctx: Context, facts: HostFacts) -> dict[str, Any]:
    rungs = []
    for name, kind in idmap.REGISTRY.items():
        judged = kind().probe(facts)
        rungs.append(rung(name, judged.usable, judged.reason, judged.hint))
    return _ladder("IDs", rungs, str(ctx.settings.get("idmap.mode")))


def _storage(ctx: Context, facts: HostFacts) -> dict[str, Any]:
    rungs = []
    for name, kind in snapshot.REGISTRY.items():
        judged = kind().probe(facts)
        why = "mounted, and a lower directory was replaced" if judged.usable else judged.reason
        rungs.append(rung(name, judged.usable, why, judged.hint))
    fuse = "/dev/fuse opens" if facts.fuse else "/dev/fuse does not open"
    for name in ("fuse-overlayfs", "fusepy", "copy"):
        if name not in snapshot.REGISTRY:
            note = "" if name == "copy" else f"; {fuse}"
            rungs.append(rung(name, False, f"not part of this version{note}"))
    return _ladder("storage", rungs, str(ctx.settings.get("storage.driver")))


def _network(facts: HostFacts) -> dict[str, Any]:
    tun = "/dev/net/tun opens" if facts.net_tun else "/dev/net/tun does not open"
    return _ladder(
        "network",
        [
            rung("relay", False, "not part of this version"),
            rung("pasta", False, f"not part of this version; {tun}"),
            rung("slirp4netns", False, f"not part of this version; {tun}"),
            rung("host", True, "containers share the host's network"),
            rung("none", not facts.userns_error, "a network namespace with a loopback only"),
        ],
    )


def _cgroups(facts: HostFacts) -> dict[str, Any]:
    where = f"control groups are {facts.cgroup_mode}"
    return _ladder(
        "cgroups",
        [
            rung("systemd", False, f"not part of this version; {where}"),
            rung("cgroupfs", False, f"not part of this version; {where}"),
            rung("none", True, "limits are reported as not enforced, except --ulimit"),
        ],
    )


def _features(ctx: Context, facts: HostFacts) -> list[dict[str, Any]]:
    launch = f"{ctx.paths.libexec}/launch"
    return [
        rung("launcher", os.access(launch, os.X_OK), launch),
        rung(
            "seccomp",
            facts.seccomp,
            "a filter was loaded" if facts.seccomp else "no filter can be loaded",
        ),
        rung("openat2", facts.openat2, "else paths are walked one component at a time"),
        rung("mount_setattr", facts.mount_setattr, "else mounts are changed one by one"),
        rung("close_range", facts.close_range, "else descriptors are closed one by one"),
        rung("pidfd", facts.pidfd, "processes are watched without races"),
        rung("cgroup namespace", facts.cgroup_ns, "containers see their own control group as /"),
        rung(
            "new procfs",
            not facts.masked_proc,
            "the host's /proc is masked: containers see its processes"
            if facts.masked_proc
            else "containers have a /proc of their own",
        ),
    ]


def _advice(ctx: Context, facts: HostFacts, ladders: list[dict[str, Any]]) -> list[str]:
    """What would make it better, most urgent first, each line once."""
    found = []
    if facts.userns_error:
        found.append(facts.userns_error)
        if probe.sysctl("kernel.apparmor_restrict_unprivileged_userns") not in ("", "0"):
            found.append(f"or, for rootless alone: {_load_profile(ctx)}")
    for ladder in ladders:
        for one in ladder["rungs"]:
            if one["usable"]:
                break
            if one["admin"] and not facts.userns_error:
                found.append(one["admin"])
    return list(dict.fromkeys(found))


def _load_profile(ctx: Context) -> str:
    """The command that lets the launcher, and nothing else, make user namespaces (Ubuntu 24.04)."""
    # An upgrade goes to a directory beside, which the profile should match too.
    path = os.path.realpath(f"{ctx.paths.libexec}/launch")
    launch = re.sub(r"/v-[0-9-]+/env/", "/v-*/env/", path)
    there = "/etc/apparmor.d/rootless-launch"
    return (
        f"sed 's|@LAUNCH@|{launch}|' {ctx.paths.conf}/apparmor/rootless-launch > {there} && "
        f"apparmor_parser -r {there}"
    )
