"""From logical lines to stages of typed instructions; what is wrong without a base image is told here.

Pure.  Phrases of errors follow BuildKit's where scripts may know them.
"""

from __future__ import annotations

import re

from rootless import jsonc

from . import instructions as ins
from . import words
from .flags import Flags, mount_of
from .lexer import Lexed, heredoc_of, lex
from .source import Source, nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from .lexer import Line

    Make = Callable[["Line", str], ins.Instruction]

_STAGE = re.compile(r"[a-z][a-z0-9-_.]*$")
_BLANK = " \t\v\f\r\n"


class Stage:
    """One FROM and what follows; NAME is in lower case, "" for none."""

    __slots__ = ("index", "instructions", "start")

    def __init__(self, index: int, start: ins.From) -> None:
        self.index = index
        self.start = start
        self.instructions: list[ins.Instruction] = []

    @property
    def name(self) -> str:
        """The name after AS."""
        return self.start.name.lower()

    @property
    def title(self) -> str:
        """How messages call the stage."""
        return self.name or f"stage-{self.index}"


class Dockerfile:
    """A whole file: ARGs before the first FROM, and stages; IGNORED are the patterns of its ignore file."""

    __slots__ = ("args", "ignored", "lexed", "source", "stages")

    def __init__(self, lexed: Lexed) -> None:
        self.lexed = lexed
        self.source = lexed.source
        self.args: list[ins.Arg] = []
        self.stages: list[Stage] = []
        self.ignored: list[str] = []

    @property
    def escape(self) -> str:
        """The escape character."""
        return self.lexed.escape


def parse(text: str, name: str = "Dockerfile") -> Dockerfile:
    """The file TEXT, called NAME in messages; raises DockerfileError."""
    source = Source(text, name)
    file = Dockerfile(lex(source))
    if not file.lexed.lines:
        from .source import Position

        raise source.error(Position(1), "file with no instructions")
    for line in file.lexed.lines:
        found = instruction(line, file.escape)
        if isinstance(found, ins.From):
            file.stages.append(Stage(len(file.stages), found))
        elif file.stages:
            file.stages[-1].instructions.append(found)
        elif isinstance(found, ins.Arg):
            file.args.append(found)
        else:
            raise line.error("no build stage in current context", hint="begin with FROM")
    if not file.stages:
        raise file.lexed.lines[-1].error("no build stage in current context", hint="add a FROM")
    return file


def trigger(text: str) -> ins.Instruction:
    """The instruction that an image's ONBUILD holds; raises DockerfileError."""
    lexed = lex(Source(text, "ONBUILD"))
    if len(lexed.lines) != 1:
        from .source import Position

        raise lexed.source.error(Position(1), f"cannot read ONBUILD trigger {text!r}")
    return instruction(lexed.lines[0], lexed.escape)


def instruction(line: Line, escape: str = "\\") -> ins.Instruction:
    """What LINE says; raises DockerfileError."""
    make = _MAKERS.get(line.keyword.upper())
    if make is None:
        close = nearest(line.keyword.upper(), sorted(_MAKERS))
        hint = f" (did you mean {close}?)" if close else ""
        raise line.error(f"unknown instruction: {line.keyword}{hint}")
    if not line.rest and line.keyword.upper() not in ("CMD", "ENTRYPOINT", "RUN"):
        raise line.error(f"{line.keyword.upper()} requires at least one argument")
    return make(line, escape)


# forms


def _json(line: Line) -> list[str] | None:
    """The JSON form's words, or None where the line has it not; raises for a list of other things."""
    if not line.rest.startswith("["):
        return None
    try:
        found = jsonc.loads(line.rest)
    except ValueError:
        return None
    if not isinstance(found, list):
        return None
    if not all(isinstance(one, str) for one in found):
        raise line.error(
            "when using JSON array syntax, arrays must be comprised of strings only", line.offset
        )
    return found


def _words(line: Line) -> list[str]:
    """JSON form, else words parted by blanks."""
    found = _json(line)
    return line.rest.split() if found is None else found


def _command(line: Line) -> tuple[list[str], bool]:
    """(words, False) of the JSON form, or (one text, True)."""
    found = _json(line)
    if found is not None:
        return found, False
    return ([line.rest] if line.rest else []), True


