"""What a RUN may have beyond a container's usual means, and what of that its cache key has to know.

The words are BuildKit's entitlements: network.host, security.insecure, device and device=NAME.  A Dockerfile
asks, who builds it has to allow it.
"""

from __future__ import annotations

from rootless.plan.request import RunRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

    from rootless.builder.steps import RunStep

    from .context import Context

HOST, INSECURE, DEVICE = "network.host", "security.insecure", "device"
KNOWN = (HOST, INSECURE, DEVICE)
# Fields of a request that a command can see the effect of; how much memory and time it gets is none.
_SEEN = ("add_hosts", "shm_size", "ulimits", "security_opt")


def settle(ctx: Context, settings: Mapping[str, Any], tell: Callable[[str], None]) -> None:
    """Refuse limits that cannot be, and TELL of those that nothing enforces."""
    if settings.get("limits"):
        from . import limits

        request = RunRequest(**settings)
        request.strict_limits = ctx.settings.get("run.strict_limits") == "yes"
        limits.check(ctx, request)
        for text in limits.warnings(ctx, request):
            tell(text)


def devices(step: RunStep) -> list[str]:
    """Paths of the devices that --device names; raises DockerfileError for what is none."""
    found = []
    for text in step.devices:
        name = text.partition(",")[0]
        if not name.startswith("/dev/") or ".." in name.split("/"):
            raise step.instruction.line.error(
                f"cannot give RUN the device {name!r}: names of CDI are not there yet, only paths below /dev",
                max(0, step.instruction.line.text.find("--device")),
            )
        found.append(name)
    return found


def check(ctx: Context, step: RunStep, allowed: Collection[str], network: str) -> None:
    """Refuse what nobody allowed, at its place in the Dockerfile."""
    needs = []
    # A build whose network is the host's anyway gives nothing away.
    if step.network == "host" and "host" not in (network, str(ctx.settings.get("network.default"))):
        needs.append(("--network=host", HOST))
    if step.security == "insecure":
        needs.append(("--security=insecure", INSECURE))
    for path in devices(step):
        if DEVICE not in allowed:
            needs.append((f"--device={path}", f"{DEVICE}={path}"))
    for flag, entitlement in needs:
        if entitlement not in allowed:
            line = step.instruction.line
            at = max(0, line.text.find(flag.partition("=")[0]))
            raise line.error(
                f"{entitlement} is not allowed", at, hint=f"allow it with --allow {entitlement}"
            )


def setting(step: RunStep, settings: Mapping[str, Any]) -> str:
    """What is part of the cache key; "" where nothing is out of the ordinary."""
    words = [f"{key}={settings[key]}" for key in _SEEN if settings.get(key)]
    words += [f"device={text}" for text in step.devices]
    if step.security == "insecure":
        words.append("insecure")
    return " ".join(words)
