"""Compiled seccomp programs: found in the cache by what they depend on, compiled once otherwise.

A custom profile is read when the container is made and kept with it, so that a later start does not
depend on a file that may have changed or gone.
"""

from __future__ import annotations

import os

from rootless.errors import UsageError
from rootless.plan import seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .context import Context

MAX_PROFILE = 4 << 20


def profile_bytes(ctx: Context, profile: str) -> bytes:
    """The profile that "builtin" or a path means; raises UsageError where it cannot be read."""
    path = f"{ctx.paths.conf}/seccomp.json" if profile in ("", "builtin") else profile
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_PROFILE + 1)
    except OSError as error:
        raise UsageError(
            f"opening seccomp profile ({path}) failed: {os.strerror(error.errno or 0).lower()}"
        ) from None
    if len(data) > MAX_PROFILE:
        raise UsageError(
            f"cannot use seccomp profile {path}: it is larger than {MAX_PROFILE} bytes"
        )
    return data


def program(ctx: Context, profile: str, caps: Sequence[str]) -> bytes:
    """The BPF program of PROFILE for these capabilities; raises UsageError, HostError."""
    data = profile_bytes(ctx, profile)
    facts = ctx.facts
    directory = f"{ctx.paths.cache}/seccomp"
    path = f"{directory}/{seccomp.program_key(data, caps, facts.arch, facts.kernel)}"
    try:
        with open(path, "rb") as file:
            found = file.read()
        if found and len(found) % 8 == 0:
            return found
    except OSError:
        pass
    found = seccomp.compile_profile(data, caps, facts.arch, facts.kernel, profile)
    os.makedirs(directory, 0o700, exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            file.write(found)
        os.rename(temporary, path)
    except OSError:
        pass  # the cache is derived: a full disk must not keep a container from starting
    return found