def _pairs(line: Line, escape: str) -> tuple[list[tuple[str, str, int]], bool]:
    keyword = line.keyword.upper()
    found = words.parse_words(line.rest, escape)
    if "=" not in found[0][0]:
        parts = line.rest.split(None, 1)
        if len(parts) < 2:
            raise line.error(f"{keyword} must have two arguments", line.offset)
        return [(parts[0], parts[1], line.offset + line.rest.index(parts[1], len(parts[0])))], True
    pairs = []
    for word, offset in found:
        name, equals, value = word.partition("=")
        if not equals:
            raise line.error(
                f"syntax error - can't find = in {word!r}: must be of the form: name=value",
                line.offset + offset,
            )
        if not name:
            raise line.error(f"{keyword} names can not be blank", line.offset + offset)
        pairs.append((name, value, line.offset + offset))
    return pairs, False


def _no_flags(line: Line) -> None:
    Flags(line).done()


# instructions


def _from(line: Line, _: str) -> ins.From:
    flags = Flags(line)
    platform = flags.text("platform")
    flags.done()
    parts = line.rest.split()
    name = as_word = ""
    if len(parts) == 3 and parts[1].lower() == "as":
        as_word, name = parts[1], parts[2]
        if not _STAGE.match(name.lower()):
            raise line.error(
                f"invalid name for build stage: {name!r}, name can't start with a number or contain symbols",
                line.offset + line.rest.rindex(name),
            )
    elif len(parts) != 1:
        raise line.error("FROM requires either one or three arguments", line.offset)
    found = ins.From(line, parts[0], name, platform)
    found.as_word = as_word
    return found


def _arg(line: Line, escape: str) -> ins.Arg:
    _no_flags(line)
    found: list[tuple[str, str | None, int]] = []
    for word, offset in words.parse_words(line.rest, escape):
        name, equals, value = word.partition("=")
        if not name:
            raise line.error("ARG names can not be blank", line.offset + offset)
        found.append((name, value if equals else None, line.offset + offset))
    return ins.Arg(line, found)


def _env(line: Line, escape: str) -> ins.Env:
    _no_flags(line)
    pairs, legacy = _pairs(line, escape)
    return ins.Env(line, pairs, legacy=legacy)


def _label(line: Line, escape: str) -> ins.Label:
    _no_flags(line)
    pairs, legacy = _pairs(line, escape)
    return ins.Label(line, pairs, legacy=legacy)


def _run(line: Line, _: str) -> ins.Run:
    flags = Flags(line)
    mounts = [mount_of(line, text, offset) for text, offset in flags.every("mount")]
    network = flags.choice("network", ("default", "none", "host"))
    security = flags.choice("security", ("sandbox", "insecure"))
    devices = [text for text, _ in flags.every("device")]
    flags.done()
    found, shell = _command(line)
    if not found or not found[0]:
        raise line.error("RUN requires at least one argument")
    run = ins.Run(line, found, shell=shell)
    run.mounts, run.network, run.security, run.devices = mounts, network, security, devices
    run.files = list(line.heredocs)
    if run.files and not shell:
        raise line.error("a heredoc needs the shell form of RUN", line.offset)
    return run


def _copy(line: Line, _: str) -> ins.Copy:
    return _copying(line, ins.Copy)


def _add(line: Line, _: str) -> ins.Copy:
    return _copying(line, ins.Add)


def _copying(line: Line, kind: type[ins.Copy]) -> ins.Copy:
    flags = Flags(line)
    made = kind(line, [], "")
    made.chown = flags.text("chown")
    made.chmod = flags.text("chmod")
    made.link = flags.boolean("link") is True
    made.excludes = [text for text, _ in flags.every("exclude")]
    if kind is ins.Add:
        made.checksum = flags.text("checksum")
        made.keep_git_dir = flags.boolean("keep-git-dir") is True
        made.unpack = flags.boolean("unpack")
    else:
        made.origin = flags.text("from")
        made.parents = flags.boolean("parents") is True
    flags.done()
    found = _words(line)
    if len(found) < 2:
        raise line.error(
            f"{kind.keyword} requires at least two arguments, but only one was provided: "
            "destination could not be determined",
            line.offset,
        )
    made.dest = found[-1]
    bodies = list(line.heredocs)
    at = line.offset
    for word in found[:-1]:
        at = max(at, line.text.find(word, at))
        made.offsets.setdefault(word, at)
        if bodies and heredoc_of(word, line) is not None:
            made.inline.append(bodies.pop(0))
        else:
            made.sources.append(word)
    if made.inline and made.origin:
        raise line.error("a heredoc cannot be copied --from elsewhere", line.offset)
    return made


