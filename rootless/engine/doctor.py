"""Doctor: every rung of every ladder, probed now, and what an administrator could do for a better one.

The report is plain data; the front prints it as text or JSON.  The probes are those that choose the rung
when a container starts, so that doctor never says what is not so.
"""

from __future__ import annotations

import math
import os
import re

from rootless.drivers import cgroup, idmap, network, snapshot
from rootless.errors import RootlessError
from rootless.linux import probe

from . import cgroups, sessions
from . import facts as facts_loader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.facts import HostFacts

    from .context import Context


_TRIED = {
    "overlay": "mounted, and a lower directory was replaced",
    "fuse-overlayfs": "FUSE was mounted, and the program is installed",
    "fusepy": "FUSE was mounted, and libfuse and its Python binding are installed",
    "copy": "",
}

_UPLINKS = {
    "relay": "a connection was relayed, with rules set by {0.nft}",
    "pasta": "{0.pasta} {0.pasta_version}",
    "slirp4netns": "{0.slirp4netns} {0.slirp4netns_version}",
}


def rung(name: str, usable: bool, why: str, admin: str = "") -> dict[str, Any]:
    """One rung: whether it works here, why (not), and the line an administrator could add."""
    return {"name": name, "usable": usable, "why": why, "admin": admin}


def report(ctx: Context) -> dict[str, Any]:
    """What was probed just now; ``usable`` says whether a container can run at all."""
    facts = facts_loader.load(ctx.paths, fresh=True)
    cgroups.settle(ctx, facts)
    ladders = [_ids(ctx, facts), _storage(ctx, facts), _network(ctx, facts)]
    ladders.append(_cgroups(ctx, facts))
    features = _features(ctx, facts)
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
        "features": features,
        "advice": _advice(ctx, facts, ladders, features),
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
    for name in snapshot.REGISTRY:
        judged = snapshot.driver(name).probe(facts)
        why = judged.reason or _TRIED[name]
        rungs.append(rung(name, judged.usable, why, judged.hint))
    return _ladder("storage", rungs, str(ctx.settings.get("storage.driver")))


def _network(ctx: Context, facts: HostFacts) -> dict[str, Any]:
    """Uplinks of bridges; without bridges containers share the host's network."""
    rungs = []
    for name in network.REGISTRY:
        judged = network.driver(name).probe(facts)
        why = judged.reason or _UPLINKS[name].format(facts).rstrip()
        rungs.append(rung(name, judged.usable, why, judged.hint))
    none = rung("none", not facts.userns_error, "a network namespace with a loopback only")
    return _ladder("network", [*rungs, none], str(ctx.settings.get("network.uplink")))


_GROUPS = {
    "systemd": "a scope of your systemd for each container",
    "cgroupfs": "groups below {0.cgroup_delegated}",
    "none": "no pause; limits are reported as not enforced, except --ulimit and --cpuset-cpus",
}


def _cgroups(ctx: Context, facts: HostFacts) -> dict[str, Any]:
    rungs = []
    for name in cgroup.REGISTRY:
        driver = cgroup.driver(name)
        judged = driver.probe(facts)
        why = judged.reason or _GROUPS[name].format(facts)
        if judged.usable and name != "none":
            why += f" ({', '.join(driver.controllers(facts)) or 'no controllers'})"
        rungs.append(rung(name, judged.usable, why, judged.hint))
    return _ladder("cgroups", rungs, str(ctx.settings.get("cgroup.driver")))


_WANTED = ("memory", "cpu", "pids", "io", "cpuset")


def _delegation(facts: HostFacts) -> dict[str, Any]:
    """Which limits can be enforced: the controllers that the driver in use gets."""
    have = facts.cgroup_controllers
    missing = [name for name in _WANTED if name not in have]
    if not missing:
        return rung("limits", True, "memory, CPU, processes and I/O of containers can be limited")
    why = f"no controller {', '.join(missing)}"
    if facts.cgroup_rung == "none":
        return rung("limits", False, "there is no control group to limit a container in")
    line = ""
    if facts.cgroup_rung == "systemd":
        line = _DROP_IN
    return rung("limits", False, why, line)


_DROP_IN = (
    "an administrator can run: mkdir -p /etc/systemd/system/user@.service.d && printf "
    "'[Service]\\nDelegate=cpu cpuset io memory pids\\n' > "
    "/etc/systemd/system/user@.service.d/delegate.conf && systemctl daemon-reload"
)


MANY = 128  # containers that all talk to one another
WANTED = ("whiteouts", "xattrs", "dtype", "mmap", "locks", "chown", "reflink")


