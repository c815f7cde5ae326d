"""Build checks: remarks on a Dockerfile that builds, under the names that Docker's documentation gives them.

Pure.  ``# check=skip=NAME,...;error=true`` in the file, or the build argument BUILDKIT_DOCKERFILE_CHECK, says
which are left out ("all" for every one) and whether a remark is an error.
"""

from __future__ import annotations

import posixpath
import re

from . import evaluate, graph
from . import instructions as ins
from .source import Position, nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .parser import Dockerfile, Stage
    from .steps import Settled

    Rule = Callable[["Subject"], Iterator[tuple["ins.Instruction", int, str]]]

_SECRET = re.compile(
    r"(?:^|_)(apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)",
    re.I,
)
_NOT_SECRET = re.compile(r"(?:^|_)(public)(?:_|$)", re.I)
_RESERVED = ("context", "scratch")
EXPERIMENTAL = ("InvalidDefinitionDescription",)


class Settings:
    """What a file says of its checks."""

    __slots__ = ("error", "experimental", "skip")

    def __init__(self, text: str) -> None:
        self.skip: set[str] = set()
        self.experimental: set[str] = set()
        self.error = False
        for part in text.split(";"):
            key, _, value = part.strip().partition("=")
            words = {word.strip() for word in value.split(",")}
            if key == "skip":
                self.skip |= words
            elif key == "experimental":
                self.experimental |= words
            elif key == "error":
                self.error = value.strip().lower() in ("true", "1")


class Remark:
    """What a RULE has to say at a place."""

    __slots__ = ("excerpt", "message", "position", "rule")

    def __init__(self, rule: str, message: str, position: Position, excerpt: str) -> None:
        self.rule = rule
        self.message = message
        self.position = position
        self.excerpt = excerpt


class Subject:
    """The file under examination, and the variables that FROM lines see."""

    def __init__(self, file: Dockerfile, build_args: Mapping[str, str]) -> None:
        self.file = file
        self.build_args = build_args

    def every(self) -> Iterator[ins.Instruction]:
        """All instructions, FROM included, in order."""
        yield from self.file.args
        for stage in self.file.stages:
            yield stage.start
            yield from stage.instructions


def settings(file: Dockerfile, build_args: Mapping[str, str] | None = None) -> Settings:
    """The file's settings; a build argument replaces them."""
    given = (build_args or {}).get("BUILDKIT_DOCKERFILE_CHECK")
    return Settings(file.lexed.directives.get("check", ("", 0))[0] if given is None else given)


def check(file: Dockerfile, build_args: Mapping[str, str] | None = None) -> list[Remark]:
    """All remarks, in the order of the file."""
    build_args = build_args or {}
    chosen = settings(file, build_args)
    subject = Subject(file, build_args)
    found = []
    for name, rule in RULES.items():
        if name in chosen.skip or "all" in chosen.skip:
            continue
        if name in EXPERIMENTAL and not chosen.experimental & {name, "all"}:
            continue
        for one, offset, message in rule(subject):
            position = one.line.position(offset)
            excerpt = file.source.excerpt(position)
            found.append(Remark(name, message, position, excerpt))
    return sorted(found, key=lambda one: (one.position.line, one.position.column, one.rule))


# rules: (instruction, offset, message)


