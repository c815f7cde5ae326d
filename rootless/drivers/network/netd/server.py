"""The program that is the network service: python -I -S server.py JSON, started by netguard.

Inherits 3 the listening control socket, 4 the realm's user namespace, 5 its network namespace.  JSON has

    socket     where the control socket is
    state      directory for what has to be found again
    networks   directory of the definitions
    nft        path of the program nft, used where libnftables is not there
    idle       seconds without a container or a client after which the service ends
    host_access, metadata  as in rootless.toml(5), [network]
    uplink     where it is not the relay: its name, the facts of this machine, the launcher
    resolv     the host's resolv.conf

Ends with status 0 when nobody needs it, by removing the socket's name under the lock beside it.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # run by path, isolated: the package is found beside this file
    _PACKAGE = os.path.abspath(__file__)
    for _ in range(5):
        _PACKAGE = os.path.dirname(_PACKAGE)
    sys.path.insert(0, _PACKAGE)

import fcntl
import io
import json
import resource
import signal
import socket
import time

from rootless.drivers import network
from rootless.drivers.network.netd import rules
from rootless.drivers.network.netd.bridges import Bridges
from rootless.drivers.network.netd.control import Control
from rootless.drivers.network.netd.dns import Names
from rootless.drivers.network.netd.endpoints import Endpoints, Parts
from rootless.drivers.network.netd.loop import Loop
from rootless.drivers.network.netd.members import Members
from rootless.drivers.network.netd.policy import (
    EGRESS_OPTION,
    NO_PORTS,
    Policies,
    parse_host_access,
)
from rootless.drivers.network.netd.publish import Published
from rootless.drivers.network.netd.pump import Pumps
from rootless.drivers.network.netd.realm import Realm
from rootless.drivers.network.netd.records import Records
from rootless.drivers.network.netd.relay import Outbound
from rootless.drivers.network.netd.tap import TapUplink
from rootless.errors import HostError, UsageError
from rootless.facts import HostFacts
from rootless.linux import netns
from rootless.linux.nftables import Nft
from rootless.plan.network import AttachRequest, EndpointWish, NetworkDef
from rootless.store.networks import NetworkStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LISTEN_FD, USER_FD, NET_FD = 3, 4, 5


class Service:
    """The service, from its start to its end."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.loop = Loop(self._failed)
        self.members = Members()
        self._idle_since = time.monotonic()
        self._store = NetworkStore(str(options["networks"]))

    def log(self, text: str) -> None:
        """A line in the log, which is standard error."""
        sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}\n")
        sys.stderr.flush()

    def _failed(self, error: BaseException) -> None:
        import traceback

        self.log("".join(traceback.format_exception(type(error), error, error.__traceback__)))

    # Starting

    def start(self) -> None:
        """Join the realm, make it ready, take over what an earlier service left, and listen."""
        self.realm = Realm(NET_FD)
        self.nft = Nft(self.realm.call, str(self.options.get("nft") or ""))
        self.bridges = Bridges(self.realm, self.nft)
        links = self.bridges.links()
        names = {link.name for link in links}
        rules.set_up(self.realm, self.nft, names, relayed=not self.options.get("uplink"))
        self.pumps = Pumps(log=self.log)
        self._connect()
        self.names = Names(
            self.loop,
            self.realm,
            self.members,
            self.log,
            resolv_conf=str(self.options.get("resolv") or "/etc/resolv.conf"),
            rules=lambda call: Nft(call, str(self.options.get("nft") or "")),
        )
        self.records = Records(f"{self.options['state']}/endpoints")
        self.endpoints = Endpoints(
            Parts(
                loop=self.loop,
                realm=self.realm,
                bridges=self.bridges,
                published=Published(self.loop, self.realm, self.pumps, self.log),
                names=self.names,
                records=self.records,
                define=self.define,
                left=self.outbound.forget if self.outbound is not None else lambda _: None,
                log=self.log,
            ),
            self.members,
        )
        self._recover()
        self.control = Control(self.loop, socket.socket(fileno=LISTEN_FD), self._handle, self.log)
        self.loop.call_later(self._patience(), self._check_idle)
        self.log(f"ready, with {len(self.members.by_id)} containers, rules by {self.nft.door}")

    def _connect(self) -> None:
        """The way out: the relay, or a program that is watched."""
        self.outbound: Outbound | None = None
        self.tap: TapUplink | None = None
        uplink = self.options.get("uplink")
        if not uplink:
            self.outbound = Outbound(self.loop, self.realm, self._policies(), self.pumps)
            self.nft.run(rules.table_text(self.outbound.start()))
            return
        self.nft.run(rules.table_text({}))
        self.tap = TapUplink(
            self.loop,
            self.realm,
            self.nft,
            network.driver(uplink["name"]),
            self.log,
            facts=HostFacts.from_dict(uplink["facts"]),
            directory=str(self.options["state"]),
            launch=uplink["launch"],
            metadata=self.options.get("metadata") == "allow",
        )
        self.tap.start()

    def _policies(self) -> Policies:
        """What networks allow.  A setting that is wrong allows nothing; the service has to run."""
        try:
            access = parse_host_access(self.options.get("host_access") or ())
        except UsageError as error:
            self.log(str(error))
            access = NO_PORTS
        metadata = self.options.get("metadata") == "allow"
        return Policies(self.members.network_of, access, metadata, self.log)

    def _recover(self) -> None:
        """Containers that run are taken over with their interfaces; what belongs to none is removed."""
        links = self.bridges.links()
        by_name = {link.name: link for link in links}
        saved = self.records.all()
        adopted: list[NetworkDef] = []
        for record in saved:
            for one in record["endpoints"]:
                network = NetworkDef.from_dict(one["network"])
                link = by_name.pop(self.bridges.name_of(network), None)
                if link is not None:
                    self.bridges.adopt(network, link)
                    adopted.append(network)
        present = {link.index for link in links}
        kept: set[int] = set()
        for record in saved:
            if self.endpoints.recover(record, present):
                kept |= {one["index"] for one in record["endpoints"]}
            else:
                self.records.drop(record["request"]["id"])
        for link in links:
            ours = link.index >= rules.FIRST_INDEX and link.kind in ("veth", "bridge")
            if ours and link.index not in kept and not self.bridges.owns(link.index):
                self.bridges.remove_link(link.index)
        for network in adopted:
            if not self.members.on_network(network.id):
                self.bridges.drop(network)

    def define(self, name: str) -> NetworkDef:
        """The definition of a network as it is on disk now.

        Raises NotFoundError, and HostError for one with rules that nobody would enforce.
        """
        found = self._store.get(name)
        if self.tap is not None and found.options.get(EGRESS_OPTION):
            raise HostError(
                f"cannot use network {name}: its egress rules need the uplink relay",
                hint="rootless doctor tells what is in the relay's way",
            )
        return found

    # Serving

    def _handle(self, name: str, values: dict[str, Any], pid: int, fds: list[int]) -> Any:
        if name == "attach":
            if len(fds) != 1:
                raise UsageError("cannot attach: no network namespace came with the request")
            member = self.endpoints.attach(AttachRequest.from_dict(values), pid, os.dup(fds[0]))
            handed, member.handed = member.handed, []
            return handed
        if name == "connect":
            self.endpoints.connect(values["container"], EndpointWish(**values["wish"]))
        elif name == "disconnect":
            self.endpoints.disconnect(values["container"], values["network"])
        elif name == "status":
            return self._status()
        elif name == "realm":
            return [io.FileIO(os.dup(fd)) for fd in (USER_FD, NET_FD)]
        elif name == "stop":
            self.bridges.sweep()
            self._unlink()
            self.loop.call_later(0.01, self.loop.stop)  # after the answer
        else:
            raise UsageError(f"cannot serve request {name!r}: it is not known")
        return {"ok": True}

    def _status(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "rules": self.nft.door,
            "uplink": self.tap.describe() if self.tap is not None else {"name": "relay"},
            "flows": self.pumps.count,
            "containers": {
                container: {
                    "pid": member.pid,
                    "networks": {n: one.ip or one.ip6 for n, one in member.endpoints.items()},
                    "ports": member.ports,
                }
                for container, member in self.members.by_id.items()
            },
        }

    # Ending

    def _patience(self) -> float:
        return max(0.1, float(self.options.get("idle", 10)))

    def _check_idle(self) -> None:
        now = time.monotonic()
        if self.members.by_id or self.control.clients or self._restarting():
            self._idle_since = now
        if now - self._idle_since >= self._patience() and self._retire():
            self.loop.stop()
            return
        self.loop.call_later(self._patience() / 2, self._check_idle)

    def _restarting(self) -> bool:
        """Whether a container that was attached has a monitor still, which may start it again."""
        for key in list(self.endpoints.waiting):
            try:
                fd = os.open(f"{self.endpoints.waiting[key]}/lock", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                del self.endpoints.waiting[key]
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                del self.endpoints.waiting[key]
            except BlockingIOError:
                return True
            finally:
                os.close(fd)
        return False

    def _retire(self) -> bool:
        """Remove the socket's name, unless somebody has just come to it."""
        directory = os.path.dirname(str(self.options["socket"]))
        try:
            lock = os.open(f"{directory}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:  # the runtime directory is gone, and nobody finds us any more
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.bridges.sweep()
            return self._leave()
        except BlockingIOError:
            return False
        finally:
            os.close(lock)

    def _leave(self) -> bool:
        """Put the socket where nobody finds it, and back if somebody had before."""
        path = str(self.options["socket"])
        try:
            os.rename(path, f"{path}.gone")
        except FileNotFoundError:
            return True
        if self.control.pending():
            os.rename(f"{path}.gone", path)
            return False
        os.unlink(f"{path}.gone")
        return True

    def _unlink(self) -> None:
        try:
            os.unlink(str(self.options["socket"]))
        except FileNotFoundError:
            pass


def main() -> int:
    """Serve until nobody needs it."""
    options = json.loads(sys.argv[1])
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # each connection takes two
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    netns.setns(USER_FD, netns.NEWUSER)
    service = Service(options)
    signal.signal(signal.SIGTERM, lambda *_: service.loop.call_soon(service.loop.stop))
    service.start()
    service.loop.run()
    if service.tap is not None:
        service.tap.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
