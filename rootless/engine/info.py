"""What `info` tells: counts, settings and this machine, with Docker's keys.

COLD.  Asks the facts for what this machine can do, so the first call after a boot may probe.
"""

from __future__ import annotations

import os

import rootless
from rootless.drivers import network
from rootless.errors import RootlessError

from . import listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rootless.facts import HostFacts

    from .context import Context


def _limits(facts: HostFacts) -> dict[str, bool]:
    """Which limits a control group enforces."""
    have = facts.cgroup_controllers
    return {
        **dict.fromkeys(("MemoryLimit", "SwapLimit"), "memory" in have),
        **dict.fromkeys(("CpuCfsPeriod", "CpuCfsQuota", "CPUShares"), "cpu" in have),
        "CPUSet": "cpuset" in have,
        "PidsLimit": "pids" in have,
        "OomKillDisable": False,
    }


def gather(ctx: Context) -> dict[str, Any]:
    """Everything `info` shows."""
    rows = listing.ps_rows(ctx, all=True)
    by_status: dict[str, int] = {}
    for row in rows:
        by_status[row["status"]] = by_status.get(row["status"], 0) + 1
    facts = ctx.facts
    system = os.uname()
    warnings: list[str] = []
    running = by_status.get("running", 0) + by_status.get("restarting", 0)
    paused = by_status.get("paused", 0)
    return {
        "ID": "",
        "Containers": len(rows),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": len(rows) - running - paused,
        "Images": len(ctx.images.list()),
        "Driver": _driver(ctx, warnings),
        "DriverStatus": [
            ["ID Map", facts.id_rung],
            *([["Ownership", emulation(facts)]] if facts.id_rung == "single" else []),
            ["Native Overlay", "true" if facts.overlay else "false"],
        ],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["host", "none"],
            "Authorization": None,
            "Log": ["journald", "json-file", "local", "none", "passthrough", "syslog"],
        },
        **_limits(facts),
        "IPv4Forwarding": True,
        "Debug": ctx.env.get("ROOTLESS_DEBUG") == "1",
        "LoggingDriver": str(ctx.settings.get("run.log_driver")),
        "NetworkUplink": _uplink(ctx, warnings),
        "CgroupDriver": facts.cgroup_rung,
        "CgroupVersion": "2" if facts.cgroup_mode == "unified" else "1",
        "KernelVersion": system.release,
        "OperatingSystem": operating_system(),
        "OSVersion": _release().get("VERSION_ID", ""),
        "OSType": "linux",
        "Architecture": system.machine,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "NCPU": len(os.sched_getaffinity(0)),
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "DockerRootDir": ctx.paths.data_root,
        "RuntimeDir": ctx.paths.runtime_root,
        **_proxies(ctx.env),
        "Name": system.nodename,
        "Labels": [],
        "ExperimentalBuild": False,
        "ServerVersion": rootless.__version__,
        "Runtimes": {"rootless": {"path": "rootless"}},
        "DefaultRuntime": "rootless",
        "LiveRestoreEnabled": True,
        "InitBinary": "init",
        "SecurityOptions": _security(facts),
        "Warnings": warnings or None,
    }


def emulation(facts: HostFacts) -> str:
    """How owners are pretended where there is one ID."""
    if not facts.seccomp:
        return "not emulated: this kernel has no seccomp"
    if not facts.seccomp_notify:
        return "calls succeed without effect: this kernel cannot ask about them"
    return "emulated and recorded"


def _security(facts: HostFacts) -> list[str]:
    """What keeps containers in, in the words of Docker."""
    found = ["name=rootless"]
    if facts.seccomp:
        found.insert(0, "name=seccomp,profile=builtin")
    if facts.cgroup_ns:
        found.append("name=cgroupns")
    return found


def _proxies(env: Mapping[str, str]) -> dict[str, str]:
    return {
        key: env.get(name, env.get(name.upper(), ""))
        for key, name in (
            ("HttpProxy", "http_proxy"),
            ("HttpsProxy", "https_proxy"),
            ("NoProxy", "no_proxy"),
        )
    }


def _driver(ctx: Context, warnings: list[str]) -> str:
    try:
        return str(ctx.driver.name)
    except RootlessError as error:
        warnings.append(f"WARNING: {error.message}")
        return ""


def _uplink(ctx: Context, warnings: list[str]) -> str:
    try:
        return network.choose(str(ctx.settings.get("network.uplink")), ctx.facts).name
    except RootlessError as error:
        warnings.append(f"WARNING: {error.message}")
        return ""


def operating_system() -> str:
    """The distribution's name for itself."""
    return _release().get("PRETTY_NAME") or "Linux"


def _release() -> dict[str, str]:
    """The assignments of os-release."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        pairs = [line.partition("=") for line in lines if "=" in line and line[:1] != "#"]
        return {key: value.strip("\"'") for key, _, value in pairs}
    return {}
