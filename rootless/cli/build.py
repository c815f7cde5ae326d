"""rootless build."""

from __future__ import annotations

import os
import sys

from rootless.builder import attest, caches, outputs, parser, remotes
from rootless.engine import build, buildcontext, buildoutput, buildplatforms, buildremote, sink
from rootless.engine.buildmounts import Secret
from rootless.engine.buildoptions import Options
from rootless.engine.context import Context
from rootless.errors import BuildError, RootlessError, UsageError
from rootless.store import files

from . import buildflags, buildrun, kvfile, session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rootless.builder.parser import Dockerfile
    from rootless.engine.buildcontext import BuildContext
    from rootless.engine.buildremote import Fetcher

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Build an image, or look at its Dockerfile."""
    try:
        return _main(args, env)
    except BuildError as error:
        if error.detail:
            sys.stderr.write(f"{error.detail}\n")
        raise
    except RootlessError as error:
        raise session.with_code(error, 1) from None


def _main(args: Parsed, env: Mapping[str, str]) -> int:
    call = "check" if args.get("check") else str(args.get("call"))
    if call not in buildflags.CALLS:
        raise UsageError(f"invalid --call {call!r}: it is one of {', '.join(buildflags.CALLS)}")
    if args.get("progress") not in buildflags.PROGRESS:
        known = ", ".join(buildflags.PROGRESS)
        raise UsageError(f"invalid --progress {args.get('progress')!r}: it is one of {known}")
    fetcher = buildremote.Fetcher(
        lambda: Context.load(env), env, _secrets(args, env), _agents(args, env)
    )
    try:
        keep = _build_args(args, env).get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "").lower() in (
            "1",
            "true",
        )
        context = buildcontext.load(
            args.args[0], str(args.get("file") or ""), fetcher, keep_git_dir=keep
        )
        file = parser.parse(context.text, context.name)
        file.ignored = context.ignored
        if call != "build":
            from . import buildcheck

            target = str(args.get("target") or "")
            return buildcheck.show(call, file, target, _build_args(args, env))
        return _build(args, env, context, file, fetcher)
    finally:
        fetcher.close()


def _build(
    args: Parsed,
    env: Mapping[str, str],
    context: BuildContext,
    file: Dockerfile,
    fetcher: Fetcher,
) -> int:
    from . import buildshow

    ctx = fetcher.ctx
    quiet = bool(args.get("quiet")) or args.get("progress") == "quiet"
    tags = [buildoutput.tag(text) for text in args.get("tag") or ()]
    outs = outputs.parse_all(
        args.get("output") or (), load=bool(args.get("load")), push=bool(args.get("push"))
    )
    wanted = attest.parse(
        args.get("attest") or (), str(args.get("provenance") or ""), str(args.get("sbom") or "")
    )
    outputs.annotate(outs, args.get("annotation") or (), indexed=bool(wanted))
    buildoutput.check(outs, tags, stdout_is_terminal=os.isatty(1))
    options = Options(
        tags=tags,
        outputs=outs,
        squash=bool(args.get("squash")),
        attest=wanted,
        target=str(args.get("target") or ""),
        build_args=_build_args(args, env),
        labels=kvfile.labels((), args.get("label") or ()),
        no_cache=bool(args.get("no_cache")),
        no_cache_stages=_stages(args),
        policy="always" if args.get("pull") else "missing",
        network=str(args.get("network") or ""),
        platform=str(args.get("platform") or ""),
        epoch=_epoch(args, env),
        secrets=_secrets(args, env),
        agents=_agents(args, env),
        allowed=buildrun.allowed(args),
        run=buildrun.settings(args),
        contexts={one.name: one for one in map(remotes.named, args.get("build_context") or ())},
        fetcher=fetcher,
        cache_from=[caches.parse(text, "from") for text in args.get("cache_from") or ()],
        cache_to=_cache_to(args, env),
    )
    display = buildshow.display("quiet" if quiet else str(args.get("progress")), sys.stderr)
    try:
        pull = session.puller(ctx, quiet=quiet)
        _remarks(file, display, options)
        image_id, metadata = _built(ctx, file, context, options, display, pull)
        options.recorder.export(ctx, options.cache_to, display)
    finally:
        display.close()
    _tell(args, image_id, metadata)
    if quiet and image_id and not any(output.dest == outputs.STDOUT for output in outs):
        sys.stdout.write(f"{image_id}\n")
    return 0


def _tell(args: Parsed, image_id: str, metadata: Mapping[str, Any]) -> None:
    """Write what was made to the files that were asked for."""
    if args.get("iidfile") and image_id:
        _write(str(args.get("iidfile")), image_id)
    if args.get("metadata_file"):
        import json

        text = json.dumps(metadata, indent=2, sort_keys=True, ensure_ascii=False)
        _write(str(args.get("metadata_file")), text)


def _built(
    ctx: Context,
    file: Dockerfile,
    context: BuildContext,
    options: Options,
    display: Any,
    pull: Any,
) -> tuple[str, dict[str, Any]]:
    """The image's ID, for several platforms the digest of an index of their images; and what is told of it."""
    wanted = buildplatforms.wanted(ctx, options.platform)
    if len(wanted) == 1:
        made = build.Build(ctx, file, context, options, display, pull)
        return made.run(), made.metadata
    if options.attest:
        raise UsageError("cannot attest images of several platforms: that is not there yet")
    outs, tags = options.outputs, options.tags
    options.outputs, options.tags, options.several = buildoutput.of_each(outs), [], True
    stored = any(one.store for one in outs)
    named = [name for one in outs if one.store for name in map(buildoutput.tag, one.names)]
    images = {}
    before = {record.id for record in ctx.images.list()}
    lease = ctx.blobs.lease()
    try:
        try:
            for options.platform in wanted:
                one = build.Build(ctx, file, context, options, display, pull)
                images[options.platform] = one.run()
        except BaseException:
            buildplatforms.forget(ctx, images, before)
            raise
        if not all(images.values()):
            return "", dict(buildoutput.reference())
        names = [*tags, *named] if stored else []
        digest = buildplatforms.name_all(ctx, images, names, options.epoch, before)
        try:
            buildoutput.export_index(ctx, display, outs, tags, digest)
        finally:
            if not stored:
                buildplatforms.forget(ctx, images, before)
        return digest, {**buildoutput.reference(), "containerimage.digest": digest}
    finally:
        if lease is not None:
            os.close(lease)


