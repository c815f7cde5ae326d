"""Resource limits (--ulimit): names, numbers, checks.

Without root a hard limit can be lowered and not raised.  What is above the caller's hard limit is left
as it was asked for, and the launch fails with the limit's name (EPERM) instead of giving less in silence.
"""

from __future__ import annotations

from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# Numbers of asm-generic/resource.h (x86, arm, ppc, s390, riscv).
_WORDS = (
    "cpu fsize data stack core rss nproc nofile memlock as locks sigpending msgqueue nice rtprio"
)
_WORDS += " rttime"
NUMBERS = {name: number for number, name in enumerate(_WORDS.split())}
INFINITY = (1 << 64) - 1


def for_spec(limits: Iterable[tuple[str, int, int]]) -> list[dict[str, Any]]:
    """The runtime spec's process.rlimits; the last of a name counts.  Raises UsageError."""
    result: dict[str, dict[str, Any]] = {}
    for name, soft, hard in limits:
        if name not in NUMBERS or name == "as":
            raise UsageError(f"invalid ulimit type: {name}")
        if soft < -1 or hard < -1:
            raise UsageError(f"invalid ulimit {name}={soft}:{hard}: a limit cannot be negative")
        if hard != -1 and (soft == -1 or soft > hard):
            raise UsageError(
                f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
            )
        result[name] = {
            "type": f"RLIMIT_{name.upper()}",
            "soft": INFINITY if soft == -1 else soft,
            "hard": INFINITY if hard == -1 else hard,
        }
    return list(result.values())


def number(kind: str) -> int:
    """The number of a limit that the spec names RLIMIT_X; raises UsageError."""
    name = kind[len("RLIMIT_") :].lower() if kind.startswith("RLIMIT_") else ""
    if name not in NUMBERS:
        raise UsageError(f"invalid ulimit type: {kind}")
    return NUMBERS[name]


def value(limit: int) -> int:
    """A limit as the tape holds it: -1 for infinity."""
    return -1 if limit >= 1 << 63 else limit
