"""A container's mounts in Docker's JSON: `.Mounts`, `.HostConfig.Binds` and `.HostConfig.Mounts`."""

from __future__ import annotations

from rootless.errors import NotFoundError
from rootless.plan.request import MountRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .context import Context

_PROPAGATION = "rprivate"
_MODES = ("z", "Z", "cached", "delegated", "consistent", "copy", "nocopy", "U", "O")


def point(ctx: Context, mount: Mapping[str, Any]) -> dict[str, Any]:
    """One mount as `.Mounts` shows it."""
    kind = mount.get("type") or "bind"
    source = mount.get("source") or ""
    found: dict[str, Any] = {"Type": kind}
    driver = ""
    if kind == "volume":
        found["Name"] = source
        try:
            volume = ctx.volumes.get(source)
            source, driver = volume.data_dir, volume.driver
        except NotFoundError:
            source, driver = f"{ctx.paths.volumes}/{source}/_data", "local"
    found["Source"] = "" if kind == "tmpfs" else source
    found["Destination"] = mount.get("destination") or ""
    if driver:
        found["Driver"] = driver
    found["Mode"] = ",".join(_mode_words(mount))
    found["RW"] = not mount.get("readonly")
    found["Propagation"] = (mount.get("propagation") or _PROPAGATION) if kind == "bind" else ""
    return found


def _mode_words(mount: Mapping[str, Any]) -> list[str]:
    """The options of -v; --mount has none, as with Docker."""
    if mount.get("origin") not in ("v", "from", None, ""):
        return []
    words = ["ro"] if mount.get("readonly") else []
    if mount.get("propagation"):
        words.append(str(mount["propagation"]))
    return words + [flag for flag in mount.get("flags") or [] if flag in _MODES]


def _bind(mount: Mapping[str, Any]) -> str:
    text = f"{mount['source']}:{mount['destination']}"
    words = [*_mode_words(mount), *(mount.get("options") or [])]
    return f"{text}:{','.join(words)}" if words else text


def binds(mounts: Sequence[Mapping[str, Any]]) -> list[str]:
    """HostConfig.Binds: each -v that has a source."""
    return [
        _bind(mount)
        for mount in mounts
        if _from_v(mount) and "anonymous" not in (mount.get("flags") or ())
    ]


def _from_v(mount: Mapping[str, Any]) -> bool:
    """Whether -v asked for it; older records do not say."""
    return str(mount.get("origin") or ("v" if mount.get("create_source") else "mount")) == "v"


def anonymous(request: Mapping[str, Any]) -> dict[str, Any]:
    """What -v without a source adds to Config.Volumes."""
    return {
        mount["destination"]: {}
        for mount in request.get("mounts") or []
        if mount.get("origin") == "v" and "anonymous" in (mount.get("flags") or ())
    }


def specs(mounts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """HostConfig.Mounts: each --mount."""
    kinds = ("v", "image", "from")
    return [_spec(m) for m in mounts if not _from_v(m) and m.get("origin") not in kinds]


def _spec(data: Mapping[str, Any]) -> dict[str, Any]:
    """One of HostConfig.Mounts: what --mount has said."""
    mount = MountRequest.from_dict(data)
    found: dict[str, Any] = {"Type": mount.type or "bind"}
    if mount.source and "anonymous" not in mount.flags:
        found["Source"] = mount.source
    found["Target"] = mount.destination
    if mount.readonly and mount.type != "image":
        found["ReadOnly"] = True
    if mount.type == "bind":
        options = _bind_options(mount)
        if options:
            found["BindOptions"] = options
    elif mount.type == "volume":
        options = _volume_options(mount)
        if options:
            found["VolumeOptions"] = options
    elif mount.type == "image" and mount.subpath:
        found["ImageOptions"] = {"Subpath": mount.subpath}
    elif mount.type == "tmpfs" and mount.options:
        found["TmpfsOptions"] = _tmpfs_options(mount)
    return found


def _bind_options(mount: MountRequest) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if mount.propagation:
        found["Propagation"] = mount.propagation
    if mount.recursive == "disabled":
        found["NonRecursive"] = True
    if mount.create_source:
        found["CreateMountpoint"] = True
    if mount.recursive == "writable":
        found["ReadOnlyNonRecursive"] = True
    if mount.recursive == "readonly":
        found["ReadOnlyForceRecursive"] = True
    return found


def _volume_options(mount: MountRequest) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "nocopy" in mount.flags:
        found["NoCopy"] = True
    labels = dict(text.partition("=")[::2] for text in mount.given("volume-label"))
    if labels:
        found["Labels"] = labels
    if mount.subpath:
        found["Subpath"] = mount.subpath
    options = dict(text.partition("=")[::2] for text in mount.given("volume-opt"))
    driver = mount.value("volume-driver")
    if driver or options:
        found["DriverConfig"] = {"Name": driver or "local"}
        if options:
            found["DriverConfig"]["Options"] = options
    return found


def _tmpfs_options(mount: MountRequest) -> dict[str, Any]:
    given = dict(word.partition("=")[::2] for word in mount.options)
    found = {}
    if given.get("size"):
        found["SizeBytes"] = int(given["size"])
    if given.get("mode"):
        found["Mode"] = int(given["mode"], 8)
    return found
