"""Containers and images in Docker's JSON: what `inspect` prints and the REST API answers.

Gives plain dicts with Docker's keys in Docker's order.  What rootless does not do has the value Docker
shows for "not used".
"""

from __future__ import annotations

import time

from rootless.plan import mounts as plan_mounts

from . import health, inspect_mounts, inspect_network, listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rootless.store.containers import Container
    from rootless.store.images import ImageRecord

    from .context import Context

ZERO_TIME = "0001-01-01T00:00:00Z"


def container(ctx: Context, ref: str, *, size: bool = False) -> dict[str, Any]:
    """Everything known about the container REF; raises NotFoundError."""
    found = ctx.containers.resolve(ref)
    record = found.record
    request: dict[str, Any] = record.get("request") or {}
    image: dict[str, Any] = record.get("image_config") or {}
    state = ctx.containers.read_state(found.id)
    directory = found.dir
    logged = (request.get("log_driver") or "json-file") == "json-file"
    result: dict[str, Any] = {
        "Id": found.id,
        "Created": timestamp(float(record.get("created") or 0)),
        "Path": record.get("path") or "",
        "Args": list(record.get("args") or []),
        "State": _state(
            state, health.state(directory, state["status"], health.asked(request, image))
        ),
        "Image": record.get("image_id") or "",
        "ResolvConfPath": f"{directory}/resolv.conf",
        "HostnamePath": f"{directory}/hostname",
        "HostsPath": f"{directory}/hosts",
        "LogPath": f"{directory}/{found.id}-json.log" if logged else "",
        "Name": f"/{found.name}",
        "RestartCount": int(state.get("restartCount") or 0),
        "Driver": record.get("driver") or "",
        "Platform": image.get("os") or "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": host_config(request),
        "Limits": _limits(ctx, request, state),
        "GraphDriver": _graph_driver(ctx, record, directory),
    }
    if size:
        from . import usage

        written = usage.writable(ctx, [found])[0]
        result["SizeRw"] = written
        result["SizeRootFs"] = written + listing.image_size(ctx, result["Image"])
    result["Mounts"] = [inspect_mounts.point(ctx, mount) for mount in request.get("mounts") or []]
    result["Config"] = _config(found, request, image)
    result["NetworkSettings"] = inspect_network.settings(
        ctx, found.dir, request, image, running=result["State"]["Running"]
    )
    return result


