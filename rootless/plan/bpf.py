"""From a seccomp Policy to a program of the kernel's classic BPF.

The program looks at the architecture, then finds the call's number by a binary tree over the ranges in
which one verdict holds; a verdict that depends on arguments is a chain of comparisons at its leaf.

Another architecture kills the thread, as libseccomp has it: no rule could mean anything for its numbers.
So does the x32 ABI (bit 30 of an x86_64 number) where the profile does not list it.  A policy may say
otherwise (Policy.foreign).
"""

from __future__ import annotations

import struct

from rootless.errors import UsageError

from .seccomp_profile import AUDIT, RET_ERRNO, X32_BIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Union

    from .seccomp_profile import ArchPolicy, Condition, Policy, Rule

    Verdict = Union[int, tuple[Rule, ...]]
    Range = tuple[int, Verdict]  # first number, verdict up to the next range's
    Code = list[tuple[int, int, int, int]]  # code, jump if true, jump if false, operand

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
_LD, _JA, _JEQ, _JGT, _JGE, _AND, _RET = 0x20, 0x05, 0x15, 0x25, 0x35, 0x54, 0x06
_NR, _ARCH, _ARGS = 0, 4, 16  # struct seccomp_data; arguments are little endian here
_NUMBER_SPACE = 1 << 32
_SHORT = 240  # instructions that a conditional jump reaches, with some to spare
_ENOSYS = RET_ERRNO | 38


def assemble(policy: Policy) -> bytes:
    """The program as ``struct sock_filter`` of eight bytes each; raises UsageError if it is too long."""
    x32 = next((arch for arch in policy.arches if arch.name == "X32"), None)
    code: Code = [(_LD, 0, 0, _ARCH)]
    for arch in policy.arches:
        if arch.name == "X32":
            continue
        ranges = _ranges(policy, arch, x32 if arch.name == "X86_64" else None)
        block = [(_LD, 0, 0, _NR), *_tree(ranges, policy.default)]
        code += _branch(_JEQ, AUDIT[arch.name], block)
    code.append((_RET, 0, 0, policy.foreign))
    if len(code) > MAX_INSTRUCTIONS:
        raise UsageError(f"cannot use seccomp profile: it compiles to {len(code)} instructions")
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def _branch(test: int, operand: int, block: Code, rest: Code | None = None) -> Code:
    """BLOCK if the test holds, else what follows (REST); short jumps reach 255 instructions."""
    if len(block) <= 255:
        head: Code = [(test, 0, len(block), operand)]
    else:
        head = [(test, 1, 0, operand), (_JA, 0, 0, len(block))]
    return head + block + (rest or [])


def _ranges(policy: Policy, arch: ArchPolicy, x32: ArchPolicy | None) -> list[Range]:
    ranges = _known(policy, arch)
    if arch.name == "X86_64":
        if x32 is None:
            ranges.append((X32_BIT, policy.foreign))
        else:
            ranges += _known(policy, x32)
        # -1 is how a tracer says "skip this call"; the kernel answers ENOSYS, and so is it here.
        ranges.append((_NUMBER_SPACE - 1, _ENOSYS))
    merged: list[Range] = []
    for first, verdict in ranges:
        if merged and merged[-1][0] == first:
            merged.pop()
        if not merged or merged[-1][1] != verdict:
            merged.append((first, verdict))
    return merged


def _known(policy: Policy, arch: ArchPolicy) -> list[Range]:
    """Ranges over the numbers of one ABI, ascending, from its first number on."""
    ranges: list[Range] = [(X32_BIT if arch.name == "X32" else 0, policy.default)]
    beyond = arch.highest + 1
    common = sorted(number for number in arch.rules if number < beyond)
    private = sorted(number for number in arch.rules if number >= beyond)
    low, high = arch.private
    for numbers, end in ((common, beyond), (private, high)):
        for number in numbers:
            ranges.append((number, _verdict(arch.rules[number], policy.default)))
            ranges.append((number + 1, policy.default))
        ranges.append((end, policy.beyond))
        if numbers is common and low < high:
            ranges.append((low, policy.default))
    return ranges if low < high else ranges[:-1]


def _verdict(rules: Sequence[Rule], default: int) -> Verdict:
    """An action, or the rules that have to be tried; the first without conditions ends them."""
    tried: list[Rule] = []
    for rule in rules:
        if not rule[0]:
            if not tried or all(other[1] == rule[1] for other in tried):
                return rule[1]
            return (*tried, rule)
        if rule not in tried:
            tried.append(rule)
    if all(rule[1] == default for rule in tried):
        return default
    return tuple(tried)


def _leaf(verdict: Verdict, default: int) -> Code:
    return [(_RET, 0, 0, verdict)] if isinstance(verdict, int) else _chain(verdict, default)


