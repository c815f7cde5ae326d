"""Seccomp: which program a container's profile compiles to, and under which name it is kept.

Hot: only :func:`program_key`.  Compiling (seccomp_profile.py reads the profile, bpf.py writes the
program) happens once per key; its result is a value that can be cached for ever.
"""

from __future__ import annotations

try:
    from _sha2 import sha256  # Python 3.12 and newer
except ImportError:
    from _sha256 import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GENERATOR = 1  # counts changes of what the same profile compiles to


def program_key(profile: bytes, caps: Iterable[str], arch: str, kernel: Sequence[int]) -> str:
    """Hex name of the program of PROFILE (its bytes) for these capabilities, machine and kernel."""
    words = (str(GENERATOR), arch, *map(str, kernel[:2]), *sorted(caps))
    digest = sha256(",".join(words).encode() + b"\0" + profile)
    return str(digest.hexdigest())


def compile_profile(
    profile: bytes,
    caps: Iterable[str],
    arch: str,
    kernel: Sequence[int],
    origin: str = "the default profile",
) -> bytes:
    """The program of PROFILE: ``struct sock_filter`` of eight bytes each, little endian.

    CAPS are the container's capability names, ARCH is uname's machine.  Raises UsageError, naming
    ORIGIN, for a profile that is malformed, HostError for a machine without a number table.
    """
    from . import bpf, seccomp_profile

    return bpf.assemble(seccomp_profile.load(profile, set(caps), arch, kernel, origin))
