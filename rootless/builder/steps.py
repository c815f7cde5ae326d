"""Steps: what a stage comes to when variables are replaced.  Plain values for the engine."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .instructions import Instruction


class Step:
    """One instruction, settled.

    shown    as progress names it
    history  what the image's history says of it
    """

    kind = "meta"
    __slots__ = ("history", "instruction", "shown")

    def __init__(self, instruction: Instruction, history: str = "") -> None:
        self.instruction = instruction
        self.shown = instruction.shown
        self.history = history or instruction.shown


class RunStep(Step):
    """A command to run: as USER in CWD with ENV ("K=V"); HIDDEN are variables that are not in the cache key.

    script  (name, content) of a heredoc that is executed as a file
    mounts  {"type", "target", ...}, all text, defaults filled in
    """

    kind = "run"
    __slots__ = (
        "argv",
        "cwd",
        "devices",
        "env",
        "hidden",
        "mounts",
        "network",
        "script",
        "security",
        "user",
    )

    def __init__(self, instruction: Instruction) -> None:
        super().__init__(instruction)
        self.argv: list[str] = []
        self.env: list[str] = []
        self.hidden: list[str] = []
        self.user = ""
        self.cwd = "/"
        self.mounts: list[dict[str, str]] = []
        self.network = ""
        self.security = ""
        self.devices: list[str] = []
        self.script: tuple[str, str] | None = None


class CopyStep(Step):
    """Files to copy to DEST (absolute; a "/" at its end means a directory).

    origin   "" the context, else a stage, its number, a named context or an image
    inline   (name, content) of heredocs
    unpack   archives of the context are unpacked; unpack_fetched: those of URLs are
    fetch    sources may be URLs and git repositories; keep_git_dir, checksum: what of those
    """

    kind = "copy"
    __slots__ = (
        "checksum",
        "chmod",
        "chown",
        "dest",
        "excludes",
        "fetch",
        "inline",
        "keep_git_dir",
        "link",
        "origin",
        "parents",
        "sources",
        "unpack",
        "unpack_fetched",
    )

    def __init__(self, instruction: Instruction) -> None:
        super().__init__(instruction)
        self.sources: list[str] = []
        self.inline: list[tuple[str, str]] = []
        self.dest = ""
        self.origin = ""
        self.chown = ""
        self.chmod = ""
        self.link = False
        self.parents = False
        self.excludes: list[str] = []
        self.checksum = ""
        self.keep_git_dir = False
        self.unpack = False
        self.unpack_fetched = False
        self.fetch = False


class MkdirStep(Step):
    """WORKDIR: the directory is made, as USER's, if it is not there."""

    kind = "mkdir"
    __slots__ = ("path", "user")

    def __init__(self, instruction: Instruction, path: str, user: str) -> None:
        super().__init__(instruction, f"WORKDIR {path}")
        self.path = path
        self.user = user


class Settled:
    """A stage, settled: its steps in order, the image's config after them, and the ARGs it declared."""

    __slots__ = ("args", "author", "config", "steps", "unset")

    def __init__(self, config: dict[str, Any], args: dict[str, str | None]) -> None:
        self.steps: list[Step] = []
        self.config = config
        self.args = args
        self.author = ""
        self.unset: list[tuple[Instruction, str]] = []