def _stage_name_casing(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    for stage in subject.file.stages:
        name = stage.start.name
        if name != name.lower():
            yield stage.start, stage.start.line.start, f"Stage name '{name}' should be lowercase"


def _from_as_casing(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    for stage in subject.file.stages:
        start = stage.start
        word, keyword = start.as_word, start.line.keyword
        if word and (word.isupper(), word.islower()) != (keyword.isupper(), keyword.islower()):
            message = f"'{word}' and '{keyword}' keywords' casing do not match"
            yield start, start.line.start, message


def _no_empty_continuation(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    for one in subject.every():
        if one.line.empty:
            yield one, len(one.line.text), "Empty continuation line"


def _consistent_casing(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    words = [one.line.keyword for one in subject.every()]
    upper = sum(word.isupper() for word in words)
    lower = sum(word.islower() for word in words)
    wanted = "uppercase" if upper >= lower else "lowercase"
    for one in subject.every():
        word = one.line.keyword
        if word != (word.upper() if wanted == "uppercase" else word.lower()):
            message = f"Command '{word}' should match the case of the command majority ({wanted})"
            yield one, one.line.start, message


def _duplicate_stage_name(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    seen: set[str] = set()
    for stage in subject.file.stages:
        if stage.name and stage.name in seen:
            message = f"Duplicate stage name '{stage.start.name}', stage names should be unique"
            yield stage.start, stage.start.line.start, message
        seen.add(stage.name)


def _reserved_stage_name(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    for stage in subject.file.stages:
        if stage.name in _RESERVED:
            message = f"Stage name should not use the same name as reserved stage '{stage.name}'"
            yield stage.start, stage.start.line.start, message


def _json_args_recommended(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    for stage in subject.file.stages:
        if any(isinstance(one, ins.Shell) for one in stage.instructions):
            continue
        for one in stage.instructions:
            if isinstance(one, (ins.Cmd, ins.Entrypoint)) and one.shell and one.words:
                message = (
                    f"JSON arguments recommended for {one.keyword} to prevent unintended behavior "
                    "related to OS signals"
                )
                yield one, one.line.start, message


def _maintainer_deprecated(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    for one in subject.every():
        if isinstance(one, ins.Maintainer):
            message = "Maintainer instruction is deprecated in favor of using label"
            yield one, one.line.start, message


def _undefined_arg_in_from(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    declared = {name for one in subject.file.args for name, _, _ in one.args}
    declared |= set(evaluate.platform_args("linux/amd64"))
    for stage in subject.file.stages:
        start = stage.start
        unset: set[str] = set()
        for text in (start.image, start.platform):
            _expand(text, {}, unset)
        for name in sorted(unset - declared):
            close = nearest(name, sorted(declared))
            hint = f" (did you mean {close}?)" if close else ""
            yield start, start.line.start, f"FROM argument '{name}' is not declared{hint}"


def _expand(text: str, env: Mapping[str, str], unset: set[str]) -> str:
    from . import words

    try:
        return words.process_word(text, env, unset=unset)
    except words.WordError:
        return ""


def _settled(subject: Subject) -> Iterator[tuple[Stage, Settled]]:
    """Each stage that stands on no image (whose variables nobody knows here), settled."""
    from rootless.errors import RootlessError

    scope = evaluate.Scope(subject.file, subject.build_args, evaluate.platform_args("linux/amd64"))
    try:
        stages = graph.Graph(subject.file, scope)
    except RootlessError:
        return
    done: dict[int, Settled] = {}
    for node in stages.nodes:
        before = done.get(node.base.index) if node.base is not None else None
        config = before.config if before is not None else evaluate.empty_config()
        try:
            settled = evaluate.settle(
                node.stage, scope, config, before.args if before is not None else None
            )
        except RootlessError:
            continue
        done[node.stage.index] = settled
        yield node.stage, settled


def _undefined_var(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    for stage, settled in _settled(subject):
        known = set(settled.args)
        for one in stage.instructions:
            if isinstance(one, ins.Env):
                known |= {name for name, _, _ in one.pairs}
        for one, name in settled.unset:
            close = nearest(name, sorted(known))
            hint = f" (did you mean ${close}?)" if close and close != name else ""
            yield one, one.line.start, f"Usage of undefined variable '${name}'{hint}"


def _workdir_relative(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    for stage in subject.file.stages:
        absolute = False
        for one in stage.instructions:
            if not isinstance(one, ins.Workdir):
                continue
            if one.text.startswith(("/", "$", '"/')):
                absolute = True
            elif not absolute:
                message = f"Relative workdir '{one.text}' can have unexpected results if the base image changes"
                yield one, one.line.start, message
                break


def _multiple(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    kinds = (ins.Cmd, ins.Entrypoint, ins.Healthcheck)
    for stage in subject.file.stages:
        for kind in kinds:
            same = [one for one in stage.instructions if isinstance(one, kind)]
            for one in same[:-1]:
                message = (
                    f"Multiple {kind.keyword} instructions should not be used in the same stage "
                    "because only the last one will be used"
                )
                yield one, one.line.start, message


def _secrets(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    for one in subject.every():
        names: list[tuple[str, int]] = []
        if isinstance(one, ins.Arg):
            names = [(name, offset) for name, _, offset in one.args]
        elif isinstance(one, ins.Env):
            names = [(name, offset) for name, _, offset in one.pairs]
        for name, offset in names:
            if _SECRET.search(name) and not _NOT_SECRET.search(name):
                message = (
                    "Do not use ARG or ENV instructions for sensitive data "
                    f'({one.keyword} "{name}")'
                )
                yield one, offset, message


def _legacy_pairs(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    for one in subject.every():
        if isinstance(one, ins.Pairs) and one.legacy:
            message = (
                f'"{one.keyword} key=value" should be used instead of legacy '
                f'"{one.keyword} key value" format'
            )
            yield one, one.line.start, message


def _redundant_platform(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    for stage in subject.file.stages:
        text = stage.start.platform
        if text in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
            message = (
                f"Setting platform to predefined {text} in FROM is redundant "
                "as this is the default behavior"
            )
            yield stage.start, stage.start.line.start, message


def _constant_platform(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    for stage in subject.file.stages:
        text = stage.start.platform
        if text and "$" not in text and not stage.name:
            message = f'FROM --platform flag should not use constant value "{text}"'
            yield stage.start, stage.start.line.start, message


def _invalid_base_default(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    env = dict(evaluate.platform_args("linux/amd64"))
    for one in subject.file.args:
        for name, default, _ in one.args:
            if default is not None:
                env[name] = _expand(default, env, set())
    for stage in subject.file.stages:
        start = stage.start
        if "$" not in start.image:
            continue
        image = _expand(start.image, env, set())
        if not image or image.endswith((":", "/", "@")) or image.startswith((":", "/", "@")):
            message = (
                f"Default value for ARG {start.image} results in empty or invalid base image name"
            )
            yield start, start.line.start, message


def _expose_proto(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    for one in subject.every():
        for text in one.texts if isinstance(one, ins.Expose) else ():
            protocol = text.partition("/")[2]
            if protocol and protocol != protocol.lower():
                message = f"Defined protocol '{protocol}' in EXPOSE instruction should be lowercase"
                yield one, max(0, one.line.text.find(text)), message


def _expose_format(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    for one in subject.every():
        for text in one.texts if isinstance(one, ins.Expose) else ():
            if ":" in text and "$" not in text:
                message = (
                    "EXPOSE instruction should not define an IP address or host-port mapping, "
                    f"found '{text}'"
                )
                yield one, max(0, one.line.text.find(text)), message


def _copy_ignored(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    from . import patterns

    ignored = subject.file.ignored
    if not ignored:
        return
    matcher = patterns.Matcher(ignored)
    for one in subject.every():
        if not isinstance(one, ins.Copy) or one.origin:
            continue
        for text in one.sources:
            path = posixpath.normpath("/" + text).lstrip("/")
            if path and "://" not in text and "$" not in text and matcher.matches(path):
                message = (
                    f"Attempting to {one.keyword} file '{text}' that is excluded by .dockerignore"
                )
                yield one, one.offsets.get(text, one.line.start), message


def _description(subject: Subject) -> Iterator[tuple[ins.Instruction, int, str]]:
    for one in subject.every():
        name = ""
        if isinstance(one, ins.From):
            name = one.name
        elif isinstance(one, ins.Arg):
            name = one.args[0][0]
        if name and one.line.comments:
            comment = one.line.comments[-1]
            if comment and comment.split(" ")[0] != name:
                message = (
                    f"Comment for {'build stage' if isinstance(one, ins.From) else 'ARG'} should follow the "
                    f"format: `# {name} <description>`"
                )
                yield one, one.line.start, message


RULES: dict[str, Rule] = {
    "StageNameCasing": _stage_name_casing,
    "FromAsCasing": _from_as_casing,
    "NoEmptyContinuation": _no_empty_continuation,
    "ConsistentInstructionCasing": _consistent_casing,
    "DuplicateStageName": _duplicate_stage_name,
    "ReservedStageName": _reserved_stage_name,
    "JSONArgsRecommended": _json_args_recommended,
    "MaintainerDeprecated": _maintainer_deprecated,
    "UndefinedArgInFrom": _undefined_arg_in_from,
    "WorkdirRelativePath": _workdir_relative,
    "UndefinedVar": _undefined_var,
    "MultipleInstructionsDisallowed": _multiple,
    "LegacyKeyValueFormat": _legacy_pairs,
    "RedundantTargetPlatform": _redundant_platform,
    "SecretsUsedInArgOrEnv": _secrets,
    "InvalidDefaultArgInFrom": _invalid_base_default,
    "FromPlatformFlagConstDisallowed": _constant_platform,
    "CopyIgnoredFile": _copy_ignored,
    "InvalidDefinitionDescription": _description,
    "ExposeProtoCasing": _expose_proto,
    "ExposeInvalidFormat": _expose_format,
}
