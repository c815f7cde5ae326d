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
from rootless.store.blobs import BlobStore
from rootless.store.containers import ContainerStore
from rootless.store.images import ImageStore
from rootless.store.layers import LayerStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rootless.config.paths import Paths
    from rootless.config.settings import Settings
    from rootless.drivers.snapshot.base import SnapshotDriver
    from rootless.facts import HostFacts
    from rootless.plan.tape import Op
    from rootless.runtime.realm import Realm

SINGLE = "single"


class Context:
    """Everything a use case needs to know about where and as whom it runs."""

    def __init__(self, env: Mapping[str, str], settings: Settings, paths: Paths) -> None:
        self.env = env
        self.settings = settings
        self.paths = paths
        self._facts: HostFacts | None = None
        self._realm: Realm | None = None
        self._containers: ContainerStore | None = None
        self._images: ImageStore | None = None
        self._blobs: BlobStore | None = None
        self._driver: SnapshotDriver | None = None

    @classmethod
    def load(cls, env: Mapping[str, str]) -> Context:
        """The context of this process's user and environment."""
        uid = os.getuid()
        if uid == 0 and proc.in_initial_userns():
            from rootless.linux import service_user

            env = service_user.become(env)
            uid = os.getuid()
        settings = config_settings.load(env, uid)
        return cls(env, settings, config_paths.Paths.load(settings, env, uid, proc.boot_id()))

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
        return self._facts

    @property
    def realm(self) -> Realm:
        """The user's namespaces, made if need be."""
        if self._realm is None:
            from rootless.runtime import realm

            self._realm = realm.ensure(self.paths, self.facts)
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
            self._images = ImageStore(self.paths)
        return self._images

    @property
    def blobs(self) -> BlobStore:
        """Blobs on disk."""
        if self._blobs is None:
            self._blobs = BlobStore(self.paths)
        return self._blobs

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

    def layers(self, map_key: str = "") -> LayerStore:
        """Unpacked layers in the driver's format, for one ID map."""
        # In a realm of one ID every owner is squashed: such layers are no good once there are more.
        key = map_key or (SINGLE if self.facts.id_rung == "single" else "")
        return LayerStore(self.paths, self.driver.layer_format, key)

    def run_in_realm(self, argv: Sequence[str], fds: Mapping[int, int], map_key: str = "") -> int:
        """Start ARGV as root of the realm (or of the nested map that MAP_KEY names); its pid.

        FDS maps descriptors of the child to ours; 0, 1 and 2 are /dev/null unless given.  The caller
        reaps the pid with waitpid.
        """
        from rootless.plan import idmap, launch

        ids = idmap.from_key("" if map_key == SINGLE else map_key, self.facts)
        return self._play(
            launch.unpack_tape(self.facts, argv, [], ids), f"start {argv[0]} in the realm", fds
        )

    def remove_trees(self, paths: Iterable[str]) -> None:
        """Remove directories that hold files of subordinate IDs; raises StorageError if it cannot."""
        wanted = list(paths)
        if not wanted:
            return
        from rootless.plan import launch

        pid = self._play(launch.remove_tape(wanted), f"remove {wanted[0]}", {})
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status:
            raise StorageError(
                f"cannot remove {wanted[0]}: the launcher ended with status {status}"
            )

    def _play(self, ops: Iterable[Op], what: str, fds: Mapping[int, int]) -> int:
        from rootless.plan import tape
        from rootless.runtime import realm as realms

        table = {realms.USER_FD: self.realm.user_fd, realms.NET_FD: self.realm.net_fd, **fds}
        return realms.play(self.paths.libexec, tape.encode(ops), what, table)
