"""What a stage's instructions come to: scopes of ARG and ENV, the image's config, and steps.

Pure.  ARGs before the first FROM are seen by FROM lines, and in a stage where it declares them again;
an ARG is seen from its line on, and in stages built on its own; ENV always beats ARG.  Each line
is expanded with what was known before it.
"""

from __future__ import annotations

import posixpath
import re

from rootless.errors import UsageError
from rootless.plan import signals

from . import instructions as ins
from . import words
from .lexer import lex
from .parser import Dockerfile, instruction, trigger
from .source import Source
from .steps import CopyStep, MkdirStep, RunStep, Settled, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Callable

    from rootless.errors import DockerfileError

    from .parser import Stage

PROXIES = tuple(
    name
    for word in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (word, word.lower())
)
DEFAULT_SHELL = ("/bin/sh", "-c")
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/([a-z]+))?$")
_PIPES = "/dev/pipes"


def platform_args(platform: str, build_platform: str = "") -> dict[str, str]:
    """The variables that say for which platform is built, and where."""
    found = {}
    for prefix, text in (("TARGET", platform), ("BUILD", build_platform or platform)):
        parts = [*text.split("/"), "", ""]
        found[f"{prefix}PLATFORM"] = text
        for name, value in zip(("OS", "ARCH", "VARIANT"), parts):
            found[f"{prefix}{name}"] = value
    return found


class Scope:
    """What holds for the whole file: --build-arg, and ARGs before the first FROM."""

    __slots__ = ("build_args", "file", "globals", "used")

    def __init__(
        self, file: Dockerfile, build_args: Mapping[str, str], builtin: Mapping[str, str]
    ) -> None:
        self.file = file
        self.build_args = dict(build_args)
        self.globals: dict[str, str] = {**builtin}
        self.used: set[str] = set()
        for one in file.args:
            for name, default, offset in one.args:
                value = self._value(name)
                if value is None and default is not None:
                    value = expanded(one, default, self.globals, offset, file.escape)
                if value is not None:
                    self.globals[name] = value

    def _value(self, name: str) -> str | None:
        value = self.build_args.get(name)
        if value is not None:
            self.used.add(name)
        return value

    def arg(self, name: str, default: str | None) -> str | None:
        """What an ARG of a stage comes to; None where nothing says a value."""
        value = self._value(name)
        if value is not None:
            return value
        return default if default is not None else self.globals.get(name)

    def unused(self) -> list[str]:
        """Names given by --build-arg that nothing asked for; some are for the builder itself."""
        asked = {*self.used, *PROXIES, "SOURCE_DATE_EPOCH"}
        return sorted(
            n for n in self.build_args if n not in asked and not n.startswith("BUILDKIT_")
        )

    def word(self, instruction: ins.Instruction, text: str, offset: int | None = None) -> str:
        """TEXT of a FROM line, or of a place that is settled before any stage is, expanded."""
        return expanded(instruction, text, self.globals, offset, self.file.escape)


def expanded(
    instruction: ins.Instruction,
    text: str,
    env: Mapping[str, str],
    offset: int | None = None,
    escape: str = "\\",
    unset: set[str] | None = None,
) -> str:
    """TEXT expanded as one word; raises DockerfileError at its place in the file."""
    if offset is None:
        offset = instruction.line.text.find(text) if text else -1
    try:
        return words.process_word(text, env, escape=escape, unset=unset)
    except words.WordError as error:
        raise failed(instruction, error, offset, text) from None


def failed(
    instruction: ins.Instruction, error: words.WordError, offset: int, text: str
) -> DockerfileError:
    """The error for TEXT, which stands at OFFSET of the instruction's line."""
    at = instruction.line.start if offset < 0 else offset + error.offset
    message = f"cannot expand {text!r}: {error.message}"
    found: Any = instruction.line.error(message, min(at, len(instruction.line.text)))
    return found  # type: ignore[no-any-return]


def empty_config() -> dict[str, Any]:
    """What an image FROM scratch begins with."""
    return {"Env": [DEFAULT_PATH], "WorkingDir": "/"}