def _filesystem(ctx: Context, facts: HostFacts) -> dict[str, Any]:
    """What the filesystem of layers and containers was seen to do."""
    lacks = [f"no {name}" for name in WANTED if not facts.has(name)]
    if facts.id_rung == "single" and "no chown" in lacks:
        lacks.remove("no chown")  # nothing to give files to
    why = f"{facts.data_fs or 'unknown filesystem'} at {ctx.paths.local_root}"
    good = not [one for one in lacks if one != "no reflink"]
    return rung("storage", good, ": ".join([why, ", ".join(lacks)] if lacks else [why]))


def _other_owners(ctx: Context, facts: HostFacts) -> str:
    """What --userns keep-id does about an image, whose files belong to the caller as root."""
    if facts.userns_error:
        return facts.userns_error
    if facts.id_rung == "single":
        return "all files belong to one ID: nothing to do"
    try:
        driver = ctx.driver
    except RootlessError as error:
        return error.message
    if "keep-id" in driver.maps_owners:
        return f"{driver.name} shows images with other owners: nothing to do"
    if facts.has("reflink"):
        return "an image is copied once per map, its extents are shared"
    if driver.reads_data and facts.overlay_data:
        return "an image's names and owners are copied once per map, its data is shared"
    return "an image is copied once per map"


def _ownership(facts: HostFacts) -> dict[str, Any]:
    """What becomes of owners in a container of one ID: where there are no more, or of --userns single."""
    if not facts.seccomp:
        return rung(
            "ownership", False, "this kernel has no seccomp: chown fails in containers of one ID"
        )
    if not facts.seccomp_notify:
        why = "in containers of one ID chown and the like succeed without effect: this kernel cannot ask"
        return rung("ownership", True, why, "Linux 5.6 or newer can, and owners are recorded")
    return rung(
        "ownership", True, "in containers of one ID owners are recorded for commit, export and cp"
    )


def _reach(facts: HostFacts) -> list[dict[str, Any]]:
    """What containers on bridges can and cannot do, whatever the uplink."""
    low, ping = facts.low_port, facts.ping_group
    return [
        rung(
            "IPv6",
            facts.net_ipv6,
            "a connection was relayed" if facts.net_ipv6 else "bridges carry IPv4 only",
        ),
        rung(
            "ping",
            ping,
            "echo requests can be sent"
            if ping
            else "containers reach the outside, but not by ping",
            "sysctl -w net.ipv4.ping_group_range='0 2147483647' lets containers ping the outside",
        ),
        rung(
            "low ports",
            low <= 80,
            f"ports from {low} on can be published" if low > 1 else "all ports can be published",
            "sysctl -w net.ipv4.ip_unprivileged_port_start=80 lets ports from 80 on be published",
        ),
        *_neighbours(facts.neighbours),
    ]


def _neighbours(most: int) -> list[dict[str, Any]]:
    """How many containers may know one another: the whole machine, all users, shares one table."""
    if not most:
        return []
    containers = math.isqrt(most)
    return [
        rung(
            "neighbours",
            containers >= MANY,
            f"{most} in all: about {containers} containers can all talk to one another at once",
            f"sysctl -w net.ipv4.neigh.default.gc_thresh3={MANY**2} net.ipv6.neigh.default.gc_thresh3={MANY**2}"
            f" lets {MANY} do so",
        )
    ]


def _features(ctx: Context, facts: HostFacts) -> list[dict[str, Any]]:
    launch = f"{ctx.paths.libexec}/launch"
    return [
        _filesystem(ctx, facts),
        rung("keep-id", not facts.userns_error, _other_owners(ctx, facts)),
        _ownership(facts),
        rung("launcher", os.access(launch, os.X_OK), launch),
        rung(
            "seccomp",
            facts.seccomp,
            "a filter was loaded" if facts.seccomp else "no filter can be loaded",
        ),
        *_reach(facts),
        rung("openat2", facts.openat2, "else paths are walked one component at a time"),
        rung("mount_setattr", facts.mount_setattr, "else mounts are changed one by one"),
        rung("close_range", facts.close_range, "else descriptors are closed one by one"),
        rung("pidfd", facts.pidfd, "processes are watched without races"),
        _delegation(facts),
        rung("logout", *sessions.outlook(facts)),
        rung("cgroup namespace", facts.cgroup_ns, "containers see their own control group as /"),
        rung(
            "new procfs",
            not facts.masked_proc,
            "the host's /proc is masked: containers see its processes"
            if facts.masked_proc
            else "containers have a /proc of their own",
        ),
    ]


def _advice(
    ctx: Context,
    facts: HostFacts,
    ladders: list[dict[str, Any]],
    features: list[dict[str, Any]],
) -> list[str]:
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
    found += [one["admin"] for one in features if one["admin"] and not one["usable"]]
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
