"""Hints about what a container will most likely stumble over, given once.

A directory of the caller's, mounted writable, belongs in the container to root; a container that runs as
another user cannot write there, which people meet as a bare "permission denied".  --userns keep-id is the
answer.  Not on the path of a command without such a mount.
"""

from __future__ import annotations

import os
import stat

from rootless.linux import inroot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from rootless.plan.request import RunRequest

    from .context import Context

_MAX_FILE = 1 << 20


def on_mounts(ctx: Context, record: Mapping[str, Any], request: RunRequest) -> list[str]:
    """One line for each mount that the container's user cannot write to, never twice for a directory."""
    if ctx.settings.get("run.advice") == "none" or ctx.facts.id_rung == "single":
        return []
    user = request.user or str(record["image_config"].get("user") or "")
    name, _, group = user.partition(":")
    if name in ("", "0", "root"):
        return []
    found = []
    ids: tuple[int, int] | None = None
    for mount in request.mounts:
        if mount.type != "bind" or mount.readonly:
            continue
        info = _only_ours(ctx, mount.source)
        if info is None or not _first_time(ctx, mount.source):
            continue
        if ids is None:
            ids = _ids(_lowers(ctx, record), name, group)
        if ids[0] == 0 or (ids[1] == 0 and _group_writes(ctx, info)):
            continue
        found.append(_sentence(ctx, mount.destination, mount.source, user, ids))
    return found


def _sentence(ctx: Context, target: str, source: str, user: str, ids: tuple[int, int]) -> str:
    mode = "keep-id"
    if ids[0] > 0 and ids != (ctx.facts.uid, ctx.facts.gid):
        mode += f":uid={ids[0]},gid={max(ids[1], 0)}"
    return (
        f"{source} is yours, and user {user} of the container cannot write to it at {target}: "
        f"--userns {mode} makes that user you (this is said once for this directory)"
    )


def _only_ours(ctx: Context, path: str) -> os.stat_result | None:
    """What PATH is, if it belongs to the caller and not everybody may write there."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    ours = info.st_uid == ctx.facts.uid and info.st_mode & 0o202 == 0o200
    return info if ours else None


def _group_writes(ctx: Context, info: os.stat_result) -> bool:
    """Whether the caller's group, which is the container's group 0, may write there."""
    return info.st_gid == ctx.facts.gid and bool(info.st_mode & 0o020)


def _first_time(ctx: Context, path: str) -> bool:
    from hashlib import sha256

    name = sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:24]
    directory = f"{ctx.paths.cache}/advice"
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        os.close(os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError:  # it was said, or cannot be remembered
        return False
    return True


def _lowers(ctx: Context, record: Mapping[str, Any]) -> list[str]:
    if not record["layers"]:
        return []
    layers = ctx.layers_of(record)
    return [layers.path(diff_id) for diff_id in reversed(record["layers"])]


def _ids(lowers: Sequence[str], name: str, group: str) -> tuple[int, int]:
    """(uid, gid) of a user as the image has it; -1 for what it does not say."""
    line = _line(lowers, b"etc/passwd", name)
    uid = int(line[2]) if line else int(name) if name.isdecimal() else -1
    gid = int(line[3]) if line else 0 if uid >= 0 else -1
    if group:
        line = _line(lowers, b"etc/group", group)
        gid = int(line[2]) if line else int(group) if group.isdecimal() else -1
    return uid, gid


def _line(lowers: Sequence[str], path: bytes, wanted: str) -> list[str]:
    """The words of the line about WANTED, a name or an ID, in the topmost layer that has the file."""
    for lower in lowers:
        text = _text(lower, path)
        for line in text.split("\n") if text is not None else ():
            words = line.split(":")
            numbers = words[2:4] if path == b"etc/passwd" else words[2:3]
            if (
                len(words) > 3
                and wanted in (words[0], words[2])
                and all(map(str.isdecimal, numbers))
            ):
                return words
        if text is not None:
            return []
    return []


def _text(lower: str, path: bytes) -> str | None:
    try:
        root = os.open(lower, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fd = inroot.open_path(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    finally:
        os.close(root)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return file.read(_MAX_FILE).decode("utf-8", "replace")
