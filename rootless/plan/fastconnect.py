"""``--network-opt fast=connect``: which calls are watched, by which filter, and the policy as numbers.

A container's connections are made in the host's network namespace by a process beside it
(helpers/launch_connect.c), which saves them the way through the relay.  Owns the calls, the filter that asks
about them, and the encoding of the rules that say which addresses go this way; pure.  Every other one, and
whatever the filter does not ask about, takes the container's own namespace, where the network service has the
same policy: so a call that is missed here costs speed and nothing else.
"""

from __future__ import annotations

import struct

from rootless.errors import HostError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless.facts import HostFacts

    from .seccomp_profile import Policy, Rule
    from .tape import Op

RULES = "connect.rules"  # in the container's runtime directory
KERNEL = (5, 9)  # SECCOMP_IOCTL_NOTIF_ADDFD
MAX_RULES = 4096
KINDS = ("connect", "socketcall")
_SIBLINGS = {"X86_64": ("X86_64", "X86", "X32"), "AARCH64": ("AARCH64", "ARM")}
# Sizes of a sockaddr_in, a sockaddr_in6 and a sockaddr_storage.  Others are legal, and rare but with AF_UNIX.
_SIZES = (16, 28, 128)
_SYS_CONNECT = 3  # socketcall's function
_ENTRY = struct.Struct("<III4x")  # audit architecture, number, kind
_RULE = struct.Struct("<BBBxHH16s")  # version, prefix, way, first and last port, address
_SIZE = struct.Struct("<I4x")


# How connections to an address go (helpers/launch_connect_socket.c): through the container's own namespace;
# through the host's if the kernel lets the socket be locked to its peer; also if only to the device.
OWN, LOCKED, BOUND = 0, 1, 2


class AddressRule:
    """Which way connections to some addresses go; the first rule that matches decides, without one it is OWN.

    ADDRESS has four or sixteen bytes, of which the first PREFIX bits count.
    """

    __slots__ = ("address", "first", "last", "prefix", "way")

    def __init__(
        self, address: bytes, prefix: int, way: int, *, first: int = 0, last: int = 65535
    ) -> None:
        self.address = address
        self.prefix = prefix
        self.first = first
        self.last = last
        self.way = way

    def encode(self) -> bytes:
        """As helpers/launch_connect.h has it (struct connect_rule)."""
        version = 4 if len(self.address) == 4 else 6
        return _RULE.pack(
            version, self.prefix, self.way, self.first, self.last, self.address.ljust(16, b"\0")
        )


def encode_rules(rules: Iterable[AddressRule]) -> bytes:
    """The file RULES; raises UsageError for too many."""
    encoded = [rule.encode() for rule in rules]
    if len(encoded) > MAX_RULES:
        raise UsageError(f"cannot use fast=connect: the networks have {len(encoded)} rules")
    return b"".join(encoded)


class FastConnect:
    """What is loaded: the filter, and the table by which the process knows the calls."""

    __slots__ = ("program", "table")

    def __init__(self, program: bytes, table: bytes) -> None:
        self.program = program
        self.table = table

    def pack(self) -> bytes:
        """As bytes, a multiple of eight; :meth:`unpack` reads them back."""
        return _SIZE.pack(len(self.program)) + self.program + self.table

    @classmethod
    def unpack(cls, data: bytes) -> FastConnect:
        """From what pack() made."""
        (size,) = _SIZE.unpack_from(data)
        rest = data[_SIZE.size :]
        return cls(rest[:size], rest[size:])


def _arches(machine: str) -> tuple[str, ...]:
    from .seccomp_profile import machine_name

    native = machine_name(machine)
    return _SIBLINGS.get(native, (native,))


def policy(machine: str) -> Policy:
    """The filter that asks about connect; raises HostError for a machine whose numbers are unknown."""
    from . import seccomp_profile as profiles

    ask = profiles.RET_USER_NOTIF
    by_size: list[Rule] = [(((2, "EQ", size, 0),), ask) for size in _SIZES]
    by_function: list[Rule] = [(((0, "EQ", _SYS_CONNECT, 0),), ask)]
    arches = []
    for name in _arches(machine):
        arch = profiles.ArchPolicy(name)
        numbers = profiles.numbers(name)
        for call, rules in zip(KINDS, (by_size, by_function)):
            if call in numbers:
                arch.rules[numbers[call]] = rules
                arch.highest = max(arch.highest, numbers[call])
        arches.append(arch)
    allow = profiles.RET_ALLOW
    return profiles.Policy(allow, allow, arches, foreign=allow)


def table(machine: str) -> bytes:
    """How the process knows the calls: entries (audit architecture, number, kind)."""
    from . import seccomp_profile as profiles

    entries = []
    for name in _arches(machine):
        numbers = profiles.numbers(name)
        audit = profiles.AUDIT["X86_64" if name == "X32" else name]
        for kind, call in enumerate(KINDS):
            if call in numbers:
                entries.append(_ENTRY.pack(audit, numbers[call], kind))
    return b"".join(entries)


def compile_all(machine: str) -> FastConnect:
    """What a machine loads; raises HostError."""
    from . import bpf

    return FastConnect(bpf.assemble(policy(machine)), table(machine))


def check(facts: HostFacts, *, one_id: bool) -> None:
    """Raise HostError or UsageError where fast=connect cannot be had."""
    if not facts.seccomp_notify or facts.kernel[:2] < KERNEL:
        raise HostError(
            "cannot use fast=connect: the kernel has no seccomp listener that can hand over descriptors",
            hint="it takes Linux 5.9; without the option connections go through the relay",
        )
    if one_id:
        raise UsageError(
            "cannot use fast=connect in a container of one ID: the filter that emulates ownership asks already",
            hint="the kernel lets one filter of a process have a listener",
        )


def beside_ops(fast: FastConnect, rules: str) -> list[Op]:
    """Operations that start the process, before namespaces are made; RULES is the file's path."""
    return [("connect_beside", (fast.table, rules))]


def load_ops(fast: FastConnect) -> list[Op]:
    """Operations that load the filter and hand its questions to the process."""
    return [("trap_connect", (fast.program,))]
