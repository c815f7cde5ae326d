"""rootless working: from, run, copy, add, config, commit, mount, umount, rm and ls."""

from __future__ import annotations

import os
import shlex
import sys

from rootless import jsonc
from rootless.engine import commit as committing
from rootless.engine import working
from rootless.engine.context import Context
from rootless.errors import BuildError, RootlessError, UsageError
from rootless.plan.request import MountRequest, RunRequest

from . import many, mountspec, netflags, session, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from rootless.store.containers import Container

    from .parse import Parsed

_SHELL = ["/bin/sh", "-c"]


def _as_one(function: Callable[[], int]) -> int:
    """What FUNCTION gives; its errors end with 1, and those of a Dockerfile's words show the place."""
    try:
        return function()
    except RootlessError as error:
        if isinstance(error, BuildError) and error.detail:
            sys.stderr.write(f"{error.detail}\n")
        raise session.with_code(error, 1) from None


def from_(args: Parsed, env: Mapping[str, str]) -> int:
    """Make a working container and print its name."""
    policy = str(args.get("pull"))
    if policy not in ("always", "missing", "never"):
        raise UsageError(f"invalid --pull {policy!r}: it is one of always, missing, never")
    ctx = Context.load(env)
    pull = session.puller(ctx, quiet=bool(args.get("quiet")))

    def make() -> int:
        name = str(args.get("name") or "")
        made = working.begin(ctx, args.args[0], name, policy, pull)
        sys.stdout.write(f"{made.name}\n")
        return 0

    return _as_one(make)


def run(args: Parsed, env: Mapping[str, str]) -> int:
    """Run a command over a working container; its exit code is ours."""
    ctx = Context.load(env)
    container = working.resolve(ctx, args.args[0])
    words = list(args.args[1:])
    if words[0] == "--":
        words = words[1:]
    if not words:
        raise UsageError("cannot run in a working container: no command is given")
    request = RunRequest(entrypoint=[], args=words, hostname=container.name[:63], auto_remove=True)
    request.env = [
        text if "=" in text else f"{text}={env.get(text, '')}" for text in args.get("env") or ()
    ]
    request.user, request.workdir = str(args.get("user") or ""), str(args.get("workdir") or "")
    request.cap_add, request.cap_drop = (
        list(args.get("cap_add") or ()),
        list(args.get("cap_drop") or ()),
    )
    default = str(ctx.settings.get("network.default"))
    request.network = "default" if default == "auto" else default
    if args.get("network"):
        netflags.fill(request, args)
    request.add_hosts = [values.extra_host(text) for text in args.get("add_host") or ()]
    found = [
        mountspec.volume_flag(text, os.getcwd(), env.get("HOME", "/"))
        for text in args.get("volume") or ()
    ]
    for mount in found:
        if mount["type"] != "bind":
            raise UsageError(
                f"cannot mount {mount['destination']}: a working container has no volumes, give a directory",
            )
    request.mounts = [MountRequest(**mount) for mount in found]
    return working.run(ctx, container, request)


def _copied(args: Parsed, env: Mapping[str, str], *, unpack: bool) -> int:
    ctx = Context.load(env)
    container = working.resolve(ctx, args.args[0])
    origin = str(args.get("from") or "")
    paths, dest = list(args.args[1:-1]), args.args[-1]
    if not paths:
        paths, dest = [dest], "."

    def do() -> int:
        if any("://" in path for path in paths):
            raise UsageError("cannot fetch URLs: download the file and copy it")
        wanted = working.sources(ctx, container, paths, dest, origin)
        if len(paths) > 1 and not wanted["dest"].endswith("/"):
            wanted["dest"] += "/"
        wanted["chown"] = str(args.get("chown") or "")
        wanted["chmod"] = str(args.get("chmod") or "")
        wanted["excludes"] = list(args.get("exclude") or ())
        wanted["unpack"] = unpack and not origin
        working.copy(ctx, container, wanted, origin)
        return 0

    return _as_one(do)


def copy(args: Parsed, env: Mapping[str, str]) -> int:
    """Copy files into a working container."""
    return _copied(args, env, unpack=False)


def add(args: Parsed, env: Mapping[str, str]) -> int:
    """Copy files into a working container and unpack archives among them."""
    return _copied(args, env, unpack=True)


def config(args: Parsed, env: Mapping[str, str]) -> int:
    """Change what the image of a working container will say."""
    ctx = Context.load(env)
    container = working.resolve(ctx, args.args[0])

    def change() -> int:
        state = working.read(ctx, container)
        _configure(state["config"], args)
        committing.apply_changes(state["config"], args.get("change") or ())
        if args.given("author"):
            state["author"] = str(args.get("author"))
        working.write(ctx, container, state)
        return 0

    return _as_one(change)


