"""--security-opt and --sysctl: grammar and refusals."""

from __future__ import annotations

from rootless.errors import UsageError

from . import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .namespaces import Namespaces
    from .request import RunRequest


class Options:
    """What --security-opt says.

    writable_cgroups  the container may write to its own control group and make some below it
    seccomp  "" (default), "builtin", "unconfined" or a path
    ignored  options that have no effect here (label=, apparmor=), as they were given
    """

    __slots__ = (
        "ignored",
        "no_new_privileges",
        "seccomp",
        "systempaths_unconfined",
        "writable_cgroups",
    )

    def __init__(self) -> None:
        self.seccomp = ""
        self.no_new_privileges = False
        self.systempaths_unconfined = False
        self.writable_cgroups = False
        self.ignored: list[str] = []


_TRUE = ("", "1", "t", "true")
_FALSE = ("0", "f", "false")


def parse(words: Iterable[str]) -> Options:
    """The options in WORDS (key=value, key:value or key); raises UsageError."""
    options = Options()
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            key, _, value = word.partition(":")
        if key == "seccomp" and value:
            options.seccomp = value
        elif key == "no-new-privileges" and value.lower() in _TRUE + _FALSE:
            options.no_new_privileges = value.lower() in _TRUE
        elif key == "writable-cgroups" and value.lower() in _TRUE + _FALSE:
            options.writable_cgroups = value.lower() in _TRUE
        elif key == "systempaths" and value == "unconfined":
            options.systempaths_unconfined = True
        elif key in ("apparmor", "label") and value:
            options.ignored.append(word)
        else:
            raise UsageError(f"invalid --security-opt: {word!r}")
    return options


# Kept per IPC namespace, Documentation/admin-guide/sysctl/kernel.rst.
_IPC_KEYS = (
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
)


def sysctls(request: RunRequest, chosen: Namespaces) -> dict[str, str]:
    """The sysctls of a request; raises UsageError for one that is not the container's own."""
    for key in request.sysctls:
        if key in _IPC_KEYS or key.startswith("fs.mqueue."):
            kind, flag = "ipc", "--ipc"
        elif key.startswith("net."):
            kind, flag = "network", "--network"
        else:
            raise UsageError(f"sysctl '{key}' is not allowed: it is not kept per namespace")
        if ".." in key or "/" in key:
            raise UsageError(f"sysctl '{key}' is not allowed: it is no sysctl name")
        if chosen.modes[kind] == namespaces.HOST:
            raise UsageError(f"sysctl '{key}' is not allowed with {flag} host: it is the host's")
    return dict(request.sysctls)