class _Evaluation:
    """The state of one stage while its instructions are gone through."""

    def __init__(
        self, scope: Scope, config: Mapping[str, Any], args: Mapping[str, str | None]
    ) -> None:
        self.scope = scope
        self.escape = scope.file.escape
        self.config: dict[str, Any] = {key: _copied(value) for key, value in config.items()}
        self.args = dict(args)
        self.env: dict[str, str] = {}
        for entry in self.config.get("Env") or ():
            key, _, value = entry.partition("=")
            self.env[key] = value
        self.out = Settled(self.config, self.args)
        self.cmd_set = False

    @property
    def known(self) -> dict[str, str]:
        """What a line is expanded with."""
        found = {key: value for key, value in self.args.items() if value is not None}
        found.update(self.env)
        return found

    @property
    def user(self) -> str:
        return str(self.config.get("User") or "")

    @property
    def workdir(self) -> str:
        return str(self.config.get("WorkingDir") or "/")

    def text(self, one: ins.Instruction, text: str, offset: int | None = None) -> str:
        unset: set[str] = set()
        found = expanded(one, text, self.known, offset, self.escape, unset)
        self._unset(one, unset)
        return found

    def _unset(self, one: ins.Instruction, unset: set[str]) -> None:
        self.out.unset += [(one, name) for name in sorted(unset) if name not in self.args]

    def shell(self, one: ins.Words) -> list[str]:
        if not one.shell:
            return list(one.words)
        return [*(self.config.get("Shell") or DEFAULT_SHELL), *one.words]

    def meta(self, one: ins.Instruction, history: str = "") -> None:
        self.out.steps.append(Step(one, history))

    # instructions

    def arg(self, one: ins.Arg) -> None:
        for name, default, offset in one.args:
            value = self.text(one, default, offset) if default is not None else None
            self.args[name] = self.scope.arg(name, value)
        shown = " ".join(
            name if self.args[name] is None else f"{name}={self.args[name]}"
            for name, _, _ in one.args
        )
        self.meta(one, f"ARG {shown}")

    def environment(self, one: ins.Env) -> None:
        known = self.known
        found = [self._pair(one, known, *pair) for pair in one.pairs]
        self.env.update(found)
        self.config["Env"] = [f"{key}={value}" for key, value in self.env.items()]
        self.meta(one, "ENV " + " ".join(f"{key}={value}" for key, value in found))

    def _pair(
        self, one: ins.Pairs, known: Mapping[str, str], name: str, value: str, offset: int
    ) -> tuple[str, str]:
        unset: set[str] = set()
        key = expanded(one, name, known, offset, self.escape, unset)
        at = offset if one.legacy else offset + len(name) + 1
        text = expanded(one, value, known, at, self.escape, unset)
        self._unset(one, unset)
        if not key:
            raise one.line.error(f"{one.keyword} names can not be blank", offset)
        return key, text

    def label(self, one: ins.Label) -> None:
        known = self.known
        found = dict(self._pair(one, known, *pair) for pair in one.pairs)
        self.config["Labels"] = {**(self.config.get("Labels") or {}), **found}
        self.meta(one, "LABEL " + " ".join(f"{key}={value}" for key, value in found.items()))

    def run(self, one: ins.Run) -> None:
        step = RunStep(one)
        if one.files:
            argv = self._with_heredocs(one, step)
        else:
            argv = self.shell(one)
        step.argv = argv
        given = {
            name: value
            for name, value in self.args.items()
            if value is not None and name not in self.env
        }
        hidden = {
            name: self.scope.build_args[name]
            for name in PROXIES
            if name in self.scope.build_args and name not in given and name not in self.env
        }
        step.env = [f"{key}={value}" for key, value in {**given, **self.env}.items()]
        step.hidden = [f"{key}={value}" for key, value in hidden.items()]
        step.user, step.cwd = self.user, self.workdir
        step.mounts = [self._mount(one, mount) for mount in one.mounts]
        step.network, step.security, step.devices = one.network, one.security, list(one.devices)
        words_of_args = [f"{key}={value}" for key, value in given.items()]
        args = f"|{len(given)} {' '.join(words_of_args)} " if given else ""
        step.history = f"RUN {args}{' '.join(argv)}"
        self.out.steps.append(step)

    def _with_heredocs(self, one: ins.Run, step: RunStep) -> list[str]:
        text = one.words[0]
        from .lexer import heredoc_of

        if heredoc_of(text, one.line) is None:  # more than its name: the shell reads it itself
            full = text + "".join(f"\n{file.content}{file.name}" for file in one.files)
            return [*(self.config.get("Shell") or DEFAULT_SHELL), full]
        body = one.files[0]
        if body.content.startswith("#!"):
            step.script = (body.name, body.text)
            return [f"{_PIPES}/{body.name}"]
        return [*(self.config.get("Shell") or DEFAULT_SHELL), body.text]

    def _mount(self, one: ins.Run, mount: ins.Mount) -> dict[str, str]:
        found = {"type": mount.kind}
        for key, value in mount.fields.items():
            place = self.scope.globals if key == "from" else self.known
            found[key] = expanded(one, value, place, mount.offset, self.escape)
        if "target" in found and mount.kind in ("bind", "cache", "tmpfs", "secret"):
            found["target"] = posixpath.normpath(posixpath.join("/", self.workdir, found["target"]))
        if found.get("target") == "/":
            raise one.line.error("invalid mount target /", mount.offset)
        return found

    def copy(self, one: ins.Copy) -> None:
        step = CopyStep(one)
        step.sources = [self.text(one, text, one.offsets.get(text)) for text in one.sources]
        for heredoc in one.inline:
            content = heredoc.text
            if heredoc.expand:
                content = words.process_word(content, self.known, quotes=False)
            step.inline.append((heredoc.name, content))
        dest = self.text(one, one.dest)
        directory = dest.endswith(("/", "/.")) or dest in (".", "..")
        step.dest = posixpath.normpath(posixpath.join("/", self.workdir, dest))
        if directory and step.dest != "/":
            step.dest += "/"
        step.chown, step.chmod = self.text(one, one.chown), self.text(one, one.chmod)
        step.excludes = [self.text(one, text) for text in one.excludes]
        step.origin = self.scope.word(one, one.origin) if one.origin else ""
        step.link, step.parents = one.link, one.parents
        step.checksum = self.text(one, one.checksum)
        step.fetch = isinstance(one, ins.Add)
        step.unpack = step.fetch and one.unpack is not False
        step.unpack_fetched = step.fetch and one.unpack is True
        step.keep_git_dir = one.keep_git_dir
        if len(step.sources) + len(step.inline) > 1 and not step.dest.endswith("/"):
            raise one.line.error(
                f"when using {one.keyword} with more than one source file, "
                "the destination must be a directory and end with a /",
                one.line.text.rfind(one.dest),
            )
        step.history = one.shown
        self.out.steps.append(step)

    def workdir_(self, one: ins.Workdir) -> None:
        path = self.text(one, one.text, one.line.offset)
        if not path:
            raise one.line.error("WORKDIR can not be blank", one.line.offset)
        path = posixpath.normpath(posixpath.join("/", self.workdir, path))
        self.config["WorkingDir"] = "/" + path.lstrip("/")
        self.out.steps.append(MkdirStep(one, self.config["WorkingDir"], self.user))

    def user_(self, one: ins.User) -> None:
        self.config["User"] = self.text(one, one.text, one.line.offset)
        self.meta(one, f"USER {self.user}")

    def cmd(self, one: ins.Cmd) -> None:
        self.config["Cmd"] = self.shell(one) if one.words else None
        self.cmd_set = True
        self.meta(one, f"CMD {_listed(self.config['Cmd'])}")

    def entrypoint(self, one: ins.Entrypoint) -> None:
        self.config["Entrypoint"] = self.shell(one) if one.words else None
        if not self.cmd_set:
            self.config.pop("Cmd", None)
        self.meta(one, f"ENTRYPOINT {_listed(self.config['Entrypoint'])}")

    def shell_(self, one: ins.Shell) -> None:
        self.config["Shell"] = list(one.words)
        self.meta(one)

    def stop_signal(self, one: ins.Stopsignal) -> None:
        text = self.text(one, one.text, one.line.offset)
        try:
            signals.number(text)
        except UsageError as error:
            raise one.line.error(str(error), one.line.offset) from None
        self.config["StopSignal"] = text
        self.meta(one)

    def expose(self, one: ins.Expose) -> None:
        ports = dict(self.config.get("ExposedPorts") or {})
        for text in one.texts:
            unset: set[str] = set()
            try:
                found = words.process_words(text, self.known, escape=self.escape, unset=unset)
            except words.WordError as error:
                raise failed(one, error, one.line.text.find(text), text) from None
            self._unset(one, unset)
            for word in found:
                for port in _ports(word, one):
                    ports[port] = {}
        self.config["ExposedPorts"] = dict(sorted(ports.items()))
        self.meta(one)

    def volume(self, one: ins.Volume) -> None:
        found = [self.text(one, text) for text in one.texts]
        if not all(text.strip() for text in found):
            raise one.line.error("VOLUME specified can not be an empty string", one.line.offset)
        self.config["Volumes"] = {
            **(self.config.get("Volumes") or {}),
            **{path: {} for path in found},
        }
        self.meta(one)

    def healthcheck(self, one: ins.Healthcheck) -> None:
        test = ["NONE"]
        if one.words:
            test = ["CMD-SHELL" if one.shell else "CMD", *one.words]
        self.config["Healthcheck"] = {"Test": test, **one.options}
        self.meta(one)

    def onbuild(self, one: ins.Onbuild) -> None:
        self.config["OnBuild"] = [*(self.config.get("OnBuild") or []), one.text]
        self.meta(one)

    def maintainer(self, one: ins.Maintainer) -> None:
        self.out.author = one.text
        self.meta(one)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return dict(value)
    return list(value) if isinstance(value, list) else value


