"""An uplink that is a program of the host (pasta, slirp4netns): started for the realm, watched, started again.

The program stays in the host's network namespace and gives the realm's a TAP interface, which is configured
here: address, routes, size of packets, a queue long enough for what the program announces.  Packets of the
bridges leave masqueraded.  Nothing goes to the program's own addresses, to HOST_ADDRESS, or, unless that is
allowed, to a cloud's metadata: the host's loopback is reached through the relay only.  When the program dies
the bridges go on; it is started again at once, then ever later, up to five seconds.

The kernel ends the program with the thread that started it, so that no service finds another's program.
"""

from __future__ import annotations

import os
import signal
import socket
import time

from rootless.linux import spawn
from rootless.linux.netlink import Batch, Netlink
from rootless.linux.nftables import NftError
from rootless.plan import tape
from rootless.plan.network import HOST_ADDRESS

from ..base import GATEWAY, GATEWAY6, GUEST, GUEST6, SUBNET, SUBNET6, TAP
from .loop import IN
from .policy import METADATA
from .rules import put_sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from rootless.facts import HostFacts
    from rootless.linux.nftables import Nft

    from ..base import UplinkDriver
    from .loop import Loop, Timer
    from .realm import Realm

QUEUE = 10000  # packets; with the usual 1000 pasta's senders run into losses all the time
LOOK = 0.02  # seconds between two looks for the interface
PATIENCE = (
    10.0  # seconds until it has to be there, and of a life that is long enough to be forgiven
)
FIRST_DELAY, LAST_DELAY = 0.1, 5.0
NAMESPACE, LOG = "uplink-netns", "uplink.log"
ENVIRONMENT = ["PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8"]


def _resets() -> list[str]:
    """For a program that answers SYNs by resets without ACK, which do not end a connect().

    They get one, before connections are tracked.  As it also resets what sends its SYN again while the host is
    connecting still, that is kept from it; the host sends its own.  A minute is as long as ports stay unused.
    """
    chain = "chain syns { type filter hook forward priority 11; policy accept;"
    sets, rules = [], [chain]
    for word, kind in (("ip", "ipv4_addr"), ("ip6", "ipv6_addr")):
        flow = f"{word} saddr . tcp sport . {word} daddr . tcp dport"
        syn = f' oifname "{TAP}" tcp flags & (syn | ack) == syn'
        sets += [
            f"set {word}-syns {{ type {kind} . inet_service . {kind} . inet_service;",
            " flags dynamic, timeout; timeout 60s; size 65535; }",
        ]
        rules += [f"{syn} {flow} @{word}-syns drop", f"{syn} add @{word}-syns {{ {flow} }}"]
    return [
        *sets,
        *rules,
        "}",
        "chain resets { type filter hook prerouting priority -310; policy accept;",
        f' iifname "{TAP}" tcp flags & (syn | rst | ack) == rst tcp flags set rst | ack',
        "}",
    ]


