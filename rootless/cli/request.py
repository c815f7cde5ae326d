"""From parsed flags to a RunRequest: the part of `run` and `create` that reads the caller's world.

Environment files, the caller's variables, relative paths and defaults from the configuration are
resolved here, so that the request means the same on any later day.
"""

from __future__ import annotations

import os

from rootless.errors import UsageError
from rootless.plan.request import MountRequest, RunRequest

from . import kvfile, mountspec, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless.config.settings import Settings

    from .parse import Parsed

_NAME_FIRST = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_NAME_REST = _NAME_FIRST + "_.-"


def check_name(name: str) -> str:
    """NAME if it may name a container: [a-zA-Z0-9][a-zA-Z0-9_.-]+; raises UsageError else."""
    bare = name.removeprefix("/")
    if len(bare) < 2 or bare[0] not in _NAME_FIRST or bare.strip(_NAME_REST):
        raise UsageError(
            f"invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    return bare


def build(args: Parsed, env: Mapping[str, str], settings: Settings) -> RunRequest:
    """The request that the flags of `run` or `create` describe; raises UsageError."""
    request = RunRequest()
    _image_and_process(request, args, env)
    _terminal(request, args)
    _mounts(request, args, env)
    _limits(request, args, settings)
    _security(request, args)
    _network(request, args, settings)
    _lifecycle(request, args, settings)
    _check_conflicts(request)
    return request


def _image_and_process(request: RunRequest, args: Parsed, env: Mapping[str, str]) -> None:
    words = list(args.args)
    if args.get("rootfs"):
        path, colon, option = str(args.get("rootfs")).rpartition(":")
        if not colon or option != "O":
            path = str(args.get("rootfs"))
        request.rootfs = os.path.abspath(path)
        request.rootfs_overlay = option == "O" and bool(colon)
        request.args = words
    else:
        request.image, request.args = words[0], words[1:]
    if args.get("name"):
        request.name = check_name(args.get("name"))
    entrypoint = args.get("entrypoint")
    if entrypoint is not None:
        request.entrypoint = [entrypoint] if entrypoint else []
    request.env, request.env_remove = kvfile.environment(
        args.get("env_file") or (), args.get("env") or (), env.get
    )
    request.labels = kvfile.labels(args.get("label_file") or (), args.get("label") or ())
    request.annotations.update(kvfile.pairs("annotation", args.get("annotation") or ()))
    request.user = args.get("user") or ""
    request.workdir = args.get("workdir") or ""
    if request.workdir and not request.workdir.startswith("/"):
        raise UsageError(
            f"the working directory '{request.workdir}' is invalid, it needs to be an absolute path"
        )
    request.hostname = args.get("hostname") or ""
    request.domainname = args.get("domainname") or ""
    request.group_add = list(args.get("group_add") or ())
    request.init = bool(args.get("init"))
    request.platform = args.get("platform") or ""


def _terminal(request: RunRequest, args: Parsed) -> None:
    request.tty = bool(args.get("tty"))
    request.interactive = bool(args.get("interactive"))
    attach = [str(word).lower() for word in args.get("attach") or ()]
    for word in attach:
        if word not in ("stdin", "stdout", "stderr"):
            raise UsageError(
                f'invalid argument {word!r} for "-a, --attach" flag: '
                "valid streams are STDIN, STDOUT and STDERR"
            )
    if args.get("detach"):
        if attach:
            raise UsageError("conflicting options: cannot specify both --attach and --detach")
        return
    request.attach = attach or ["stdout", "stderr"] + (["stdin"] if request.interactive else [])


def _mounts(request: RunRequest, args: Parsed, env: Mapping[str, str]) -> None:
    cwd = os.getcwd()
    found = [
        mountspec.volume_flag(text, cwd, env.get("HOME", "/")) for text in args.get("volume") or ()
    ]
    found += [mountspec.mount_flag(text, cwd) for text in args.get("mount") or ()]
    seen: set[str] = set()
    for mount in found:
        if mount["destination"] in seen:
            raise UsageError(f"duplicate mount point: {mount['destination']}")
        seen.add(mount["destination"])
    driver = args.get("volume_driver") or ""
    for mount in found:
        if driver and mount["type"] == "volume" and mount["origin"] == "v":
            mount["flags"].append(f"volume-driver={driver}")
    request.mounts = [MountRequest(**mount) for mount in found]
    for key in ("volumes_from", "volume_driver"):
        if args.get(key):
            request.raw[key] = args.get(key)
    for text in args.get("tmpfs") or ():
        path, options = values.tmpfs(text)
        if path in seen:
            raise UsageError(f"duplicate mount point: {path}")
        request.tmpfs[path] = options
    request.read_only = bool(args.get("read_only"))
    for text in args.get("storage_opt") or ():
        key, _, value = text.partition("=")
        if key != "size":
            raise UsageError(f"unknown option for --storage-opt: {text!r}: size=BYTES is known")
        request.storage_size = values.size("--storage-opt size", value)
    if args.get("shm_size"):
        request.shm_size = values.size("--shm-size", args.get("shm_size"))
    request.devices = [values.device(text) for text in args.get("device") or ()]


def _limits(request: RunRequest, args: Parsed, settings: Settings) -> None:
    request.strict_limits = bool(
        args.get("strict_limits", settings.get("run.strict_limits") == "yes")
    )
    if any(args.given(key) for key in _LIMIT_FLAGS):
        from . import limitflags

        request.limits = limitflags.limits(args)
    request.ulimits = [values.ulimit(text) for text in args.get("ulimit") or ()]
    if args.get("oom_score_adj") is not None:
        request.oom_score_adj = int(args.get("oom_score_adj"))
        if not -1000 <= request.oom_score_adj <= 1000:
            raise UsageError(
                f"invalid value {request.oom_score_adj}, range for oom score adj is [-1000, 1000]"
            )
    request.sysctls.update(kvfile.pairs("sysctl", args.get("sysctl") or ()))


# What limitflags.py looks after; a container without any of them needs none of its code.
_LIMIT_FLAGS = (
    *("memory", "memory_swap", "memory_reservation", "memory_swappiness", "kernel_memory"),
    *("cpus", "cpu_shares", "cpu_quota", "cpu_period", "cpu_rt_period", "cpu_rt_runtime"),
    *("cpuset_cpus", "cpuset_mems", "pids_limit", "oom_kill_disable", "cgroup_parent"),
    *("blkio_weight", "blkio_weight_device", "device_read_bps", "device_write_bps"),
    *("device_read_iops", "device_write_iops", "cgroup_conf"),
)


def _security(request: RunRequest, args: Parsed) -> None:
    request.cap_add = list(args.get("cap_add") or ())
    request.cap_drop = list(args.get("cap_drop") or ())
    request.privileged = bool(args.get("privileged"))
    request.security_opt = [security_option(text) for text in args.get("security_opt") or ()]
    request.userns = args.get("userns") or ""
    request.pid = args.get("pid") or ""
    request.ipc = args.get("ipc") or ""
    request.uts = args.get("uts") or ""
    request.cgroupns = args.get("cgroupns") or ""


def security_option(text: str) -> str:
    """The option with its separator made ``=`` and a seccomp profile's path made absolute."""
    if "=" not in text and ":" in text:
        text = text.replace(":", "=", 1)
    key, _, value = text.partition("=")
    if key == "seccomp" and value not in ("unconfined", "builtin", ""):
        return f"seccomp={os.path.abspath(value)}"
    return text


def _network(request: RunRequest, args: Parsed, settings: Settings) -> None:
    default = str(settings.get("network.default"))
    request.network = "default" if default == "auto" else default
    if any(args.values.get(key) for key in _NETWORK_FLAGS):
        from . import netflags

        netflags.fill(request, args)
    for text in args.get("add_host") or ():
        request.add_hosts.append(values.extra_host(text))
    if args.get("dns") or args.get("dns_search") or args.get("dns_option"):
        from . import netflags

        netflags.fill_dns(request, args)


# What netflags.py looks after; a container without any of them needs none of its code.
_NETWORK_FLAGS = (
    *("network", "network_alias", "ip", "ip6", "mac_address", "link", "link_local_ip"),
    *("publish", "publish_all", "expose", "network_opt"),
)


# What healthflags.py looks after.
_HEALTH_FLAGS = (
    *(
        "health_cmd",
        "health_interval",
        "health_retries",
        "health_start_interval",
        "health_start_period",
    ),
    *("health_timeout", "health_on_failure", "no_healthcheck"),
)


def _lifecycle(request: RunRequest, args: Parsed, settings: Settings) -> None:
    request.auto_remove = bool(args.get("rm"))
    request.restart_name, request.restart_max = values.restart(args.get("restart") or "no")
    request.stop_signal = args.get("stop_signal") or ""
    if args.get("stop_timeout") is not None:
        request.stop_timeout = int(args.get("stop_timeout"))
    if any(args.values.get(key) for key in _HEALTH_FLAGS):
        from . import healthflags

        healthflags.fill(request, args)
    request.log_driver = args.get("log_driver") or str(settings.get("run.log_driver"))
    request.log_opts.update(kvfile.pairs("log-opt", args.get("log_opt") or ()))


def _check_conflicts(request: RunRequest) -> None:
    if request.auto_remove and request.restart_name != "no":
        raise UsageError("conflicting options: cannot specify both --restart and --rm")
    if request.hostname and request.uts == "host":
        raise UsageError("conflicting options: hostname and the UTS mode")
    if request.platform and request.rootfs:
        raise UsageError("conflicting options: --platform and --rootfs")
