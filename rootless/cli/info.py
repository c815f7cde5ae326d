"""rootless info."""

from __future__ import annotations

import sys

from rootless.engine import info as gathering
from rootless.engine.context import Context

from . import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Show settings, storage and counts."""
    found = gathering.gather(Context.load(env))
    form = args.get("format")
    if form:
        from . import formatted

        sys.stdout.write(formatted.value(found, form) + "\n")
        return 0
    sys.stdout.write(page(found))
    sys.stdout.flush()
    for warning in found["Warnings"] or ():
        sys.stderr.write(f"{warning}\n")
    return 0


def page(found: Mapping[str, Any]) -> str:
    """The text for people."""
    lines = [
        f"Containers: {found['Containers']}",
        f" Running: {found['ContainersRunning']}",
        f" Paused: {found['ContainersPaused']}",
        f" Stopped: {found['ContainersStopped']}",
        f"Images: {found['Images']}",
        f"Server Version: {found['ServerVersion']}",
        f"Storage Driver: {found['Driver'] or '(none: see rootless doctor)'}",
        *(f" {name}: {text}" for name, text in found["DriverStatus"]),
        f"Logging Driver: {found['LoggingDriver']}",
        f"Network Uplink: {found['NetworkUplink'] or '(none: see rootless doctor)'}",
        f"Cgroup Driver: {found['CgroupDriver']}",
        f"Cgroup Version: {found['CgroupVersion']}",
        "Security Options:",
        *_security(found["SecurityOptions"]),
        f"Kernel Version: {found['KernelVersion']}",
        f"Operating System: {found['OperatingSystem']}",
        f"OSType: {found['OSType']}",
        f"Architecture: {found['Architecture']}",
        f"CPUs: {found['NCPU']}",
        f"Total Memory: {_binary_size(found['MemTotal'])}",
        f"Name: {found['Name']}",
        f"Root Dir: {found['DockerRootDir']}",
        f"Runtime Dir: {found['RuntimeDir']}",
    ]
    for key, title in (
        ("HttpProxy", "HTTP Proxy"),
        ("HttpsProxy", "HTTPS Proxy"),
        ("NoProxy", "No Proxy"),
    ):
        if found[key]:
            lines.append(f"{title}: {_without_password(found[key])}")
    return "\n".join(lines) + "\n"


def _without_password(url: str) -> str:
    """A proxy's address with its user and password hidden."""
    scheme, mark, rest = url.rpartition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{mark}xxxxx:xxxxx@{host}" if at and user else url


def _security(options: list[str]) -> list[str]:
    lines = []
    for option in options:
        pairs = [part.partition("=")[::2] for part in option.split(",")]
        lines.append(f" {pairs[0][1]}")
        lines += [f"  {key.capitalize()}: {value}" for key, value in pairs[1:]]
    return lines


def _binary_size(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            return f"{size:.4g}{unit}"
        size /= 1024
    return units.human_size(size)
