"""Health checks of containers: what the monitor is given at a start, and what it has found."""

from __future__ import annotations

import os

from rootless import jsonc
from rootless.errors import ConflictError, HostError, UsageError
from rootless.plan import fastconnect, launch, tape
from rootless.plan import health as plans
from rootless.plan.image import ImageConfig

from . import filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rootless.plan.request import Placement, RunRequest
    from rootless.runtime.monitor import MonitorOptions
    from rootless.store.containers import Container

    from .context import Context

_ERRNO_NONE, _ERRNO_ENDED = 22, 3  # EINVAL, ESRCH: the monitor's answers to H
SHOWN = ("running", "paused")


def asked(request: Mapping[str, Any], image: Mapping[str, Any]) -> dict[str, Any]:
    """The check of a container by its record's request and image config; {} for none."""
    wanted, given = request.get("health") or {}, image.get("healthcheck") or {}
    return plans.merged(wanted, given) if wanted or given else {}


def prepare(
    ctx: Context,
    request: RunRequest,
    image: ImageConfig,
    spec: dict[str, Any],
    place: Placement,
    options: MonitorOptions,
) -> bytes:
    """Tell the monitor what to do about health; the tape of a probe, b"" where there is no check."""
    found = plans.merged(request.health, image.healthcheck)
    probe = probe_tape(ctx, request, image, spec, place)
    if probe:
        options.health = {
            "tape": f"{place.run_dir}/health",
            "file": f"{place.container_dir}/health.json",
            "timeout-text": plans.timeout_text(found),
            "on-failure": request.health_on_failure,
            **plans.timing(found),
        }
    return probe


def probe_tape(
    ctx: Context,
    request: RunRequest,
    image: ImageConfig,
    spec: dict[str, Any],
    place: Placement,
) -> bytes:
    """The tape of a probe, b"" where there is no check."""
    words = plans.command(plans.merged(request.health, image.healthcheck), image.shell)
    if not words:
        return b""
    rules = f"{place.run_dir}/{fastconnect.RULES}"
    ops = launch.exec_tape(
        spec,
        plans.exec_request(words),
        0,
        0,
        ctx.facts,
        seccomp=place.seccomp,
        emulation=place.emulation,
        fast=(filters.fast_connect(ctx), rules) if place.fast is not None else None,
        minded=True,
        group=([], place.cgroup.again if place.cgroup is not None else []),
    )
    return tape.encode(ops)


def status(directory: str, state: str, check: Mapping[str, Any]) -> str:
    """``starting``, ``healthy`` or ``unhealthy``, or "" where there is no check or nobody is asked."""
    if state not in SHOWN or not plans.command(check):
        return ""
    return str(_read(directory).get("Status") or "starting")


def state(directory: str, status: str, check: Mapping[str, Any]) -> dict[str, Any] | None:
    """Docker's State.Health; None where there is no check."""
    if not plans.command(check):
        return None
    found = _read(directory)
    if status not in SHOWN and found:
        found["Status"] = "unhealthy"  # as Docker calls the health of a container that has ended
    return {
        "Status": found.get("Status") or "starting",
        "FailingStreak": found.get("FailingStreak") or 0,
        "Log": found.get("Log") or [],
    }


def _read(directory: str) -> dict[str, Any]:
    try:
        fd = os.open(f"{directory}/health.json", os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.read(fd, 1 << 20)
        finally:
            os.close(fd)
        found = jsonc.loads(data)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def run(ctx: Context, container: Container) -> tuple[str, bool]:
    """Probe now: (health afterwards, whether this probe passed); raises UsageError, ConflictError."""
    from . import lifecycle

    record = container.record
    if not plans.command(asked(record.get("request") or {}, record.get("image_config") or {})):
        raise UsageError(f"container {container.name} has no defined healthcheck")
    word = ctx.containers.read_state(container.id)["status"]
    if word == "paused":
        raise ConflictError(f"container {container.name} is paused", exit_code=125)
    client = lifecycle.connect(ctx, container) if word == "running" else None
    if client is None:
        raise ConflictError(f"container {container.name} is not running", exit_code=125)
    try:
        answer = client.probe()
    except OSError:
        answer = ("none", False)
    finally:
        client.close()
    if answer == _ERRNO_NONE:
        raise HostError(
            f"container {container.name} was started without its health check: restart it"
        )
    if isinstance(answer, int) or answer[0] == "none":
        raise ConflictError(f"container {container.name} has ended", exit_code=125)
    return answer
