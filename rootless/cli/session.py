"""What `run`, `start`, `attach` and `exec` share at the terminal.

Terminal checks, the container ID file, pulling with a display, and turning the monitor's messages into
exit codes and errors.
"""

from __future__ import annotations

import os
import sys

from rootless.errors import (
    CommandNotFoundError,
    CommandNotInvokedError,
    HostError,
    LaunchError,
    RootlessError,
    UsageError,
)
from rootless.oci import reference as references
from rootless.runtime import attach as attaching

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from rootless.engine.context import Context
    from rootless.engine.unpack import Cost
    from rootless.plan.request import RunRequest
    from rootless.runtime.monitor import Client
    from rootless.store.containers import Container

    from .parse import Parsed


def check_terminal(tty: bool, stdin: bool) -> None:
    """Docker's refusal of -t -i when stdin is not a terminal."""
    if tty and stdin and not os.isatty(0):
        raise UsageError("the input device is not a TTY", exit_code=1)


class IdFile:
    """--cidfile: must not exist, holds the container's ID, is taken away if nothing was made."""

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.written = False
        self.fd = -1

    def __enter__(self) -> IdFile:
        if self.path:
            try:
                self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            except FileExistsError:
                raise UsageError(
                    f"container ID file found, make sure the other container isn't running "
                    f"or delete {self.path}"
                ) from None
            except OSError as error:
                raise UsageError(
                    f"cannot create the container ID file {self.path}: "
                    f"{os.strerror(error.errno or 0).lower()}"
                ) from None
        return self

    def write(self, container_id: str) -> None:
        """Put the ID into the file."""
        if self.fd >= 0:
            os.write(self.fd, container_id.encode())
            self.written = True

    def __exit__(self, *_: object) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            if not self.written and self.path:
                os.unlink(self.path)


def puller(ctx: Context, *, quiet: bool = False) -> Callable[[str, str], None]:
    """A function that pulls (reference, platform) and shows it on stderr, as `docker run` does."""

    def pull(reference: str, platform: str) -> None:
        from . import cold

        cold.enable("urllib3")
        from rootless.engine import pull as pulling

        from . import progress

        if not quiet:
            shown = references.parse(reference).with_default_tag().familiar()
            sys.stderr.write(f"Unable to find image '{shown}' locally\n")
        sink = progress.sink(quiet=quiet, stream=sys.stderr)
        with sink:
            pulling.pull(ctx, reference, platform or None, sink)

    return pull


def advise(ctx: Context, args: Parsed, request: RunRequest, container: Container) -> None:
    """Hints about mounts, where there can be any."""
    if request.userns or args.get("quiet"):
        return
    if any(mount.type == "bind" and not mount.readonly for mount in request.mounts):
        from rootless.engine import advice

        for line in advice.on_mounts(ctx, container.record, request):
            sys.stderr.write(f"rootless: note: {line}\n")


_HOW = {
    "shared": "owners and small files are written anew, the rest is shared",
    "reflink": "the files' extents are shared",
    "copy": "all of it is copied",
    "unpack": "it is unpacked anew",
}


def unpack_notice(request: RunRequest, *, quiet: bool = False) -> Callable[[Cost], None] | None:
    """Says, before it happens, that an ID map needs an image's layers with other owners, and the cost."""
    if quiet:
        return None

    def notice(cost: Cost) -> None:
        from . import units

        parts = [f"{cost.layers} layer{'s' if cost.layers != 1 else ''}"]
        if cost.size >= 0:
            parts.append(f"{cost.entries} files, {units.human_size(cost.size)}")
        parts.append(f"{units.human_size(cost.compressed)} as stored")
        sys.stderr.write(
            f"rootless: note: making {request.image} fit --userns {request.userns}, once per image and map: "
            f"{', '.join(parts)}; {_HOW[cost.how]}\n"
        )

    return notice


def note(text: str) -> None:
    """Say what was done beside what was asked."""
    sys.stderr.write(f"rootless: note: {text}\n")


def warn_later(ctx: Context, args: Parsed, request: RunRequest) -> None:
    """One warning per flag that is accepted and not enforced yet (promise 6)."""
    for flag, text in args.later():
        sys.stderr.write(f"rootless: warning: {flag}: {text}\n")
    if (request.publish or request.publish_all) and request.network in ("host", "none"):
        sys.stderr.write(
            "rootless: warning: published ports are discarded when using "
            f"{request.network} network mode\n"
        )
    _single_notice(ctx, args)
    if ctx.paths.moved:
        sys.stderr.write(f"rootless: note: {ctx.paths.moved} (this is said once)\n")
    _check_storage_size(ctx, request)
    if request.limits or request.oom_score_adj is not None:
        _check_limits(ctx, request)


