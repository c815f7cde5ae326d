"""Write rootless/plan/_syscalls.py from what libseccomp knows (Debian: python3-seccomp).

    /usr/bin/python3 tests/plan/generate_syscalls.py [--check]

Calls newer than the library are in RECENT: since Linux 5.0 a new call has the same number everywhere.
"""

from __future__ import annotations

import os
import sys
import textwrap

PATH = os.path.join(os.path.dirname(__file__), "..", "..", "rootless", "plan", "_syscalls.py")
ARCHES = ("X86_64", "X86", "X32", "AARCH64", "ARM", "RISCV64", "PPC64LE")
RANGES = {"X32": ((0x40000000, 0x40000400),), "ARM": ((0, 1000), (0x0F0000, 0x0F0010))}
RECENT = (
    "statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal "
    "setxattrat getxattrat listxattrat removexattrat open_tree_attr file_getattr file_setattr"
)
EXTRA = {"X86_64": {335: "uretprobe"}}
HEADER = '''"""System call numbers by architecture; from tests/plan/generate_syscalls.py, do not edit.

Each text lists names in the order of their numbers; ``=N`` sets the number of the name after it.
Sources: libseccomp's tables, and for newer calls the common numbers of all architectures.
"""

from __future__ import annotations

TABLES = {
'''


def numbers(arch: str) -> dict[int, str]:
    """Number -> name of one architecture."""
    import seccomp

    handle = getattr(seccomp.Arch, arch)
    found = {}
    for low, high in RANGES.get(arch, ((0, 1000),)):
        for number in range(low, high):
            try:
                name = seccomp.resolve_syscall(handle, number)
            except ValueError:
                continue
            if name:
                found[number] = name.decode() if isinstance(name, bytes) else name
    base = 0x40000000 if arch == "X32" else 0
    for number, name in enumerate(RECENT.split(), 457):
        found.setdefault(base + number, name)
    found.update(EXTRA.get(arch, {}))
    return found


def text(table: dict[int, str]) -> str:
    """The compact form of one table."""
    words, expected = [], -1
    for number in sorted(table):
        if number != expected:
            words.append(f"={number}")
        words.append(table[number])
        expected = number + 1
    return " ".join(words)


def generate() -> str:
    """The whole module."""
    parts = [HEADER]
    for arch in ARCHES:
        lines = textwrap.wrap(text(numbers(arch)), 94, break_long_words=False)
        quoted = "\n".join(f'        "{line} "' for line in lines)
        parts.append(f'    "{arch}": (\n{quoted}\n    ),\n')
    parts.append("}\n")
    return "".join(parts)


def main() -> int:
    """Write the module, or with --check compare it."""
    fresh = generate()
    if "--check" in sys.argv:
        with open(PATH, encoding="ascii") as file:
            return 0 if file.read() == fresh else 1
    with open(PATH, "w", encoding="ascii") as file:
        file.write(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main())
