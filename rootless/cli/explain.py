"""run --explain: print the runtime spec and the tape, run nothing."""

from __future__ import annotations

import sys

from rootless.engine import attach, cgroups, join
from rootless.engine import create as creating
from rootless.engine import start as starting
from rootless.errors import ImageNotFoundError
from rootless.plan import explain, launch, netmode
from rootless.plan import spec as specs
from rootless.plan.image import ImageConfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.engine.context import Context
    from rootless.plan.request import RunRequest


def main(ctx: Context, request: RunRequest) -> int:
    """Print what `run` would do with this request; an image must be here already."""
    if request.limits or request.oom_score_adj is not None:
        from rootless.engine import limits

        limits.check(ctx, request)
    attach.settle(ctx, request, None)
    record: dict[str, Any] = {
        "id": "0" * 64,
        "layers": [],
        "driver": "",
        "layer_format": "",
        "map_key": join.map_key(ctx, request),
    }
    image = ImageConfig.from_dict({})
    if not request.rootfs:

        def refuse(reference: str, _platform: str) -> None:
            raise ImageNotFoundError(
                f"cannot explain a run of {reference}: the image is not here",
                hint=f"rootless pull {reference}",
            )

        found = creating.image_for(ctx, request, "missing", refuse)
        image = ImageConfig.from_dict(found.config)
        record["layers"] = list(image.diff_ids)
        record["driver"] = ctx.driver.name
        record["layer_format"] = ctx.driver.layer_format(ctx.facts)
    from rootless.engine import attachments

    attachments.Attachments(ctx, record, request, image).suppose()
    attach.settle(ctx, request, None)
    place = starting.placement(ctx, record, request, suppose=True)
    cgroups.plan(ctx, record, request, place, request.name)
    attach.plan(ctx, request.name, {**record, "image_config": image.to_dict()}, request, place)
    if netmode.is_own(request.network):
        from rootless.engine import ownnet

        ownnet.settle(ctx, request, image)
        ownnet.plan(ctx, request, image, place)
    spec = specs.build_spec(request, image, ctx.facts, place)
    sys.stdout.write(explain.explain(spec, launch.build_tape(spec, place, ctx.facts)))
    return 0
