"""What was asked, and where it will be done: RunRequest, ExecRequest, MountRequest, Placement.

Plain values that survive a trip through JSON.  A RunRequest written into a container's record today is
read again at every later start, so an unknown key is kept out with a clear error and a missing one
takes its default.  This module knows neither flags (cli/) nor what follows from a value (the planners).
"""

from __future__ import annotations

from rootless.errors import StorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Callable

    # (profile, capability names) -> BPF program; profile is "builtin" or a path
    from .fastconnect import FastConnect
    from .ownership import Emulation

    SeccompProvider = Callable[[str, Sequence[str]], bytes]
    EmulationProvider = Callable[[Sequence[str]], Emulation]

SHM_SIZE = 64 << 20


def _restore(obj: Any, data: Mapping[str, Any], what: str) -> None:
    known = obj.__slots__
    for key, value in data.items():
        if key not in known:
            raise StorageError(f"cannot read {what}: unknown key {key!r}")
        setattr(obj, key, value)


class MountRequest:
    """One mount a user asked for.

    type         "bind", "tmpfs", "volume" or "image"
    source       host path (bind), name (volume, image) or ""
    destination  absolute path in the container
    options      mount option words: nosuid, noexec, size=..., bind (not recursive), rbind ...
    flags        words beside the mount options: z, Z, U, O, nocopy, volume-opt=..., volume-subpath=...
    origin       what asked for it: "v" (-v), "mount", "image" (VOLUME) or "from" (--volumes-from)
    propagation  "", or one of OCI's (rprivate, rslave, rshared, private, slave, shared)
    recursive    "enabled", "disabled", "writable" or "readonly" (--mount bind-recursive)
    """

    __slots__ = (
        "create_source",
        "destination",
        "flags",
        "options",
        "origin",
        "propagation",
        "readonly",
        "recursive",
        "source",
        "type",
    )

    def __init__(
        self,
        type: str = "bind",  # noqa: A002  (the spec's word)
        source: str = "",
        destination: str = "",
        readonly: bool = False,
        options: Sequence[str] = (),
        flags: Sequence[str] = (),
        propagation: str = "",
        recursive: str = "enabled",
        create_source: bool = False,
        origin: str = "",
    ) -> None:
        self.type = type
        self.source = source
        self.destination = destination
        self.readonly = readonly
        self.options = list(options)
        self.flags = list(flags)
        self.propagation = propagation
        self.recursive = recursive
        self.create_source = create_source
        self.origin = origin

    def given(self, key: str) -> list[str]:
        """The values of the flags KEY=VALUE."""
        start = f"{key}="
        return [flag[len(start) :] for flag in self.flags if flag.startswith(start)]

    def value(self, key: str) -> str:
        """The last value of the flag KEY, or ""."""
        return (self.given(key) or [""])[-1]

    @property
    def subpath(self) -> str:
        """The part of a volume or image that is wanted, or ""."""
        return self.value("volume-subpath") or self.value("image-subpath")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MountRequest:
        """A mount from :meth:`to_dict` output; raises StorageError for an unknown key."""
        mount = cls()
        _restore(mount, data, "mount")
        return mount


