"""Seccomp profiles and the programs they compile to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import plan_bpf as bpf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.errors import HostError, UsageError
from rootless.plan import _syscalls, caps, seccomp, seccomp_profile

PROFILE = (Path(__file__).parents[2] / "conf" / "seccomp.json").read_bytes()
KERNEL = (6, 1, 0)
ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0
NEW_NAMESPACES = (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)


def compiled(
    document: object, caps_: tuple[str, ...] = caps.DEFAULT, arch: str = "x86_64"
) -> bytes:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    program = seccomp.compile_profile(data, caps_, arch, KERNEL)
    bpf.check(program)
    return program


def number(name: str, arch: str = "X86_64") -> int:
    return seccomp_profile.numbers(arch)[name]


def verdict(program: bytes, name: str, *args: int) -> int:
    return bpf.run(program, bpf.X86_64, number(name), args)


def rule(names: str, action: str = "SCMP_ACT_ALLOW", **more: object) -> dict[str, object]:
    return {"names": names.split(), "action": action, **more}


def profile(*rules: Mapping[str, object], default: str = "SCMP_ACT_ERRNO") -> dict[str, object]:
    return {"defaultAction": default, "syscalls": list(rules)}


class TestDefaultProfile:
    def test_everyday_calls_are_allowed(self) -> None:
        program = compiled(PROFILE)
        for name in ("read", "openat", "execve", "mmap", "futex", "clock_gettime", "chroot"):
            assert verdict(program, name) == ALLOW, name

    def test_dangerous_calls_are_refused(self) -> None:
        program = compiled(PROFILE)
        refused = (
            "mount umount2 setns unshare bpf ptrace_not keyctl add_key kexec_load reboot swapon"
        )
        for name in refused.replace("ptrace_not ", "").split():
            assert verdict(program, name) == EPERM, name
        for name in ("io_uring_setup", "userfaultfd", "perf_event_open", "open_by_handle_at"):
            assert verdict(program, name) == EPERM, name

    def test_clone_only_without_new_namespaces(self) -> None:
        program = compiled(PROFILE)
        assert verdict(program, "clone", 0x11) == ALLOW
        for flag in NEW_NAMESPACES:
            assert verdict(program, "clone", flag | 0x11) == EPERM
        assert verdict(program, "clone3") == ENOSYS

    def test_personality_by_value(self) -> None:
        program = compiled(PROFILE)
        for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
            assert verdict(program, "personality", value) == ALLOW
        for value in (1, 0x0040000, 0x400000, 1 << 32, 0xFFFFFFFFFFFFFFFF):
            assert verdict(program, "personality", value) == EPERM

    def test_vsock_is_refused(self) -> None:
        program = compiled(PROFILE)
        assert verdict(program, "socket", 2) == ALLOW
        assert verdict(program, "socket", 40) == EPERM
        assert (
            verdict(program, "socket", 40 | 1 << 32) == ALLOW
        )  # 64 bits are compared, as the profile says

    @pytest.mark.parametrize(
        ("capability", "names"),
        [
            ("CAP_SYS_ADMIN", "mount umount2 setns unshare bpf clone3 fsopen quotactl syslog"),
            ("CAP_BPF", "bpf"),
            ("CAP_PERFMON", "perf_event_open"),
            ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
            ("CAP_SYSLOG", "syslog"),
            ("CAP_SYS_BOOT", "reboot"),
            ("CAP_SYS_MODULE", "init_module finit_module delete_module"),
            ("CAP_SYS_NICE", "mbind set_mempolicy get_mempolicy"),
            ("CAP_SYS_PACCT", "acct"),
            ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
            ("CAP_SYS_RAWIO", "iopl ioperm"),
            ("CAP_SYS_TIME", "settimeofday clock_settime"),
            ("CAP_SYS_TTY_CONFIG", "vhangup"),
        ],
    )
    def test_capabilities_open_calls(self, capability: str, names: str) -> None:
        without, with_ = compiled(PROFILE), compiled(PROFILE, (*caps.DEFAULT, capability))
        for name in names.split():
            assert verdict(without, name) in (EPERM, ENOSYS), name
            assert verdict(with_, name) == ALLOW, name

    def test_chroot_needs_its_capability(self) -> None:
        assert verdict(compiled(PROFILE, ()), "chroot") == EPERM

    def test_clone_is_free_with_sys_admin(self) -> None:
        program = compiled(PROFILE, ("CAP_SYS_ADMIN",))
        assert verdict(program, "clone", 0x10000000) == ALLOW

    def test_ptrace_since_linux_4_8(self) -> None:
        old = seccomp.compile_profile(PROFILE, caps.DEFAULT, "x86_64", (4, 4, 0))
        assert bpf.run(old, bpf.X86_64, number("ptrace")) == EPERM
        assert verdict(compiled(PROFILE), "ptrace") == ALLOW

    def test_numbers_newer_than_the_profile_do_not_exist(self) -> None:
        program = compiled(PROFILE)
        for value in (number("removexattrat") + 1, 470, 1000, 0x3FFFFFFF, 0xFFFFFFFF):
            assert bpf.run(program, bpf.X86_64, value) == ENOSYS, value
        assert bpf.run(program, bpf.X86_64, 400) == EPERM  # a hole among the known numbers
        assert bpf.run(program, bpf.X86, 470) == ENOSYS
        assert bpf.run(program, bpf.X86_64, 0x40000000 + 470) == ENOSYS
        assert bpf.run(program, bpf.X86_64, 0x40000000 + 600) == ENOSYS

    def test_other_architectures(self) -> None:
        program = compiled(PROFILE)
        assert bpf.run(program, bpf.X86, number("openat", "X86")) == ALLOW
        assert bpf.run(program, bpf.X86, number("socketcall", "X86")) == ALLOW
        assert bpf.run(program, bpf.X86, number("mount", "X86")) == EPERM
        assert bpf.run(program, bpf.X86_64, number("openat", "X32")) == ALLOW
        assert bpf.run(program, bpf.X86_64, number("mount", "X32")) == EPERM
        assert bpf.run(program, bpf.AARCH64, 0) == KILL

    def test_arm(self) -> None:
        program = compiled(PROFILE, arch="aarch64")
        assert bpf.run(program, bpf.AARCH64, number("openat", "AARCH64")) == ALLOW
        assert bpf.run(program, bpf.AARCH64, number("mount", "AARCH64")) == EPERM
        assert bpf.run(program, bpf.ARM, number("set_tls", "ARM")) == ALLOW
        assert bpf.run(program, bpf.ARM, number("set_tls", "ARM") - 1) in (ENOSYS, EPERM)
        assert bpf.run(program, bpf.ARM, 500) == ENOSYS
        assert bpf.run(program, bpf.X86_64, 0) == KILL

    @pytest.mark.parametrize("arch", ["x86_64", "i686", "aarch64", "armv7l", "riscv64", "ppc64le"])
    def test_compiles_everywhere(self, arch: str) -> None:
        assert bpf.check(compiled(PROFILE, arch=arch)) < 400

    def test_names_are_known_somewhere(self) -> None:
        known = set().union(*(seccomp_profile.numbers(a) for a in _syscalls.TABLES))
        wanted = {name for entry in json.loads(PROFILE)["syscalls"] for name in entry["names"]}
        # Of architectures without a table here, and of glibc's old names.
        elsewhere = {"s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr", "fstatat64"}
        assert wanted - known <= elsewhere | {"epoll_ctl_old", "epoll_wait_old", "riscv_hwprobe"}


class TestLanguage:
    def test_first_rule_that_matches_decides(self) -> None:
        program = compiled(
            profile(
                rule(
                    "getpid",
                    "SCMP_ACT_KILL_PROCESS",
                    args=[{"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}],
                ),
                rule("getpid"),
                rule("getpid", "SCMP_ACT_TRAP"),
            )
        )
        assert verdict(program, "getpid", 0, 7) == 0x80000000
        assert verdict(program, "getpid", 0, 8) == ALLOW

    def test_comparisons_of_one_argument_are_alternatives(self) -> None:
        args = [
            {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
            {"index": 0, "value": 5, "op": "SCMP_CMP_GT"},
        ]
        program = compiled(profile(rule("getpid", args=args)))
        got = [verdict(program, "getpid", value) == ALLOW for value in (0, 1, 2, 5, 6)]
        assert got == [False, True, False, False, True]

    def test_actions(self) -> None:
        words = {
            "SCMP_ACT_KILL": 0,
            "SCMP_ACT_KILL_THREAD": 0,
            "SCMP_ACT_KILL_PROCESS": 0x80000000,
            "SCMP_ACT_TRAP": 0x30000,
            "SCMP_ACT_LOG": 0x7FFC0000,
            "SCMP_ACT_ALLOW": ALLOW,
        }
        for action, value in words.items():
            assert verdict(compiled(profile(rule("getpid", action))), "getpid") == value
        errno = compiled(profile(rule("getpid", "SCMP_ACT_ERRNO", errnoRet=13)))
        assert verdict(errno, "getpid") == 0x0005000D
        trace = compiled(profile(rule("getpid", "SCMP_ACT_TRACE", errnoRet=5)))
        assert verdict(trace, "getpid") == 0x7FF00005

    def test_lenient_default_leaves_new_calls_alone(self) -> None:
        program = compiled(profile(rule("getpid", "SCMP_ACT_ERRNO"), default="SCMP_ACT_ALLOW"))
        assert bpf.run(program, bpf.X86_64, 5000) == ALLOW
        assert verdict(program, "getpid") == EPERM

    def test_only_the_native_architecture_without_a_list(self) -> None:
        program = compiled(profile(rule("read")))
        assert bpf.run(program, bpf.X86, 3) == KILL
        assert bpf.run(program, bpf.X86_64, 0x40000000) == KILL

    def test_runtime_spec_form(self) -> None:
        document = {**profile(rule("read")), "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]}
        assert bpf.run(compiled(document), bpf.X86, 3) == ALLOW

    def test_old_form_with_one_name(self) -> None:
        entry = {"name": "read", "action": "SCMP_ACT_ALLOW", "args": None}
        assert verdict(compiled(profile(entry)), "read") == ALLOW

    def test_calls_behind_socketcall(self) -> None:
        document = {**profile(rule("connect shmget")), "architectures": ["SCMP_ARCH_X86"]}
        program = compiled(document)
        socketcall, ipc = number("socketcall", "X86"), number("ipc", "X86")
        assert bpf.run(program, bpf.X86, socketcall, (3,)) == ALLOW
        assert bpf.run(program, bpf.X86, socketcall, (4,)) == EPERM
        assert bpf.run(program, bpf.X86, ipc, (23,)) == ALLOW
        assert bpf.run(program, bpf.X86, ipc, (24,)) == EPERM

    def test_large_programs_use_long_jumps(self) -> None:
        names = sorted(seccomp_profile.numbers("X86_64"))
        rules = [
            rule(name, args=[{"index": 2, "value": i + (1 << 33), "op": "SCMP_CMP_EQ"}])
            for i, name in enumerate(names[::2])
        ]
        program = compiled(profile(*rules))
        assert bpf.check(program) > 1000
        for i, name in enumerate(names[::2]):
            assert verdict(program, name, 0, 0, i + (1 << 33)) == ALLOW
            assert verdict(program, name, 0, 0, i) == EPERM

    def test_too_large(self) -> None:
        rules = [
            rule("read", args=[{"index": i % 6, "value": i, "op": "SCMP_CMP_LT"}])
            for i in range(900)
        ]
        with pytest.raises(UsageError, match="instructions"):
            compiled(profile(*rules))

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (b"nope", "not JSON"),
            (b"[]", "not a JSON object"),
            (b"{}", "action None"),
            (b'{"defaultAction": "SCMP_ACT_MAYBE"}', "SCMP_ACT_MAYBE"),
            (b'{"defaultAction": "SCMP_ACT_NOTIFY"}', "not supported"),
            (b'{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70000}', "out of range"),
            (
                json.dumps(
                    profile(rule("read", args=[{"index": 9, "value": 0, "op": "SCMP_CMP_EQ"}]))
                ).encode(),
                "range",
            ),
            (
                json.dumps(
                    profile(rule("read", args=[{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}]))
                ).encode(),
                "range",
            ),
            (
                json.dumps(
                    profile(rule("read", args=[{"index": 0, "value": 0, "op": "EQ"}]))
                ).encode(),
                "operator",
            ),
            (
                json.dumps(
                    profile(rule("read", args=[{"value": 0, "op": "SCMP_CMP_EQ"}]))
                ).encode(),
                "index is missing",
            ),
            (json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [7]}).encode(), "int"),
            (json.dumps(profile(rule("read", includes={"minKernel": "new"}))).encode(), "new"),
        ],
    )
    def test_malformed(self, text: bytes, words: str) -> None:
        with pytest.raises(UsageError, match="cannot read seccomp profile /p") as caught:
            seccomp.compile_profile(text, (), "x86_64", KERNEL, "/p")
        assert words in caught.value.message

    def test_unknown_machine(self) -> None:
        with pytest.raises(HostError, match="vax"):
            seccomp.compile_profile(PROFILE, (), "vax", KERNEL)


def reference(
    rules: list[tuple[list[tuple[int, str, int, int]], int]], args: tuple[int, ...]
) -> int:
    """What a list of rules means, spelled out."""
    tests = {
        "EQ": lambda x, a, b: x == a,
        "NE": lambda x, a, b: x != a,
        "LT": lambda x, a, b: x < a,
        "LE": lambda x, a, b: x <= a,
        "GT": lambda x, a, b: x > a,
        "GE": lambda x, a, b: x >= a,
        "MASKED_EQ": lambda x, a, b: x & a == b,
    }
    for conditions, errno in rules:
        alternatives = len({c[0] for c in conditions}) < len(conditions)
        results = [tests[op](args[index], a, b) for index, op, a, b in conditions]
        if any(results) if alternatives else all(results):
            return 0x00050000 | errno
    return 0x00050001


EDGES = [0, 1, 2, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, 1 << 63, (1 << 64) - 1]
VALUES = st.one_of(st.sampled_from(EDGES), st.integers(0, (1 << 64) - 1))
CONDITIONS = st.tuples(
    st.integers(0, 5), st.sampled_from(seccomp_profile.OPERATORS), VALUES, VALUES
)
RULES = st.lists(
    st.tuples(st.lists(CONDITIONS, max_size=4), st.integers(2, 9)), min_size=1, max_size=5
)


@settings(max_examples=300, deadline=None)
@given(RULES, st.lists(st.tuples(*[VALUES] * 6), min_size=1, max_size=5), st.data())
def test_programs_mean_what_rules_say(
    rules: list[tuple[list[tuple[int, str, int, int]], int]],
    tries: list[tuple[int, ...]],
    data: st.DataObject,
) -> None:
    # Half of the arguments are taken from the rules themselves, so that comparisons also hold.
    mentioned = [value for conditions, _ in rules for c in conditions for value in c[2:]] or [0]
    tries = [
        *tries,
        *(tuple(data.draw(st.sampled_from(mentioned)) for _ in range(6)) for _ in range(4)),
    ]
    entries = [
        rule(
            "getpid",
            "SCMP_ACT_ERRNO",
            errnoRet=errno,
            args=[
                {"index": i, "op": f"SCMP_CMP_{op}", "value": a, "valueTwo": b}
                for i, op, a, b in conditions
            ],
        )
        for conditions, errno in rules
    ]
    program = compiled(profile(*entries))
    for args in tries:
        assert verdict(program, "getpid", *args) == reference(rules, args)


@settings(max_examples=100, deadline=None)
@given(st.sets(st.sampled_from(sorted(seccomp_profile.numbers("X86_64"))), min_size=1))
def test_every_number_has_its_verdict(names: set[str]) -> None:
    program = compiled(profile(rule(" ".join(sorted(names)))))
    allowed = {number(name) for name in names}
    for value in range(480):
        beyond = value > max(allowed)
        wanted = ALLOW if value in allowed else ENOSYS if beyond else EPERM
        assert bpf.run(program, bpf.X86_64, value) == wanted


class TestKey:
    def test_depends_on_everything_that_matters(self) -> None:
        base = seccomp.program_key(PROFILE, caps.DEFAULT, "x86_64", KERNEL)
        assert base == seccomp.program_key(PROFILE, reversed(caps.DEFAULT), "x86_64", (6, 1, 99))
        others = {
            seccomp.program_key(PROFILE + b" ", caps.DEFAULT, "x86_64", KERNEL),
            seccomp.program_key(PROFILE, caps.DEFAULT[1:], "x86_64", KERNEL),
            seccomp.program_key(PROFILE, caps.DEFAULT, "aarch64", KERNEL),
            seccomp.program_key(PROFILE, caps.DEFAULT, "x86_64", (5, 1, 0)),
        }
        assert len(others) == 4 and base not in others
        assert len(base) == 64 and not base.strip("0123456789abcdef")


def test_the_kernel_takes_the_default_program() -> None:
    machine = os.uname().machine
    release = os.uname().release.split(".")
    arch = seccomp_profile._MACHINES[machine][0]
    program = seccomp.compile_profile(
        PROFILE, caps.DEFAULT, machine, (int(release[0]), int(release[1].split("-")[0]))
    )
    n = seccomp_profile.numbers(arch)
    tries = [
        (f"{n['getppid']}", 0),
        (f"{n['unshare']} 0x20000", 1),
        (f"{n['unshare']} 0", 1),
        (f"{n['personality']} 0xffffffff", 0),
        (f"{n['personality']} 0x40000", 1),
        (f"{n['socket']} 40 1 0", 1),
        (f"{n['clone3']} 0 0", 38),
        (f"{n['clone']} 0x10000011 0 0 0 0", 1),
        ("5000", 38),
        (f"{n['keyctl']} 0 0", 1),
    ]
    argv = [
        sys.executable,
        "-I",
        "-c",
        bpf.LOADER,
        program.hex(),
        ";".join(line for line, _ in tries),
    ]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert [int(word) for word in result.stdout.split()] == [errno for _, errno in tries]
