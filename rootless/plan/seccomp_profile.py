"""Seccomp profiles in Docker's format, and the runtime spec's, which is part of it.

Owns what a profile means on one machine: the conditions in ``includes`` and ``excludes``
(capabilities, architecture, kernel) are decided here, names become numbers, and a Policy is left, which
bpf.py compiles.  Rules are tried in the profile's order and the first that matches decides.  As
libseccomp and runc do it:

- a rule that compares the same argument twice stands for several rules, one per comparison;
- names that an architecture does not have are left out there, so that a profile may know newer kernels;
- where an architecture has sockets or System V IPC behind one call (socketcall, ipc), a rule without
  comparisons for ``connect`` or ``shmget`` allows that call's function too.

Calls with numbers above the highest that the profile names in any rule are newer than the profile: they
get ENOSYS, which programs handle, rather than EPERM, which they take for an answer.
"""

from __future__ import annotations

from rootless import jsonc
from rootless.errors import HostError, UsageError

from . import _syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    # (argument index, operator, value, second value)
    Condition = tuple[int, str, int, int]
    # (conditions, all of which hold; action)
    Rule = tuple[tuple[Condition, ...], int]

EPERM, ENOSYS = 1, 38
RET_KILL_PROCESS, RET_KILL_THREAD, RET_TRAP = 0x80000000, 0x00000000, 0x00030000
RET_ERRNO, RET_TRACE, RET_LOG, RET_ALLOW = 0x00050000, 0x7FF00000, 0x7FFC0000, 0x7FFF0000
RET_USER_NOTIF = 0x7FC00000
_ACTIONS = {
    "SCMP_ACT_ALLOW": RET_ALLOW,
    "SCMP_ACT_ERRNO": RET_ERRNO,
    "SCMP_ACT_KILL": RET_KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": RET_KILL_PROCESS,
    "SCMP_ACT_KILL_THREAD": RET_KILL_THREAD,
    "SCMP_ACT_LOG": RET_LOG,
    "SCMP_ACT_TRACE": RET_TRACE,
    "SCMP_ACT_TRAP": RET_TRAP,
}
_LENIENT = (RET_ALLOW, RET_LOG, RET_TRACE)
OPERATORS = ("EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ")

# uname's machine -> (name in profiles, the word Go has for it)
_MACHINES = {
    "x86_64": ("X86_64", "amd64"),
    "i386": ("X86", "386"),
    "i686": ("X86", "386"),
    "aarch64": ("AARCH64", "arm64"),
    "armv7l": ("ARM", "arm"),
    "armv6l": ("ARM", "arm"),
    "riscv64": ("RISCV64", "riscv64"),
    "ppc64le": ("PPC64LE", "ppc64le"),
}
# AUDIT_ARCH_*, linux/audit.h; x32 shares that of x86_64.
AUDIT = {
    "X86_64": 0xC000003E,
    "X86": 0x40000003,
    "AARCH64": 0xC00000B7,
    "ARM": 0x40000028,
    "RISCV64": 0xC00000F3,
    "PPC64LE": 0xC0000015,
}
X32_BIT = 0x40000000
# Numbers from here on are not in the common order of calls (asm/unistd.h of arm, arch/x86 for x32).
_NO_NUMBER = 1 << 32
_PRIVATE = {"ARM": 0x0F0000, "X32": X32_BIT + 512}
_SOCKET_WORDS = (
    "socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom "
    "shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg"
)
# linux/net.h and linux/ipc.h: function numbers, the first argument.
_SOCKETCALL = {name: number for number, name in enumerate(_SOCKET_WORDS.split(), 1)}
_IPC = {"semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4, "msgsnd": 11, "msgrcv": 12}
_IPC.update(msgget=13, msgctl=14, shmat=21, shmdt=22, shmget=23, shmctl=24)


def numbers(arch: str) -> dict[str, int]:
    """Name -> number of an architecture's calls."""
    table, number = {}, 0
    for word in _syscalls.TABLES[arch].split():
        if word[0] == "=":
            number = int(word[1:])
        else:
            table[word] = number
            number += 1
    return table


_tables: dict[str, dict[str, int]] = {}


def _table(arch: str) -> dict[str, int]:
    if arch not in _tables:
        _tables[arch] = numbers(arch)
    return _tables[arch]


class ArchPolicy:
    """The rules of one architecture.

    rules    call number -> rules, in order
    highest  of the numbers in common order that the profile names; -1 for none
    private  (first, end) of the architecture's numbers out of that order, if any
    """

    __slots__ = ("highest", "name", "private", "rules")

    def __init__(self, name: str) -> None:
        self.name = name
        self.rules: dict[int, list[Rule]] = {}
        self.highest = -1
        start = _PRIVATE.get(name, _NO_NUMBER)
        own = [number for number in _table(name).values() if number >= start]
        self.private = (min(own), max(own) + 1) if own else (0, 0)


class Policy:
    """A profile on one machine: the action where no rule matches, and rules by architecture.

    FOREIGN is the action for an architecture that has no rules.
    """

    __slots__ = ("arches", "beyond", "default", "foreign")

    def __init__(
        self,
        default: int,
        beyond: int,
        arches: Sequence[ArchPolicy],
        foreign: int = RET_KILL_THREAD,
    ) -> None:
        self.default = default
        self.beyond = beyond
        self.arches = arches
        self.foreign = foreign


def machine_name(arch: str) -> str:
    """What profiles call the machine that uname calls ARCH; raises HostError for an unknown one."""
    if arch not in _MACHINES:
        raise HostError(f"cannot compile seccomp profile for {arch}: its call numbers are unknown")
    return _MACHINES[arch][0]


def load(profile: bytes, caps: set[str], arch: str, kernel: Sequence[int], origin: str) -> Policy:
    """The policy of a profile; raises UsageError naming ORIGIN, or HostError for an unknown ARCH."""
    native = machine_name(arch)
    go_arch = _MACHINES[arch][1]
    try:
        document = jsonc.loads(profile)
        if not isinstance(document, dict):
            raise ValueError("it is not a JSON object")
        entries = document.get("syscalls") or []
        default = _action(document.get("defaultAction"), document.get("defaultErrnoRet"))
        lenient = (default & 0xFFFF0000) in _LENIENT
        beyond = default if lenient else RET_ERRNO | ENOSYS
        arches = [ArchPolicy(name) for name in _arches(document, native)]
        for entry in entries:
            names = [*(entry.get("names") or ()), *filter(None, [entry.get("name")])]
            _note_names(arches, names)
            if _applies(entry, caps, go_arch, kernel):
                action = _action(entry.get("action"), entry.get("errnoRet"))
                conditions = [_condition(argument) for argument in entry.get("args") or ()]
                for rule in _rules(conditions, action):
                    _add(arches, names, rule)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"cannot read seccomp profile {origin}: {_reason(error)}") from None
    return Policy(default, beyond, arches)


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return str(error)