def _listed(found: list[str] | None) -> str:
    return "[" + " ".join(f'"{word}"' for word in found or ()) + "]"


def _ports(text: str, one: ins.Expose) -> list[str]:
    """Ports such as 80/tcp that a word of EXPOSE means: a port, a range, or what -p takes."""
    match = _PORT.match(text.lower().rpartition(":")[2])
    offset = max(one.line.offset, one.line.text.find(text))
    if match is None:
        raise one.line.error(f"invalid containerPort: {text}", offset)
    first, last, protocol = int(match[1]), int(match[2] or match[1]), match[3] or "tcp"
    if protocol not in ("tcp", "udp", "sctp"):
        raise one.line.error(f"invalid proto: {protocol}", offset)
    if not 0 < first <= last < 65536:
        raise one.line.error(f"invalid containerPort: {text}", offset)
    return [f"{number}/{protocol}" for number in range(first, last + 1)]


_HANDLERS: dict[type[ins.Instruction], Callable[[_Evaluation, Any], None]] = {
    ins.Add: _Evaluation.copy,
    ins.Arg: _Evaluation.arg,
    ins.Cmd: _Evaluation.cmd,
    ins.Copy: _Evaluation.copy,
    ins.Entrypoint: _Evaluation.entrypoint,
    ins.Env: _Evaluation.environment,
    ins.Expose: _Evaluation.expose,
    ins.Healthcheck: _Evaluation.healthcheck,
    ins.Label: _Evaluation.label,
    ins.Maintainer: _Evaluation.maintainer,
    ins.Onbuild: _Evaluation.onbuild,
    ins.Run: _Evaluation.run,
    ins.Shell: _Evaluation.shell_,
    ins.Stopsignal: _Evaluation.stop_signal,
    ins.User: _Evaluation.user_,
    ins.Volume: _Evaluation.volume,
    ins.Workdir: _Evaluation.workdir_,
}


