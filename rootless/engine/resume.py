"""Starting again what should run: after a boot, and where a monitor was killed.

`rootless system resume` does it, called by a unit of the user's systemd or by cron, or by itself: the first
command after a boot, which finds no mark in the runtime directory of this boot, starts it in the background.
"""

from __future__ import annotations

import os
import sys

from rootless.errors import ConflictError, RootlessError
from rootless.linux import proc
from rootless.plan import restart as policies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rootless.config.paths import Paths
    from rootless.config.settings import Settings
    from rootless.runtime.monitor import Client
    from rootless.store.containers import Container

    from .context import Context

MARK = "resumed"
PROGRAM = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/cli/resume.py"
_NAMES = ("HOME", "USER", "LOGNAME", "PATH", "LANG")


def first_command(paths: Paths, settings: Settings, env: Mapping[str, str]) -> None:
    """What the first command of a boot does: mark it, and have a process see to the containers."""
    if settings.get("run.resume") != "auto" or not _mark(paths):
        return
    try:
        if not any(len(name) == 64 for name in os.listdir(paths.containers)):
            return
    except OSError:
        return
    from rootless.linux import spawn

    kept = {
        key: value
        for key, value in env.items()
        if key in _NAMES or key.startswith(("XDG_", "ROOTLESS_", "DBUS_"))
    }
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    log = os.open(
        f"{paths.runtime_root}/resume.log",
        os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC,
        0o600,
    )
    try:
        spawn.spawn([sys.executable, "-I", "-S", PROGRAM], {0: null, 1: null, 2: log}, kept)
    except OSError:
        pass  # `system resume` by hand is still there
    finally:
        os.close(null)
        os.close(log)


def _mark(paths: Paths) -> bool:
    """Note that this boot's containers are seen to; False if somebody else has."""
    try:
        fd = os.open(f"{paths.runtime_root}/{MARK}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return False
    os.close(fd)
    return True


def candidates(ctx: Context) -> Iterator[Container]:
    """The containers that are to be started again, in an order that can work."""
    boot = proc.boot_id()
    found: dict[str, Container] = {}
    shares: dict[str, str] = {}
    for container in ctx.containers.every():
        try:
            state, alive = ctx.containers.raw_state(container.id)
            request = container.record.get("request") or {}
        except RootlessError:
            continue  # removed meanwhile, or beyond reading; ps tells of it
        policy, maximum = request.get("restart_name") or "no", int(request.get("restart_max") or 0)
        if policies.resumes(policy, maximum, state, boot, alive=alive):
            found[container.id] = container
            kinds = [str(request.get(key) or "") for key in ("network", "pid", "ipc")]
            joined = [kind.partition(":")[2] for kind in kinds if kind.startswith("container:")]
            shares[container.id] = joined[0] if joined else ""
    names = {container.name: container.id for container in found.values()}
    shares = {one: names.get(other, other) for one, other in shares.items()}
    for container_id in policies.order(shares):
        yield found[container_id]


def resume(
    ctx: Context,
    started: Callable[[Client], None],
    tell: Callable[[str, RootlessError | None], None],
) -> bool:
    """Start what should run; False where some of it could not be started.

    STARTED waits until a client's container runs.  TELL(name, error or None) is called for each.  Who else
    starts one of them meanwhile is as good as we.
    """
    from . import start

    _mark(ctx.paths)
    whole = True
    for container in candidates(ctx):
        try:
            started(start.start(ctx, container))
        except ConflictError:
            continue
        except RootlessError as error:
            whole = False
            tell(container.name, error)
            continue
        tell(container.name, None)
    return whole