def _cmd(line: Line, _: str) -> ins.Cmd:
    _no_flags(line)
    found, shell = _command(line)
    return ins.Cmd(line, found, shell=shell)


def _entrypoint(line: Line, _: str) -> ins.Entrypoint:
    _no_flags(line)
    found, shell = _command(line)
    return ins.Entrypoint(line, found, shell=shell)


def _shell(line: Line, _: str) -> ins.Shell:
    _no_flags(line)
    found = _json(line)
    if not found:
        raise line.error("SHELL requires the arguments to be in JSON form", line.offset)
    return ins.Shell(line, found, shell=False)


def _text(kind: type[ins.Text]) -> Make:
    def make(line: Line, _: str) -> ins.Instruction:
        _no_flags(line)
        return kind(line, line.rest)

    return make


def _one_word(kind: type[ins.Text]) -> Make:
    def make(line: Line, escape: str) -> ins.Instruction:
        _no_flags(line)
        if kind is ins.Stopsignal and len(words.parse_words(line.rest, escape)) != 1:
            raise line.error("STOPSIGNAL requires exactly one argument", line.offset)
        return kind(line, line.rest)

    return make


def _expose(line: Line, _: str) -> ins.Expose:
    _no_flags(line)
    return ins.Expose(line, line.rest.split())


def _volume(line: Line, _: str) -> ins.Volume:
    _no_flags(line)
    found = _words(line)
    if not found:
        raise line.error("VOLUME requires at least one argument", line.offset)
    if not all(one.strip() for one in found):
        raise line.error("VOLUME specified can not be an empty string", line.offset)
    return ins.Volume(line, found)


_TIMES = (
    ("interval", "Interval"),
    ("timeout", "Timeout"),
    ("start-period", "StartPeriod"),
    ("start-interval", "StartInterval"),
)


def _healthcheck(line: Line, _: str) -> ins.Healthcheck:
    word, _, rest = line.rest.partition(" ")
    kind = word.upper()
    if kind not in ("NONE", "CMD"):
        raise line.error(f"unknown type {word!r} in HEALTHCHECK (try CMD)", line.offset)
    flags = Flags(line)
    options: dict[str, Any] = {}
    for name, key in _TIMES:
        value = flags.duration(name)
        if value:
            options[key] = value
    retries = flags.number("retries")
    if retries:
        options["Retries"] = retries
    flags.done()
    if kind == "NONE":
        if rest.strip() or options:
            raise line.error("HEALTHCHECK NONE takes no arguments", line.offset)
        return ins.Healthcheck(line, [], shell=False)
    inner = line.within(line.offset)
    if inner.flags:
        raise line.error("HEALTHCHECK options come before CMD", inner.flags[0][1])
    found, shell = _command(inner)
    if not found:
        raise line.error("missing command after HEALTHCHECK CMD", line.offset)
    made = ins.Healthcheck(line, found, shell=shell)
    made.options = options
    return made


def _onbuild(line: Line, escape: str) -> ins.Onbuild:
    _no_flags(line)
    inner = line.within(line.offset)
    keyword = inner.keyword.upper()
    if keyword == "ONBUILD":
        raise line.error("chaining ONBUILD via ONBUILD ONBUILD isn't allowed", line.offset)
    if keyword in ("FROM", "MAINTAINER"):
        raise line.error(f"{keyword} isn't allowed as an ONBUILD trigger", line.offset)
    instruction(inner, escape)
    text = line.rest
    for heredoc in line.heredocs:
        text += f"\n{heredoc.content}{heredoc.name}"
    return ins.Onbuild(line, text)


_MAKERS: dict[str, Make] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _text(ins.Maintainer),
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _one_word(ins.Stopsignal),
    "USER": _text(ins.User),
    "VOLUME": _volume,
    "WORKDIR": _text(ins.Workdir),
}
KEYWORDS = tuple(sorted(_MAKERS))