def _configure(config: dict[str, Any], args: Parsed) -> None:
    environment = dict(text.split("=", 1) for text in config.get("Env") or ())
    _pairs(environment, "env", args)
    config["Env"] = [f"{key}={value}" for key, value in environment.items()]
    labels = dict(config.get("Labels") or {})
    _pairs(labels, "label", args)
    config["Labels"] = labels
    for key, name in (("user", "User"), ("workingdir", "WorkingDir")):
        if args.given(key):
            config[name] = str(args.get(key))
    if args.given("stop_signal"):
        from rootless.plan import signals

        signals.number(str(args.get("stop_signal")))
        config["StopSignal"] = str(args.get("stop_signal"))
    if args.given("cmd"):
        config["Cmd"] = _words("cmd", str(args.get("cmd")), shell=False)
    if args.given("entrypoint"):
        config["Entrypoint"] = _words("entrypoint", str(args.get("entrypoint")), shell=True)
    ports = dict(config.get("ExposedPorts") or {})
    for text in args.get("port") or ():
        number, _, protocol = text.partition("/")
        if not (number.isascii() and number.isdigit() and 0 < int(number) < 65536):
            raise UsageError(f"invalid --port {text!r}: it is PORT[/PROTOCOL]")
        ports[f"{number}/{protocol or 'tcp'}"] = {}
    config["ExposedPorts"] = ports
    found: dict[str, Any] = {text: {} for text in args.get("volume") or ()}
    config["Volumes"] = {**(config.get("Volumes") or {}), **found}
    for key in ("Env", "Labels", "ExposedPorts", "Volumes"):
        if not config[key]:
            del config[key]


def _pairs(known: dict[str, str], flag: str, args: Parsed) -> None:
    for text in args.get(flag) or ():
        key, equals, value = text.partition("=")
        if equals and key:
            known[key] = value
        elif text.endswith("-") and not equals:
            known.pop(text[:-1], None)
        else:
            raise UsageError(f"invalid --{flag} {text!r}: it is KEY=VALUE, or KEY- to take it away")


def _words(flag: str, text: str, *, shell: bool) -> list[str]:
    if text.startswith("["):
        try:
            found = jsonc.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
            raise UsageError(f"invalid --{flag} {text!r}: it is no JSON array of strings")
        return found
    if not text:
        return []
    try:
        return [*_SHELL, text] if shell else shlex.split(text)
    except ValueError as error:
        raise UsageError(f"invalid --{flag} {text!r}: {str(error).lower()}") from None


def commit(args: Parsed, env: Mapping[str, str]) -> int:
    """Make an image of a working container and print its ID."""
    ctx = Context.load(env)
    container = working.resolve(ctx, args.args[0])

    def make() -> int:
        name = args.args[1] if len(args.args) > 1 else ""
        image_id = working.finish(ctx, container, name, message=str(args.get("message") or ""))
        if args.get("rm"):
            working.remove(ctx, container)
        sys.stdout.write(f"{image_id}\n")
        return 0

    return _as_one(make)


def mount(args: Parsed, env: Mapping[str, str]) -> int:
    """Mount working containers and print where; without a name, list what is mounted."""
    ctx = Context.load(env)
    if not args.args:
        for container in working.every(ctx):
            where = working.mounted_at(ctx, container)
            if where:
                sys.stdout.write(f"{container.name} {where}\n")
        return 0
    if len(args.args) == 1:
        sys.stdout.write(f"{working.mount(ctx, working.resolve(ctx, args.args[0]))}\n")
        return 0

    def one(name: str) -> str:
        return f"{name} {working.mount(ctx, working.resolve(ctx, name))}"

    return many.each(args.args, one)


def _named(ctx: Context, args: Parsed) -> list[str]:
    if args.get("all"):
        if args.args:
            raise UsageError("cannot take names and --all at once")
        return [container.name for container in working.every(ctx)]
    if not args.args:
        raise UsageError("the name of a working container is missing")
    return list(args.args)


def umount(args: Parsed, env: Mapping[str, str]) -> int:
    """Unmount working containers."""
    ctx = Context.load(env)

    def one(name: str) -> str:
        working.umount(ctx, working.resolve(ctx, name))
        return name

    return many.each(_named(ctx, args), one)


def rm(args: Parsed, env: Mapping[str, str]) -> int:
    """Remove working containers."""
    ctx = Context.load(env)

    def one(name: str) -> str:
        container = working.resolve(ctx, name)
        working.remove(ctx, container)
        return name

    code = many.each(_named(ctx, args), one)
    from rootless.engine import garbage

    garbage.after_removal(ctx)
    return code


def ls(args: Parsed, env: Mapping[str, str]) -> int:
    """List working containers."""
    found = working.every(Context.load(env))
    length = 71 if args.get("no_trunc") else 12
    if args.get("quiet"):
        sys.stdout.write("".join(f"{one.id[:length]}\n" for one in found))
        return 0
    rows = [_row(one, length) for one in found]
    if not args.get("noheading"):
        rows.insert(0, ("CONTAINER ID", "IMAGE ID", "IMAGE NAME", "CONTAINER NAME"))
    widths = [max((len(row[at]) for row in rows), default=0) + 3 for at in range(4)]
    for row in rows:
        line = "".join(f"{cell:<{width}}" for cell, width in zip(row, widths))
        sys.stdout.write(f"{line.rstrip()}\n")
    return 0


def _row(container: Container, length: int) -> tuple[str, str, str, str]:
    image = str(container.record["image_id"]).partition(":")[2]
    base = str(container.record["request"]["labels"][working.LABEL])
    return container.id[:length], image[:length], base, container.name
