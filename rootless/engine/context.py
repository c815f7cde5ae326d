"""What one command works with: settings, paths, facts, stores and the realm, each made when asked for.

No module-level state: two contexts can live side by side in one process (the API service, a warm
planner).
"""

from __future__ import annotations

import os

from rootless.config import paths as config_paths
from rootless.config import settings as config_settings
from rootless.errors import NamespaceError, StorageError
from rootless.linux import proc
from rootless.plan.idmap import SINGLE
from rootless.store.containers import ContainerStore
from rootless.store.events import EventLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from rootless.config.paths import Paths
    from rootless.config.settings import Settings
    from rootless.drivers.snapshot.base import SnapshotDriver
    from rootless.facts import HostFacts
    from rootless.plan.tape import Op
    from rootless.runtime.realm import Realm
    from rootless.store.blobs import BlobStore
    from rootless.store.images import ImageStore
    from rootless.store.layers import LayerStore
    from rootless.store.networks import NetworkStore
    from rootless.store.volumes import VolumeStore


class Context:
    """Everything a use case needs to know about where and as whom it runs."""

    def __init__(self, env: Mapping[str, str], settings: Settings, paths: Paths) -> None:
        self.env = env
        self.settings = settings
        self.paths = paths
        self._facts: HostFacts | None = None
        self._realm: Realm | None = None
        self.service: _socket.socket | None = (
            None  # to the network service, which stays while it is open
        )
        self._containers: ContainerStore | None = None
        self._images: ImageStore | None = None
        self._blobs: BlobStore | None = None
        self._driver: SnapshotDriver | None = None
        self._volumes: VolumeStore | None = None
        self._networks: NetworkStore | None = None
        self.events = EventLog(paths.events, int(str(settings.get("events.max_size"))))

    @classmethod
    def load(cls, env: Mapping[str, str]) -> Context:
        """The context of this process's user and environment."""
        uid = os.getuid()
        if uid == 0 and proc.in_initial_userns():
            from rootless.linux import service_user

            env = service_user.become(env)
            uid = os.getuid()
        settings = config_settings.load(env, uid)
        paths = config_paths.Paths.load(settings, env, uid, proc.boot_id())
        if not os.path.exists(f"{paths.runtime_root}/resumed"):
            from . import resume

            resume.first_command(paths, settings, env)
        return cls(env, settings, paths)

    @property
    def facts(self) -> HostFacts:
        """What this machine can do: cached since boot, probed else."""
        if self._facts is None:
            from . import facts

            self._facts = facts.load(self.paths)
            mode = str(self.settings.get("idmap.mode"))
            if mode != "auto":
                from rootless.drivers import idmap

                self._facts = idmap.choose(mode, self._facts)
            if self._facts.cgroup_mode == "unified":
                from . import cgroups

                cgroups.settle(self, self._facts)
        return self._facts

    def _kept_namespaces(self) -> tuple[int, int] | None:
        from rootless.runtime import network

        return network.namespaces(self.paths, self.facts)

    @property
    def realm(self) -> Realm:
        """The user's namespaces, made if need be."""
        if self._realm is None:
            from rootless.runtime import realm

            self._realm = realm.ensure(self.paths, self.facts, self._kept_namespaces)
        return self._realm

    @property
    def containers(self) -> ContainerStore:
        """Containers on disk."""
        if self._containers is None:
            self._containers = ContainerStore(self.paths)
        return self._containers

    @property
    def images(self) -> ImageStore:
        """Images on disk."""
        if self._images is None:
            from rootless.store.images import ImageStore

            self._images = ImageStore(self.paths)
        return self._images

    @property
    def blobs(self) -> BlobStore:
        """Blobs on disk."""
        if self._blobs is None:
            from rootless.store.blobs import BlobStore

            self._blobs = BlobStore(self.paths)
        return self._blobs

    @property
    def volumes(self) -> VolumeStore:
        """Volumes on disk."""
        if self._volumes is None:
            from rootless.store.volumes import VolumeStore

            self._volumes = VolumeStore(self.paths)
        return self._volumes

    @property
    def networks(self) -> NetworkStore:
        """Definitions of networks on disk."""
        if self._networks is None:
            from rootless.store.networks import NetworkStore

            pools = self.settings.get("network.pools")
            self._networks = NetworkStore(
                self.paths.networks,
                pools=pools if isinstance(pools, list) else (),
                ipv6=self.settings.get("network.ipv6") == "yes",
            )
        return self._networks

    @property
    def driver(self) -> SnapshotDriver:
        """The storage driver: what the configuration names, or the best this machine has.

        Raises NamespaceError where no container can be made at all, HostError where no driver works.
        """
        if self._driver is None:
            from rootless.drivers import snapshot

            if self.facts.userns_error:
                raise NamespaceError(f"cannot make a container: {self.facts.userns_error}")
            self._driver = snapshot.choose(str(self.settings.get("storage.driver")), self.facts)
        return self._driver

    def driver_of(self, record: Mapping[str, Any]) -> SnapshotDriver:
        """The driver that a container was made with: its writable layer speaks that one's format."""
        name = str(record.get("driver") or "")
        if not name or (self._driver is not None and self._driver.name == name):
            return self.driver
        from rootless.drivers import snapshot

        return snapshot.choose(name, self.facts)

    def layers(self, map_key: str = "", layer_format: str = "") -> LayerStore:
        """Unpacked layers in a format (that of the driver), for one ID map."""
        # In a realm of one ID every owner is squashed: such layers are no good once there are more, and
        # the same for every map.
        from rootless.store.layers import LayerStore

        key = SINGLE if self.facts.id_rung == "single" else map_key
        form = layer_format or self.driver.layer_format(self.facts)
        base = LayerStore(self.paths, form) if key not in ("", SINGLE) else None
        return LayerStore(self.paths, form, key, base=base)

    def layers_of(self, record: Mapping[str, Any]) -> LayerStore:
        """The unpacked layers of a container: in its format, for the map they are stored by."""
        map_key = "" if self.shared_of(record) else self.layer_map(record)
        return self.layers(map_key, str(record["layer_format"]))

    def shared_of(self, record: Mapping[str, Any]) -> LayerStore | None:
        """Where a container's image is kept with other owners and without data, if it is."""
        map_key = self.layer_map(record)
        # Data is read with the container's own rights: its map has to have every owner.
        if not map_key.startswith("keep-id") or not record["layers"]:
            return None
        # Copies that share extents cost no more, and need no kernel's help.
        if not self.facts.overlay_data or self.facts.has("reflink"):
            return None
        if not self.driver_of(record).reads_data:
            return None
        from rootless.store.layers import SHARED, LayerStore

        return LayerStore(self.paths, SHARED, map_key, base=self.layers("", record["layer_format"]))

    def layer_map(self, record: Mapping[str, Any]) -> str:
        """By which map the owners in a container's layers, and in what it wrote over them, are stored.

        "" where its driver maps them as it shows them, or where everything belongs to one ID.
        """
        if "layer_map" in record:
            return str(record["layer_map"])
        map_key = str(record["map_key"])
        if not map_key or not record["layers"]:
            return map_key
        if self.facts.id_rung == "single":
            return ""
        return "" if map_key.startswith(self.driver_of(record).maps_owners) else map_key

    def run_in_realm(self, argv: Sequence[str], fds: Mapping[int, int], map_key: str = "") -> int:
        """Start ARGV as root of the realm (or of the nested map that MAP_KEY names); its pid.

        FDS maps descriptors of the child to ours; 0, 1 and 2 are /dev/null unless given.  The caller
        reaps the pid with waitpid.
        """
        from rootless.plan import idmap, launch

        ids = idmap.from_key("" if map_key == self.facts.id_rung else map_key, self.facts)
        return self.play(
            launch.unpack_tape(self.facts, argv, [], ids), f"start {argv[0]} in the realm", fds
        )

    def remove_trees(self, paths: Iterable[str]) -> None:
        """Remove directories that hold files of subordinate IDs; raises StorageError if it cannot."""
        wanted = list(paths)
        if not wanted:
            return
        from rootless.plan import launch

        pid = self.play(launch.remove_tape(wanted), f"remove {wanted[0]}", {})
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status:
            raise StorageError(
                f"cannot remove {wanted[0]}: the launcher ended with status {status}"
            )

    def play(self, ops: Iterable[Op], what: str, fds: Mapping[int, int]) -> int:
        """Play a tape that begins in the realm; the pid of what it started, for the caller to reap.

        WHAT ends the sentence "cannot ..." if it fails.
        """
        from rootless.plan import tape
        from rootless.runtime import realm as realms

        table = {realms.USER_FD: self.realm.user_fd, realms.NET_FD: self.realm.net_fd, **fds}
        return realms.play(self.paths.libexec, tape.encode(ops), what, table)
