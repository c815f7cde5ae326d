"""Typed instructions: what each line of a Dockerfile says, before variables are replaced.

Plain values.  parser.py makes them, evaluate.py gives them their meaning.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .lexer import Heredoc, Line
    from .source import Position


class Instruction:
    """What all have: the LINE they were read from."""

    keyword = ""
    __slots__ = ("line",)

    def __init__(self, line: Line) -> None:
        self.line = line

    @property
    def position(self) -> Position:
        """Where the instruction begins."""
        return self.line.position(self.line.start)

    @property
    def shown(self) -> str:
        """The instruction in one line, as progress and history name it."""
        flags = [text for text, _ in self.line.flags]
        parts = [self.keyword, *flags, " ".join(self.line.rest.split())]
        text = " ".join(part for part in parts if part)
        if self.line.heredocs and self.keyword in ("RUN", "COPY", "ADD"):
            body = " ".join(self.line.heredocs[0].text.split())
            text += f" ({body[:30]}...)" if len(body) > 33 else f" ({body})"
        return text


class From(Instruction):
    """FROM: the image, stage or scratch that a stage begins with."""

    keyword = "FROM"
    __slots__ = ("as_word", "image", "image_offset", "name", "platform")

    def __init__(self, line: Line, image: str, name: str, platform: str) -> None:
        super().__init__(line)
        self.image = image
        self.image_offset = line.offset
        self.name = name
        self.platform = platform
        self.as_word = ""


class Arg(Instruction):
    """ARG: (name, default or None, offset) of each."""

    keyword = "ARG"
    __slots__ = ("args",)

    def __init__(self, line: Line, args: Sequence[tuple[str, str | None, int]]) -> None:
        super().__init__(line)
        self.args = list(args)


class Pairs(Instruction):
    """ENV and LABEL: (name, value, offset) of each; LEGACY is the form without "="."""

    __slots__ = ("legacy", "pairs")

    def __init__(
        self, line: Line, pairs: Sequence[tuple[str, str, int]], *, legacy: bool = False
    ) -> None:
        super().__init__(line)
        self.pairs = list(pairs)
        self.legacy = legacy


class Env(Pairs):
    """ENV."""

    keyword = "ENV"
    __slots__ = ()


class Label(Pairs):
    """LABEL."""

    keyword = "LABEL"
    __slots__ = ()


class Mount:
    """RUN --mount: TYPE and the fields as written; a field without a value is "true"."""

    __slots__ = ("fields", "kind", "offset")

    def __init__(self, kind: str, fields: dict[str, str], offset: int) -> None:
        self.kind = kind
        self.fields = fields
        self.offset = offset

    def get(self, key: str, default: str = "") -> str:
        """A field's value."""
        return self.fields.get(key, default)

    def flag(self, key: str) -> bool:
        """Whether a field is there and not false."""
        return self.fields.get(key, "false").lower() not in ("false", "0")


class Words(Instruction):
    """CMD, ENTRYPOINT, SHELL: WORDS, or with SHELL one text for the shell."""

    __slots__ = ("shell", "words")

    def __init__(self, line: Line, words: Sequence[str], *, shell: bool) -> None:
        super().__init__(line)
        self.words = list(words)
        self.shell = shell


class Cmd(Words):
    """CMD."""

    keyword = "CMD"
    __slots__ = ()


class Entrypoint(Words):
    """ENTRYPOINT."""

    keyword = "ENTRYPOINT"
    __slots__ = ()


class Shell(Words):
    """SHELL."""

    keyword = "SHELL"
    __slots__ = ()


class Run(Words):
    """RUN, with its mounts and the heredocs that its command names."""

    keyword = "RUN"
    __slots__ = ("devices", "files", "mounts", "network", "security")

    def __init__(self, line: Line, words: Sequence[str], *, shell: bool) -> None:
        super().__init__(line, words, shell=shell)
        self.mounts: list[Mount] = []
        self.network = ""
        self.security = ""
        self.devices: list[str] = []
        self.files: list[Heredoc] = []


class Copy(Instruction):
    """COPY and ADD: sources (paths, URLs), heredocs among them by their word, and the destination."""

    keyword = "COPY"
    __slots__ = (
        "checksum",
        "chmod",
        "chown",
        "dest",
        "excludes",
        "inline",
        "keep_git_dir",
        "link",
        "offsets",
        "origin",
        "parents",
        "sources",
        "unpack",
    )

    def __init__(self, line: Line, sources: Sequence[str], dest: str) -> None:
        super().__init__(line)
        self.sources = list(sources)
        self.offsets: dict[str, int] = {}
        self.dest = dest
        self.inline: list[Heredoc] = []
        self.origin = ""
        self.chown = ""
        self.chmod = ""
        self.link = False
        self.parents = False
        self.excludes: list[str] = []
        self.checksum = ""
        self.keep_git_dir = False
        self.unpack: bool | None = None


class Add(Copy):
    """ADD: what COPY does, and archives unpacked, URLs fetched."""

    keyword = "ADD"
    __slots__ = ()


class Text(Instruction):
    """Instructions with one text: WORKDIR, USER, STOPSIGNAL, MAINTAINER."""

    __slots__ = ("text",)

    def __init__(self, line: Line, text: str) -> None:
        super().__init__(line)
        self.text = text


class Workdir(Text):
    """WORKDIR."""

    keyword = "WORKDIR"
    __slots__ = ()


class User(Text):
    """USER."""

    keyword = "USER"
    __slots__ = ()


class Stopsignal(Text):
    """STOPSIGNAL."""

    keyword = "STOPSIGNAL"
    __slots__ = ()


class Maintainer(Text):
    """MAINTAINER, deprecated: the image's author."""

    keyword = "MAINTAINER"
    __slots__ = ()


class List(Instruction):
    """EXPOSE and VOLUME: several texts."""

    __slots__ = ("texts",)

    def __init__(self, line: Line, texts: Sequence[str]) -> None:
        super().__init__(line)
        self.texts = list(texts)


class Expose(List):
    """EXPOSE."""

    keyword = "EXPOSE"
    __slots__ = ()


class Volume(List):
    """VOLUME."""

    keyword = "VOLUME"
    __slots__ = ()


class Healthcheck(Words):
    """HEALTHCHECK: OPTIONS as in an image's config, in nanoseconds; without WORDS it is NONE."""

    keyword = "HEALTHCHECK"
    __slots__ = ("options",)

    def __init__(self, line: Line, words: Sequence[str], *, shell: bool) -> None:
        super().__init__(line, words, shell=shell)
        self.options: dict[str, Any] = {}


class Onbuild(Instruction):
    """ONBUILD: the text of an instruction for images built on this one."""

    keyword = "ONBUILD"
    __slots__ = ("text",)

    def __init__(self, line: Line, text: str) -> None:
        super().__init__(line)
        self.text = text
