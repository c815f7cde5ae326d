"""For tests: run classic BPF programs, ask libseccomp, load a program into the kernel."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

X86_64, X86, AARCH64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
WORD = 0xFFFFFFFF


def run(program: bytes, arch: int, number: int, args: tuple[int, ...] = ()) -> int:
    """The verdict of a program, as the kernel would compute it."""
    padded = (*args, *([0] * (6 - len(args))))
    data = struct.pack("<IIQ6Q", number & WORD, arch, 0x1234, *padded)
    code = list(struct.iter_unpack("<HBBI", program))
    at = accumulator = 0
    while True:
        op, true, false, k = code[at]
        at += 1
        if op == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif op == 0x54:
            accumulator &= k
        elif op == 0x05:
            at += k
        elif op in (0x15, 0x25, 0x35, 0x45):
            holds = {
                0x15: accumulator == k,
                0x25: accumulator > k,
                0x35: accumulator >= k,
                0x45: bool(accumulator & k),
            }[op]
            at += true if holds else false
        elif op == 0x06:
            return int(k)
        else:
            raise AssertionError(f"unexpected instruction {op:#x}")


def check(program: bytes) -> int:
    """What the kernel's checker asks of a program; the number of instructions."""
    assert len(program) % 8 == 0
    code = list(struct.iter_unpack("<HBBI", program))
    assert 0 < len(code) <= 4096
    for at, (op, true, false, k) in enumerate(code):
        reach = k if op == 0x05 else max(true, false)
        if op in (0x05, 0x15, 0x25, 0x35, 0x45):
            assert at + 1 + reach < len(code)
        if op == 0x20:
            assert k % 4 == 0 and k < 64
    assert code[-1][0] == 0x06
    return len(code)


class _Comparison(ctypes.Structure):
    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    ]


_OPS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}


class Libseccomp:
    """The library, as far as the oracle needs it; OSError where it is not installed."""

    def __init__(self) -> None:
        import os
        import tempfile

        self._os, self._tempfile = os, tempfile
        self.lib = ctypes.CDLL("libseccomp.so.2")
        self.lib.seccomp_init.restype = ctypes.c_void_p
        self.lib.seccomp_init.argtypes = [ctypes.c_uint32]
        self.lib.seccomp_release.argtypes = [ctypes.c_void_p]
        self.lib.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        self.lib.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
        self.lib.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
        self.lib.seccomp_rule_add_array.argtypes = [
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_void_p,
        ]

    def resolve(self, name: str) -> int:
        """The number of a call here; -1 if the library does not know it, other negatives: elsewhere."""
        return int(self.lib.seccomp_syscall_resolve_name(name.encode()))

    def resolve_arch(self, arch: int, name: str) -> int:
        """The number of a call on another architecture."""
        resolve = self.lib.seccomp_syscall_resolve_name_arch
        return int(resolve(ctypes.c_uint32(arch), name.encode()))

    def compile(
        self, default: int, arches: list[int], rules: list[tuple[int, str, list[Any]]]
    ) -> bytes:
        """The library's program; a rule is (action, name, [(index, op, value, second)])."""
        context = self.lib.seccomp_init(default)
        assert context
        try:
            for arch in arches:
                assert self.lib.seccomp_arch_add(context, arch) in (0, -17)
            for action, name, comparisons in rules:
                number = self.resolve(name)
                if number == -1 or action == default:
                    continue
                array = (_Comparison * max(1, len(comparisons)))(
                    *(_Comparison(index, _OPS[op], a, b) for index, op, a, b in comparisons)
                )
                result = self.lib.seccomp_rule_add_array(
                    context, action, number, len(comparisons), array
                )
                assert result in (0, -17), (name, comparisons, result)
            with self._tempfile.TemporaryFile() as file:
                assert self.lib.seccomp_export_bpf(context, file.fileno()) == 0
                file.seek(0)
                return file.read()
        finally:
            self.lib.seccomp_release(context)


# Runs in a process of its own: argv[1] is the program in hex; prints one errno (or 0) per call tried.
LOADER = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
program = bytes.fromhex(sys.argv[1])
buffer = ctypes.create_string_buffer(program, len(program))
class Fprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
fprog = Fprog(len(program) // 8, ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(fprog), 0, 0) == 0, ctypes.get_errno()
for line in sys.argv[2].split(";"):
    numbers = [ctypes.c_long(int(word, 0)) for word in line.split()]
    ctypes.set_errno(0)
    result = libc.syscall(*numbers)
    print(ctypes.get_errno() if result == -1 else 0)
"""