def _action(name: Any, errno: Any) -> int:
    if name not in _ACTIONS:
        raise ValueError(f"action {name!r} is not supported")
    code = _ACTIONS[name]
    if code in (RET_ERRNO, RET_TRACE):
        value = EPERM if errno is None else errno
        if not isinstance(value, int) or not 0 <= value <= 0xFFFF:
            raise ValueError(f"errnoRet {value!r} is out of range")
        return code | value
    return code


def _arches(document: Mapping[str, Any], native: str) -> list[str]:
    prefix = "SCMP_ARCH_"
    names = [native]
    for entry in document.get("archMap") or ():
        if entry["architecture"] == prefix + native:
            names += [sub[len(prefix) :] for sub in entry.get("subArchitectures") or ()]
    names += [name[len(prefix) :] for name in document.get("architectures") or ()]
    known = [name for name in names if name in _syscalls.TABLES]
    return [name for index, name in enumerate(known) if name not in known[:index]]


def _applies(entry: Mapping[str, Any], caps: set[str], arch: str, kernel: Sequence[int]) -> bool:
    yes, no = entry.get("includes") or {}, entry.get("excludes") or {}
    if arch in (no.get("arches") or ()) or caps.intersection(no.get("caps") or ()):
        return False
    if no.get("minKernel") and tuple(kernel[:2]) >= _version(no["minKernel"]):
        return False
    if yes.get("arches") and arch not in yes["arches"]:
        return False
    if yes.get("minKernel") and tuple(kernel[:2]) < _version(yes["minKernel"]):
        return False
    return caps.issuperset(yes.get("caps") or ())


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def _condition(argument: Mapping[str, Any]) -> Condition:
    index, value, second = argument["index"], argument["value"], argument.get("valueTwo") or 0
    operator = str(argument["op"])
    name = operator[len("SCMP_CMP_") :]
    if name not in OPERATORS or operator != "SCMP_CMP_" + name:
        raise ValueError(f"operator {operator!r} is not supported")
    for number, limit in ((index, 6), (value, 1 << 64), (second, 1 << 64)):
        if not isinstance(number, int) or not 0 <= number < limit:
            raise ValueError(f"argument comparison {dict(argument)!r} is out of range")
    return index, name, value, second


def _rules(conditions: Sequence[Condition], action: int) -> list[Rule]:
    if len({condition[0] for condition in conditions}) < len(conditions):
        return [((condition,), action) for condition in conditions]
    return [(tuple(conditions), action)]


def _note_names(arches: Iterable[ArchPolicy], names: Iterable[str]) -> None:
    for arch in arches:
        table = _table(arch.name)
        for name in names:
            number = table.get(name, -1)
            if number < _PRIVATE.get(arch.name, _NO_NUMBER):
                arch.highest = max(arch.highest, number)


def _add(arches: Iterable[ArchPolicy], names: Iterable[str], rule: Rule) -> None:
    for arch in arches:
        table = _table(arch.name)
        for name in names:
            if name in table:
                arch.rules.setdefault(table[name], []).append(rule)
            if rule[0]:
                continue
            for behind, functions in (("socketcall", _SOCKETCALL), ("ipc", _IPC)):
                if name in functions and behind in table:
                    only: Rule = (((0, "EQ", functions[name], 0),), rule[1])
                    arch.rules.setdefault(table[behind], []).append(only)
