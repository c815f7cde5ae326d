"""Creating a container: the image is found (or pulled), the request checked, the record written.

After create() the container is on disk and nothing runs.  Everything that can be refused without
running is refused here, before anything is made.
"""

from __future__ import annotations

import os
import time

from rootless.errors import ImageNotFoundError, UsageError
from rootless.plan import health, idmap, netmode
from rootless.plan import spec as specs
from rootless.plan.image import ImageConfig

from . import attach, events, join, present, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from rootless.plan.request import RunRequest
    from rootless.store.containers import Container
    from rootless.store.images import ImageRecord

    from .context import Context
    from .unpack import Cost

    Pull = Callable[[str, str], None]


def image_for(ctx: Context, request: RunRequest, policy: str, pull: Pull) -> ImageRecord:
    """The image the request names, pulled by PULL(reference, platform) as POLICY says.

    POLICY is always, missing or never.  Raises ImageNotFoundError.
    """
    if policy == "always":
        pull(request.image, request.platform)
    try:
        record = ctx.images.resolve(request.image)
        if _fits(record, request.platform):
            return record
        for other in record.others():
            if _fits(other, request.platform):
                return other
    except ImageNotFoundError:
        if policy != "never":
            from . import embedded

            if embedded.provides(request.image):
                embedded.hello_image(ctx)
                return ctx.images.resolve(request.image)
    if policy == "never":
        raise ImageNotFoundError(f"no such image: {request.image}")
    pull(request.image, request.platform)
    return ctx.images.resolve(request.image)


def _fits(record: ImageRecord, platform: str) -> bool:
    if not platform:
        return True
    from rootless.oci import platform as platforms

    wanted = platforms.parse(platform)
    have = platforms.parse(
        "/".join(
            str(record.config.get(key))
            for key in ("os", "architecture", "variant")
            if record.config.get(key)
        )
    )
    return bool(platforms.matches(wanted, have))


def create(
    ctx: Context,
    request: RunRequest,
    *,
    policy: str = "missing",
    pull: Pull,
    on_unpack: Callable[[Cost], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Container:
    """Make a container and give it back; raises before anything is on disk if it cannot be."""
    lock = -1
    _settle_log(ctx, request)
    if request.limits or request.oom_score_adj is not None:
        from . import limits

        limits.check(ctx, request)
    request.userns = idmap.effective(request.userns, ctx.facts)
    attach.settle(ctx, request, tell)
    if request.userns.startswith("auto"):
        lock = join.slot_lock(ctx)
        request.userns = join.with_slot(ctx, request)
    try:
        return _create(ctx, request, policy, pull, on_unpack, tell)
    finally:
        if lock >= 0:
            os.close(lock)


# Settings that make the default log another than a plain file.
_PLAIN_LOG: tuple[tuple[str, object], ...] = (
    ("run.log_opts", []),
    ("run.log_max_size", "0"),
    ("run.log_max_file", 1),
)


def _settle_log(ctx: Context, request: RunRequest) -> None:
    """Check the log's driver and options; a plain json-file needs none of that code."""
    asked = request.log_driver != "json-file" or request.log_opts
    if asked or any(ctx.settings.get(key) != plain for key, plain in _PLAIN_LOG):
        from . import logconfig

        logconfig.settle(request, ctx.settings)


def _create(
    ctx: Context,
    request: RunRequest,
    policy: str,
    pull: Pull,
    on_unpack: Callable[[Cost], None] | None,
    tell: Callable[[str], None] | None,
) -> Container:
    record: dict[str, Any] = {
        "version": 1,
        "id": os.urandom(32).hex(),
        "created": time.time(),
        "image": request.image,
        "image_id": "",
        "layers": [],
        "image_config": {},
        "driver": "",
        "layer_format": "",
        "map_key": "",
    }
    if request.rootfs:
        record["map_key"] = join.map_key(ctx, request)
        if not os.path.isdir(request.rootfs):
            raise UsageError(f"cannot use root filesystem {request.rootfs}: it is not a directory")
        image = ImageConfig.from_dict({})
        if request.rootfs_overlay:
            record["driver"] = ctx.driver.name
            record["layer_format"] = ctx.driver.layer_format(ctx.facts)
    else:
        found = image_for(ctx, request, policy, pull)
        image = ImageConfig.from_dict(found.config)
        record["image_id"] = found.id
        record["layers"] = list(image.diff_ids)
        record["driver"] = ctx.driver.name
        record["layer_format"] = ctx.driver.layer_format(ctx.facts)
        record["map_key"] = join.map_key(ctx, request)
        record["layer_map"] = ctx.layer_map(record)
    record["image_config"] = image.to_dict()
    if netmode.is_own(request.network):
        from . import ownnet

        ownnet.settle(ctx, request, image)
    missing = start.make_sources(request) if request.mounts else []
    if missing:
        raise UsageError(
            f'invalid mount config for type "bind": bind source path does not exist: {missing[0]}'
        )
    if not (_mounts_more_than_binds(request) or image.volumes):
        return _write(ctx, record, request, image, on_unpack)
    from . import attachments

    with attachments.Attachments(ctx, record, request, image) as attached:
        attached.resolve()
        return _write(ctx, record, request, image, on_unpack, lambda at: attached.prepare(at, tell))


def _mounts_more_than_binds(request: RunRequest) -> bool:
    return bool(request.raw.get("volumes_from")) or any(
        mount.type in ("volume", "image") or "U" in mount.flags for mount in request.mounts
    )


def _write(
    ctx: Context,
    record: dict[str, Any],
    request: RunRequest,
    image: ImageConfig,
    on_unpack: Callable[[Cost], None] | None,
    prepare: Callable[[str], None] | None = None,
) -> Container:
    record["request"] = request.to_dict()
    spec = start.build_spec(ctx, record, request, image)
    record["path"] = spec["process"]["args"][0]
    record["args"] = spec["process"]["args"][1:]
    _check_profile(ctx, spec)
    if request.health or image.healthcheck:
        health.check(health.merged(request.health, image.healthcheck))
    if not request.rootfs:
        present.ensure_layers(ctx, record, on_unpack)
    made = ctx.containers.create(record, request.name, prepare=prepare)
    events.container(ctx, made, "create")
    return made


def _check_profile(ctx: Context, spec: dict[str, Any]) -> None:
    """Refuse a seccomp profile of the user's that cannot be read or compiled."""
    profile = spec["annotations"].get(specs.SECCOMP, "")
    if profile not in ("", "builtin", "unconfined"):
        from . import filters

        filters.program(ctx, profile, spec["process"]["capabilities"]["bounding"])