def settle(
    stage: Stage,
    scope: Scope,
    config: Mapping[str, Any],
    args: Mapping[str, str | None] | None = None,
) -> Settled:
    """Go through STAGE on an image's CONFIG, with the ARGS of the stage it is built on.

    Triggers of the image run first and are not handed on.  Raises DockerfileError.
    """
    work = _Evaluation(scope, config, args or {})
    triggers = work.config.pop("OnBuild", None) or []
    for one in [*map(trigger, triggers), *stage.instructions]:
        _HANDLERS[type(one)](work, one)
    return work.out


_CHANGES = (
    *(ins.Cmd, ins.Entrypoint, ins.Env, ins.Expose, ins.Healthcheck, ins.Label, ins.Onbuild),
    *(ins.Stopsignal, ins.User, ins.Volume, ins.Workdir),
)


def changed(text: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """CONFIG after the instructions in TEXT, lines that `commit --change` was given; raises DockerfileError."""
    lexed = lex(Source(text, "--change"))
    work = _Evaluation(Scope(Dockerfile(lexed), {}, {}), config, {})
    for line in lexed.lines:
        one = instruction(line, lexed.escape)
        if not isinstance(one, _CHANGES):
            known = ", ".join(sorted(kind.__name__.upper() for kind in _CHANGES))
            raise line.error(
                f"{line.keyword.upper()} is no instruction for --change (known are {known})"
            )
        _HANDLERS[type(one)](work, one)
    return work.config
