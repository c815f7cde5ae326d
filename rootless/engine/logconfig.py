"""A container's log: which driver, with which options, and what its monitor is told about it.

Only containers that do not have the plain default log come here, so that the others need none of this.
"""

from __future__ import annotations

import os
import time

from rootless.drivers import log as drivers
from rootless.drivers.log.base import LogInfo
from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rootless.config.settings import Settings
    from rootless.plan.image import ImageConfig
    from rootless.plan.request import RunRequest
    from rootless.runtime.monitor import MonitorOptions
    from rootless.store.containers import Container

FILE = "log"  # in the run directory


def settle(request: RunRequest, settings: Settings) -> None:
    """Add what the settings say of the default driver, and check; raises UsageError, HostError.

    As Docker's daemon options are, they are for containers of the default driver, and an option given wins.
    """
    request.log_driver = drivers.ALIASES.get(request.log_driver, request.log_driver)
    driver = drivers.driver(request.log_driver)
    if request.log_driver == str(settings.get("run.log_driver")):
        _defaults(request, settings, driver.known)
    driver.check(request.log_opts)
    if driver.name == "passthrough" and request.tty:
        raise UsageError(
            "conflicting options: --tty and the log driver passthrough, which gives the container "
            "its caller's own streams"
        )


def _defaults(request: RunRequest, settings: Settings, known: tuple[str, ...]) -> None:
    found: dict[str, str] = {}
    if "max-size" in known:
        if settings.get("run.log_max_size") != "0":
            found["max-size"] = str(settings.get("run.log_max_size"))
        if settings.get("run.log_max_file") != 1:
            found["max-file"] = str(settings.get("run.log_max_file"))
    for pair in settings.get("run.log_opts"):  # type: ignore[union-attr]
        key, _, value = str(pair).partition("=")
        found[key] = value
    for key, value in found.items():
        request.log_opts.setdefault(key, value)


def info(container: Container, request: RunRequest, image: ImageConfig, env: list[str]) -> LogInfo:
    """What a log may say of a container with the environment ENV."""
    record = container.record
    return LogInfo(
        id=container.id,
        name=container.name,
        image=record.get("image") or "",
        image_id=record.get("image_id") or "",
        command=" ".join([record.get("path") or "", *(record.get("args") or [])]),
        labels={**image.labels, **request.labels},
        env=dict(pair.partition("=")[::2] for pair in env),
        directory=container.dir,
        host=os.uname().nodename,
        zone=time.localtime().tm_gmtoff,
    )


def apply(
    container: Container,
    request: RunRequest,
    image: ImageConfig,
    spec: Mapping[str, Any],
    run_dir: str,
    options: MonitorOptions,
) -> bool:
    """Tell a monitor's OPTIONS of the log; whether the container gets its caller's streams instead.

    Who takes the log is looked for now; raises HostError where nobody does.
    """
    driver = drivers.driver(request.log_driver)
    plan = driver.plan(request.log_opts, info(container, request, image, spec["process"]["env"]))
    driver.up(plan)
    options.log = plan.path
    if plan.words:
        options.log_config = f"{run_dir}/{FILE}"
        fd = os.open(
            options.log_config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
        )
        try:
            os.write(fd, plan.encode())
        finally:
            os.close(fd)
    return plan.stdio
