"""Compiled seccomp programs: found in the cache by what they depend on, compiled once otherwise.

A custom profile is read when the container is made and kept with it, so that a later start does not
depend on a file that may have changed or gone.
"""

from __future__ import annotations

import os

from rootless.errors import UsageError
from rootless.plan import fastconnect, ownership, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Callable

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

    def compiled() -> bytes:
        return seccomp.compile_profile(data, caps, facts.arch, facts.kernel, profile)

    return _cached(ctx, seccomp.program_key(data, caps, facts.arch, facts.kernel), compiled)


def emulation(ctx: Context, caps: Sequence[str]) -> ownership.Emulation:
    """The filters of emulated ownership for these capabilities; raises HostError."""
    facts = ctx.facts

    def compiled() -> bytes:
        return ownership.compile_all(facts.arch, caps).pack()

    key = seccomp.program_key(b"ownership", caps, facts.arch, facts.kernel)
    return ownership.Emulation.unpack(_cached(ctx, key, compiled))


def fast_connect(ctx: Context) -> fastconnect.FastConnect:
    """What fast=connect loads on this machine; raises HostError."""
    facts = ctx.facts

    def compiled() -> bytes:
        return fastconnect.compile_all(facts.arch).pack()

    key = seccomp.program_key(b"fastconnect", (), facts.arch, facts.kernel)
    return fastconnect.FastConnect.unpack(_cached(ctx, key, compiled))


def _cached(ctx: Context, key: str, compiled: Callable[[], bytes]) -> bytes:
    """What is cached under KEY, or what COMPILED makes."""
    directory = f"{ctx.paths.cache}/seccomp"
    path = f"{directory}/{key}"
    try:
        with open(path, "rb") as file:
            found = file.read()
        if found and len(found) % 8 == 0:
            return found
    except OSError:
        pass
    found = compiled()
    os.makedirs(directory, 0o700, exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            file.write(found)
        os.rename(temporary, path)
    except OSError:
        pass  # the cache is derived: a full disk must not keep a container from starting
    return found
