"""Networks on disk: making, finding and removing their definitions, and who holds one meanwhile.

Owns ``networks/<name>/`` with network.json (written once) and lock.  Knows nothing of bridges, endpoints or
containers.  ``host`` and ``none`` are not on disk; ``bridge`` is made by whoever needs it first.

A network is made as ``networks/.tmp-<random>`` and appears by one rename.  Makers hold ``networks/.lock``, as
each has to choose addresses that no other has; nobody who only uses a network takes it.  A removal
begins with a rename to ``.gone-<random>``.  Who puts a container on a network holds its lock shared until
that is done (or for as long as it likes); who removes it holds the lock alone.
"""

from __future__ import annotations

import fcntl
import os
import time

from rootless import jsonc
from rootless.errors import ConflictError, NotFoundError, StorageError, UsageError
from rootless.plan import netmode
from rootless.plan.network import DEFAULT_NETWORK, NetworkDef

from . import files, objectlock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from rootless.plan.addresses import Prefix
    from rootless.plan.network import Subnet

_START = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_REST = _START | frozenset("_.-")
_HEX = frozenset("0123456789abcdef")
_FILE = "network.json"
POOLS = (
    *("172.17.0.0/16", "172.18.0.0/15:16", "172.20.0.0/14:16", "172.24.0.0/13:16"),
    "192.168.0.0/16:20",
)
# Networks that need no definition: drivers of their own, the same for everybody.
PREDEFINED = {
    "host": "c5858de70aa6fe588811bc75031981e8faa09122dc8ad078d54713fb72b63bec",
    "none": "9ff7ee849ee01f22c99475575c69545eb54b308ce82663f3f248fddca146654c",
}


def check(name: str) -> None:
    """Refuse what is no network name; raises UsageError, and ConflictError for those of the engine."""
    if name in netmode.PREDEFINED:
        raise ConflictError(f"operation is not permitted on predefined {name} network")
    good = bool(name) and name[0] in _START and _REST.issuperset(name) and len(name) <= 255
    if not good or name in (netmode.CONTAINER, netmode.PASTA, netmode.SLIRP):
        why = "it is a network mode" if good else "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        raise UsageError(f"invalid network name ({name}), {why}", exit_code=1)


def no_such(reference: str) -> NotFoundError:
    """The error for a name or ID that no network has."""
    return NotFoundError(f"network {reference} not found")


def exists_already(name: str) -> ConflictError:
    """The error for a name that a network has."""
    return ConflictError(f"network with name {name} already exists")


def predefined(name: str) -> NetworkDef:
    """The network ``host`` or ``none``; KeyError for another name."""
    driver = "host" if name == "host" else "null"
    return NetworkDef(name=name, id=PREDEFINED[name], driver=driver)


