"""rootless version, and `rootless --version`."""

from __future__ import annotations

import os
import sys

import rootless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .parse import Parsed

API_VERSION = "1.47"  # Docker Engine API that the JSON shapes follow
MIN_API_VERSION = "1.24"
GO_ARCH = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def line() -> str:
    """What --version prints."""
    return f"rootless version {rootless.__version__}"


def details() -> dict[str, Any]:
    """The versions of everything, with Docker's keys; client and server are one program here."""
    system = os.uname()
    arch = GO_ARCH.get(system.machine, system.machine)
    python = ".".join(map(str, sys.version_info[:3]))
    common = {
        "Version": rootless.__version__,
        "ApiVersion": API_VERSION,
        "Os": "linux",
        "Arch": arch,
        "PythonVersion": python,
    }
    return {
        "Client": {"Platform": {"Name": "rootless"}, **common, "Context": "default"},
        "Server": {
            "Platform": {"Name": "rootless"},
            "Components": [
                {
                    "Name": "Engine",
                    "Version": rootless.__version__,
                    "Details": {"ApiVersion": API_VERSION, "Arch": arch, "Os": "linux"},
                }
            ],
            **common,
            "MinAPIVersion": MIN_API_VERSION,
            "KernelVersion": system.release,
        },
    }


def main(args: Parsed, env: Mapping[str, str]) -> int:  # noqa: ARG001
    """Show versions."""
    found = details()
    form = args.get("format")
    if form:
        from . import formatted

        sys.stdout.write(formatted.value(found, form) + "\n")
        return 0
    client, server = found["Client"], found["Server"]
    rows = [
        ("Version", client["Version"]),
        ("API version", client["ApiVersion"]),
        ("Python version", client["PythonVersion"]),
        ("OS/Arch", f"{client['Os']}/{client['Arch']}"),
    ]
    lines = ["Client: rootless", *(f" {name + ':':<18}{text}" for name, text in rows)]
    lines += ["", "Server: rootless (no daemon: the same program)", " Engine:"]
    rows = [
        ("Version", server["Version"]),
        ("API version", f"{server['ApiVersion']} (minimum version {server['MinAPIVersion']})"),
        ("OS/Arch", f"{server['Os']}/{server['Arch']}"),
        ("Kernel version", server["KernelVersion"]),
    ]
    lines += [f"  {name + ':':<17}{text}" for name, text in rows]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0
