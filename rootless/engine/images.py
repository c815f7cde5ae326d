"""Images named, unnamed and removed, and told of."""

from __future__ import annotations

from rootless.oci import reference as references

from . import events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .context import Context

    Users = Mapping[str, list[tuple[str, bool]]]


def tag(ctx: Context, source: str, target: str) -> None:
    """Give the image SOURCE the further name TARGET; raises ImageNotFoundError, UsageError."""
    ctx.images.tag(source, target)
    named = ctx.images.resolve(target)
    shown = references.parse(target).with_default_tag().familiar()
    events.image(ctx, "tag", named.id, shown)


def remove(
    ctx: Context, reference: str, *, force: bool, users: Users
) -> tuple[list[str], list[str]]:
    """Take a name from an image, and delete it where it has no other: (names, IDs that went).

    USERS are the containers of each image (listing.users_of_images).  Raises ImageNotFoundError, ConflictError.
    """
    image_id = ctx.images.resolve(reference).id
    untagged, deleted = ctx.images.remove(reference, force=force, users=users)
    told = [events.of_image("untag", image_id, name) for name in untagged]
    told += [events.of_image("delete", gone, gone) for gone in deleted]
    events.tell(ctx, *told)
    return untagged, deleted