class NetworkStore:
    """The definitions of one user's networks.

    POOLS are what addresses are chosen from; with IPV6 the default network has some of these too; PROC_NET and
    RESOLV_CONF tell what the host uses.
    """

    __slots__ = ("_host_files", "_ipv6", "_pools", "directory")

    def __init__(
        self,
        directory: str,
        *,
        pools: Iterable[str] = (),
        ipv6: bool = False,
        proc_net: str = "/proc/net",
        resolv_conf: str = "/etc/resolv.conf",
    ) -> None:
        self.directory = directory
        self._pools = tuple(pools) or POOLS
        self._ipv6 = ipv6
        self._host_files = (f"{proc_net}/route", f"{proc_net}/ipv6_route", resolv_conf)

    # finding

    def names(self) -> list[str]:
        """Names of the networks on disk, sorted."""
        try:
            return sorted(name for name in os.listdir(self.directory) if name[0] != ".")
        except FileNotFoundError:
            return []

    def get(self, name: str) -> NetworkDef:
        """The network called NAME; raises NotFoundError, StorageError."""
        if name in PREDEFINED:
            return predefined(name)
        if not name or name[0] == "." or "/" in name or len(name) > 255:
            raise no_such(name)
        path = f"{self.directory}/{name}/{_FILE}"
        try:
            return NetworkDef.from_dict(jsonc.loads(files.read(path)))
        except (FileNotFoundError, NotADirectoryError):
            raise no_such(name) from None
        except OSError as error:
            raise files.failure(f"read network {name}", error) from None
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"cannot read {path}: {error}") from None

    def default(self) -> NetworkDef:
        """The network ``bridge``, made now where there is none yet."""
        try:
            return self.get(DEFAULT_NETWORK)
        except NotFoundError:
            pass
        try:
            return self._create(DEFAULT_NETWORK, ipv6=self._ipv6)
        except ConflictError as error:
            if str(error) != str(exists_already(DEFAULT_NETWORK)):
                raise
            return self.get(DEFAULT_NETWORK)

    def resolve(self, reference: str) -> NetworkDef:
        """The network that a name, a full ID or an unambiguous ID prefix means.

        Raises NotFoundError, or UsageError for an ambiguous prefix.  ``bridge`` is made if need be.
        """
        if reference == DEFAULT_NETWORK:
            return self.default()
        try:
            return self.get(reference)
        except NotFoundError:
            if not reference or not _HEX.issuperset(reference):
                raise
        found = [one for one in self.all() if one.id.startswith(reference)]
        if len(found) > 1:
            raise UsageError(
                f"network {reference} is ambiguous ({len(found)} matches found based on ID prefix)",
                exit_code=1,
            )
        if not found:
            raise no_such(reference)
        return found[0]

    def all(self) -> list[NetworkDef]:
        """All networks with the predefined ones, by name; one that vanishes meanwhile is left out."""
        found = [self.default(), *(predefined(name) for name in PREDEFINED)]
        for name in self.names():
            if name != DEFAULT_NETWORK:
                try:
                    found.append(self.get(name))
                except NotFoundError:
                    continue
        return sorted(found, key=lambda one: one.name)

    # making

    def create(
        self,
        name: str,
        *,
        driver: str = "bridge",
        internal: bool = False,
        ipv4: bool = True,
        ipv6: bool = False,
        attachable: bool = False,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        subnets: Iterable[Subnet] = (),
    ) -> NetworkDef:
        """A new network, with addresses where SUBNETS has none; raises before anything is made.

        UsageError for a bad name or bad addresses, ConflictError for a taken name, overlapping addresses or
        exhausted pools, NoSpaceError, StorageError.
        """
        check(name)
        self.default()  # takes the first pool, as with Docker
        return self._create(
            name,
            driver=driver,
            internal=internal,
            ipv4=ipv4,
            ipv6=ipv6,
            attachable=attachable,
            labels=labels,
            options=options,
            subnets=list(subnets),
        )

    def _create(self, name: str, **values: Any) -> NetworkDef:
        network = NetworkDef(
            name=name, id=os.urandom(32).hex(), created=round(time.time(), 6), **values
        )
        try:
            lock = self._lock_all()
            try:
                if os.path.lexists(f"{self.directory}/{name}"):
                    raise exists_already(name)
                self._sweep()
                network.subnets = self._addresses(network)
                self._write(network)
            finally:
                os.close(lock)
        except OSError as error:
            raise files.failure(f"create network {name}", error) from None
        return network

    def _addresses(self, network: NetworkDef) -> list[Subnet]:
        from rootless.plan import subnets

        texts = []
        for path in self._host_files:
            try:
                texts.append(files.read(path).decode("utf-8", "replace"))
            except OSError:
                texts.append("")  # a kernel may be without IPv6
        return subnets.complete(
            network.subnets,
            network_id=network.id,
            pools=self._pools,
            others=self._taken(),
            host=subnets.host_prefixes(*texts),
            ipv4=network.ipv4,
            ipv6=network.ipv6,
        )

    def _taken(self) -> list[Prefix]:
        from rootless.plan import subnets

        found = []
        for name in self.names():
            try:
                found += [subnets.prefix_of(one) for one in self.get(name).subnets]
            except NotFoundError:
                continue
        return found

    def _write(self, network: NetworkDef) -> None:
        temporary = f"{self.directory}/.tmp-{os.urandom(8).hex()}"
        data = jsonc.dumps(network.to_dict()).encode()
        os.mkdir(temporary, 0o700)
        try:
            files.write(f"{temporary}/lock", b"", durable=False)
            files.write(f"{temporary}/{_FILE}", data, durable=True)
            files.sync_dir(temporary)
            os.rename(temporary, f"{self.directory}/{network.name}")
        except BaseException:
            _remove(temporary)
            raise
        files.sync_dir(self.directory)

    def _lock_all(self) -> int:
        """The lock of those who make networks; the caller closes it."""
        path = f"{self.directory}/.lock"
        try:
            fd = os.open(path, objectlock.FLAGS, 0o600)
        except FileNotFoundError:
            files.ensure_dir(self.directory)
            fd = os.open(path, objectlock.FLAGS, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        return fd

    def _sweep(self) -> None:
        """Remove what killed makers and removers left; the caller holds the lock of the makers."""
        for name in os.listdir(self.directory):
            if name.startswith((".tmp-", ".gone-")):
                _remove(f"{self.directory}/{name}")

    # holding and removing

    def hold(self, name: str) -> int:
        """The network's lock, shared: it is not removed until the caller closes the descriptor.

        Raises NotFoundError.
        """
        return objectlock.shared(f"{self.directory}/{name}", lambda: self._open_lock(name))

    def lock(self, name: str, *, patience: float = 0.5) -> int:
        """The network's lock, alone; the caller closes it.  Raises NotFoundError, ConflictError."""
        return objectlock.alone(
            f"{self.directory}/{name}",
            lambda: self._open_lock(name),
            patience,
            f"error while removing network: network {name} has active endpoints",
        )

    def _open_lock(self, name: str) -> int:
        self.get(name)
        try:
            return os.open(f"{self.directory}/{name}/lock", objectlock.FLAGS, 0o600)
        except FileNotFoundError:
            raise no_such(name) from None
        except OSError as error:
            raise files.failure(f"lock network {name}", error) from None

    def take(self, name: str) -> str:
        """Take the network away, whose lock the caller has; where it is now.  Needs no free space."""
        target = f"{self.directory}/.gone-{os.urandom(8).hex()}"
        try:
            os.rename(f"{self.directory}/{name}", target)
        except FileNotFoundError:
            raise no_such(name) from None
        except OSError as error:
            raise files.failure(f"remove network {name}", error) from None
        return target

    def put_back(self, taken: str, name: str) -> None:
        """Undo :meth:`take`; best effort, as a network of that name may have been made meanwhile."""
        try:
            os.rename(taken, f"{self.directory}/{name}")
        except OSError:
            pass

    def discard(self, taken: str) -> None:
        """Remove what :meth:`take` gave; what is left of it is swept another time."""
        _remove(taken)


def _remove(directory: str) -> None:
    """Remove a network's directory, as far as it is there; what is left is swept another time."""
    for name in (_FILE, "lock"):
        try:
            os.unlink(f"{directory}/{name}")
        except OSError:
            pass
    try:
        os.rmdir(directory)
    except OSError:
        pass
