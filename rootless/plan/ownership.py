"""Emulated ownership, for containers of one ID: which calls, which filters, and the tape's part in it.

With one ID nobody can be given a file, become another user or make a device, and package managers do all
of that.  A second filter lets such calls succeed.  Where the kernel can ask (SECCOMP_RET_USER_NOTIF), a
supervisor beside the container (helpers/launch_owner.c) answers those that change files: it checks what can
be checked and records what was wanted.  The others, and all of them on older kernels, succeed without effect.

Owns the list of calls and the table by which the supervisor knows them; pure.  Docker's own profile comes
first whatever the order of loading: an errno of one filter outweighs the question of another.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless.facts import HostFacts

    from .seccomp_profile import Policy, Rule
    from .tape import Op

JOURNAL = "owners"  # in the container's directory; store/ownership.py has its format
# In containers with one ID: apt changes to the user _apt and looks whether it did.
APT_CONF = "/etc/apt/apt.conf.d/zz-rootless"
APT_TEXT = 'APT::Sandbox::User "root";\n'

# What the supervisor does, by number; helpers/tape.h is generated from it.
KINDS = (
    *("chown", "lchown", "fchown", "fchownat", "chown16", "lchown16", "fchown16"),
    *("mknod", "mknodat", "setxattr", "lsetxattr", "fsetxattr", "capset"),
)
_SHORT = ("chown", "lchown", "fchown")  # of 16-bit IDs, where there is another of 32
_SET_IDS = (
    *("setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid"),
    *("setgroups", "setfsuid", "setfsgid"),
)
_SIBLINGS = {"X86_64": ("X86_64", "X86", "X32"), "AARCH64": ("AARCH64", "ARM")}
_S_IFMT, _S_IFCHR, _S_IFBLK = 0o170000, 0o020000, 0o060000
_SIZES = struct.Struct("<III4x")
_ENTRY = struct.Struct("<III4x")  # audit architecture, number, kind


def _calls(names: Iterable[str], table: dict[str, int]) -> dict[str, tuple[int, str]]:
    """Call -> (number, kind) for those of NAMES that an architecture has, both widths of IDs."""
    found = {}
    for name in names:
        wide = f"{name}32"
        if wide in table:
            found[wide] = (table[wide], name)
        if name in table:
            short = wide in table and name in _SHORT
            found[name] = (table[name], f"{name}16" if short else name)
    return found


def _names(caps: Iterable[str]) -> tuple[list[str], list[str]]:
    """(calls that the supervisor answers, calls that just succeed) in a container with CAPS.

    What the container may not do natively it may not do here either.
    """
    have = set(caps)
    asked = ["setxattr", "lsetxattr", "fsetxattr", "capset"]
    if "CAP_CHOWN" in have:
        asked += ["chown", "lchown", "fchown", "fchownat"]
    if "CAP_MKNOD" in have:
        asked += ["mknod", "mknodat"]
    return asked, list(_SET_IDS) if {"CAP_SETUID", "CAP_SETGID"} <= have else []


def _arches(machine: str) -> tuple[str, ...]:
    from .seccomp_profile import machine_name

    native = machine_name(machine)
    return _SIBLINGS.get(native, (native,))


def policy(machine: str, caps: Iterable[str], *, notify: bool) -> Policy:
    """The filter; NOTIFY: the supervisor is asked, else what it would answer succeeds without effect.

    Extended attributes are left to the kernel then: the filter cannot see their names.
    Raises HostError for a machine whose numbers are unknown.
    """
    from . import seccomp_profile as profiles

    asked, silent = _names(caps)
    answer = profiles.RET_USER_NOTIF if notify else profiles.RET_ERRNO
    if not notify:
        asked = [name for name in asked if not name.endswith("xattr")]
    arches = []
    for name in _arches(machine):
        arch = profiles.ArchPolicy(name)
        table = profiles.numbers(name)
        for call, (number, kind) in _calls([*asked, *silent], table).items():
            action = answer if kind.removesuffix("16") in asked else profiles.RET_ERRNO
            arch.rules[number] = _rules(call, action)
            arch.highest = max(arch.highest, number)
        arches.append(arch)
    allow = profiles.RET_ALLOW
    return profiles.Policy(allow, allow, arches, foreign=allow)


def _rules(call: str, action: int) -> list[Rule]:
    if not call.startswith("mknod"):
        return [((), action)]
    mode = 2 if call == "mknodat" else 1
    kinds = (_S_IFCHR, _S_IFBLK)
    return [(((mode, "MASKED_EQ", _S_IFMT, kind),), action) for kind in kinds]


def table(machine: str) -> bytes:
    """How the supervisor knows the calls: entries (audit architecture, number, kind)."""
    from . import seccomp_profile as profiles

    entries = []
    for name in _arches(machine):
        calls = _calls(_names(("CAP_CHOWN", "CAP_MKNOD"))[0], profiles.numbers(name))
        for number, kind in sorted(calls.values()):
            audit = profiles.AUDIT["X86_64" if name == "X32" else name]
            entries.append(_ENTRY.pack(audit, number, KINDS.index(kind)))
    return b"".join(entries)


class Emulation:
    """What a container's emulation loads; compiled once per machine and capabilities, and cached.

    notify    the filter that asks the supervisor
    fallback  the one that does not
    table     see :func:`table`
    """

    __slots__ = ("fallback", "notify", "table")

    def __init__(self, notify: bytes, fallback: bytes, calls: bytes) -> None:
        self.notify = notify
        self.fallback = fallback
        self.table = calls

    def pack(self) -> bytes:
        """As bytes, a multiple of eight; :meth:`unpack` reads them back."""
        parts = (self.notify, self.fallback, self.table)
        return _SIZES.pack(*map(len, parts)) + b"".join(parts)

    @classmethod
    def unpack(cls, data: bytes) -> Emulation:
        """From what pack() made."""
        notify, fallback, _ = _SIZES.unpack_from(data)
        rest = data[_SIZES.size :]
        return cls(rest[:notify], rest[notify : notify + fallback], rest[notify + fallback :])


def compile_all(machine: str, caps: Iterable[str]) -> Emulation:
    """The emulation for a machine and capabilities; raises HostError."""
    from . import bpf

    names = list(caps)
    return Emulation(
        bpf.assemble(policy(machine, names, notify=True)),
        bpf.assemble(policy(machine, names, notify=False)),
        table(machine),
    )


def note(journal: str, upper: str) -> str:
    """The annotation of a container whose ownership is emulated: host paths of journal and writable layer."""
    return f"{journal}\n{upper}"


def supervise_ops(emulation: Emulation, facts: HostFacts, text: str) -> list[Op]:
    """Operations that start the supervisor, before namespaces are made; TEXT is the annotation."""
    if not facts.seccomp_notify:
        return []
    journal, _, upper = text.partition("\n")
    return [("supervise", (emulation.table, journal, upper))]


def load_ops(emulation: Emulation, facts: HostFacts) -> list[Op]:
    """Operations that load the filter and hand its questions to the supervisor, if there is one."""
    return [("emulate", (emulation.notify if facts.seccomp_notify else b"", emulation.fallback))]