def _check_limits(ctx: Context, request: RunRequest) -> None:
    """Refuse limits that cannot be, and tell in one line of those that nothing enforces (promise 6)."""
    from rootless.engine import limits

    limits.check(ctx, request)
    for line in limits.warnings(ctx, request):
        sys.stderr.write(f"rootless: warning: {line}\n")


def _check_storage_size(ctx: Context, request: RunRequest) -> None:
    """A size of the writable layer that holds at starts only is told, or refused by --strict-limits."""
    if not request.storage_size or ctx.driver.enforces_limit:
        return
    text = (
        f"storage driver {ctx.driver.name} checks the size of the writable layer at each start, "
        "not while the container runs"
    )
    hint = "--storage-driver fusepy enforces it"
    if request.strict_limits:
        raise HostError(f"cannot enforce --storage-opt size: {text}", hint=hint)
    sys.stderr.write(f"rootless: warning: --storage-opt size: {text}; {hint}\n")


def _single_notice(ctx: Context, args: Parsed) -> None:
    """Once per store: with one ID, owners are pretended."""
    facts = ctx.facts
    if args.get("userns") or facts.id_rung != "single" or facts.userns_error:
        return
    marker = f"{ctx.paths.data_root}/.single-notice"
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError:
        return
    why = facts.subid_error or "idmap.mode is single"
    sys.stderr.write(
        f"rootless: note: {why}: all files of containers belong to you, other owners are only recorded "
        "(rootless doctor tells more; this is said once)\n"
    )


def detach_keys(ctx: Context, args: Parsed) -> bytes:
    """The detach sequence: the flag's, else the configured one."""
    text = args.get("detach_keys")
    if text is None:
        text = str(ctx.settings.get("run.detach_keys"))
    return attaching.parse_detach_keys(text)


def with_code(error: RootlessError, code: int) -> RootlessError:
    """ERROR as a failure of a command whose own errors all end with CODE."""
    return RootlessError(error.message, hint=error.hint, exit_code=code)


def start_error(code: int, text: str) -> RootlessError:
    """The error of a container that could be created and not started; 125 unless exec said more."""
    code = code if code in (126, 127) else 125
    kind = {127: CommandNotFoundError, 126: CommandNotInvokedError}.get(code, LaunchError)
    return kind(f"cannot start container: {text}", exit_code=code)


def started(client: Client) -> RootlessError | None:
    """Wait until the container runs; the error if it does not."""
    while True:
        message = client.recv()
        if message is None:
            return LaunchError("cannot start container: its monitor ended without a word")
        kind, payload = message
        if kind == b"P":
            return None
        if kind == b"E":
            return start_error(
                int.from_bytes(payload[:4], "little"), payload[4:].decode("utf-8", "replace")
            )


def leave_running(client: Client) -> None:
    """Wait until a container that nobody attaches to runs; raises the error if it does not."""
    client.attach(stdin=False, stdout=False, stderr=False)
    error = started(client)
    client.close()
    if error is not None:
        raise error


def tell_refused(ctx: Context, container: Container, *, end: str = "\n") -> None:
    """A warning about limits of a container which now runs that the kernel refused after all."""
    from rootless.engine import limits

    for line in limits.refused(ctx, container):
        sys.stderr.write(f"rootless: warning: {line}{end}")
        sys.stderr.flush()


def warn_of_logout(ctx: Context, container: Container) -> None:
    """Say once that a container left running will not outlive this session, where that is so."""
    if not os.path.isdir("/run/systemd/sessions"):  # no logind
        return
    if os.path.exists(f"{ctx.paths.runtime_root}/logout-told"):
        return
    from rootless.engine import sessions

    said = sessions.warn(ctx, container)
    if said:
        sys.stderr.write(f"rootless: note: {said}\n")


def foreground(
    client: Client,
    container: Any,
    request: RunRequest,
    keys: bytes,
    *,
    sig_proxy: bool,
    running: Callable[[], None] | None = None,
    detached: Callable[[], None] = lambda: None,
) -> int:
    """Attach to a container being started and give its exit code.

    RUNNING is called when its program runs, DETACHED where it is left running.
    """
    streams = () if request.log_driver == "passthrough" else request.attach  # it has ours already
    result = attaching.attach(
        client,
        stdin="stdin" in streams and request.interactive,
        stdout="stdout" in streams,
        stderr="stderr" in streams,
        tty=request.tty,
        detach_keys=keys if request.tty else None,
        sig_proxy=sig_proxy,
        running=running,
    )
    client.close()
    if result.error is not None:
        raise start_error(*result.error)
    if result.detached:
        detached()
        return 0
    if result.exit_code is None:
        raise LaunchError(f"cannot wait for container {container.name}: its monitor was lost")
    return int(result.exit_code)
