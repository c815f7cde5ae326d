"""What is done where the runtime directory was wiped while containers run, or was another's until now.

A monitor also listens in its container's directory, which lives as long as the container.  It makes its
place in the runtime directory anew for whoever comes there; what the engine keeps in that place is derived from
the container's record and made again when it is asked for.
"""

from __future__ import annotations

import os

from rootless import jsonc
from rootless.errors import ConflictError
from rootless.plan.image import ImageConfig
from rootless.plan.request import RunRequest
from rootless.runtime import monitor
from rootless.store import files

from . import start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.runtime.monitor import Client
    from rootless.store.containers import Container

    from .context import Context


def connect(ctx: Context, container: Container) -> Client | None:
    """A connection to a monitor that cannot be reached in the runtime directory, or None where none lives."""
    try:
        os.makedirs(ctx.paths.run_containers, 0o700, exist_ok=True)
        client = monitor.connect(f"{container.dir}/sock")
    except OSError:
        return None
    try:
        client.query()  # by the time it answers, its place is there
    except OSError:
        client.close()
        return None
    return client


def spec(ctx: Context, container: Container) -> dict[str, Any]:
    """The runtime spec of a running container whose copy is gone, made and put down again."""
    client = connect(ctx, container)
    if client is None:
        raise ConflictError(f"container {container.id} is not running")
    client.close()
    record = container.record
    request = RunRequest.from_dict(record["request"])
    image = ImageConfig.from_dict(record["image_config"])
    found = start.build_spec(ctx, record, request, image)
    directory = start.run_dir(ctx, container.id)
    path = f"{directory}/config.json"
    try:
        os.makedirs(
            directory, 0o700, exist_ok=True
        )  # the monitor's own may be another, of another login
        files.replace(path, jsonc.dumps(found).encode(), durable=False)
    except OSError as error:
        raise files.failure(f"write {path}", error) from None
    return found