class RunRequest:
    """Everything a user asked about one container, parsed to values.

    entrypoint    None: the image's; []: reset
    env           "K=V"; env_remove: names taken away from the image's environment
    rootfs        directory of the host; rootfs_overlay: changes go to a layer of the container's own
    storage_size  bytes that the writable layer may hold; 0 is no limit
    user          "user[:group]", names or numbers; "" is the image's
    tmpfs         destination -> option text
    ulimits       (name, soft, hard); -1 is unlimited
    shm_size      bytes; 0 is the default of 64 MiB
    devices       (host path, container path, permissions)
    stop_timeout  seconds; None: 10; negative: forever
    oom_score_adj None: the caller's
    limits        what was asked of Docker's Resources by its names (Memory, NanoCpus ...), and "Unified": file
                  of the control group -> text; zero and "" are not there (plan/resources.py)
    strict_limits a limit that cannot be enforced is an error
    network       the first --network: "none", "host", "container:ID", "pasta[:opts]", "slirp4netns[:opts]",
                  "" or "default" for what the settings say, or the name of a network
    endpoints     what is wanted on each network, where it is one with a name; empty for nothing special
    publish_all   publish every exposed port
    links         "name:alias" of --link on the default network
    network_opts  key -> value of --network-opt
    unplugged     `network disconnect` took it from all networks
    mac           MAC address where the network is pasta's or slirp4netns's
    health        what is asked of the health check, in Docker's words (plan/health.py), {} for the image's
    health_on_failure  none, kill, restart or stop
    raw           values of flags that no planner reads yet
    """

    __slots__ = (
        "add_hosts",
        "annotations",
        "args",
        "attach",
        "auto_remove",
        "cap_add",
        "cap_drop",
        "cgroupns",
        "devices",
        "dns",
        "dns_options",
        "dns_search",
        "domainname",
        "endpoints",
        "entrypoint",
        "env",
        "env_remove",
        "expose",
        "group_add",
        "health",
        "health_on_failure",
        "hostname",
        "image",
        "init",
        "interactive",
        "ipc",
        "labels",
        "limits",
        "links",
        "log_driver",
        "log_opts",
        "mac",
        "mounts",
        "name",
        "network",
        "network_opts",
        "oom_score_adj",
        "pid",
        "platform",
        "privileged",
        "publish",
        "publish_all",
        "raw",
        "read_only",
        "restart_max",
        "restart_name",
        "rootfs",
        "rootfs_overlay",
        "security_opt",
        "shm_size",
        "stop_signal",
        "stop_timeout",
        "storage_size",
        "strict_limits",
        "sysctls",
        "tmpfs",
        "tty",
        "ulimits",
        "umask",
        "unplugged",
        "user",
        "userns",
        "uts",
        "workdir",
    )

    def __init__(self, **values: Any) -> None:
        self.image = ""
        self.rootfs = ""
        self.rootfs_overlay = False
        self.name = ""
        self.platform = ""
        self._process()
        self._isolation()
        self._resources()
        self._lifecycle()
        for key, value in values.items():
            setattr(self, key, value)

    def _process(self) -> None:
        self.args: list[str] = []
        self.entrypoint: list[str] | None = None
        self.env: list[str] = []
        self.env_remove: list[str] = []
        self.user = ""
        self.group_add: list[str] = []
        self.workdir = ""
        self.umask = 0o022
        self.tty = False
        self.interactive = False
        self.attach: list[str] = []
        self.init = False

    def _isolation(self) -> None:
        self.userns = ""
        self.pid = ""
        self.ipc = ""
        self.uts = ""
        self.network = ""
        self.cgroupns = ""
        self.hostname = ""
        self.domainname = ""
        self.cap_add: list[str] = []
        self.cap_drop: list[str] = []
        self.security_opt: list[str] = []
        self.privileged = False
        self.sysctls: dict[str, str] = {}
        self.add_hosts: list[str] = []
        self.dns: list[str] = []
        self.dns_search: list[str] = []
        self.dns_options: list[str] = []
        self.publish: list[str] = []
        self.publish_all = False
        self.expose: list[str] = []
        self.endpoints: list[dict[str, Any]] = []
        self.links: list[str] = []
        self.mac = ""
        self.unplugged = False
        self.network_opts: dict[str, str] = {}

    def _resources(self) -> None:
        self.mounts: list[MountRequest] = []
        self.tmpfs: dict[str, str] = {}
        self.read_only = False
        self.storage_size = 0
        self.shm_size = SHM_SIZE
        self.devices: list[tuple[str, str, str]] = []
        self.ulimits: list[tuple[str, int, int]] = []
        self.oom_score_adj: int | None = None
        self.limits: dict[str, Any] = {}
        self.strict_limits = False

    def _lifecycle(self) -> None:
        self.labels: dict[str, str] = {}
        self.annotations: dict[str, str] = {}
        self.restart_name = "no"
        self.restart_max = 0
        self.auto_remove = False
        self.stop_signal = ""
        self.stop_timeout: int | None = None
        self.health: dict[str, Any] = {}
        self.health_on_failure = "none"
        self.log_driver = "json-file"
        self.log_opts: dict[str, str] = {}
        self.raw: dict[str, Any] = {}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; :meth:`from_dict` reads them back."""
        values = {name: getattr(self, name) for name in self.__slots__}
        values["mounts"] = [mount.to_dict() for mount in self.mounts]
        values["devices"] = [list(device) for device in self.devices]
        values["ulimits"] = [list(limit) for limit in self.ulimits]
        return values

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunRequest:
        """A request from :meth:`to_dict` output; raises StorageError for an unknown key."""
        request = cls()
        _restore(request, data, "container request")
        request.mounts = [
            mount if isinstance(mount, MountRequest) else MountRequest.from_dict(mount)
            for mount in request.mounts
        ]
        request.devices = [(host, inside, perms) for host, inside, perms in request.devices]
        request.ulimits = [(name, soft, hard) for name, soft, hard in request.ulimits]
        return request


class ExecRequest:
    """A further process in a running container; empty values are the container's own."""

    __slots__ = (
        "args",
        "env",
        "env_remove",
        "interactive",
        "privileged",
        "tty",
        "user",
        "workdir",
    )

    def __init__(self, **values: Any) -> None:
        self.args: list[str] = []
        self.env: list[str] = []
        self.env_remove: list[str] = []
        self.user = ""
        self.workdir = ""
        self.tty = False
        self.interactive = False
        self.privileged = False
        for key, value in values.items():
            setattr(self, key, value)