class TapUplink:
    """The program of DRIVER for one realm.

    DIRECTORY is ours to put files into, LAUNCH the launcher.  METADATA lets containers reach that of a cloud.
    """

    def __init__(
        self,
        loop: Loop,
        realm: Realm,
        nft: Nft,
        driver: UplinkDriver,
        log: Callable[[str], object],
        *,
        facts: HostFacts,
        directory: str,
        launch: str,
        metadata: bool = False,
    ) -> None:
        self._loop = loop
        self._realm = realm
        self._nft = nft
        self._driver = driver
        self._log = log
        self._facts = facts
        self._directory = directory
        self._launch = launch
        self._metadata = metadata
        self._timer: Timer | None = None
        self._watch = -1
        self._born = 0.0
        self._delay = 0.0
        self._configured = False
        self.pid = 0
        self.ready = False  # whether packets leave
        self.starts = 0

    def start(self) -> None:
        """Begin, without waiting for the interface; raises OSError, NftError."""
        os.makedirs(self._directory, 0o700, exist_ok=True)
        batch = Batch()
        batch.delete_default(4)
        batch.delete_default(6)
        self._send(batch)
        self._nft.run(self._rules())
        if self._facts.net_ipv6:
            self._nft.run(_masquerade("ip6"))
        self._nft.run(f'add element inet rootless uplinks {{ "{TAP}" }}')
        self._spawn()

    def close(self) -> None:
        """End the program and leave nothing of it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._reap(kill=True)
        for text in (
            "table inet rootless-uplink\ndelete table inet rootless-uplink",
            "table ip rootless-uplink\ndelete table ip rootless-uplink",
            "table ip6 rootless-uplink\ndelete table ip6 rootless-uplink",
            f'delete element inet rootless uplinks {{ "{TAP}" }}',
        ):
            try:
                self._nft.run(text)
            except NftError:  # without IPv6, or never started
                pass

    def describe(self) -> dict[str, object]:
        """What the service says of it."""
        return {
            "name": self._driver.name,
            "pid": self.pid,
            "ready": self.ready,
            "starts": self.starts,
        }

    # The program's life

    def _spawn(self) -> None:
        self._timer = None
        argv = self._driver.command(self._facts, f"{self._directory}/{NAMESPACE}").argv
        operations = [
            ("pdeathsig", (signal.SIGKILL,)),
            ("net_path", (3, f"{self._directory}/{NAMESPACE}")),
            ("exec", (argv[0], argv, ENVIRONMENT, 2)),
        ]
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        fds = [
            os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC),
            os.open(f"{self._directory}/{LOG}", flags, 0o600),
            os.memfd_create("tape", os.MFD_CLOEXEC),
        ]
        try:
            os.pwrite(fds[2], tape.encode(operations), 0)
            table = {0: fds[0], 1: fds[1], 2: fds[1], 3: self._realm.net_fd, 4: fds[2]}
            self.pid = spawn.spawn([self._launch, "4", "-1"], table, {})
        except OSError as error:
            self._log(f"cannot start {self._launch}: {error.strerror}")
            self._again()
            return
        finally:
            for fd in fds:
                os.close(fd)
        self.starts += 1
        self._born = time.monotonic()
        self._watch = _watch(self.pid)
        if self._watch >= 0:
            self._loop.add(self._watch, IN, lambda _: self._ended())
        self._timer = self._loop.call_later(LOOK, self._look)

    def _look(self) -> None:
        """Configure the interface as soon as it is there; see the program's end where nothing tells it."""
        if self._watch < 0 and self._gone():
            self._ended()
            return
        if not self.ready:
            try:
                index = self._realm.call(socket.if_nametoindex, TAP)
                if not self._configured:
                    self._configure(index)
                    self._configured = True
                self.ready = self._realm.call(_sends, index)
            except OSError as error:
                if time.monotonic() - self._born > PATIENCE:
                    self._log(f"{self._driver.name} makes no interface: {error.strerror}")
                    os.kill(self.pid, signal.SIGKILL)
                    self._born = time.monotonic()
            if self.ready:
                self._log(f"{self._driver.name} connects the realm (process {self.pid})")
        if not self.ready or self._watch < 0:
            self._timer = self._loop.call_later(LOOK if not self.ready else 1.0, self._look)

    def _configure(self, index: int) -> None:
        six = self._facts.net_ipv6 and has_default6()
        if six:
            self._realm.call(put_sysctl, f"ipv6/conf/{TAP}/disable_ipv6", "0")
        batch = Batch()
        batch.set_link(index, txqlen=QUEUE, mtu=self._driver.mtu)
        batch.address(index, GUEST, int(SUBNET.partition("/")[2]))
        batch.route("0.0.0.0/0", gateway=GATEWAY)
        if six:
            batch.address(index, GUEST6, int(SUBNET6.partition("/")[2]))
            batch.route("::/0", gateway=GATEWAY6, index=index)
        self._send(batch)

    def _gone(self) -> bool:
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def _ended(self) -> None:
        status = self._reap()
        if self._timer is not None:
            self._timer.cancel()
        said = last_line(f"{self._directory}/{LOG}")
        how = f"signal {-status}" if status < 0 else f"status {status}"
        self._log(f"{self._driver.name} has ended ({how}): {said or 'it did not say why'}")
        if time.monotonic() - self._born >= PATIENCE:
            self._delay = 0.0
        self._again()

    def _again(self) -> None:
        delay, self._delay = self._delay, min(max(self._delay * 2, FIRST_DELAY), LAST_DELAY)
        self._timer = self._loop.call_later(delay, self._spawn)

    def _reap(self, *, kill: bool = False) -> int:
        """Wait for the program, which has ended or is made to; its exit status, negative for a signal."""
        if self._watch >= 0:
            self._loop.remove(self._watch)
            os.close(self._watch)
            self._watch = -1
        pid, self.pid, self.ready, self._configured = self.pid, 0, False, False
        if not pid:
            return 0
        if kill:
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

    # What it needs

    def _send(self, batch: Batch) -> None:
        self._realm.call(_carry_out, batch)

    def _rules(self) -> str:
        nobody = [SUBNET, HOST_ADDRESS], [SUBNET6]
        if not self._metadata:
            for address in METADATA:
                nobody[address.version == 6].append(str(address))
        reject = "reject with icmpx type admin-prohibited"
        lines = [
            f' oifname "{TAP}" {word} daddr {{ {", ".join(some)} }} {reject}'
            for word, some in zip(("ip", "ip6"), nobody)
        ]
        return "\n".join(
            [
                *_anew("inet"),
                "chain out { type filter hook forward priority 10; policy accept;",
                *lines,
                "}",
                *(_resets() if self._driver.bare_resets else ()),
                "}",
                _masquerade("ip"),
            ]
        )


def _anew(family: str) -> list[str]:
    """The beginning of our table, in place of one that an earlier service left."""
    name = f"table {family} rootless-uplink"
    return [name, f"delete {name}", f"{name} {{"]


def _masquerade(family: str) -> str:
    hook = "type nat hook postrouting priority 100;"
    return "\n".join(
        [*_anew(family), f"chain out {{ {hook}", f' oifname "{TAP}" masquerade', "}\n}\n"]
    )


def _carry_out(batch: Batch) -> None:
    connection = Netlink()
    try:
        connection.send(batch)
    finally:
        connection.close()


def _sends(index: int) -> bool:
    """Whether an interface has its carrier by now: what it is given before is lost."""
    connection = Netlink()
    try:
        return connection.await_running(index, 0)
    finally:
        connection.close()


def _watch(pid: int) -> int:
    """A descriptor that becomes readable when the process ends; -1 before Linux 5.3."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1


def has_default6(table: str = "/proc/net/ipv6_route") -> bool:
    """Whether the host has a default route of IPv6: without one, offering it makes clients wait in vain."""
    try:
        with open(table, encoding="ascii") as file:
            for line in file:
                words = line.split()
                if words[:2] == ["0" * 32, "00"] and not int(words[8], 16) & 0x200:  # RTF_REJECT
                    return True
    except (OSError, ValueError, IndexError):
        pass
    return False


def last_line(path: str) -> str:
    """The last line of a file, of its last 4 KiB; "" where there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