def _cache_to(args: Parsed, env: Mapping[str, str]) -> list[caches.Place]:
    found = [caches.parse(text, "to") for text in args.get("cache_to") or ()]
    if _build_args(args, env).get("BUILDKIT_INLINE_CACHE", "").lower() in ("1", "true"):
        found.append(caches.Place("inline"))
    return found


def _write(path: str, text: str) -> None:
    try:
        sink.write(path, lambda fd: files.write_all(fd, text.encode()), 0o644)
    except OSError as error:
        raise BuildError(f"cannot write {path}: {files.reason(error)}") from None


def _remarks(file: Dockerfile, display: Any, options: Any) -> None:
    """Say what the checks say, unless the file wants them to be errors."""
    from rootless.builder import checks

    found = checks.check(file, options.build_args)
    for one in found:
        display.warning(f"{one.rule}: {one.message} (line {one.position.line})")
    if found and checks.settings(file).error:
        raise BuildError("cannot build: lint violation found for rules", detail=found[0].excerpt)


def _build_args(args: Parsed, env: Mapping[str, str]) -> dict[str, str]:
    """--build-arg: KEY=VALUE, or KEY for the value that the environment has."""
    found = {}
    for text in args.get("build_arg") or ():
        key, equals, value = text.partition("=")
        if equals:
            found[key] = value
        elif key in env:
            found[key] = env[key]
    return found


def _stages(args: Parsed) -> frozenset[str]:
    return frozenset(
        name.lower() for text in args.get("no_cache_filter") or () for name in text.split(",")
    )


def _epoch(args: Parsed, env: Mapping[str, str]) -> int:
    text = _build_args(args, env).get("SOURCE_DATE_EPOCH", env.get("SOURCE_DATE_EPOCH", ""))
    if not text:
        return -1
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"invalid SOURCE_DATE_EPOCH {text!r}: it is no number of seconds")
    return int(text)


def _fields(flag: str, text: str) -> dict[str, str]:
    found = {}
    for word in text.split(","):
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"invalid --{flag} {text!r}: {word!r} is not KEY=VALUE")
        found[key.lower()] = value
    return found


def _secrets(args: Parsed, env: Mapping[str, str]) -> dict[str, Secret]:
    """--secret: what is not there is told before anything is built."""
    secrets = {}
    for text in args.get("secret") or ():
        fields = _fields("secret", text)
        unknown = sorted(set(fields) - {"id", "src", "source", "env", "type"})
        if unknown:
            raise UsageError(f"invalid --secret {text!r}: unknown key {unknown[0]!r}")
        name, kind = fields.get("id", ""), fields.get("type", "")
        path = fields.get("src", fields.get("source", ""))
        variable = fields.get("env", "")
        if not name:
            raise UsageError(f"invalid --secret {text!r}: it needs an id")
        if kind not in ("", "file", "env"):
            raise UsageError(f"invalid --secret {text!r}: type is file or env")
        if kind == "env" and path and not variable:
            path, variable = "", path
        if not path and not variable:
            path, variable = ("", name) if name in env else (name, "")
        secret = Secret(os.path.abspath(path) if path else "", variable)
        if path:
            secret.read(name, env)
        secrets[name] = secret
    return secrets


def _agents(args: Parsed, env: Mapping[str, str]) -> dict[str, str]:
    agents = {}
    for text in args.get("ssh") or ():
        name, _, path = text.partition("=")
        path = path or env.get("SSH_AUTH_SOCK", "")
        if not path:
            raise UsageError(f"cannot give ssh agent {name}: SSH_AUTH_SOCK is not set")
        try:
            import stat

            is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
        except OSError as error:
            raise UsageError(
                f"cannot give ssh agent {name}: {path}: {os.strerror(error.errno or 0).lower()}"
            ) from None
        if not is_socket:
            raise UsageError(
                f"cannot give ssh agent {name}: {path} is no socket; keys from files are not there yet"
            )
        agents[name] = os.path.abspath(path)
    return agents
