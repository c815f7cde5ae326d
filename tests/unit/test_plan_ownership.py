"""The filter of emulated ownership: which calls ask, which succeed, which are left alone, on which machines."""

from __future__ import annotations

import errno

import pytest
from plan_bpf import run

from rootless.errors import HostError
from rootless.plan import bpf, ownership
from rootless.plan import seccomp_profile as profiles

ALL = ("CAP_CHOWN", "CAP_MKNOD", "CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP")
ASK, DONE, ALLOW = profiles.RET_USER_NOTIF, profiles.RET_ERRNO, profiles.RET_ALLOW
CHR, BLK, FIFO = 0o020666, 0o060660, 0o010644
MACHINES = {
    "x86_64": ("X86_64", "X86", "X32"),
    "aarch64": ("AARCH64", "ARM"),
    "riscv64": ("RISCV64",),
}


def answer(
    machine: str, arch: str, call: str, *args: int, caps: tuple[str, ...] = ALL, notify: bool = True
) -> int:
    program = bpf.assemble(ownership.policy(machine, caps, notify=notify))
    audit = profiles.AUDIT["X86_64" if arch == "X32" else arch]
    return run(program, audit, profiles.numbers(arch)[call], args)


@pytest.mark.parametrize(
    ("machine", "arch"),
    [(machine, arch) for machine, arches in MACHINES.items() for arch in arches],
)
def test_calls_of_every_abi(machine: str, arch: str) -> None:
    assert answer(machine, arch, "fchownat") == ASK
    assert answer(machine, arch, "setxattr") == ASK
    assert answer(machine, arch, "capset") == ASK
    assert answer(machine, arch, "setresuid") == DONE
    assert answer(machine, arch, "setgroups") == DONE
    for allowed in ("openat", "execve", "getuid", "fchmodat", "exit_group", "seccomp", "sendmsg"):
        assert answer(machine, arch, allowed) == ALLOW
    for silent in ("fchownat", "capset", "setresuid", "setgroups"):
        assert answer(machine, arch, silent, notify=False) == DONE
    assert answer(machine, arch, "setxattr", notify=False) == ALLOW


@pytest.mark.parametrize("arch", ["X86", "ARM"])
def test_both_widths_of_ids(arch: str) -> None:
    machine = {"X86": "x86_64", "ARM": "aarch64"}[arch]
    for call in ("chown", "chown32", "lchown", "lchown32", "fchown", "fchown32"):
        assert answer(machine, arch, call) == ASK
    for call in ("setuid", "setuid32", "setregid", "setregid32", "setgroups32"):
        assert answer(machine, arch, call) == DONE


@pytest.mark.parametrize(
    ("mode", "answered"), [(CHR, ASK), (BLK, ASK), (FIFO, ALLOW), (0o644, ALLOW)]
)
def test_only_devices_are_asked_about(mode: int, answered: int) -> None:
    assert answer("x86_64", "X86_64", "mknod", 0, mode, 259) == answered
    assert answer("x86_64", "X86_64", "mknodat", 5, 0, mode, 259) == answered
    silent = DONE if answered == ASK else ALLOW
    assert answer("x86_64", "X86_64", "mknod", 0, mode, 259, notify=False) == silent


def test_what_the_container_may_not_do_stays_refused() -> None:
    def without(*gone: str) -> tuple[str, ...]:
        return tuple(cap for cap in ALL if cap not in gone)

    assert answer("x86_64", "X86_64", "chown", caps=without("CAP_CHOWN")) == ALLOW
    assert answer("x86_64", "X86_64", "mknod", 0, CHR, caps=without("CAP_MKNOD")) == ALLOW
    assert answer("x86_64", "X86_64", "setuid", caps=without("CAP_SETUID")) == ALLOW
    assert answer("x86_64", "X86_64", "setuid", caps=()) == ALLOW


def test_another_architecture_is_left_alone() -> None:
    program = bpf.assemble(ownership.policy("x86_64", ALL, notify=True))
    assert run(program, profiles.AUDIT["RISCV64"], 55, ()) == ALLOW


def test_a_machine_without_numbers() -> None:
    with pytest.raises(HostError):
        ownership.policy("s390", ALL, notify=True)


def test_the_table_says_what_each_number_is() -> None:
    entries = ownership.table("x86_64")
    found = {}
    for at in range(0, len(entries), 16):
        audit, number, kind, zero = (
            int.from_bytes(entries[at + 4 * n : at + 4 * n + 4], "little") for n in range(4)
        )
        assert zero == 0
        found[audit, number] = ownership.KINDS[kind]
    assert found[profiles.AUDIT["X86_64"], 92] == "chown"
    assert found[profiles.AUDIT["X86_64"], profiles.X32_BIT | 92] == "chown"
    assert found[profiles.AUDIT["X86"], 182] == "chown16"
    assert found[profiles.AUDIT["X86"], 212] == "chown"
    assert found[profiles.AUDIT["X86"], 297] == "mknodat"


def test_every_call_that_asks_is_in_the_table() -> None:
    for machine in MACHINES:
        table = ownership.table(machine)
        known = {
            (
                int.from_bytes(table[at : at + 4], "little"),
                int.from_bytes(table[at + 4 : at + 8], "little"),
            )
            for at in range(0, len(table), 16)
        }
        for arch in ownership.policy(machine, ALL, notify=True).arches:
            audit = profiles.AUDIT["X86_64" if arch.name == "X32" else arch.name]
            asked = {number for number, rules in arch.rules.items() if rules[0][1] == ASK}
            assert {(audit, number) for number in asked} <= known


def test_packing() -> None:
    made = ownership.compile_all("x86_64", ALL)
    data = made.pack()
    again = ownership.Emulation.unpack(data)
    assert len(data) % 8 == 0
    assert (again.notify, again.fallback, again.table) == (made.notify, made.fallback, made.table)
    assert made.notify != made.fallback


def test_errno_zero_is_success() -> None:
    assert DONE & 0xFFFF == 0 != errno.EPERM