class Placement:
    """Where a container's parts lie on this host, and what it shares; filled by the engine.

    lowers        layer directories, topmost first; empty for --rootfs
    merged        mount point of the container's root
    outer, root   operations that assemble that root: as the realm's root, and in the container's own
                  mount namespace (the storage driver's plan)
    hosts_file, hostname_file, resolv_file  bound over the files in /etc; "" for none
    joined        namespace kind (pid, ipc, network, uts) -> (pid, start time) of the process to join
    shared_shm    host directory that is /dev/shm for --ipc container: (its owner asked for shareable)
    auto_slot     number of the ID range for --userns auto; range K is K*size .. K*size+size-1
    volumes       destination -> what stands behind a mount of type volume or image, or a bind with the
                  flag O: {"type", "source", "options"} as in a spec's mount
    cgroup        what puts it into a control group of its own (a cgroup driver's plan), or None
    early         operations before all others, as the realm's root (the uppers of O mounts made anew)
    beside        operations that assemble further trees (of ``trees``), before that of the root
    trees, stale  what the storage driver has to make, and to make anew, before the tape is played
    host_name     the host's own name, for --uts host; "" leaves HOSTNAME unset
    network_program  operations that start the program of a network of its own (pasta, slirp4netns), those that
                  hand the namespace to it, and its name server
    attach        (path of the network service's socket, what to ask of it) for a network namespace of its own
    fast          what fast=connect loads; its rules are in run_dir
    host_devices  device nodes of the host that this user can open, for --privileged
    seccomp       gives the compiled program of a profile
    emulation     gives what emulated ownership loads
    one_id        the container's only ID is its root: ownership is emulated
    block_devices numbers of the block devices that limits name
    affinity      list of the CPUs that the container is bound to where no control group does it, or ""
    """

    __slots__ = (
        "affinity",
        "attach",
        "auto_slot",
        "beside",
        "block_devices",
        "cgroup",
        "container_dir",
        "container_id",
        "early",
        "emulation",
        "fast",
        "host_devices",
        "host_name",
        "hostname_file",
        "hosts_file",
        "joined",
        "libexec",
        "lowers",
        "merged",
        "network_program",
        "one_id",
        "outer",
        "resolv_file",
        "root",
        "run_dir",
        "seccomp",
        "shared_shm",
        "stale",
        "storage_driver",
        "trees",
        "upper",
        "volumes",
        "work",
    )

    def __init__(
        self,
        *,
        container_id: str = "",
        container_dir: str = "",
        run_dir: str = "",
        lowers: Sequence[str] = (),
        upper: str = "",
        work: str = "",
        merged: str = "",
        libexec: str = "",
        storage_driver: str = "overlay",
        hosts_file: str = "",
        hostname_file: str = "",
        resolv_file: str = "",
        seccomp: SeccompProvider | None = None,
        emulation: EmulationProvider | None = None,
        one_id: bool = False,
    ) -> None:
        self.emulation = emulation
        self.one_id = one_id
        self.container_id = container_id
        self.container_dir = container_dir
        self.run_dir = run_dir
        self.lowers = list(lowers)
        self.upper = upper
        self.work = work
        self.merged = merged
        self.libexec = libexec
        self.storage_driver = storage_driver
        self.hosts_file = hosts_file
        self.hostname_file = hostname_file
        self.resolv_file = resolv_file
        self.seccomp = seccomp
        self.outer: list[Any] = []
        self.root: list[Any] = []
        self.joined: dict[str, tuple[int, int]] = {}
        self.shared_shm = ""
        self.attach: tuple[str, bytes] | None = None
        self.fast: FastConnect | None = None
        self.network_program: tuple[list[Any], list[Any], str] | None = None
        self.auto_slot = 0
        self.volumes: dict[str, dict[str, Any]] = {}
        self.cgroup: Any = None
        self.early: list[Any] = []
        self.beside: list[Any] = []
        self.trees: list[Any] = []
        self.stale: list[str] = []
        self.host_devices: list[str] = []
        self.block_devices: dict[str, tuple[int, int]] = {}
        self.affinity = ""
        self.host_name = ""
