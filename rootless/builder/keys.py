"""Cache keys: what a step's result depends on, and nothing else.

Pure.  A key is the digest of the key it is built on and of the step's own definition.  Metadata
(ENV, LABEL, CMD ...) has no key: it reaches a RUN through the environment, user, directory and shell that the
RUN has.  Not in a key: times of files, owners in the context, contents of secrets, SSH agents and cache
mounts, proxy variables, and how a step is displayed.
"""

from __future__ import annotations

import hashlib

from rootless import jsonc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .steps import CopyStep, MkdirStep, RunStep

VERSION = 1
EMPTY = hashlib.sha256(b"scratch").hexdigest()


def _key(*parts: Any) -> str:
    text = jsonc.dumps([VERSION, *parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def of_image(diff_ids: Sequence[str], platform: str) -> str:
    """What is built on an image: its layers, not its config, name or time."""
    return _key("image", list(diff_ids), platform) if diff_ids else EMPTY


def of_run(parent: str, step: RunStep, mounts: Sequence[str], epoch: str, setting: str = "") -> str:
    """A command; MOUNTS are digests of what its bind mounts show, SETTING how it runs beside its flags."""
    return _key(
        "run",
        parent,
        step.argv,
        sorted(step.env),
        step.user,
        step.cwd,
        step.mounts,
        list(mounts),
        step.network,
        step.script,
        epoch,
        setting,
    )


def of_copy(parent: str, step: CopyStep, content: str, epoch: str) -> str:
    """Copied files: CONTENT is their digest; with --link it does not matter what they are copied onto."""
    return _key(
        "copy",
        EMPTY if step.link else parent,
        step.sources,
        step.inline,
        content,
        step.dest,
        step.chown,
        step.chmod,
        step.excludes,
        [step.link, step.parents, step.unpack],
        epoch,
    )


def of_content(layers: Sequence[str], step: CopyStep) -> str:
    """What a step chooses of a stage or image that has these LAYERS (diff IDs)."""
    return _key("content", list(layers), step.sources, step.excludes, step.parents)


def of_mkdir(parent: str, step: MkdirStep, epoch: str) -> str:
    """A working directory."""
    return _key("mkdir", parent, step.path, step.user, epoch)
