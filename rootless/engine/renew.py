"""A running container's tapes and spec, made anew from its changed record, so that a restart begins with them.

The monitor plays the tape again at each restart and that of the health check at each probe; exec sessions read
the spec.  Those who renew wait for each other and read the record then, so that the last one has the last word.
"""

from __future__ import annotations

import fcntl
import os

from rootless import jsonc
from rootless.errors import NotFoundError
from rootless.plan import launch, netmode, tape
from rootless.plan import spec as specs
from rootless.plan.image import ImageConfig
from rootless.plan.request import RunRequest
from rootless.store import files

from . import attach, cgroups, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.store.containers import Container

    from .context import Context


def renew(ctx: Context, container: Container) -> None:
    """Put what a container's record makes in place of what there is; nothing if it does not run."""
    run_dir = start.run_dir(ctx, container.id)
    try:
        fd = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        _renew(ctx, container, ctx.containers.get(container.id).record)
    except (FileNotFoundError, NotFoundError):
        pass  # it ended meanwhile
    except OSError as error:
        raise files.failure(f"write {run_dir}/tape", error) from None
    finally:
        os.close(fd)


def _renew(ctx: Context, container: Container, record: dict[str, Any]) -> None:
    request = RunRequest.from_dict(record["request"])
    image = ImageConfig.from_dict(record["image_config"])
    place = start.placement(ctx, record, request)
    if not os.path.exists(f"{place.run_dir}/tape"):
        return
    attach.plan(ctx, container.name, record, request, place)
    cgroups.plan_again(ctx, record, request, place, container.name)
    if netmode.is_own(request.network):
        from . import ownnet

        ownnet.plan(ctx, request, image, place)
    spec = specs.build_spec(request, image, ctx.facts, place)
    ops = launch.build_tape(spec, place, ctx.facts)
    if os.path.exists(f"{place.run_dir}/health"):
        from . import health

        probe = health.probe_tape(ctx, request, image, spec, place)
        files.replace(f"{place.run_dir}/health", probe, durable=False)
    files.replace(f"{place.run_dir}/config.json", jsonc.dumps(spec).encode(), durable=False)
    files.replace(f"{place.run_dir}/tape", tape.encode(ops), durable=False)
    if place.fast is not None:
        from . import fastconnect

        fastconnect.put(ctx, request, place.run_dir)
