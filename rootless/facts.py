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


_LISTS = (
    *("devices", "data_features", "pasta_lacks", "slirp4netns_lacks"),
    *("cgroup_controllers", "cgroup_buses"),
)


# What a command finds, whatever this boot's probe has.
_SESSION: dict[str, Any] = {
    "cgroup_rung": "none",
    "cgroup_controllers": (),
    "cgroup_path": "",
    "cgroup_delegated": "",
    "cgroup_error": "",
    "cgroup_buses": (),
    "cgroup_bus_error": "",
}


def _of_session(given: Mapping[str, Any]) -> dict[str, Any]:
    if not given.keys() <= _SESSION.keys():
        raise TypeError(f"unknown facts: {', '.join(given.keys() - _SESSION.keys())}")
    return {**_SESSION, **given}


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
    data_fs               type of the filesystem that holds storage.root
    data_features         what it can do: "whiteouts" (0/0 character devices), "xattrs" (user.*), "dtype",
                          "reflink", "mmap" (shared, writable), "locks", "chown" (to subordinate IDs)
    fuse_mount            a user namespace can mount FUSE here
    fuse_error            why not, or ""
    fuse_overlayfs        absolute path of the program, or ""
    fuse_overlayfs_opaque it honours user.overlay.opaque in a layer, the kernel's mark (1.4 does not)
    fusepy                import path that has mfusepy or fusepy, or ""
    libfuse               "3", "2" or "": the newest libfuse there is
    overlay               the kernel mounts overlay in a user namespace with userxattr
    overlay_error         why not, or ""
    overlay_data          and lower directories that only lend it their files' data (Linux 6.16)
    fuse                  /dev/fuse opens for reading and writing
    net_tun               /dev/net/tun opens
    net_bridge            bridges, veth pairs and nftables work in a network namespace of ours
    net_bridge_error      why not, or ""
    net_nat               and masquerading
    net_relay             and the relay's way out: packet sockets, tproxy and transparent sockets
    net_relay_error       why not, or ""
    net_ipv6              and all that over IPv6
    nft                   "libnftables", else the path of the program nft, or ""
    pasta, slirp4netns    absolute paths of the programs, or ""
    pasta_version, slirp4netns_version  as they say, or ""
    pasta_lacks, slirp4netns_lacks      options that we use and they do not have
    ping_group            ordinary users may send echo requests (net.ipv4.ping_group_range)
    low_port              the first port they may listen on (net.ipv4.ip_unprivileged_port_start)
    neighbours            entries that the machine has for neighbours (gc_thresh3), 0 where it does not say
    openat2, mount_setattr, close_range, pidfd, cgroup_ns  the system call works
    cgroup_mode           "unified", "hybrid", "legacy" or "none"
    cgroup_rung           "systemd", "cgroupfs" or "none": the driver in use; this and the following are of the
                          session, looked up by every command
    cgroup_controllers    that a container's control group will have
    cgroup_path           the directory of the control group that we are in, or ""
    cgroup_delegated      a directory that control groups can be made in, or ""
    cgroup_error          why there is none, or ""
    cgroup_buses          where the user's systemd is reached: "bus:PATH" or "peer:PATH", best first
    cgroup_bus_error      why nowhere, or ""
    seccomp               seccomp filters can be loaded
    seccomp_notify        and can ask a supervisor
    devices               host device nodes that exist, among those a container is given
    masked_proc           a new procfs cannot be mounted in a nested namespace
    """

    __slots__ = (
        "arch",
        "cgroup_bus_error",
        "cgroup_buses",
        "cgroup_controllers",
        "cgroup_delegated",
        "cgroup_error",
        "cgroup_mode",
        "cgroup_ns",
        "cgroup_path",
        "cgroup_rung",
        "close_range",
        "data_features",
        "data_fs",
        "devices",
        "fuse",
        "fuse_error",
        "fuse_mount",
        "fuse_overlayfs",
        "fuse_overlayfs_opaque",
        "fusepy",
        "gid",
        "gid_map",
        "id_rung",
        "kernel",
        "libfuse",
        "low_port",
        "masked_proc",
        "mount_setattr",
        "neighbours",
        "net_bridge",
        "net_bridge_error",
        "net_ipv6",
        "net_nat",
        "net_relay",
        "net_relay_error",
        "net_tun",
        "newgidmap",
        "newuidmap",
        "nft",
        "openat2",
        "overlay",
        "overlay_data",
        "overlay_error",
        "pasta",
        "pasta_lacks",
        "pasta_version",
        "pidfd",
        "ping_group",
        "seccomp",
        "seccomp_notify",
        "slirp4netns",
        "slirp4netns_lacks",
        "slirp4netns_version",
        "subid_error",
        "uid",
        "uid_map",
        "user",
        "userns_error",
    )

    uid: int
    gid: int
    user: str
    kernel: tuple[int, int, int]
    arch: str
    id_rung: str
    userns_error: str
    subid_error: str
    uid_map: tuple[Extent, ...]
    gid_map: tuple[Extent, ...]
    newuidmap: str
    newgidmap: str
    overlay: bool
    overlay_error: str
    overlay_data: bool
    fuse: bool
    net_tun: bool
    openat2: bool
    mount_setattr: bool
    close_range: bool
    pidfd: bool
    cgroup_ns: bool
    cgroup_mode: str
    cgroup_rung: str
    cgroup_controllers: tuple[str, ...]
    cgroup_path: str
    cgroup_delegated: str
    cgroup_error: str
    cgroup_buses: tuple[str, ...]
    cgroup_bus_error: str
    seccomp: bool
    seccomp_notify: bool
    devices: tuple[str, ...]
    masked_proc: bool
    data_fs: str
    data_features: tuple[str, ...]
    fuse_mount: bool
    fuse_error: str
    fuse_overlayfs: str
    fuse_overlayfs_opaque: bool
    fusepy: str
    libfuse: str
    net_bridge: bool
    net_bridge_error: str
    net_nat: bool
    net_relay: bool
    net_relay_error: str
    net_ipv6: bool
    nft: str
    pasta: str
    pasta_version: str
    pasta_lacks: tuple[str, ...]
    slirp4netns: str
    slirp4netns_version: str
    slirp4netns_lacks: tuple[str, ...]
    ping_group: bool
    low_port: int
    neighbours: int

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
        overlay_data: bool = False,
        fuse: bool = True,
        net_tun: bool = True,
        openat2: bool = True,
        mount_setattr: bool = True,
        close_range: bool = True,
        pidfd: bool = True,
        cgroup_ns: bool = True,
        cgroup_mode: str = "unified",
        seccomp: bool = True,
        seccomp_notify: bool = True,
        devices: tuple[str, ...] = ("null", "zero", "full", "random", "urandom", "tty"),
        masked_proc: bool = False,
        data_fs: str = "",
        data_features: tuple[str, ...] = ("whiteouts", "xattrs", "dtype", "mmap", "locks", "chown"),
        fuse_mount: bool = True,
        fuse_error: str = "",
        fuse_overlayfs: str = "",
        fuse_overlayfs_opaque: bool = True,
        fusepy: str = "",
        libfuse: str = "",
        net_bridge: bool = True,
        net_bridge_error: str = "",
        net_nat: bool = True,
        net_relay: bool = True,
        net_relay_error: str = "",
        net_ipv6: bool = True,
        nft: str = "libnftables",
        pasta: str = "",
        pasta_version: str = "",
        pasta_lacks: tuple[str, ...] = (),
        slirp4netns: str = "",
        slirp4netns_version: str = "",
        slirp4netns_lacks: tuple[str, ...] = (),
        ping_group: bool = True,
        low_port: int = 1024,
        neighbours: int = 0,
        **session: Any,
    ) -> None:
        given = {**locals(), **_of_session(session)}
        for name in self.__slots__:
            setattr(self, name, given[name])
        self.user = user or str(uid)

    def has(self, *features: str) -> bool:
        """Whether the filesystem of storage.root can do all of FEATURES."""
        return all(feature in self.data_features for feature in features)

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON-ready values; :meth:`from_dict` reads them back."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HostFacts:
        """Facts from :meth:`to_dict` output; raises TypeError where a key is missing or unknown."""
        values = dict(data)
        values["kernel"] = tuple(values["kernel"])
        for key in _LISTS:
            values[key] = tuple(values[key])
        for key in ("uid_map", "gid_map"):
            values[key] = tuple(tuple(extent) for extent in values[key])
        return cls(**values)

    def replace(self, **changes: Any) -> HostFacts:
        """A copy with some facts changed."""
        return type(self)(**{**self.to_dict(), **changes})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HostFacts) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]
