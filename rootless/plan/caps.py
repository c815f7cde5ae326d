"""Capabilities: names, Docker's default set, --cap-add and --cap-drop.

Owns the vocabulary (bit = position in NAMES).  Sets are bounded by what the running kernel knows
(facts.kernel): a bit that it does not know would be a promise not kept.
"""

from __future__ import annotations

from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# In bit order, linux/capability.h.
_WORDS = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO "
    "SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME "
    "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG "
    "WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
NAMES: tuple[str, ...] = tuple("CAP_" + word for word in _WORDS.split())
BITS = {name: bit for bit, name in enumerate(NAMES)}

_DEFAULT_WORDS = (
    "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW "
    "SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP"
)
DEFAULT: tuple[str, ...] = tuple("CAP_" + word for word in _DEFAULT_WORDS.split())


def known(kernel: Sequence[int]) -> tuple[str, ...]:
    """Names of the capabilities that a kernel (major, minor, ...) has."""
    version = tuple(kernel[:2])
    if version >= (5, 9):
        return NAMES  # CAP_CHECKPOINT_RESTORE, 40
    if version >= (5, 8):
        return NAMES[:40]  # CAP_BPF, 39
    return NAMES[:38]  # CAP_AUDIT_READ, 37, since 3.16


def normalize(word: str) -> str:
    """CAP_NAME for a name with or without the prefix in any case, "ALL" for all; raises UsageError."""
    name = word.strip().upper()
    if name in ("ALL", "CAP_ALL"):
        return "ALL"
    full = name if name.startswith("CAP_") else "CAP_" + name
    if full not in BITS:
        raise UsageError(f'invalid capability: "{word}"')
    return full


def select(
    add: Iterable[str], drop: Iterable[str], *, privileged: bool, kernel: Sequence[int]
) -> list[str]:
    """The capability names of a container, in bit order.

    ALL among the added: all that the kernel has but the dropped; ALL among the dropped: just the
    added; else the default set, less the dropped, plus the added.  Raises UsageError for a name that
    is none, or that this kernel lacks.
    """
    added, dropped = [normalize(word) for word in add], [normalize(word) for word in drop]
    available = known(kernel)
    for name in added:
        if name != "ALL" and name not in available:
            release = ".".join(map(str, kernel[:2]))
            raise UsageError(f"cannot add capability {name}: kernel {release} does not have it")
    if privileged:
        return list(available)
    if "ALL" in added:
        wanted = {name for name in available if name not in dropped}
    elif "ALL" in dropped:
        wanted = set(added)
    else:
        wanted = {name for name in DEFAULT if name not in dropped} | set(added)
    return [name for name in available if name in wanted]


def mask(names: Iterable[str]) -> int:
    """The bit set of capability names; raises UsageError for one that is none."""
    bits = 0
    for name in names:
        full = normalize(name)
        bits |= (1 << len(NAMES)) - 1 if full == "ALL" else 1 << BITS[full]
    return bits