def _tree(ranges: Sequence[Range], default: int) -> Code:
    """A binary search; small subtrees share their leaves, larger ones are cut in two."""
    if len(ranges) == 1:
        return _leaf(ranges[0][1], default)
    shared = _shared_tree(ranges, default)
    if shared is not None:
        return shared
    middle = len(ranges) // 2
    low, high = _tree(ranges[:middle], default), _tree(ranges[middle:], default)
    return _branch(_JGE, ranges[middle][0], high, low)


def _shared_tree(ranges: Sequence[Range], default: int) -> Code | None:
    """Tests first, then each different leaf once; None if a jump would be too far."""
    if len(ranges) > _SHORT:
        return None
    leaves: dict[Verdict, int] = {}  # in order of need; actions before chains
    for plain in (True, False):
        for _, verdict in ranges:
            if isinstance(verdict, int) == plain:
                leaves.setdefault(verdict, 0)
    tail: Code = []
    for verdict in leaves:
        leaves[verdict] = len(ranges) - 1 + len(tail)
        tail += _leaf(verdict, default)
    if max(leaves.values()) > _SHORT:
        return None
    code: Code = []

    def emit(low: int, high: int) -> int:
        if high - low == 1:
            return leaves[ranges[low][1]]
        middle, here = (low + high) // 2, len(code)
        code.append((_JGE, 0, 0, ranges[middle][0]))
        less = emit(low, middle)
        more = emit(middle, high)
        code[here] = (_JGE, more - here - 1, less - here - 1, ranges[middle][0])
        return here

    emit(0, len(ranges))
    return code + tail


def _chain(rules: Sequence[Rule], default: int) -> Code:
    """The rules one after another; each ends in its action or falls through to the next."""
    values = _one_of(rules)
    if values is not None:
        index, top, bottoms = values
        count = len(bottoms)
        return [
            (_LD, 0, 0, _ARGS + 8 * index + 4),
            (_JEQ, 0, count + 1, top),
            (_LD, 0, 0, _ARGS + 8 * index),
            *((_JEQ, count - at, 0, bottom) for at, bottom in enumerate(bottoms)),
            (_RET, 0, 0, default),
            (_RET, 0, 0, rules[0][1]),
        ]
    code: Code = []
    for conditions, action in rules:
        body: Code = [(_RET, 0, 0, action)]
        for condition in reversed(conditions):
            body = _compare(condition, body)
        code += body
        if not conditions:
            return code
    return [*code, (_RET, 0, 0, default)]


def _one_of(rules: Sequence[Rule]) -> tuple[int, int, list[int]] | None:
    """(argument, upper half, lower halves) if all that the rules ask is one of some near values."""
    first = rules[0]
    if not first[0] or len(rules) > _SHORT // 2:
        return None
    index, _, value, _ = first[0][0]
    for conditions, action in rules:
        if len(conditions) != 1 or action != first[1]:
            return None
        at, operator, other, _ = conditions[0]
        if (at, operator, other >> 32) != (index, "EQ", value >> 32):
            return None
    return index, value >> 32, [rule[0][0][2] & 0xFFFFFFFF for rule in rules]


def _compare(condition: Condition, body: Code) -> Code:
    """BODY if the 64-bit comparison holds, else what follows it."""
    index, operator, value, second = condition
    low, high = _ARGS + 8 * index, _ARGS + 8 * index + 4
    fail = len(body)  # from the last test, just before BODY
    if operator == "MASKED_EQ":
        if second & ~value:
            return [(_JA, 0, 0, fail), *body]  # bits outside the mask can never match
        return [
            (_LD, 0, 0, high),
            (_AND, 0, 0, value >> 32),
            (_JEQ, 0, fail + 3, second >> 32),
            (_LD, 0, 0, low),
            (_AND, 0, 0, value & 0xFFFFFFFF),
            (_JEQ, 0, fail, second & 0xFFFFFFFF),
            *body,
        ]
    top, bottom = value >> 32, value & 0xFFFFFFFF
    if operator == "EQ":
        tests: Code = [
            (_LD, 0, 0, high),
            (_JEQ, 0, fail + 2, top),
            (_LD, 0, 0, low),
            (_JEQ, 0, fail, bottom),
        ]
    elif operator == "NE":
        tests = [(_LD, 0, 0, high), (_JEQ, 0, 2, top), (_LD, 0, 0, low), (_JEQ, fail, 0, bottom)]
    elif operator in ("GT", "GE"):
        last = _JGT if operator == "GT" else _JGE
        tests = [
            (_LD, 0, 0, high),
            (_JGT, 3, 0, top),
            (_JEQ, 0, fail + 2, top),
            (_LD, 0, 0, low),
            (last, 0, fail, bottom),
        ]
    else:
        last = _JGE if operator == "LT" else _JGT
        tests = [
            (_LD, 0, 0, high),
            (_JGT, fail + 3, 0, top),
            (_JEQ, 0, 2, top),
            (_LD, 0, 0, low),
            (last, fail, 0, bottom),
        ]
    return tests + body