def _limits(
    ctx: Context, request: Mapping[str, Any], state: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What is in force of each limit, and by what; beside what Docker has."""
    if not any(request.get(key) for key in ("limits", "ulimits")) and (
        request.get("oom_score_adj") is None
    ):
        return []
    from . import limits

    running = state["status"] in listing.RUNNING
    return limits.entries(ctx, request, state if running else {})


def timestamp(epoch: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC with nanoseconds."""
    if not epoch:
        return ZERO_TIME
    nanos = int(epoch * 1_000_000) * 1000
    seconds, rest = divmod(nanos, 1_000_000_000)
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z"


def _state(state: Mapping[str, Any], found: dict[str, Any] | None) -> dict[str, Any]:
    status = state["status"]
    running = status in listing.RUNNING
    return {
        "Status": status,
        "Running": running,
        "Paused": status == "paused",
        "Restarting": status == "restarting",
        "OOMKilled": bool(state.get("oomKilled")),
        "Dead": status == "dead",
        "Pid": int(state.get("pid") or 0) if running else 0,
        "ExitCode": 0 if running else int(state.get("exitCode") or 0),
        "Error": state.get("error") or "",
        "StartedAt": state.get("startedAt") or ZERO_TIME,
        "FinishedAt": state.get("finishedAt") or ZERO_TIME,
        **({"Health": found} if found else {}),
    }


def _graph_driver(ctx: Context, record: Mapping[str, Any], directory: str) -> dict[str, Any]:
    diff_ids = record.get("layers") or []
    if not diff_ids:
        return {"Data": None, "Name": record.get("driver") or ""}
    layers = ctx.layers_of(record)
    return {
        "Data": {
            "LowerDir": ":".join(layers.path(diff_id) for diff_id in reversed(diff_ids)),
            "MergedDir": f"{directory}/rootfs",
            "UpperDir": f"{directory}/upper",
            "WorkDir": f"{directory}/work",
        },
        "Name": record.get("driver") or "",
    }


def host_config(request: Mapping[str, Any]) -> dict[str, Any]:
    """The HostConfig of a request: what was asked about the host's resources."""
    mounts = request.get("mounts") or []
    raw = request.get("raw") or {}
    binds = inspect_mounts.binds(mounts)
    specs = inspect_mounts.specs(mounts)
    return {
        "Binds": binds or None,
        "ContainerIDFile": "",
        "LogConfig": {
            "Type": request.get("log_driver") or "json-file",
            "Config": dict(request.get("log_opts") or {}),
        },
        "NetworkMode": request.get("network") or "default",
        "PortBindings": inspect_network.port_bindings(request.get("publish") or ()),
        "RestartPolicy": {
            "Name": request.get("restart_name") or "no",
            "MaximumRetryCount": int(request.get("restart_max") or 0),
        },
        "AutoRemove": bool(request.get("auto_remove")),
        "VolumeDriver": raw.get("volume_driver") or "",
        "VolumesFrom": list(raw.get("volumes_from") or []) or None,
        "ConsoleSize": [0, 0],
        **({"Annotations": dict(request["annotations"])} if request.get("annotations") else {}),
        "CapAdd": list(request.get("cap_add") or []) or None,
        "CapDrop": list(request.get("cap_drop") or []) or None,
        "CgroupnsMode": request.get("cgroupns") or "private",
        "Dns": list(request.get("dns") or []),
        "DnsOptions": list(request.get("dns_options") or []),
        "DnsSearch": list(request.get("dns_search") or []),
        "ExtraHosts": list(request.get("add_hosts") or []) or None,
        "GroupAdd": list(request.get("group_add") or []) or None,
        "IpcMode": request.get("ipc") or "private",
        "Cgroup": "",
        "Links": inspect_network.links(request),
        "OomScoreAdj": int(request.get("oom_score_adj") or 0),
        "PidMode": request.get("pid") or "",
        "Privileged": bool(request.get("privileged")),
        "PublishAllPorts": bool(request.get("publish_all")),
        "ReadonlyRootfs": bool(request.get("read_only")),
        "SecurityOpt": list(request.get("security_opt") or []) or None,
        **({"Tmpfs": dict(request["tmpfs"])} if request.get("tmpfs") else {}),
        "UTSMode": request.get("uts") or "",
        "UsernsMode": request.get("userns") or "",
        "StorageOpt": {"size": str(request["storage_size"])}
        if request.get("storage_size")
        else None,
        "ShmSize": int(request.get("shm_size") or 0) or 64 << 20,
        **({"Sysctls": dict(request["sysctls"])} if request.get("sysctls") else {}),
        "Runtime": "rootless",
        "Isolation": "",
        **_resources(request),
        **({"Mounts": specs} if specs else {}),
        "MaskedPaths": None if _unmasked(request) else list(plan_mounts.MASKED),
        "ReadonlyPaths": None if _unmasked(request) else list(plan_mounts.READONLY),
        **({"Init": True} if request.get("init") else {}),
    }


def _unmasked(request: Mapping[str, Any]) -> bool:
    return bool(request.get("privileged")) or "systempaths=unconfined" in (
        request.get("security_opt") or []
    )


def _resources(request: Mapping[str, Any]) -> dict[str, Any]:
    """The part of HostConfig that Docker calls Resources: what was asked."""
    limits: dict[str, Any] = request.get("limits") or {}
    found: dict[str, Any] = {
        "CpuShares": 0,
        "Memory": 0,
        "NanoCpus": 0,
        "CgroupParent": "",
        "BlkioWeight": 0,
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": [],
        "BlkioDeviceWriteBps": [],
        "BlkioDeviceReadIOps": [],
        "BlkioDeviceWriteIOps": [],
        "CpuPeriod": 0,
        "CpuQuota": 0,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": "",
        "CpusetMems": "",
        "Devices": [
            {"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": permissions}
            for host, inside, permissions in request.get("devices") or []
        ],
        "DeviceCgroupRules": None,
        "DeviceRequests": None,
        "MemoryReservation": 0,
        "MemorySwap": 2 * limits.get("Memory", 0),
        "MemorySwappiness": None,
        "OomKillDisable": None,
        "PidsLimit": None,
        "Ulimits": [
            {"Name": name, "Hard": hard, "Soft": soft}
            for name, soft, hard in request.get("ulimits") or []
        ],
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    }
    found.update((name, value) for name, value in limits.items() if name in found)
    if limits.get("PidsLimit", 0) < 0:
        found["PidsLimit"] = None
    return {**found, **({"CgroupConf": limits["Unified"]} if limits.get("Unified") else {})}


def effective_env(request: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
    """The environment Docker's Config.Env shows: the request's, then what the image adds."""
    asked = list(request.get("env") or [])
    names = {entry.partition("=")[0] for entry in asked} | set(request.get("env_remove") or ())
    return asked + [e for e in image.get("env") or [] if e.partition("=")[0] not in names]


def _config(
    found: Container, request: Mapping[str, Any], image: Mapping[str, Any]
) -> dict[str, Any]:
    entrypoint = request.get("entrypoint")
    command = list(request.get("args") or [])
    if entrypoint is None:
        entrypoint = image.get("entrypoint") or None
        command = command or list(image.get("cmd") or [])
    attach = request.get("attach") or []
    exposed = inspect_network.exposed(request, image)
    config: dict[str, Any] = {
        "Hostname": request.get("hostname") or _hostname(found),
        "Domainname": request.get("domainname") or "",
        "User": request.get("user") or image.get("user") or "",
        "AttachStdin": "stdin" in attach,
        "AttachStdout": "stdout" in attach,
        "AttachStderr": "stderr" in attach,
        **({"ExposedPorts": exposed} if exposed else {}),
        "Tty": bool(request.get("tty")),
        "OpenStdin": bool(request.get("interactive")),
        "StdinOnce": bool(request.get("interactive")) and "stdin" in attach,
        "Env": effective_env(request, image),
        "Cmd": command or None,
        "Image": request.get("image") or "",
        "Volumes": {**(image.get("volumes") or {}), **inspect_mounts.anonymous(request)} or None,
        "WorkingDir": request.get("workdir") or image.get("working_dir") or "",
        "Entrypoint": list(entrypoint) if entrypoint else None,
        "OnBuild": None,
        "Labels": listing.labels(request, image),
    }
    if request.get("stop_signal") or image.get("stop_signal"):
        config["StopSignal"] = request.get("stop_signal") or image.get("stop_signal")
    if request.get("stop_timeout") is not None:
        config["StopTimeout"] = int(request["stop_timeout"])
    check = health.asked(request, image)
    if check:
        config["Healthcheck"] = check
        if (request.get("health_on_failure") or "none") != "none":
            config["HealthcheckOnFailureAction"] = request["health_on_failure"]
    return config


def _hostname(found: Container) -> str:
    """The name the container was last started with, else the one it will have."""
    try:
        with open(f"{found.dir}/hostname", encoding="utf-8", errors="replace") as file:
            return file.read().strip() or found.id[:12]
    except OSError:
        return found.id[:12]


def image(ctx: Context, ref: str) -> dict[str, Any]:
    """Everything known about the image REF; raises ImageNotFoundError."""
    return describe_image(ctx.images.resolve(ref), storage_driver(ctx))


def storage_driver(ctx: Context) -> str:
    """The storage driver in words, without probing this machine for it."""
    name = str(ctx.settings.get("storage.driver") or "")
    return "overlay" if name in ("", "auto") else name


def describe_image(record: ImageRecord, driver: str) -> dict[str, Any]:
    """An image's record in Docker's JSON."""
    data = record.config or {}
    config = data.get("config") or {}
    history = data.get("history") or []
    references = [listing.familiar(r) for r in record.references if "@" not in r]
    found: dict[str, Any] = {
        "Id": record.id,
        "RepoTags": references,
        "RepoDigests": [listing.familiar(r) for r in record.repo_digests],
        "Parent": "",
        "Comment": str(history[-1].get("comment") or "") if history else "",
        "Created": record.created or ZERO_TIME,
        "DockerVersion": data.get("docker_version") or "",
        "Author": data.get("author") or "",
        "Config": _image_config(config),
        "Architecture": data.get("architecture") or "",
        **({"Variant": data["variant"]} if data.get("variant") else {}),
        "Os": data.get("os") or "",
        "Size": int(record.size),
        "GraphDriver": {"Data": None, "Name": driver},
        "RootFS": {
            "Type": "layers",
            "Layers": list((data.get("rootfs") or {}).get("diff_ids") or []),
        },
        "Metadata": {"LastTagTime": ZERO_TIME},
    }
    return found


def _image_config(config: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, zero in (
        ("Hostname", ""),
        ("Domainname", ""),
        ("User", ""),
        ("AttachStdin", False),
        ("AttachStdout", False),
        ("AttachStderr", False),
        ("ExposedPorts", None),
        ("Tty", False),
        ("OpenStdin", False),
        ("StdinOnce", False),
        ("Env", None),
        ("Cmd", None),
        ("Healthcheck", None),
        ("Image", ""),
        ("Volumes", None),
        ("WorkingDir", ""),
        ("Entrypoint", None),
        ("OnBuild", None),
        ("Labels", None),
        ("StopSignal", ""),
        ("Shell", None),
    ):
        value = config.get(key)
        if value in (None, "") and key in ("ExposedPorts", "Healthcheck", "StopSignal", "Shell"):
            continue
        found[key] = zero if value is None else value
    return found
