"""Doctor: every rung of every ladder, probed now, and what an administrator could do for a better one.

The report is plain data; the front prints it as text or JSON.  The probes are those that choose the rung
when a container starts, so that doctor never says what is not so.
"""

from __future__ import annotations

import os

from rootless.drivers import snapshot
from rootless.errors import RootlessError

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
    ladders = [_ids(facts), _storage(ctx, facts), _network(facts), _cgroups(facts)]
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
        "advice": _advice(facts, ladders),
    }


def _ladder(name: str, rungs: list[dict[str, Any]]) -> dict[str, Any]:
    chosen = next((one["name"] for one in rungs if one["usable"]), "")
    return {"name": name, "chosen": chosen, "rungs": rungs}


def _range(facts: HostFacts) -> str:
    total = sum(extent[2] for extent in facts.uid_map)
    return f"{total} IDs: " + ", ".join(
        f"{inside}-{inside + count - 1} -> {outside}-{outside + count - 1}"
        for inside, outside, count in facts.uid_map
    )


def _ids(facts: HostFacts) -> dict[str, Any]:
    first = 100000
    add = f"usermod --add-subuids {first}-{first + 65535} --add-subgids {first}-{first + 65535} {facts.user}"
    if not facts.newuidmap:
        add = "install the package uidmap (shadow-utils), so that newuidmap is there"
    subid = facts.id_rung == "subid"
    why = _range(facts) if subid else facts.subid_error or "not needed: IDs are mapped already"
    nested = facts.id_rung == "nested"
    return _ladder(
        "IDs",
        [
            rung("subid", subid, why, "" if subid or nested else add),
            rung(
                "nested",
                nested,
                _range(facts) if nested else "this is not a user namespace with a range",
            ),
            rung(
                "single",
                not facts.userns_error,
                facts.userns_error or "one ID: files of an image all belong to you",
            ),
        ],
    )


def _storage(ctx: Context, facts: HostFacts) -> dict[str, Any]:
    rungs = []
    for name, kind in snapshot.REGISTRY.items():
        probe = kind().probe(facts)
        why = "mounted, and a lower directory was replaced" if probe.usable else probe.reason
        rungs.append(rung(name, probe.usable, why, probe.hint))
    fuse = "/dev/fuse opens" if facts.fuse else "/dev/fuse does not open"
    for name in ("fuse-overlayfs", "fusepy", "copy"):
        rungs.append(
            rung(name, False, f"not part of this version{'' if name == 'copy' else '; ' + fuse}")
        )
    ladder = _ladder("storage", rungs)
    try:
        snapshot.choose(str(ctx.settings.get("storage.driver")), facts)
    except RootlessError as error:
        ladder["chosen"] = ""
        ladder["rungs"][0]["why"] = error.message
    return ladder


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


def _advice(facts: HostFacts, ladders: list[dict[str, Any]]) -> list[str]:
    found = [facts.userns_error] if facts.userns_error else []
    for ladder in ladders:
        for one in ladder["rungs"]:
            if one["usable"]:
                break
            if one["admin"]:
                found.append(one["admin"])
    restricted = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
    try:
        with open(restricted, encoding="ascii") as file:
            if file.read().strip() not in ("", "0") and facts.userns_error:
                found.append(
                    "load the AppArmor profile conf/apparmor/rootless-launch for the launcher: "
                    "apparmor_parser -r /etc/apparmor.d/rootless-launch"
                )
    except OSError:
        pass
    return found
