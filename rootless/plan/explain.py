"""A plan in words: what --explain prints.

One line per operation, ``NN name argument=value ...`` with the names of the tape's own table, so that the
text reads like the launcher's errors ("op 17: mount ...").  Reached only by --explain and by failures.
"""

from __future__ import annotations

import hashlib

from rootless import jsonc

from . import mounts, namespaces, tape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from .spec import Spec
    from .tape import Op

_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:@,%")
_ARGUMENTS = {name: arguments.split() for name, _, _, arguments, _ in tape.OPS}
_MOUNT_FLAGS = {
    set_bits: word for word, (set_bits, clear) in mounts.FLAGS.items() if set_bits and not clear
}
_MOUNT_FLAGS.update({mounts.MS_BIND: "bind", mounts.MS_REC: "rec"})
_MOUNT_FLAGS.update({mounts.PROPAGATION[w]: w for w in ("private", "slave", "shared")})
_ATTRIBUTES = {1: "ro", 2: "nosuid", 4: "nodev", 8: "noexec", 16: "noatime", 32: "strictatime"}
_NAMESPACES = {bit: name for name, bit in namespaces.FLAGS.items()}
# (operation, argument) -> names of its bits
_BITS = {
    ("join_fd", "nstype"): _NAMESPACES,
    ("join_path", "nstype"): _NAMESPACES,
    ("join_proc", "nstypes"): _NAMESPACES,
    ("clone", "flags"): _NAMESPACES,
    ("unshare", "flags"): _NAMESPACES,
    ("propagation", "flags"): _MOUNT_FLAGS,
    ("mount", "flags"): _MOUNT_FLAGS,
    ("mount", "opflags"): {1: "mkdir", 2: "optional", 4: "or-empty"},
    ("bind", "flags"): _MOUNT_FLAGS,
    ("bind", "propagation"): _MOUNT_FLAGS,
    ("bind", "set"): _ATTRIBUTES,
    ("bind", "clear"): _ATTRIBUTES,
    ("bind", "opflags"): {1: "mkdir", 2: "optional", 8: "recursive", 16: "in-root"},
    ("bind_below", "flags"): _MOUNT_FLAGS,
    ("bind_below", "propagation"): _MOUNT_FLAGS,
    ("bind_below", "set"): _ATTRIBUTES,
    ("bind_below", "clear"): _ATTRIBUTES,
    ("bind_below", "opflags"): {1: "mkdir", 2: "optional", 8: "recursive"},
    ("remount", "set"): _ATTRIBUTES,
    ("remount", "clear"): _ATTRIBUTES,
}
_OCTAL = ("mode", "mask")
_REPLAY = (
    "nothing was run; the same tape is played by: launch TAPE_FD STATUS_FD "
    "(man 5 rootless-tape), with the realm's user namespace as descriptor 5\n"
)


def explain(spec: Spec, ops: Sequence[Op]) -> str:
    """The spec as indented JSON, the operations one per line, and how they would be played."""
    return indented(spec) + "\n\n" + describe(ops) + "\n" + _REPLAY


def describe(ops: Iterable[Op]) -> str:
    """The operations, one numbered line each, counted from 0 as the launcher counts."""
    return "".join(f"{index:02d} {describe_op(op)}\n" for index, op in enumerate(ops))


def describe_op(op: Op) -> str:
    """One operation: its name and its arguments by name."""
    name, values = op
    words = [name]
    for argument, value in zip(_ARGUMENTS[name], values):
        words.append(f"{argument}={_value(name, argument, value)}")
    return " ".join(words)


def _value(name: str, argument: str, value: Any) -> str:
    if isinstance(value, bytes):
        if name in ("seccomp", "emulate", "trap_connect"):
            return f"{len(value) // 8} instructions, sha256 {hashlib.sha256(value).hexdigest()}"
        if name == "affinity":
            number = int.from_bytes(value, "little")
            return ",".join(str(cpu) for cpu in range(number.bit_length()) if number >> cpu & 1)
        if name == "cgroup_scope":
            return f"{len(value)} bytes, sha256 {hashlib.sha256(value).hexdigest()}"
        if name in ("supervise", "connect_beside"):
            return f"{len(value) // 16} calls"
        return _quote(value.decode("utf-8", "backslashreplace"))
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, int):
        if (name, argument) in _BITS:
            return _bits(value, _BITS[name, argument])
        if argument in _OCTAL:
            return f"{value:04o}"
        return f"{value:#x}" if name == "caps" else str(value)
    return "[" + " ".join(_quote(word) for word in value) + "]"


def _quote(text: str) -> str:
    if text and _SAFE.issuperset(text):
        return text
    return jsonc.dumps(text)


def _bits(value: int, names: dict[int, str]) -> str:
    words, rest = [], value
    for bit, word in names.items():
        if rest & bit == bit:
            words.append(word)
            rest &= ~bit
    if rest or not words:
        words.append(f"{rest:#x}" if rest else "0")
    return "|".join(words)


def indented(value: Any, margin: str = "") -> str:
    """VALUE as JSON, two spaces per level; a list of plain values stays on one line."""
    inner = margin + "  "
    if isinstance(value, dict) and value:
        parts = [f"{inner}{jsonc.dumps(key)}: {indented(v, inner)}" for key, v in value.items()]
        return "{\n" + ",\n".join(parts) + f"\n{margin}}}"
    if isinstance(value, (list, tuple)) and any(isinstance(v, (dict, list)) for v in value):
        if all(isinstance(v, dict) and len(v) < 5 for v in value):
            parts = [inner + jsonc.dumps(v, compact=False) for v in value]
        else:
            parts = [inner + indented(v, inner) for v in value]
        return "[\n" + ",\n".join(parts) + f"\n{margin}]"
    return jsonc.dumps(value, compact=False)
