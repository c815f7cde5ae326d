"""A running container's tape and spec, made anew from its changed record, so that a restart begins with them.

The monitor plays the tape again at each restart; exec sessions read the spec.
"""

from __future__ import annotations

import os

from rootless import jsonc
from rootless.plan import launch, netmode, tape
from rootless.plan import spec as specs
from rootless.plan.image import ImageConfig
from rootless.plan.request import RunRequest
from rootless.store import files

from . import attach, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.store.containers import Container

    from .context import Context


def renew(ctx: Context, container: Container, record: dict[str, Any]) -> None:
    """Put the tape and the spec that RECORD makes in place of those there are; none if it does not run."""
    request = RunRequest.from_dict(record["request"])
    image = ImageConfig.from_dict(record["image_config"])
    place = start.placement(ctx, record, request)
    attach.plan(ctx, container.name, record, request, place)
    if netmode.is_own(request.network):
        from . import ownnet

        ownnet.plan(ctx, request, image, place)
    spec = specs.build_spec(request, image, ctx.facts, place)
    data = tape.encode(launch.build_tape(spec, place, ctx.facts))
    try:
        if os.path.exists(f"{place.run_dir}/tape"):
            files.replace(f"{place.run_dir}/config.json", jsonc.dumps(spec).encode(), durable=False)
            files.replace(f"{place.run_dir}/tape", data, durable=False)
            if place.fast is not None:
                from . import fastconnect

                fastconnect.put(ctx, request, place.run_dir)
    except FileNotFoundError:
        pass  # it ended meanwhile
    except OSError as error:
        raise files.failure(f"write {place.run_dir}/tape", error) from None
