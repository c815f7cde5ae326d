"""HostFacts: what this machine and this user can do, as one value.

Filled by linux/probe.py, which tries things; read by plan/ and drivers/, which decide.  This module
knows neither how a fact is found nor what follows from it.  Facts are plain values, so that any host
can be described in a test.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Extent = tuple[int, int, int]


class HostFacts:
    """What was found on this machine, for this user, since this boot.

    uid, gid              of the caller in the current user namespace
    user                  login name, or the uid in decimal
    kernel                (major, minor, patch)
    arch                  machine name as uname gives it (x86_64, aarch64 ...)
    id_rung               "subid", "nested" or "single"
    userns_error          why no user namespace can be made, or ""
    subid_error           why subordinate IDs are not used, or ""
    uid_map, gid_map      the realm's map: extents (container_id, host_id, size), ascending
    newuidmap, newgidmap  absolute paths of the helpers, or ""
    overlay               the kernel mounts overlay in a user namespace with userxattr
    overlay_error         why not, or ""
    fuse                  /dev/fuse opens for reading and writing
    net_tun               /dev/net/tun opens
    openat2, mount_setattr, close_range, pidfd, cgroup_ns  the system call works
    cgroup_mode           "unified", "hybrid", "legacy" or "none"
    seccomp               seccomp filters can be loaded
    devices               host device nodes that exist, among those a container is given
    masked_proc           a new procfs cannot be mounted in a nested namespace
    """

    __slots__ = (
        "arch",
        "cgroup_mode",
        "cgroup_ns",
        "close_range",
        "devices",
        "fuse",
        "gid",
        "gid_map",
        "id_rung",
        "kernel",
        "masked_proc",
        "mount_setattr",
        "net_tun",
        "newgidmap",
        "newuidmap",
        "openat2",
        "overlay",
        "overlay_error",
        "pidfd",
        "seccomp",
        "subid_error",
        "uid",
        "uid_map",
        "user",
        "userns_error",
    )

    def __init__(
        self,
        *,
        uid: int,
        gid: int,
        user: str = "",
        kernel: tuple[int, int, int] = (6, 1, 0),
        arch: str = "x86_64",
        id_rung: str = "subid",
        userns_error: str = "",
        subid_error: str = "",
        uid_map: tuple[Extent, ...] = (),
        gid_map: tuple[Extent, ...] = (),
        newuidmap: str = "/usr/bin/newuidmap",
        newgidmap: str = "/usr/bin/newgidmap",
        overlay: bool = True,
        overlay_error: str = "",
        fuse: bool = True,
        net_tun: bool = True,
        openat2: bool = True,
        mount_setattr: bool = True,
        close_range: bool = True,
        pidfd: bool = True,
        cgroup_ns: bool = True,
        cgroup_mode: str = "unified",
        seccomp: bool = True,
        devices: tuple[str, ...] = ("null", "zero", "full", "random", "urandom", "tty"),
        masked_proc: bool = False,
    ) -> None:
        self.uid = uid
        self.gid = gid
        self.user = user or str(uid)
        self.kernel = kernel
        self.arch = arch
        self.id_rung = id_rung
        self.userns_error = userns_error
        self.subid_error = subid_error
        self.uid_map = uid_map
        self.gid_map = gid_map
        self.newuidmap = newuidmap
        self.newgidmap = newgidmap
        self.overlay = overlay
        self.overlay_error = overlay_error
        self.fuse = fuse
        self.net_tun = net_tun
        self.openat2 = openat2
        self.mount_setattr = mount_setattr
        self.close_range = close_range
        self.pidfd = pidfd
        self.cgroup_ns = cgroup_ns
        self.cgroup_mode = cgroup_mode
        self.seccomp = seccomp
        self.devices = devices
        self.masked_proc = masked_proc

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON-ready values; :meth:`from_dict` reads them back."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HostFacts:
        """Facts from :meth:`to_dict` output; raises TypeError where a key is missing or unknown."""
        values = dict(data)
        values["kernel"] = tuple(values["kernel"])
        values["devices"] = tuple(values["devices"])
        for key in ("uid_map", "gid_map"):
            values[key] = tuple(tuple(extent) for extent in values[key])
        return cls(**values)

    def replace(self, **changes: Any) -> HostFacts:
        """A copy with some facts changed."""
        return type(self)(**{**self.to_dict(), **changes})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HostFacts) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]
