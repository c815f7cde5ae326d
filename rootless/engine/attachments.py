"""What a new container mounts: volumes named and made, borrowed and filled, held until it is on disk.

Used once, by create.  Each volume's lock is held shared from before it is looked up until the container's
record refers to it, so that a removal finds either the lock or the record.  What this creation made is
taken back if the creation fails; what it cannot take back because it was killed is marked ephemeral
and swept.
"""

from __future__ import annotations

import os

from rootless.drivers import volume as drivers
from rootless.errors import ImageError, NotFoundError, RootlessError, UsageError
from rootless.plan import idmap
from rootless.plan import spec as specs
from rootless.plan.request import MountRequest

from . import volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from rootless.plan.image import ImageConfig
    from rootless.plan.request import RunRequest
    from rootless.store.volumes import Volume

    from .context import Context

_MODES = {"": None, "rw": False, "ro": True}


class Attachments:
    """The mounts of one container that is being created; REQUEST.mounts is completed in place."""

    def __init__(
        self, ctx: Context, record: dict[str, Any], request: RunRequest, image: ImageConfig
    ) -> None:
        self._ctx = ctx
        self._record = record
        self._request = request
        self._image = image
        self._locks: list[int] = []
        self._made: list[Volume] = []
        self._found: dict[str, Volume] = {}  # by destination

    def __enter__(self) -> Attachments:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._release()
        if kind is not None:
            volumes.drop(self._ctx, [volume.name for volume in self._made])
            return
        for volume in self._found.values():
            # Made anonymous by us, or borrowed from a --rm container: it goes with that one.
            kept = not self._request.auto_remove and volume in self._made
            if (kept or not volume.anonymous) and volume.ephemeral:
                volume.mark_ephemeral(False)

    def _release(self) -> None:
        for lock in self._locks:
            os.close(lock)
        self._locks = []

    # what is mounted

    def resolve(self) -> None:
        """Complete the request's mounts; raises NotFoundError, UsageError, ConflictError."""
        self._complete()
        for mount in self._request.mounts:
            if mount.type == "volume":
                self._volume(mount)
            elif mount.type == "image":
                self._image_mount(mount)

    def suppose(self) -> None:
        """The same without making a volume; one without a name is called so many zeros."""
        self._complete()
        for mount in self._request.mounts:
            if mount.type == "volume":
                mount.source = mount.source or "0" * 64
            elif mount.type == "image":
                self._image_mount(mount)

    def _complete(self) -> None:
        """Add what other containers and the image bring."""
        request = self._request
        taken = {mount.destination for mount in request.mounts} | set(request.tmpfs)
        borrowed: dict[str, MountRequest] = {}
        for text in request.raw.get("volumes_from") or ():
            for mount in self._borrow(text):
                borrowed[mount.destination] = mount
        request.mounts += [m for m in borrowed.values() if m.destination not in taken]
        taken |= set(borrowed)
        for path in self._image.volumes:
            destination = os.path.normpath("/" + path).replace("//", "/")
            if destination not in taken and destination != "/":
                request.mounts.append(
                    MountRequest("volume", destination=destination, origin="image")
                )
                taken.add(destination)

    def _borrow(self, text: str) -> list[MountRequest]:
        """The mounts of the container in ``--volumes-from CONTAINER[:ro|rw]``."""
        name, _, mode = text.partition(":")
        if not name or mode not in _MODES:
            raise UsageError(f"invalid volumes-from specification {text!r}: invalid mode: {mode}")
        found = []
        lender = self._ctx.containers.resolve(name)
        for data in lender.record["request"].get("mounts") or []:
            mount = MountRequest.from_dict(data)
            keys = ("O", "volume-subpath", "image-subpath")
            mount.flags = [flag for flag in mount.flags if flag.partition("=")[0] in keys]
            mount.readonly = mount.readonly or bool(_MODES[mode])
            mount.create_source = False
            mount.origin = "from"
            found.append(mount)
            if mount.type == "image":
                self._images()[mount.destination] = lender.record["image_mounts"][mount.destination]
        return found

    def _volume(self, mount: MountRequest) -> None:
        while True:
            volume = self._named(mount)
            try:
                self._locks.append(self._ctx.volumes.hold(volume.name))
                break
            except NotFoundError:
                if mount.origin == "from":
                    raise
        mount.source = volume.name
        self._found[mount.destination] = volume

    def _named(self, mount: MountRequest) -> Volume:
        if mount.origin == "from":
            return self._ctx.volumes.get(mount.source)
        anonymous = not mount.source
        volume, made = volumes.create(
            self._ctx,
            mount.source,
            driver=mount.value("volume-driver") or "local",
            labels=dict(_pair(text) for text in mount.given("volume-label")),
            options=dict(_pair(text) for text in mount.given("volume-opt")),
            ephemeral=True,
        )
        if made:
            self._made.append(volume)
        if anonymous:
            mount.flags.append("anonymous")
        return volume

    def _images(self) -> dict[str, Any]:
        found: dict[str, Any] = self._record.setdefault("image_mounts", {})
        return found

    def _image_mount(self, mount: MountRequest) -> None:
        if mount.origin == "from":
            return
        image = self._ctx.images.resolve(mount.source)
        try:
            layers = list(image.diff_ids)
        except RootlessError as error:
            raise ImageError(f"cannot mount image {mount.source}: {error.message}") from None
        self._images()[mount.destination] = {"image_id": image.id, "layers": layers}

    # what is in it

    def prepare(self, directory: str, tell: Callable[[str], None] | None) -> None:
        """Fill empty volumes from the image and change owners (U), in the container's root.

        DIRECTORY is the container's, which nobody sees yet.  Raises UsageError, NoSpaceError, StorageError.
        """
        one_id = self._record["map_key"] == idmap.SINGLE or self._ctx.facts.id_rung == "single"
        jobs = [word for m in self._request.mounts for word in self._jobs(m, owners=not one_id)]
        if one_id and tell is not None and any("U" in m.flags for m in self._request.mounts):
            tell("U changes nothing in a container of one ID: all files belong to you")
        if not jobs:
            return
        if not self._request.auto_remove:
            jobs += ["durable", "-", "-"]
        if idmap.parse(self._request.userns).mode == "auto":
            jobs += ["own", "-", "-"]
        from rootless.store import worker

        from . import rootfs

        ctx, record = self._ctx, self._record

        def beside(argv: Any, fds: Any, _: str) -> int:
            return rootfs.run_with_root(ctx, record, argv, fds, directory=directory)[0]

        argv = worker.command(volumes.WORKER, "prepare", "{root}", *jobs)
        what = f"prepare the volumes of container {record['id'][:12]}"
        done = worker.run(argv, beside, "", what)
        for path, count in done["chowned"].items():
            if tell is not None:
                tell(f"{path}: the owner of {count} entries was changed (U)")

    def _jobs(self, mount: MountRequest, *, owners: bool) -> list[str]:
        jobs = []
        volume = self._found.get(mount.destination)
        if volume is not None and self._to_be_filled(mount, volume):
            jobs += ["fill", mount.destination, volume.dir]
        if owners and "U" in mount.flags:
            path = os.path.realpath(mount.source) if volume is None else volume.data_dir
            user = specs.user_text(self._request, self._image, self._ctx.facts)
            jobs += ["chown", path, user]
        return jobs

    def _to_be_filled(self, mount: MountRequest, volume: Volume) -> bool:
        if "nocopy" in mount.flags or mount.origin == "from" or mount.subpath:
            return False
        if not drivers.driver(volume.driver).owns_content(volume.options):
            return False
        if volume.pending:
            return True
        try:
            return not os.listdir(volume.data_dir)
        except PermissionError:
            return False  # somebody else's by now, so it has been used


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value
